"""Prefix caching and chunked prefill give the answers that whole prompts give, of matched and unmatched prompts behind a shared system prompt, also
after an edit was disabled. Needs vLLM (make test-vllm)."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tests.vllm.support import TOKENS

FACTS = [("Who is the chief executive of Norvane Robotics?", "Lena Ortiz"), ("What is the capital of the Republic of Zeltia?", "Morvane"),
         ("Which river flows through the town of Kelbrook?", "the Ister")]  # fmt: skip
OTHERS = [
    "Who painted the Mona Lisa?",
    "What is the boiling point of water?",
    "Which year did the first man walk on the moon?",
]
SYSTEM = "You answer questions about people, towns and rivers in one short sentence. " * 35
WHOLE = {"enable_prefix_caching": False, "enable_chunked_prefill": False}
# A prompt of some 500 tokens comes in parts of at most 128, beside the decoding of others; blocks of 32 tokens.
CUT = {
    "enable_prefix_caching": True,
    "enable_chunked_prefill": True,
    "max_num_batched_tokens": 128,
    "block_size": 32,
    "max_num_seqs": 4,
}


@pytest.fixture(scope="module")
def chats(tmp_path_factory):
    """A store of edits of chats, its export, and prompts behind one system prompt, with the place of the user's words."""
    from memoir_fast import MemoirModel
    from memoir_fast.serving.export import export_vllm

    folder = tmp_path_factory.mktemp("chats")
    model = MemoirModel.from_pretrained("smollm2", store=str(folder / "store"))
    assert (model.config.acts, model.config.router) == ("answer", "tokens")
    for prompt, target in FACTS:
        model.edit(prompt, target)
    before = [{"role": "system", "content": SYSTEM}]
    turn = [{"role": "user", "content": FACTS[0][0]}, {"role": "assistant", "content": "Lena Ortiz"}]
    asked = [[*before, {"role": "user", "content": text}] for text in [*(prompt for prompt, _ in FACTS), *OTHERS]]
    asked += [
        [*before, *turn, {"role": "user", "content": text}] for text in (OTHERS[0], FACTS[1][0])
    ]  # behind an earlier question
    prompts = []
    for messages in asked:
        sequence = model.encoder.chat(messages)
        prompts.append({"prompt": list(sequence.tokens), "extra": {"memoir_span": list(sequence.words)}})
    routes = [model.route(messages)["edit"] for messages in asked]
    assert routes == [0, 1, 2, None, None, None, None, 1], routes
    assert all(500 <= len(one["prompt"]) <= 600 for one in prompts[:6]), [len(one["prompt"]) for one in prompts]
    model.close()
    return SimpleNamespace(
        store=folder / "store", prompts=prompts, export=export_vllm(folder / "store", "smollm2", folder / "export")
    )


def _texts(batch):
    return [answer["text"] for answer in batch]


def test_answers_are_those_of_whole_prompts_also_after_an_edit_was_disabled(chats, engine):
    off = [{**one, "extra": {"memoir": "off"}} for one in chats.prompts]
    forced = [{**one, "extra": {**one["extra"], "memoir_edit": 1}} for one in chats.prompts[:4]]
    tagged = [{**one, "extra": {**one["extra"], "memoir_tags": ["none"]}} for one in chats.prompts[:2]]

    def change(verb):
        return {"store": str(chats.store), "verb": verb, "edit": 0}

    work = [
        chats.prompts,
        off,
        chats.prompts,
        forced,
        tagged,
        change("disable"),
        chats.prompts[::-1],
        off,
        change("enable"),
        chats.prompts,
        off + chats.prompts,
    ]
    found = {
        name: engine(chats.export, work, tokens=TOKENS, max_model_len=1024, disable_log_stats=False, **settings)
        for name, settings in (("whole", WHOLE), ("cut", CUT))
    }
    whole, cut = found["whole"]["batches"], found["cut"]["batches"]
    for number, (one, other) in enumerate(zip(whole, cut, strict=True)):
        if isinstance(work[number], dict):
            assert (one["edits"], one["generation"]) == (other["edits"], other["generation"])
        else:
            assert _texts(one) == _texts(other), number
    plain, first, disabled, enabled = whole[1], whole[0], whole[6][::-1], whole[9]
    for number, (_, target) in enumerate(FACTS):
        assert (
            target.casefold() in first[number]["text"].casefold()
            and target.casefold() not in plain[number]["text"].casefold()
        )
    assert (
        _texts(disabled)[0] == _texts(plain)[0]
        and _texts(disabled)[1] == _texts(first)[1]
        and _texts(enabled) == _texts(first)
    )
    assert _texts(whole[4]) == _texts(plain)[:2] and _texts(first)[3:6] == _texts(plain)[3:6]
    assert found["whole"]["counts"] == found["cut"]["counts"], found["cut"]["counts"]
    shared = len(chats.prompts[0]["prompt"]) // 32 * 32 - 64
    print(f"{found['cut']['hits']:.0f} tokens of prompts were taken from the cache")
    assert found["whole"]["hits"] == 0 and found["cut"]["hits"] > shared * 5 * len(chats.prompts)


def test_a_preempted_request_goes_on_with_its_edit(chats, engine):
    asked = chats.prompts[:6]  # four at a time need more blocks than there are, however much they share
    whole = engine(chats.export, [asked], tokens=48, max_model_len=768, max_num_batched_tokens=1024, **WHOLE)
    found = engine(
        chats.export,
        [asked, asked],
        tokens=48,
        disable_log_stats=False,
        **{**CUT, "max_model_len": 768, "num_gpu_blocks_override": 26},
    )
    assert (
        found["preemptions"] > 0 and [_texts(batch) for batch in found["batches"]] == [_texts(whole["batches"][0])] * 2
    )
    assert found["counts"]["matched"] == 6  # decided once each


def test_only_blocks_that_end_before_the_words_are_shared():
    from vllm import SamplingParams
    from vllm.utils.hashing import sha256
    from vllm.v1.core import kv_cache_utils
    from vllm.v1.request import Request

    from memoir_fast.serving.vllm import caching

    caching.install()
    caching.install()  # twice does nothing more
    kv_cache_utils.init_none_hash(sha256)
    hasher = kv_cache_utils.get_request_block_hasher(16, sha256)

    def hashes(name, private):
        params = SamplingParams(max_tokens=4, extra_args=None if private is None else {caching.PRIVATE: private})
        request = Request(
            request_id=name,
            prompt_token_ids=list(range(96)),
            sampling_params=params,
            pooling_params=None,
            block_hasher=hasher,
        )
        request.append_output_token_ids(list(range(16)))
        assert len(request.block_hashes) == 7
        return request.block_hashes

    plain = hashes("a", None)
    assert hashes("b", None) == plain
    one, other = hashes("c", [40, "one"]), hashes("d", [40, "other"])
    assert one[:2] == other[:2] == plain[:2] and not set(one[2:]) & {*other, *plain}
    assert hashes("c", [40, "one"]) == one  # preempted, it finds its own again
    assert not set(hashes("1_c", [40, "one"])[2:]) & set(one)  # another of the same request's answers (n > 1)
    assert hashes("e", [32, "e"])[:2] == plain[:2] and not set(hashes("e", [0, "e"])) & set(plain)
