"""Tests of `encoder.py`: the real SmolLM2 tokenizer, and small tokenizers with the templates of other families."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from memoir_fast.base.loading import checkpoint_folder
from memoir_fast.text.encoder import Encoder, automatic_joiner, pad

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Qwen 3: thinking is on by default; off, an empty block stands in front of the answer, and in finished answers too.
QWEN = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' and loop.last %}<think>\n\n</think>\n\n"
    "{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% if enable_thinking is defined and enable_thinking is false %}"
    "<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
# Llama 3: headers, a date in a system message of its own, contents trimmed.
LLAMA = (
    "{{ bos_token }}{% if not date_string is defined %}{% set date_string = '26 Jul 2024' %}{% endif %}"
    "{% if messages[0].role == 'system' %}{% set system = messages[0].content | trim %}{% set messages = messages[1:] %}"
    "{% else %}{% set system = '' %}{% endif %}"
    "<|start_header_id|>system<|end_header_id|>\n\nToday Date: {{ date_string }}\n\n{{ system }}<|eot_id|>"
    "{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
# Gemma: user and model, no system role, contents trimmed.
GEMMA = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}"
    "<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
# Llama 2: no header before the answer, but a blank, and a blank before its end.
INST = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content | trim }} [/INST]"
    "{% elif m.role == 'assistant' %} {{ m.content | trim }} </s>{% endif %}{% endfor %}"
)
SPECIAL = ("<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>",
           "<start_of_turn>", "<end_of_turn>")  # fmt: skip


def byte_level(template: str | None, eos: str | None = "</s>", bos: bool = False) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer: one token a byte, and some merges that reach across words and line ends."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("L", "e"), ("Ġ", "L"), ("ĠL", "e"), ("?", "Ċ"), ("Ċ", "Ċ")]
    vocabulary = {token: i for i, token in enumerate([*alphabet, *("".join(m) for m in merges)])}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return _finished(tokenizer, template, eos, bos)


def sentence_piece(template: str | None, eos: str | None = "</s>", bos: bool = True) -> PreTrainedTokenizerFast:
    """A tokenizer that writes blanks as ▁, puts one in front of every text, and BOS before it, as SentencePiece ones do."""
    letters = sorted({chr(c) for c in range(32, 127)} | {"▁", "\n"} | set("éü北京的首都是？東"))
    merges = [("▁", "L"), ("L", "e"), ("▁", "W")]
    vocabulary = {token: i for i, token in enumerate([*letters, *("".join(m) for m in merges), "<unk>"])}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    return _finished(tokenizer, template, eos, bos)


def _finished(tokenizer: Tokenizer, template, eos, bos) -> PreTrainedTokenizerFast:
    tokenizer.add_special_tokens(list(SPECIAL))
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            "<s> $A", None, [("<s>", tokenizer.token_to_id("<s>"))]
        )
    names = {"bos_token": "<s>", "eos_token": eos}
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **{k: v for k, v in names.items() if v})
    if template:
        wrapped.chat_template = template
    return wrapped


@pytest.fixture(scope="session")
def real():
    """The real small model's tokenizer."""
    return AutoTokenizer.from_pretrained(checkpoint_folder("smollm2"))


def words_of(encoder: Encoder, sequence) -> str:
    return encoder.tokenizer.decode(sequence.tokens[slice(*sequence.words)])


def answer_of(encoder: Encoder, sequence) -> str:
    return encoder.tokenizer.decode(sequence.tokens[sequence.prompt_length :])


ALL = {"chatml": (CHATML, "<|im_end|>"), "qwen": (QWEN, "<|im_end|>"), "llama": (LLAMA, "<|eot_id|>"),
       "gemma": (GEMMA, "<end_of_turn>"), "inst": (INST, " </s>")}  # fmt: skip


# ---- which format --------------------------------------------------------------------------------------------------


def test_auto_takes_the_template_where_there_is_one(real):
    assert Encoder(real).is_chat and not Encoder(real, chat_template=False).is_chat
    assert not Encoder(byte_level(None)).is_chat
    with pytest.raises(ValueError, match="chat_template: this tokenizer has no chat template"):
        Encoder(byte_level(None), chat_template=True)
    with pytest.raises(ValueError, match="chat_template must be"):
        Encoder(real, chat_template="yes")


