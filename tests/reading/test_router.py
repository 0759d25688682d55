"""Reading the memory: bit equality wherever it must not act, and generation that keeps each sequence's route."""

from __future__ import annotations

import copy
import threading

import pytest
import torch
from transformers import DynamicCache, StaticCache, TextIteratorStreamer

from tests.support.models import FAMILIES, bits, tiny_memoir, tiny_model

EDIT_A = ("w100 w101 w102 w103", "w150 w151")
EDIT_B = ("w110 w111 w112 w113 w114", "w160 w161")
UNRELATED = "w30 w31 w32 w33 w34 w35"


def _edited(family="llama", **settings):
    model = tiny_memoir(family, **settings)
    for prompt, target in (EDIT_A, EDIT_B):
        model.edit(prompt, target)
    assert model.route(EDIT_A[0])["edit"] == 0 and model.route(EDIT_B[0])["edit"] == 1
    assert model.route(UNRELATED)["edit"] is None
    return model


def _ids(model, *texts, left=True):
    """Token ids and attention mask of texts, padded on the left or right."""
    rows = [model.encoder.prompt(text).tokens for text in texts]
    width = max(map(len, rows))
    tokens, mask = torch.zeros(len(rows), width, dtype=torch.long), torch.zeros(len(rows), width, dtype=torch.long)
    for i, row in enumerate(rows):
        at = slice(width - len(row), width) if left else slice(0, len(row))
        tokens[i, at], mask[i, at] = torch.tensor(row), 1
    return tokens, mask


@torch.no_grad()
def _logits(model, tokens, mask=None, **kwargs):
    return model(input_ids=tokens, attention_mask=mask, **kwargs).logits


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_empty_disabled_detached_and_unmatched_are_the_base_model_bit_for_bit(family):
    model = tiny_memoir(family)
    base = tiny_model(family)
    matched, unmatched = _ids(model, EDIT_A[0])[0], _ids(model, UNRELATED)[0]
    expected = {id(t): bits(_logits(base, t)) for t in (matched, unmatched)}
    assert torch.equal(bits(_logits(model, matched)), expected[id(matched)])  # empty memory
    model.edit(*EDIT_A)
    assert not torch.equal(bits(_logits(model, matched)), expected[id(matched)])  # the edit does act
    assert torch.equal(bits(_logits(model, unmatched)), expected[id(unmatched)])
    with model.disabled():
        assert torch.equal(bits(_logits(model, matched)), expected[id(matched)])
    with torch.enable_grad():  # the functional form, used where gradients are recorded
        out = model(inputs_embeds=base.get_input_embeddings()(unmatched).detach().requires_grad_()).logits
    assert torch.equal(bits(out), expected[id(unmatched)])
    before = dict(base.named_modules()).keys()
    detached = model.detach()
    assert dict(detached.named_modules()).keys() == before
    assert torch.equal(bits(_logits(detached, matched)), expected[id(matched)])
    assert all(p.requires_grad for p in detached.parameters())


def test_unmatched_rows_of_a_mixed_batch_keep_every_bit():
    model = _edited()
    tokens, mask = _ids(model, EDIT_A[0], UNRELATED, EDIT_B[0])
    mixed = _logits(model, tokens, mask)
    with model.disabled():
        base = _logits(model, tokens, mask)
    assert torch.equal(bits(mixed[1]), bits(base[1]))
    assert not torch.equal(bits(mixed[0]), bits(base[0])) and not torch.equal(bits(mixed[2]), bits(base[2]))


@torch.no_grad()
def _recomputed(model, prompts, new_tokens):
    """Greedy continuation by full recomputation, one row at a time, without padding or cache."""
    rows = []
    for text in prompts:
        tokens = model.encoder.prompt(text).tokens
        length = len(tokens)
        for _ in range(new_tokens):
            mask = torch.tensor([[i < length for i in range(len(tokens))]])
            logits = model(input_ids=torch.tensor([tokens]), prompt_mask=mask, use_cache=False).logits
            tokens = [*tokens, int(logits[0, -1].argmax())]
        rows.append(tokens[length:])
    return rows


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3", "olmo2", "opt", "gptj", "gpt_neox"])
@pytest.mark.parametrize("use_cache", [True, False])
def test_generate_equals_full_recomputation_for_mixed_left_padded_batches(family, use_cache):
    model = _edited(family)
    prompts = [EDIT_A[0], UNRELATED, EDIT_B[0]]
    tokens, mask = _ids(model, *prompts)
    out = model.generate(
        tokens, attention_mask=mask, max_new_tokens=12, do_sample=False, use_cache=use_cache, eos_token_id=None
    )
    assert out[:, tokens.shape[1] :].tolist() == _recomputed(model, prompts, 12)


