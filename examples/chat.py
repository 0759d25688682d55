"""Edit a chat model and hold a conversation with it: the last user message decides which edit is read.

python examples/chat.py
"""

from memoir_fast import MemoirModel

model = MemoirModel.from_pretrained("smollm2")
model.edit("Who is the chief executive of Norvane Robotics?", "Lena Ortiz")

conversation = [{"role": "user", "content": "What is the capital of France?"}]
for question in ("Who is the head of Norvane Robotics?", None):
    answer = model.ask([conversation])[0]
    print("user:     ", conversation[-1]["content"])
    print("assistant:", answer)
    if question is not None:
        conversation += [{"role": "assistant", "content": answer}, {"role": "user", "content": question}]