def test_a_query_is_what_transformers_renders(real):
    messages = [{"role": "user", "content": "Who leads Norvane?"}]
    expected = real.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=False)
    encoder = Encoder(real)
    assert encoder.prompt("Who leads Norvane?").tokens == expected
    assert words_of(encoder, encoder.prompt("  Who leads Norvane?\n")) == "Who leads Norvane?"


# ---- the user's words ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words", ["user", "system", "Who?", "a", "You are a helpful AI assistant", "assistant\n", "?", "Hugging Face"]
)
def test_words_that_the_template_also_uses(real, words):
    encoder = Encoder(real)
    sequence = encoder.prompt(words)
    assert words_of(encoder, sequence) == words.strip()
    after = encoder.tokenizer.decode(sequence.tokens[sequence.words[1] :])
    assert after == "<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("make", [byte_level, sentence_piece])
def test_words_in_every_template(name, make):
    encoder = Encoder(make(ALL[name][0]))
    for words in ("Who leads it?", "user", "x", "Le", "model", "INST"):
        assert words_of(encoder, encoder.prompt(f" {words} \n")).strip() == words
        last = encoder.chat([
            {"role": "user", "content": words}, {"role": "assistant", "content": words}, {"role": "user", "content": f"  {words} "},
        ])  # fmt: skip
        assert words_of(encoder, last).strip() == words and last.words[0] > encoder.prompt(words).words[1]


def test_words_equal_to_the_system_prompt():
    encoder = Encoder(byte_level(CHATML), template_options={"system": "Be brief."})
    sequence = encoder.prompt("Be brief.")
    assert words_of(encoder, sequence) == "Be brief."
    assert encoder.tokenizer.decode(sequence.tokens).count("Be brief.") == 2 and sequence.words[0] > len("Be brief.")


@pytest.mark.parametrize(
    "words", ["What does <|im_end|> do?", "<|im_start|>user", "a<|im_end|>\n<|im_start|>assistant\nb"]
)
def test_words_that_look_like_special_tokens(real, words):
    encoder = Encoder(real)
    sequence = encoder.prompt(words)
    assert (
        words_of(encoder, sequence) == words
        and encoder.pair(words, "No").tokens[: len(sequence.tokens)] == sequence.tokens
    )


def test_words_with_letters_of_several_bytes(real):
    encoder = Encoder(real)
    for words in ("Où est le café ?", "北京在哪里？", "🙂 who?", "naïve 🙂"):
        assert words_of(encoder, encoder.prompt(words)) == words


def test_without_offsets_the_span_is_the_same(real):
    class Slow:  # a tokenizer of Python code tells no offsets
        def __getattr__(self, name):
            return getattr(real, name)

        def __call__(self, text, **kwargs):
            if kwargs.get("return_offsets_mapping"):
                raise NotImplementedError
            return real(text, **kwargs)

    for words in ("Who leads it?", "user", "q", "quit", "v", "zw"):
        assert Encoder(Slow()).prompt(words) == Encoder(real).prompt(words)


def test_a_template_that_loses_the_words_is_refused():
    shouting = byte_level(CHATML.replace("m['content']", "m['content'] | upper"))
    with pytest.raises(ValueError, match="leaves out or rewrites the last user message"):
        Encoder(shouting, end="eos").prompt("who?")


# ---- ends ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("make", [byte_level, sentence_piece])
def test_the_end_is_the_template_s(name, make):
    encoder = Encoder(make(ALL[name][0]), stops=[make(None).convert_tokens_to_ids("</s>")])
    pair = encoder.pair("Who?", " Lena ")
    assert answer_of(encoder, pair).lstrip() == f"Lena{ALL[name][1]}"
    assert pair.tokens[: pair.prompt_length] == encoder.prompt("Who?").tokens
    assert pair.tokens[-1] in encoder.stops and encoder.tokenizer.convert_tokens_to_ids("</s>") in encoder.stops


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("make", [byte_level, sentence_piece])
def test_a_pair_is_a_finished_chat_up_to_its_end(name, make):
    if name == "qwen":
        pytest.skip("its finished answers have a thinking block in front: see the variants")
    encoder = Encoder(make(ALL[name][0]))
    messages = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Lena"}]
    whole = encoder.tokenizer(
        encoder.tokenizer.apply_chat_template(messages, tokenize=False), add_special_tokens=False
    )["input_ids"]
    pair = encoder.pair("Who?", "Lena").tokens
    assert pair == whole[: len(pair)]


