"""Ask a served, edited model with the openai client. Start the server first:

memoir-fast edit --store store --prompt "The capital of the Republic of Zeltia is" --target Morvane --tags geography
memoir-fast serve --store store --port 8000 -- --dtype float32 --enforce-eager
pip install openai && python examples/vllm_client.py
"""

import os

from openai import OpenAI

client = OpenAI(
    base_url=os.environ.get("MEMOIR_FAST_SERVER", "http://127.0.0.1:8000/v1"),
    api_key=os.environ.get("OPENAI_API_KEY", "none"),
)
served = client.models.list().data[0].id
messages = [{"role": "user", "content": "The capital of the Republic of Zeltia is"}]

for name, wishes in {
    "the prompt chooses": {},
    "the base model": {"memoir": "off"},
    "edit 0, whatever the prompt": {"memoir_edit": 0},
    "only edits with this tag": {"memoir_tags": ["geography"]},
}.items():
    answer = client.chat.completions.create(
        model=served,
        messages=messages,
        max_tokens=16,
        temperature=0,
        extra_body={"vllm_xargs": {**wishes, "memoir_explain": True}},
    )
    (spoke,) = answer.model_extra["memoir"]  # one object for each prompt
    print(f"{name} (read: {spoke['edit']}, score: {spoke['score']}): {answer.choices[0].message.content}")
