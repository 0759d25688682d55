"""Where the user's words stand in a chat as vLLM renders it, whatever the template, the tools and the route."""

from __future__ import annotations

import pytest
from transformers import AutoTokenizer

from memoir_fast.base.loading import checkpoint_folder
from memoir_fast.serving.vllm.choice import with_words
from memoir_fast.serving.vllm.spans import words_of

OWN = "{{ 'Answer in one word. ' }}{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}{{ '\\n' }}{% endfor %}[assistant]"
TRIMS = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] | trim }}</>{% endfor %}"
TOOLS = "{% if tools %}{{ tools | tojson }}{% endif %}" + OWN
HIDES = "{% for m in messages %}{{ m['role'] }}{% endfor %}"
TWICE = "{% for m in messages %}{{ m['content'] }} {{ m['content'] }}{% endfor %}"
TOOL = [{"type": "function", "function": {"name": "who", "parameters": {"type": "object", "properties": {}}}}]
ASKED = "Who leads Norvane Robotics?"


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(checkpoint_folder("smollm2"))


def _found(tokenizer, chat, template=None, drop=0, **options):
    """The words that are found in a chat, with `drop` tokens cut off in front."""

    def render(messages):
        return tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, chat_template=template, **options
        )

    text = render(chat)
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    found = words_of(chat, render, text, encoded["offset_mapping"][drop:])
    return None if found is None else tokenizer.decode(encoded["input_ids"][drop:][slice(*found)])


@pytest.mark.parametrize("template", [None, OWN, TRIMS, TOOLS])
@pytest.mark.parametrize(
    "others", [[], [("system", f"Say {ASKED}")], [("user", ASKED), ("assistant", "Someone.")]], ids=["alone", "system", "turns"]
)  # fmt: skip
def test_the_last_user_message_is_found_under_every_template(tokenizer, template, others):
    chat = [{"role": role, "content": text} for role, text in [*others, ("user", ASKED)]]
    assert _found(tokenizer, chat, template).strip() == ASKED
    assert _found(tokenizer, [*chat[:-1], {"role": "user", "content": f"\n  {ASKED} \n\n"}], template).strip() == ASKED


def test_tools_and_an_answer_that_is_begun_do_not_hide_the_words(tokenizer):
    chat = [{"role": "user", "content": ASKED}]
    assert _found(tokenizer, chat, TOOLS, tools=TOOL).strip() == ASKED
    assert _found(tokenizer, [*chat, {"role": "assistant", "content": "It is"}], OWN).strip() == ASKED


def test_a_content_in_parts_and_a_prompt_that_was_cut(tokenizer):
    parts = "{% for m in messages %}{% for p in m['content'] %}{{ p['text'] }}{{ '\\n' }}{% endfor %}{% endfor %}"
    chat = [{"role": "user", "content": [{"type": "text", "text": ASKED}, {"type": "text", "text": "Be short."}]}]
    assert _found(tokenizer, chat, parts) == f"{ASKED}\nBe short."
    long = [{"role": "system", "content": "word " * 50}, {"role": "user", "content": ASKED}]
    assert _found(tokenizer, long, OWN, drop=40).strip() == ASKED
    with pytest.raises(ValueError, match="no token of the last user message is left"):
        _found(tokenizer, [{"role": "user", "content": ASKED}], OWN, drop=100)


@pytest.mark.parametrize(
    ("content", "template", "reason"),
    [(ASKED, HIDES, "leaves out or rewrites"), (ASKED, TWICE, "leaves out or rewrites"), (" \n", OWN, "is empty"),
     ([{"type": "image_url", "image_url": {"url": "x"}}], OWN, "asked in words")],
)  # fmt: skip
def test_words_that_cannot_be_told_are_refused_with_a_remedy(tokenizer, content, template, reason):
    with pytest.raises(ValueError, match=rf"{reason}(?s:.*)memoir_span"):
        _found(tokenizer, [{"role": "user", "content": content}], template)
    with pytest.raises(ValueError, match="does not tell which text"):
        words_of([{"role": "user", "content": ASKED}], str, "text", None)


def test_a_clock_in_the_template_and_a_text_that_was_cut_before_it_became_tokens(tokenizer):
    times = []

    def render(messages):
        times.append(10 if not times else 11)
        return f"It is {times[-1]} o'clock. " + " ".join(m["content"] for m in messages)

    chat = [{"role": "system", "content": "word " * 30}, {"role": "user", "content": ASKED}]
    for text in (render(chat), render(chat)[60:]):
        whole = render(chat)
        offsets = tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        start, end = words_of(chat, render, text, offsets)
        assert whole[offsets[start][0] : offsets[end - 1][1]].strip() == ASKED


def test_a_text_that_was_cut_under_a_template_without_a_head(tokenizer):
    """Its beginning looks like the beginning of the whole one, but places are counted from that."""

    def render(messages):
        return "".join(m["content"] for m in messages) + "\nAnswer:"

    for content in ("word " * 30 + ASKED, "   " + ASKED, ASKED + " " + ASKED):
        chat = [{"role": "user", "content": content}]
        whole = render(chat)
        offsets = tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        for cut in (0, 2, len(content) - len(ASKED)):
            kept = [pair for pair in offsets if pair[1] > cut]
            start, end = words_of(chat, render, whole[cut:], kept)
            assert whole[kept[start][0] : kept[end - 1][1]].endswith(ASKED) and kept[start][0] >= cut - 5
            assert (start == 0) == (cut > 0 or content[0] != " ")


def test_a_chat_without_a_user_has_no_words(tokenizer):
    assert _found(tokenizer, [{"role": "system", "content": ASKED}], OWN) is None


def test_the_words_become_the_request_s_span_unless_it_says_otherwise():
    assert with_words(None, [3, 8]) == {"memoir_span": [3, 8]}
    assert with_words({"memoir": "auto", "memoir_edit": 4}, [3, 8]) == {"memoir": "auto", "memoir_edit": 4, "memoir_span": [3, 8]}  # fmt: skip
    assert with_words({"memoir": "off"}, "unknown") == {"memoir": "off"}
    assert with_words({"memoir_span": [1, 2]}, [3, 8]) == {"memoir_span": [1, 2]}
    assert with_words({"other": 1}, None) == {"other": 1}
    with pytest.raises(ValueError, match="unknown"):
        with_words({"memoir_tags": ["a"]}, "unknown")