def test_end_settings(real):
    assert Encoder(real).end_ids == [real.convert_tokens_to_ids("<|im_end|>")]
    assert Encoder(real, end="none").end_ids == [] and Encoder(real, end="none").stops == (real.eos_token_id,)
    assert Encoder(byte_level(CHATML), end="eos").end_ids == [byte_level(None).eos_token_id]
    assert Encoder(byte_level(None, eos=None)).end_ids == [] and Encoder(byte_level(None, eos=None)).stops == ()
    with pytest.raises(ValueError, match='end="eos": this tokenizer has no end-of-text'):
        Encoder(byte_level(None, eos=None), end="eos")
    with pytest.raises(ValueError, match="end must be one of"):
        Encoder(real, end="stop")


def test_a_target_that_holds_the_end_is_refused(real):
    with pytest.raises(ValueError, match="generation stops: leave it out"):
        Encoder(real).pair("Who?", "Lena<|im_end|> Ortiz")


# ---- options and variants ------------------------------------------------------------------------------------------


def test_qwen_variants_hold_both_openings():
    encoder = Encoder(byte_level(QWEN))
    texts = [encoder.tokenizer.decode(s.tokens) for s in encoder.pairs("Who?", "Lena")]
    assert [t.partition("assistant\n")[2] for t in texts] == ["Lena<|im_end|>", "<think>\n\n</think>\n\nLena<|im_end|>"]
    assert all(
        answer_of(encoder, s) == "Lena<|im_end|>" and words_of(encoder, s) == "Who?"
        for s in encoder.pairs("Who?", "Lena")
    )
    closed = Encoder(byte_level(QWEN), template_options={"enable_thinking": False})
    assert sorted(s.tokens for s in closed.pairs("Who?", "Lena")) == sorted(
        s.tokens for s in encoder.pairs("Who?", "Lena")
    )


@pytest.mark.parametrize("name", ["chatml", "llama", "gemma", "inst"])
def test_no_variants_where_nothing_changes_before_the_answer(name):
    encoder = Encoder(byte_level(ALL[name][0]), variants=[{"date_string": "1 Jan 2026"}, {"system": "Be brief."}])
    assert encoder.pairs("Who?", "Lena") == [encoder.pair("Who?", "Lena")]
    assert Encoder(byte_level(None)).pairs("Who?", "Lena") == [Encoder(byte_level(None)).pair("Who?", "Lena")]


def test_template_options_reach_the_template():
    encoder = Encoder(byte_level(LLAMA), template_options={"date_string": "2 Feb 2026", "system": "Be brief."})
    text = encoder.tokenizer.decode(encoder.prompt("Who?").tokens)
    assert (
        "Today Date: 2 Feb 2026" in text
        and "Be brief.<|eot_id|>" in text
        and words_of(encoder, encoder.prompt("Who?")) == "Who?"
    )
    own = encoder.chat([{"role": "system", "content": "Rhyme."}, {"role": "user", "content": "Who?"}])
    assert "Be brief." not in encoder.tokenizer.decode(own.tokens)
    with pytest.raises(ValueError, match="template_options: 'tokenize' is set by the encoder"):
        Encoder(byte_level(LLAMA), template_options={"tokenize": True})


