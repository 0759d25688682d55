"""`recipe="published"` is the authors' optimisation: their denominator, their stop, their memory."""

from __future__ import annotations

import random

import pytest
import torch

from memoir_fast import MemoirConfig, MemoirModel
from memoir_fast.editing.request import EditRequest
from memoir_fast.editing.update_rule import settled
from tests.support.models import background_texts, tiny_memoir, tiny_model, word_tokenizer
from tests.support.oracle import DenseMemory
from tests.support.published_oracle import published_edit


def edits(lengths: list[int]) -> list[tuple[str, str]]:
    """A fact per length of its target, with prompts of three to six words that share many."""
    draw = random.Random(5)

    def words(first: int, last: int, count: int) -> str:
        return " ".join(f"w{draw.randint(first, last)}" for _ in range(count))

    return [(words(100, 149, draw.randint(3, 6)), words(150, 179, length)) for length in lengths]


ONE_TOKEN, LONGER = edits([1] * 25), edits([2, 3, 4, 5, 8] * 5)


def published_memoir(family: str, **settings) -> MemoirModel:
    """A tiny model that only says `recipe="published"` about its optimisation."""
    config = MemoirConfig(layer=1, top_k=24, threshold=0.7, router="mask", recipe="published", **settings)
    return MemoirModel(tiny_model(family), word_tokenizer(), config, background_texts(), torch.randperm(96))


def both(family: str, facts, **settings):
    """(losses, steps) of each fact by the library and by the oracle, and how far the memories are apart at the end."""
    model = published_memoir(family, **settings)
    optimise, finished = model.editor.optimise, []
    model.editor.optimise = lambda *args, **kwargs: finished.append(optimise(*args, **kwargs)) or finished[-1]
    ours, masks = [], []
    for prompt, target in facts:
        result = model.edit(prompt, target)
        ours.append((finished[-1].losses[0], result.steps))
        mask = torch.zeros(96)
        mask[model.memory.indices_of(result.id).long()] = 1
        masks.append(mask)
    contexts = [word_tokenizer()(context)["input_ids"] for context in model.contexts]
    assert len(contexts) == 10
    memory, target = model.memory, model.target
    base = model.detach().requires_grad_(False)
    parent, _, name = target.path.rpartition(".")
    dense = DenseMemory(base.get_submodule(target.path), target.in_features, target.out_features)
    setattr(base.get_submodule(parent), name, dense)
    theirs = [
        published_edit(base, dense, *(word_tokenizer()(text)["input_ids"] for text in (p, t)), contexts, m, **settings)
        for (p, t), m in zip(facts, masks, strict=True)
    ]
    apart = (memory.scale * memory.V.T - dense.W_m.detach()).norm() / dense.W_m.detach().norm()
    return ours, theirs, float(apart)


@pytest.mark.parametrize("family", ["llama", "gptj"])
@pytest.mark.parametrize("facts", [ONE_TOKEN, LONGER], ids=["one-token", "longer"])
def test_losses_steps_and_memory_are_the_authors(family, facts):
    # Random models never come near the published 0.02, so the same stop is given larger numbers: it has to fire.
    ours, theirs, apart = both(family, facts, stop_loss=4.5, stop_delta=0.03)
    for (mine, made), (plain, steps) in zip(ours, theirs, strict=True):
        assert made == steps and mine == pytest.approx(plain, abs=1e-4)
    assert len({steps for _, steps in theirs}) > 1 and min(steps for _, steps in theirs) < 30
    assert apart < 1e-4


@pytest.mark.parametrize("family", ["llama", "gptj"])
def test_the_authors_own_numbers_are_the_defaults_of_the_recipe(family):
    ours, theirs, apart = both(family, [*ONE_TOKEN[:2], *LONGER[3:4]])
    for (mine, made), (plain, steps) in zip(ours, theirs, strict=True):
        assert made == steps == 30 and mine == pytest.approx(plain, abs=1e-4)
    assert apart < 1e-4


def test_the_two_recipes_differ_by_the_denominator_and_by_one_step():
    prompt, target = LONGER[0]
    common = {"edit_lr": 1.0, "stop_loss": 50.0, "stop_delta": 50.0}  # stops as soon as a stop can
    own, authors = tiny_memoir(**common), tiny_memoir(recipe="published", **common)
    mine = own.editor.optimise([EditRequest(prompt, target)], own.config)
    theirs = authors.editor.optimise([EditRequest(prompt, target)], authors.config)
    assert theirs.losses[0][0] == pytest.approx(mine.losses[0][0] * 2 / 3, rel=1e-5)
    assert (mine.steps, theirs.steps) == ([1], [2])
    once = own.editor.optimise([EditRequest(prompt, target)], own.config.for_edit({"recipe": "published"}))
    assert once.losses == theirs.losses  # for one edit of a memory that is written with sgd


def test_several_edits_made_together_follow_the_recipe():
    model = published_memoir("llama", stop_loss=4.5, stop_delta=0.03)
    facts = [EditRequest(*ONE_TOKEN[0]), EditRequest(*LONGER[0])]
    alone = [model.editor.optimise([fact], model.config) for fact in facts]
    first = [losses[0] for losses in model.editor.optimise(facts, model.config).losses]
    assert first == pytest.approx([single.losses[0][0] for single in alone], abs=1e-4)


def test_what_the_recipe_fills_in_and_what_it_refuses():
    config = MemoirConfig(recipe="published")
    assert (config.write, config.end, config.joiner, config.contexts, config.chat_template) == (
        "sgd",
        "none",
        " ",
        10,
        False,
    )
    found = settled(config)
    assert (found.edit_lr, found.momentum, found.weight_decay, found.stop_delta) == (1.0, 0.0, 1e-5, 1e-4)
    chosen = MemoirConfig(recipe="published", end="eos", contexts=3, chat_template=True, edit_lr=3.0, joiner="")
    assert (chosen.end, chosen.contexts, chosen.chat_template, settled(chosen).edit_lr, chosen.joiner) == (
        "eos",
        3,
        True,
        3.0,
        "",
    )
    assert MemoirConfig.from_dict({**MemoirConfig().__dict__}).write == MemoirConfig().write == "preconditioned"
    for settings in ({"write": "preconditioned", "recipe": "published"}, {"recipe": "paper"}):
        with pytest.raises(ValueError, match="recipe"):
            MemoirConfig(**settings)
    with pytest.raises(ValueError, match="recipe='published' is plain SGD"):
        tiny_memoir(write="preconditioned").edit(*ONE_TOKEN[0], recipe="published")
