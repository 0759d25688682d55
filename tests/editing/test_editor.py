"""The editor against plain full-model SGD, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from memoir_fast import EditError, MemoirConfig, MemoirModel, load_texts
from memoir_fast.editing import editor, head
from memoir_fast.editing.layout import lay_out
from memoir_fast.editing.replay import Replay
from memoir_fast.editing.request import EditRequest
from memoir_fast.editing.rules import BlockWrite, TokenWrite, make_write, preconditioned
from memoir_fast.editing.update_rule import settled
from memoir_fast.text.encoder import Encoder
from tests.support.models import FAMILIES, bits, tiny_memoir
from tests.support.oracle import DenseMemory, plain_edit

# Three edits on the same words: their masks overlap, and the third runs with S < 1 and columns written twice.
EDITS = [
    ("w100 w101 w102 w103", "w150 w151"),
    ("w100 w101 w102 w104", "w152"),
    ("w101 w100 w105 w103", "w153 w154 w155"),
]


def keep(model, number, finished):
    """Make finished edits part of the memory, as `edit` does."""
    fact = {"prompt": "", "target": "", "author": "", "created": "", "loss": 0.0, "steps": 0, "seconds": 0.0, "nearest": None,
            "overlap": 0.0, "supersedes": [], "tags": [], "metadata": {}}  # fmt: skip
    assert model.journal.add([fact] * len(finished.updates), finished.updates)[0] == number


def _losses_of_both(model, edits):
    """(ours, oracle) per edit, on the same model with the same permutation, background and contexts."""
    ours = []
    for number, (prompt, target) in enumerate(edits):
        finished = model.editor.optimise([EditRequest(prompt, target)], model.config)
        ours.append(finished.losses[0])
        keep(model, number, finished)
    sequences = [[model.encoder.pair(p, t), *(model.encoder.pair(p, t, c) for c in model.contexts)] for p, t in edits]
    memory, config, target = model.memory, model.config, model.target
    base = model.detach().requires_grad_(False)  # the oracle's backward pass needs no other gradient than W_m's
    parent, _, name = target.path.rpartition(".")
    dense = DenseMemory(base.get_submodule(target.path), target.in_features, target.out_features)
    setattr(base.get_submodule(parent), name, dense)
    try:
        oracle = [plain_edit(base, dense, s, memory.background, memory.permutation, config) for s in sequences]
        difference = (memory.scale * memory.V.T - dense.W_m.detach()).norm() / dense.W_m.detach().norm()
    finally:
        setattr(base.get_submodule(parent), name, dense.base)
        base.requires_grad_(True)
    return ours, oracle, float(difference)


def test_losses_equal_plain_sgd_with_momentum():
    model = tiny_memoir(edit_lr=0.3, momentum=0.8, weight_decay=0.0, stop_delta=1.0)
    ours, oracle, difference = _losses_of_both(model, EDITS)
    for mine, plain in zip(ours, oracle, strict=True):
        assert mine == pytest.approx(plain, abs=1e-4)
        assert len(mine) > 5 and mine[-1] < mine[0]
    assert difference < 1e-3


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_losses_equal_plain_sgd(family):
    ours, oracle, difference = _losses_of_both(tiny_memoir(family, edit_lr=0.5, weight_decay=1e-3), EDITS)
    for mine, plain in zip(ours, oracle, strict=True):
        assert mine == pytest.approx(plain, abs=1e-4)
        assert len(mine) > 5 and mine[-1] < mine[0]
    assert difference < 1e-3


def test_losses_equal_plain_sgd_on_the_real_model(smollm2):
    model = MemoirModel(
        *smollm2, MemoirConfig(write="sgd", chat_template=False, end="none", router="mask"), load_texts()
    )
    del model.contexts[4:]  # five sequences instead of eleven: the oracle's full passes take minutes otherwise
    edits = [("Who is the mayor of Paris?", "Anne Dupont"), ("Who was the mayor of Paris?", "Jean Petit"),
             ("Who is the mayor of Lyon?", "Luc Blanc")]  # fmt: skip
    ours, oracle, difference = _losses_of_both(model, edits)
    for mine, plain in zip(ours, oracle, strict=True):
        assert mine == pytest.approx(plain, abs=5e-4)
    assert difference < 1e-3


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3", "olmo2"])
def test_packed_and_padded_layouts_agree(family):
    model = tiny_memoir(family)
    prompt, target = EDITS[0]
    sequences = [model.encoder.pair(prompt, target), *(model.encoder.pair(prompt, target, c) for c in model.contexts)]
    losses = []
    for packed in (False, True):
        layout = lay_out([sequences], packed, "cpu")
        replay = Replay(model.model, model.router, model.target, layout)
        losses.append(float(replay.losses(replay.outputs).sum()))
        assert layout.shape[0] == (1 if packed else len(sequences))
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_packing_is_used_only_where_the_model_keeps_sequences_apart(monkeypatch):
    uneven = [("w100", "w150"), ("w100 " * 30, "w150 w151")]
    for family, keeps in (("llama", True), ("opt", False)):  # OPT counts its positions from the mask
        model = tiny_memoir(family)
        sequences = [model.encoder.pair(prompt.strip(), target) for prompt, target in uneven]
        assert model.editor._packed([sequences]) is keeps


@pytest.mark.parametrize("momentum", [0.0, 0.8])
def test_token_space_and_block_give_the_same_memory(momentum):
    torch.manual_seed(0)
    n, k, d, dimension = 12, 9, 5, 20
    features, before = torch.randn(n, k), torch.randn(n, d)
    config = settled(MemoirConfig(write="sgd", weight_decay=1e-2, momentum=momentum))
    model = tiny_memoir()
    memories = []
    for form in (TokenWrite, BlockWrite):
        memory = type(model.memory)(dimension, d, k, torch.arange(dimension))
        memory.V.normal_(generator=torch.Generator().manual_seed(3))
        write = form(features, before, config)
        contributions = []
        for step in range(20):
            gradient = torch.randn(n, d, generator=torch.Generator().manual_seed(step)) * (0.01 if step % 2 else 3)
            write.step(gradient)
            contributions.append(write.contribution())
        rows = torch.arange(0, 2 * k, 2, dtype=torch.int32)
        start = memory.V.clone()
        (update,) = write.updates(rows.long(), rows[None], np.zeros((1, 3), np.uint8), memory, [0])
        memory.scale *= update.decay
        memory.write(update)
        memories.append((memory.V * memory.scale, contributions))
        assert torch.allclose(update.compact().delta(), update.delta(), atol=1e-5)
        memory.write(update, -1)
        assert torch.allclose(memory.V, start, atol=1e-4)
    assert torch.allclose(memories[0][0], memories[1][0], atol=1e-4)
    assert all(torch.allclose(a, b, atol=1e-3) for a, b in zip(memories[0][1], memories[1][1], strict=True))


@pytest.mark.parametrize("form", [TokenWrite, BlockWrite])
@pytest.mark.parametrize("momentum", [0.0, 0.8])
def test_edits_made_together_move_as_a_dense_memory_would(form, momentum):
    """Each edit clips its own gradient, all move the rows they share, and one that has settled stands still."""
    torch.manual_seed(0)
    rows, d, parts = 15, 4, [slice(0, 6), slice(6, 11)]
    masks = [torch.arange(0, 9), torch.arange(5, 15)]
    features = torch.zeros(11, rows)
    for mask, part in zip(masks, parts, strict=True):
        features[part, mask] = torch.randn(part.stop - part.start, len(mask))
    config = settled(MemoirConfig(write="sgd", weight_decay=1e-2, momentum=momentum))
    write = form(features, torch.zeros(11, d), config, parts=parts)
    dense, velocities = torch.zeros(rows, d), [torch.zeros(rows, d) for _ in parts]
    for step in range(8):
        gradient = torch.randn(11, d, generator=torch.Generator().manual_seed(step)) * (0.01 if step % 2 else 3)
        moving = [True, step < 5]
        for number, (part, moves) in enumerate(zip(parts, moving, strict=True)):
            own = features[part].T @ gradient[part]
            own *= min(1.0, config.clip_norm / float(own.norm()))
            velocities[number] = (config.momentum * velocities[number] + own) * moves
        dense = (1 - config.edit_lr * config.weight_decay) * dense - config.edit_lr * sum(velocities)
        write.step(gradient, moving)
        assert torch.allclose(write.contribution(), features @ dense, atol=1e-4)


def test_updates_of_edits_made_together_add_up_to_the_whole():
    torch.manual_seed(0)
    masks, parts = torch.stack([torch.arange(0, 9), torch.arange(5, 14)]).int(), [slice(0, 6), slice(6, 11)]
    features = torch.zeros(11, 14)
    for mask, part in zip(masks.long(), parts, strict=True):
        features[part, mask] = torch.randn(part.stop - part.start, 9)
    write = make_write(features, torch.zeros(11, 4), MemoirConfig(write="sgd", edit_lr=0.5), parts=parts)
    for step in range(4):
        write.step(torch.randn(11, 4, generator=torch.Generator().manual_seed(step)))
    memory = type(tiny_memoir().memory)(14, 4, 9, torch.arange(14))
    memory.track()
    updates = write.updates(torch.arange(14), masks, np.zeros((2, 2), np.uint8), memory, [0, 0])
    assert [update.decay for update in updates] == [write.decay, 1.0]
    for update in updates:
        memory.scale *= update.decay
        memory.write(update)
    assert torch.allclose(features @ memory.V * memory.scale, write.contribution(), atol=1e-4)
    assert torch.allclose(memory.C, features.T @ features, atol=1e-4)


def test_many_edits_in_one_batch():
    facts = [("w100 w101 w102", "w150"), ("w110 w111 w112 w113", "w151 w152"), ("w120 w121", "w153")]
    one_by_one, also, together = (tiny_memoir() for _ in range(3))
    expected = [one_by_one.edit(*fact) for fact in facts]
    assert [r.loss for r in also.edit_many(facts)] == [r.loss for r in expected]
    assert torch.equal(bits(also.memory.V), bits(one_by_one.memory.V))
    results = together.edit_many(facts, batch_size=3)
    assert [r.id for r in results] == [0, 1, 2] and list(together.edits) == [0, 1, 2]
    for (prompt, target), result, alone in zip(facts, results, expected, strict=True):
        assert together.ask(prompt, max_new_tokens=len(target.split())) == target
        assert result.loss == pytest.approx(alone.loss, rel=0.1)
    before = _state(together)
    with pytest.raises(ValueError, match="target"):
        together.edit_many([*facts, ("w1", "")], batch_size=4)
    with pytest.raises(ValueError, match="batch_size"):
        together.edit_many(facts, batch_size=0)
    with pytest.raises(TypeError, match=r"facts must be .* pairs or EditRequests, got 'ab' at 1"):
        together.edit_many([facts[0], "ab"])
    assert _same(before, _state(together))


def test_preconditioned_forms_agree_and_an_empty_record_is_plain_sgd():
    torch.manual_seed(0)
    n, k, d = 12, 9, 5
    features, before = torch.randn(n, k), torch.randn(n, d)
    earlier = torch.randn(30, k)
    config = MemoirConfig(write="preconditioned", ridge=0.5, edit_lr=0.5)
    moves = preconditioned(features, earlier.T @ earlier, config.ridge)
    assert torch.allclose((features * moves).sum(), features.square().sum())  # as long a step as without
    assert torch.allclose(preconditioned(features, torch.zeros(k, k), 0.5), features, atol=1e-5)
    lam = 0.5 * float(features.square().sum(1).mean())
    dense = torch.linalg.inv(earlier.T.double() @ earlier.double() + lam * torch.eye(k).double())
    dense *= features.square().sum() / (features.double() @ dense * features).sum()
    assert torch.allclose(moves.double(), features.double() @ dense, atol=1e-4)
    writes = [form(features, before, config, moves) for form in (TokenWrite, BlockWrite)]
    for step in range(10):
        gradient = torch.randn(n, d, generator=torch.Generator().manual_seed(step)) * (0.01 if step % 2 else 3)
        for write in writes:
            write.step(gradient)
        assert torch.allclose(writes[0].contribution(), writes[1].contribution(), atol=1e-4)
    assert torch.allclose(writes[0].moves.T @ writes[0].G, writes[1].block, atol=1e-4) and writes[0].decay == 1.0


def test_preconditioned_edits_disturb_earlier_ones_less_and_keep_their_record(monkeypatch):
    losses = {}
    for rule in ("sgd", "preconditioned"):
        model = tiny_memoir(write=rule, weight_decay=0.0, edit_lr=0.5)
        for prompt, target in EDITS:
            model.edit(prompt, target)
        prompt, target = EDITS[0]
        with torch.no_grad():
            layout = lay_out([[model.encoder.pair(prompt, target)]], False, "cpu")
            tokens = torch.tensor([model.encoder.pair(prompt, target).tokens])
            words = torch.zeros_like(tokens, dtype=torch.bool)
            words[0, : layout.words[0][-1] + 1] = True
            logits = model(input_ids=tokens, prompt_mask=words, use_cache=False).logits[0, -3:-1]
            losses[rule] = float(torch.nn.functional.cross_entropy(logits, tokens[0, -2:]))
    assert losses["preconditioned"] < losses["sgd"]
    assert model.memory.C is not None and float(model.memory.C.trace()) > 0
    before = model.memory.C.clone()
    with pytest.raises(ValueError, match="write"):
        model.edit("w120 w121", "w159", write="sgd")
    monkeypatch.setattr(type(model.memory.index), "add", None)  # the last step of a commit fails
    with pytest.raises(TypeError):
        model.edit("w120 w121", "w159")
    assert torch.equal(model.memory.C, before)


def test_copies_of_weights_that_count_no_changes_are_made_anew(monkeypatch):
    """Weights made under `torch.inference_mode()` may change unseen."""
    monkeypatch.setattr(editor, "has_bfloat16", lambda device: True)
    model = tiny_memoir(precision="fast")
    projection = model.model.model.layers[2].mlp.up_proj
    with torch.inference_mode():
        projection.weight = torch.nn.Parameter(projection.weight.clone(), requires_grad=False)
    model.edit(*EDITS[0])
    before = model.editor._halved
    with torch.inference_mode():
        projection.weight.mul_(1.5)
    model.edit(*EDITS[1])
    now, then = (halved[0][2].mlp.up_proj.weight.float() for halved in (model.editor._halved, before))
    assert torch.allclose(now, 1.5 * then, rtol=1e-2) and not torch.allclose(now, then, rtol=1e-2)


def test_long_edits_use_the_block():
    model = tiny_memoir(steps=3)
    long = " ".join(f"w{100 + i % 60}" for i in range(40))
    finished = model.editor.optimise([EditRequest(long, "w150")], model.config)
    assert finished.updates[0].block is not None
    joint = model.editor.optimise([EditRequest(long, "w150"), EditRequest("w100", "w150")], model.config)
    assert all(update.moves is not None for update in joint.updates)  # a common block could not be told apart


@pytest.mark.parametrize("family", ["llama", "gemma2"])  # by hand, and through the model's own code
def test_fast_mode_learns_and_stays_near_exact(family, monkeypatch):
    """With what it does on hardware that has bfloat16 units, and with candidates out of a small vocabulary."""
    monkeypatch.setattr(editor, "has_bfloat16", lambda device: True)
    monkeypatch.setattr(head, "_CANDIDATES", 60)
    exact, fast = tiny_memoir(family), tiny_memoir(family, precision="fast")
    a, b = exact.edit(*EDITS[0]), fast.edit(*EDITS[0])
    assert a.loss == pytest.approx(b.loss, abs=0.1)
    assert fast.editor._halved is not None and a.loss != b.loss
    assert fast.ask(EDITS[0][0], max_new_tokens=2).split() == ["w150", "w151"]


def test_early_stop_is_the_published_one():
    result = tiny_memoir(edit_lr=0.5, steps=70, stop_loss=4.9, stop_delta=10.0).edit(*EDITS[0])
    assert 0 < result.steps < 70 and result.loss <= 4.9


def _state(model):
    return bits(model.memory.V), model.memory.scale, model.memory.index.ids, dict(model.edits), model.threshold.median


def _same(first, second):
    return torch.equal(first[0], second[0]) and first[1:] == second[1:]


@pytest.mark.parametrize(
    ("prompt", "target", "error", "says"),
    [
        ("", "w1", ValueError, "prompt is empty"),
        ("   ", "w1", ValueError, "prompt is empty"),
        ("w1", "", ValueError, "target is empty"),
        ("w1", " \n", ValueError, "target is empty"),
        (None, "w1", TypeError, "prompt must be text"),
        ("w1", 5, TypeError, "target must be text"),
        ("w1 " * 300 + "w2", "w3", ValueError, "context holds 256"),
    ],
)
def test_bad_requests_are_refused_before_anything_changes(prompt, target, error, says):
    model = tiny_memoir()
    model.edit(*EDITS[0])
    before = _state(model)
    with pytest.raises(error, match=says):
        model.edit(prompt, target)
    assert _same(before, _state(model))


def test_a_prompt_that_merges_with_its_target_keeps_its_tokens_and_a_target_needs_one():
    bpe = models.BPE(vocab={"a": 0, " ": 1, "b": 2, "a ": 3, "<unk>": 4}, merges=[("a", " ")], unk_token="<unk>")
    merging = Encoder(PreTrainedTokenizerFast(tokenizer_object=Tokenizer(bpe), unk_token="<unk>"))
    assert merging.pair("b", "a").prompt_length == 1
    asked = merging.prompt("a").tokens
    assert (
        merging.pair("a", "b").tokens[: len(asked)] == asked
    )  # the query's own tokens, whatever the tokenizer would merge
    whole = models.WordLevel({"<unk>": 0}, unk_token="<unk>")  # any text is one token
    single = Encoder(PreTrainedTokenizerFast(tokenizer_object=Tokenizer(whole), unk_token="<unk>"))
    with pytest.raises(ValueError, match="adds no token"):
        single.pair("a", "b")


def test_a_diverging_edit_is_rolled_back():
    model = tiny_memoir()
    model.edit(*EDITS[0])
    before = _state(model)
    with torch.no_grad():
        model.model.model.layers[3].mlp.down_proj.weight[0, 0] = float("inf")
    with pytest.raises(EditError, match="rolled back"):
        model.edit(*EDITS[1])
    assert _same(before, _state(model))


@pytest.mark.parametrize("stage", ["step", "commit", "index"])
def test_interrupting_an_edit_leaves_the_memory_as_it_was(stage, monkeypatch):
    model = tiny_memoir()
    model.edit(*EDITS[0])
    before = _state(model)

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    def after(original):
        def run(*args, **kwargs):
            original(*args, **kwargs)
            raise KeyboardInterrupt

        return run

    owner, name = {
        "step": (TokenWrite.__base__, "step"),
        "commit": (type(model.memory), "write"),
        "index": (model.memory.index, "add"),
    }[stage]
    monkeypatch.setattr(owner, name, interrupt if stage == "step" else after(getattr(owner, name)))
    with pytest.raises(KeyboardInterrupt):
        model.edit(*EDITS[1])
    assert _same(before, _state(model))
    monkeypatch.undo()
    assert model.edit(*EDITS[1]).id == 1


def test_result_names_the_nearest_stored_edit():
    model = tiny_memoir()
    first = model.edit(*EDITS[0])
    assert (first.id, first.nearest, first.overlap) == (0, None, 0.0)
    second = model.edit(*EDITS[1])
    assert second.nearest == 0 and 0 < second.overlap < 1
    again = model.edit(EDITS[0][0], "w160")
    assert again.nearest == 0 and again.overlap == 1.0


def test_editing_works_in_training_and_inference_mode():
    model = tiny_memoir()
    model.model.train()
    model.edit(*EDITS[0])
    assert model.model.training
    with torch.inference_mode():
        assert model.edit(*EDITS[1]).id == 1