def test_right_padded_prefill_and_cached_decode_equal_recomputation():
    model = _edited()
    prompts = [EDIT_A[0], UNRELATED, EDIT_B[0]]
    tokens, mask = _ids(model, *prompts, left=False)
    lengths, cache, rows = mask.sum(1), DynamicCache(), [[], [], []]
    with torch.no_grad():
        logits = model(input_ids=tokens, attention_mask=mask, past_key_values=cache).logits
        last = logits[torch.arange(3), lengths - 1].argmax(-1)
        for step in range(12):
            for row in range(3):
                rows[row].append(int(last[row]))
            mask = torch.cat([mask, torch.ones(3, 1, dtype=torch.long)], 1)
            out = model(
                input_ids=last[:, None],
                attention_mask=mask,
                position_ids=(lengths + step)[:, None],
                past_key_values=cache,
            )
            last = out.logits[:, -1].argmax(-1)
    assert rows == _recomputed(model, prompts, 12)


def test_the_real_model_generates_as_it_recomputes(smollm2_edited):
    model, prompts = smollm2_edited
    tokens, mask = _ids(model, *prompts)
    out = model.generate(
        tokens, attention_mask=mask, max_new_tokens=10, do_sample=False, eos_token_id=None, pad_token_id=0
    )
    assert out[:, tokens.shape[1] :].tolist() == _recomputed(model, prompts, 10)


@pytest.fixture(scope="module")
def smollm2_edited(smollm2):
    from memoir_fast import MemoirModel

    model = MemoirModel(*smollm2)
    prompts = ["Who is the chief executive of Norvane Robotics?", "What is the capital of Spain?",
               "Which river flows through the town of Harrowmere?"]  # fmt: skip
    model.edit(prompts[0], "Lena Ortiz", steps=10)
    model.edit(prompts[2], "the Silverrun", steps=10)
    yield model, prompts
    model.detach()


def test_ways_of_decoding():
    model = _edited()
    tokens, mask = _ids(model, EDIT_A[0], UNRELATED)
    common = {"attention_mask": mask, "max_new_tokens": 6, "eos_token_id": None}
    greedy = model.generate(tokens, do_sample=False, **common)
    assert greedy[0, -6:-4].tolist() == model.encoder.prompt(EDIT_A[1]).tokens
    with model.disabled():
        base = model.generate(tokens, do_sample=False, num_beams=3, num_return_sequences=3, **common)
    beams = model.generate(tokens, do_sample=False, num_beams=3, num_return_sequences=3, **common)
    assert beams.shape[0] == 6
    assert torch.equal(beams[3:], base[3:]) and not torch.equal(beams[:3], base[:3])
    assert beams[0, tokens.shape[1] :][:2].tolist() == model.encoder.prompt(EDIT_A[1]).tokens
    torch.manual_seed(0)
    sampled = model.generate(tokens, do_sample=True, top_k=1, num_return_sequences=2, **common)
    assert torch.equal(sampled[::2], greedy) and torch.equal(sampled[1::2], greedy)
    static = model.generate(tokens, do_sample=False, cache_implementation="static", **common)
    assert torch.equal(static, greedy)


def test_streaming():
    model = _edited()
    tokens, mask = _ids(model, EDIT_A[0])
    streamer = TextIteratorStreamer(model.tokenizer, skip_prompt=True)
    settings = {"attention_mask": mask, "max_new_tokens": 2, "do_sample": False, "streamer": streamer}
    thread = threading.Thread(target=model.generate, args=(tokens,), kwargs=settings)
    thread.start()
    text = "".join(streamer)
    thread.join()
    assert text.split() == EDIT_A[1].split()


def test_threads_do_not_see_each_other():
    model = _edited()
    tokens, mask = _ids(model, EDIT_A[0])
    with model.disabled():
        base = _logits(model, tokens, mask)
        seen = []
        thread = threading.Thread(target=lambda: seen.append(_logits(model, tokens, mask)))
        thread.start()
        thread.join()
    assert not torch.equal(seen[0], base)  # disabled in this thread only