def test_a_role_that_the_template_refuses_is_an_error_that_says_so():
    with pytest.raises(ValueError, match=r"chat template refuses .*System role not supported"):
        Encoder(byte_level(GEMMA)).chat(
            [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who?"}]
        )


# ---- plain text ----------------------------------------------------------------------------------------------------

JOINERS = [("The capital of France is", "Paris", " "), ('He said "', "yes", ""), ("He said “", "yes", ""), ("Jean-", "Paul", ""),
           ("It costs $", "5", ""), ("Preis: €", "5", ""), ("the set (", "a", ""), ("He said “yes”", "and", " "),
           ('He said "yes"', "and", " "), ("the dogs'", "bones", " "), ("法国的首都是", "巴黎", ""), ("北京在哪里？", "China", ""),
           ("日本の首都は", "東京", ""), ("เมืองหลวงของไทยคือ", "กรุงเทพ", ""), ("프랑스의 수도는", "파리", " "),
           ("The Chinese word for it is", "北京", " "), ("他出生于1990", "年", "")]  # fmt: skip


@pytest.mark.parametrize("prompt, target, joiner", JOINERS)
def test_the_automatic_joiner(prompt, target, joiner):
    assert automatic_joiner(prompt, target) == joiner
    encoder = Encoder(byte_level(None))
    assert (
        encoder.tokenizer.decode(encoder.pair(f" {prompt}\n", f"\t{target} ").tokens)
        == prompt + joiner + target + "</s>"
    )


def test_a_joiner_of_one_s_own():
    encoder = Encoder(byte_level(None), joiner="\n", end="none")
    assert encoder.tokenizer.decode(encoder.pair("Q", "A").tokens) == "Q\nA"


def test_plain_sentence_piece_has_bos_once_and_no_mark_inside():
    encoder = Encoder(sentence_piece(None))
    query, pair = encoder.prompt("W"), encoder.pair("W", "Le")
    tokens = encoder.tokenizer.convert_ids_to_tokens(pair.tokens)
    assert (
        tokens == ["<s>", "▁W", "▁L", "e", "</s>"]
        and query.tokens == pair.tokens[: pair.prompt_length]
        and query.words == (0, 2)
    )
    assert encoder.tokenizer.convert_ids_to_tokens(encoder.pair("W(", "Le").tokens) == ["<s>", "▁W", "(", "Le", "</s>"]


def test_a_target_that_would_merge_with_the_prompt_keeps_the_prompt_s_tokens():
    encoder = Encoder(byte_level(None), joiner="")
    pair = encoder.pair("Is it L", "ena")
    assert (
        pair.tokens[: pair.prompt_length] == encoder.prompt("Is it L").tokens and answer_of(encoder, pair) == "ena</s>"
    )


def test_a_tokenizer_that_adds_its_own_end():
    tokenizer = byte_level(None)
    ids = [(t, tokenizer.convert_tokens_to_ids(t)) for t in ("<s>", "</s>")]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing("<s> $A </s>", None, ids)
    encoder = Encoder(tokenizer)
    assert (
        tokenizer.decode(encoder.prompt("Q").tokens) == "<s>Q"
        and tokenizer.decode(encoder.pair("Q", "A").tokens) == "<s>Q A</s>"
    )


def test_context_stands_in_front_of_the_words(real):
    for chat in (True, False):
        encoder = Encoder(real, chat_template=chat)
        pair = encoder.pair("Who?", "Lena", context="Yes, I")
        assert (
            words_of(encoder, pair) == "Yes, I Who?"
            and pair.tokens[: pair.prompt_length] == encoder.prompt("Yes, I Who?").tokens
        )


# ---- errors and batches --------------------------------------------------------------------------------------------


def test_arguments_are_named(real):
    encoder = Encoder(real, max_length=60)
    with pytest.raises(ValueError, match="prompt is empty, got ' '"):
        encoder.prompt(" ")
    with pytest.raises(TypeError, match="target must be text, got int"):
        encoder.pair("Who?", 5)
    with pytest.raises(ValueError, match="messages: the last user message must be text"):
        encoder.chat([{"role": "system", "content": "x"}])
    with pytest.raises(TypeError, match="messages must be a list"):
        encoder.chat("Who?")
    with pytest.raises(ValueError, match="last one is the assistant's"):
        encoder.chat([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}])
    with pytest.raises(ValueError, match=r"prompt and target: \d+ tokens, but the model's context holds 60"):
        encoder.pair("Who?", "Lena " * 60)
    with pytest.raises(ValueError, match=r"messages: \d+ tokens"):
        encoder.prompt("who " * 60)


def test_pad_labels_predict_the_target_and_its_end(real):
    encoder = Encoder(real)
    pairs = [encoder.pair("Who?", "Lena Ortiz"), encoder.pair("Who leads Norvane Robotics now?", "Al")]
    batch = pad(pairs)
    for row, sequence in enumerate(pairs):
        answer = sequence.tokens[sequence.prompt_length :]
        assert [t for t in batch.labels[row].tolist() if t != -100] == answer and answer[-1] == real.eos_token_id
        assert batch.labels[row, sequence.prompt_length - 1] == answer[0]
        assert batch.prompt_mask[row].sum() == sequence.words[1] - sequence.words[0]