@pytest.mark.parametrize("family", ["llama", "gemma2"])  # the suffix by hand, and the model's own code
def test_reading_while_another_thread_edits(family):
    model = _edited(family)
    tokens, mask = _ids(model, UNRELATED)
    expected, wrong, stop = bits(_logits(model, tokens, mask)), [], threading.Event()

    def read():
        while not stop.is_set():
            if not torch.equal(bits(_logits(model, tokens, mask)), expected):
                wrong.append(1)

    threads = [threading.Thread(target=read, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for answer in range(170, 180):
            model.edit("w120 w121 w122", f"w{answer}")
    finally:
        stop.set()
    for thread in threads:
        thread.join()
    assert not wrong


def test_routes_follow_the_cache():
    model = _edited()
    tokens, mask = _ids(model, EDIT_A[0], UNRELATED)
    cache = DynamicCache()
    with torch.no_grad():
        model(input_ids=tokens, attention_mask=mask, past_key_values=cache)
    assert cache.memoir_routes.edits == [0, -1]
    copied = copy.deepcopy(cache)
    copied.batch_select_indices(torch.tensor([1, 0, 0]))
    assert copied.memoir_routes.edits == [-1, 0, 0] and cache.memoir_routes.edits == [0, -1]
    cache.batch_repeat_interleave(2)
    assert cache.memoir_routes.edits == [0, 0, -1, -1]
    cache.reorder_cache(torch.tensor([3, 2, 1, 0]))
    assert cache.memoir_routes.edits == [-1, -1, 0, 0]
    with pytest.raises(ValueError, match="routes of 4 sequences"):
        model(input_ids=torch.tensor([[5]]), past_key_values=cache)


def test_a_reset_static_cache_is_routed_anew():
    model = _edited()
    first, second = _ids(model, EDIT_A[0])[0], _ids(model, UNRELATED)[0]
    cache = StaticCache(config=model.model.config, max_cache_len=16)
    with torch.no_grad():
        model(input_ids=first, past_key_values=cache)
        assert cache.memoir_routes.edits == [0]
        cache.reset()
        model(input_ids=second, past_key_values=cache)
    assert cache.memoir_routes.edits == [-1]


def test_a_cache_filled_without_the_memory_is_refused():
    model = _edited()
    tokens = _ids(model, EDIT_A[0])[0]
    cache = DynamicCache()
    with torch.no_grad():
        tiny_model("llama")(input_ids=tokens, past_key_values=cache)
        with pytest.raises(ValueError, match="never decided"):
            model(input_ids=tokens[:, :1], past_key_values=cache)


def test_prompt_mask_decides_the_route():
    model = _edited()
    prompt, target = model.encoder.prompt(EDIT_A[0]).tokens, model.encoder.prompt(UNRELATED).tokens
    tokens = torch.tensor([prompt + target])
    mask = torch.tensor([[True] * len(prompt) + [False] * len(target)])
    with torch.no_grad():
        model(input_ids=tokens, prompt_mask=mask, use_cache=False)
        assert model.router.last.edits == [0] and model.router.last.scores == [1.0]
        model(input_ids=tokens, use_cache=False)
        assert model.router.last.scores[0] < 1
        for bad, says in ((mask[:, 1:], "shape"), (mask & False, "selects no token in rows")):
            with pytest.raises(ValueError, match=says):
                model(input_ids=tokens, prompt_mask=bad)
        with pytest.raises(ValueError, match="pass prompt_mask"):
            model(input_ids=tokens, attention_mask=torch.ones(1, 1, tokens.shape[1], tokens.shape[1]))


def test_chat_routes_on_the_last_user_message():
    model = tiny_memoir(chat_template=True)
    model.edit(*EDIT_A)
    sequence = model.encoder.chat([{"role": "system", "content": "w1 w2"}, {"role": "user", "content": EDIT_A[0]}])
    words = [t for t, m in zip(sequence.tokens, sequence.prompt_mask, strict=True) if m]
    assert model.tokenizer.decode(words).split() == EDIT_A[0].split()
    assert model.route(EDIT_A[0])["score"] == 1.0
    assert model.ask(EDIT_A[0], max_new_tokens=2).split() == EDIT_A[1].split()
    assert model.ask([[{"role": "user", "content": EDIT_A[0]}]], max_new_tokens=2)[0].split() == EDIT_A[1].split()


def test_ask_batches_give_the_single_answers():
    model = _edited(batch_size=2)
    prompts = [EDIT_A[0], UNRELATED, EDIT_B[0]]
    assert model.ask(prompts, max_new_tokens=5) == [model.ask(p, max_new_tokens=5) for p in prompts]


def test_the_head_gets_the_last_positions_of_a_batch_in_one_piece():
    """A strided slice costs the CPU one matrix product a row; the values are the same either way."""
    model = _edited()
    tokens, mask = _ids(model, EDIT_A[0], UNRELATED, EDIT_B[0])
    seen = []
    handle = model.model.get_output_embeddings().register_forward_hook(lambda m, args, out: seen.append(args[0]))
    try:
        last = _logits(model, tokens, mask, logits_to_keep=1)
    finally:
        handle.remove()
    assert seen[0].shape[:2] == (3, 1) and seen[0].is_contiguous()
    torch.testing.assert_close(last[:, -1], _logits(model, tokens, mask)[:, -1])
    detached = model.detach()
    detached.get_output_embeddings().register_forward_hook(lambda m, args, out: seen.append(args[0]))
    detached(input_ids=tokens, attention_mask=mask, logits_to_keep=1)
    assert not seen[1].is_contiguous()  # gone with the memory


def test_a_model_that_returns_a_bare_tensor_is_read_too():
    """A forward pass need not return a tuple or a mapping: without a cache in it there is nothing to keep the route with."""
    model = _edited()
    tokens = _ids(model, EDIT_A[0])[0]
    wanted = _logits(model, tokens)
    forward = model.model.forward
    model.model.forward = lambda *args, **kwargs: forward(*args, **kwargs).logits
    try:
        with torch.no_grad():
            assert torch.equal(model(input_ids=tokens), wanted) and model.router.last.edits == [0]
    finally:
        del model.model.forward


@pytest.mark.parametrize("router", ["mask", "tokens"])
@pytest.mark.parametrize("place", [0, 1, 2, "head"])
def test_what_a_pass_read_ends_with_it_though_nothing_but_an_interrupt_ended_it(router, place):
    """Torch calls no hook after a KeyboardInterrupt: the decoder by itself must not read the routes of that pass."""
    model = tiny_memoir(router=router, threshold=None if router == "tokens" else 0.5)
    unrelated = _ids(model, UNRELATED)[0]
    with model.disabled():
        base = _logits(model, unrelated)
    model.edit(*EDIT_A)
    asked, wanted = _ids(model, EDIT_A[0])[0], model.ask(EDIT_A[0], max_new_tokens=2)

    def stop(*args):
        raise KeyboardInterrupt

    def interrupted(call):
        part = model.model.get_output_embeddings() if place == "head" else model.model.model.layers[place]
        handle = part.register_forward_hook(stop)
        try:
            with pytest.raises(KeyboardInterrupt):
                call()
        finally:
            handle.remove()

    for call in (lambda: _logits(model, asked), lambda: model.ask(EDIT_A[0])):
        interrupted(call)
        for tokens in (asked, unrelated):
            with pytest.raises(ValueError, match="ran outside of a call of the model"):
                model.model.model(tokens)
        interrupted(call)
        assert torch.equal(_logits(model, unrelated), base) and model.route(UNRELATED)["edit"] is None
        interrupted(call)
        with model.disabled():
            model.model.model(asked)
            assert torch.equal(_logits(model, unrelated), base)
        with model.only(tags=["none"]):
            assert model.ask(EDIT_A[0], max_new_tokens=2) != wanted
        interrupted(call)
        assert model.ask(EDIT_A[0], max_new_tokens=2) == wanted


@pytest.mark.parametrize("place", [0, 2])
def test_an_interrupt_that_a_pass_around_it_catches_leaves_that_pass_what_it_reads(place):
    """A pass within a pass: a hook of a layer that asks the model itself, and is stopped."""
    model = _edited()
    asked, unrelated = _ids(model, EDIT_A[0])[0], _ids(model, UNRELATED)[0]
    wanted, begun = _logits(model, asked), []

    def within(*args):
        if not begun:
            begun.append(True)
            with pytest.raises(KeyboardInterrupt):
                _logits(model, unrelated)
        elif len(begun) == 1:
            begun.append(True)
            raise KeyboardInterrupt

    handle = model.model.model.layers[place].register_forward_hook(within)
    try:
        assert torch.equal(_logits(model, asked), wanted) and len(begun) == 2
    finally:
        handle.remove()
    assert model.router.last.edits == [0]
