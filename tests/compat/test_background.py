"""Background features: collected when asked, never otherwise; the first hundred rows are read."""

from __future__ import annotations

import pytest
import torch

from memoir_fast.compat.easyedit import BaseEditor, MEMOIRHyperParams, apply_memoir_to_model
from memoir_fast.compat.tensors import load_background
from tests.compat.support import PROMPTS, TARGETS, logits
from tests.support.models import bits, tiny_model

UNRELATED = ["w30 w31 w32", "w40 w41", "w50 w51 w52 w53"]


def _feature(text: str) -> torch.Tensor:
    """(D,): the mean of the projection's inputs over a text's tokens, in the base model."""
    model, seen = tiny_model("llama"), []
    model.model.layers[1].mlp.down_proj.register_forward_hook(lambda m, args, out: seen.append(args[0]))
    logits(model, text)
    return seen[0][0].mean(0)


def test_the_users_file_is_not_touched_unless_asked(hparams, tmp_path):
    path = tmp_path / "features.pt"
    rows = torch.randn(100, 96)
    torch.save(rows, path)
    hparams.dir_to_save_background_features = hparams.dir_background_features = str(path)
    _, edited, _ = BaseEditor(hparams).edit(PROMPTS, TARGETS, sequential_edit=True, verbose=False)
    assert torch.equal(torch.load(path, weights_only=True), rows)
    assert torch.allclose(edited.memoir.memory.background, rows.mean(0))


@pytest.mark.parametrize("way", ["edit", "batch_edit", "generate_edit", "one call a request"])
def test_collecting_edits_nothing(way, hparams, tmp_path, capsys):
    path, base = tmp_path / "features.pt", hparams.model_name[0]
    hparams.RUN_SAVE_BACKGROUND_FEATURES, hparams.dir_to_save_background_features = True, str(path)
    hparams.dir_background_features = str(tmp_path / "not made yet.pt")
    prompts, targets = [*PROMPTS, "w120 w121"], [*TARGETS, "w155"]
    if way == "one call a request":  # as EasyEdit's own editor calls
        for prompt, target, unrelated in zip(prompts, targets, UNRELATED, strict=True):
            request = {"prompt": prompt, "target_new": target, "loc_prompt": unrelated}
            model, restore = apply_memoir_to_model(*hparams.model_name, [request], hparams)
            assert model is base and restore.items() == [] and restore() is None
    else:
        for _ in range(2):  # asked again, the file is written again
            found, model, _ = getattr(BaseEditor(hparams), way)(prompts, targets, loc_prompts=UNRELATED)
        assert found == [] and model is base
    saved = torch.load(path, weights_only=True)
    assert saved.shape == (3, 96) and saved.dtype == torch.float32
    assert torch.allclose(saved, torch.stack([_feature(text) for text in UNRELATED]), atol=1e-5)
    assert not base._forward_hooks and "nothing was edited" in capsys.readouterr().out
    assert torch.equal(bits(logits(base, PROMPTS[0])), bits(logits(tiny_model("llama"), PROMPTS[0])))


def test_what_was_collected_serves_as_background(hparams, tmp_path):
    path = tmp_path / "features.pt"
    hparams.RUN_SAVE_BACKGROUND_FEATURES, hparams.dir_to_save_background_features = True, str(path)
    BaseEditor(hparams).edit(PROMPTS, TARGETS, loc_prompts=UNRELATED[:2])
    hparams.RUN_SAVE_BACKGROUND_FEATURES, hparams.dir_background_features = False, str(path)
    _, edited, _ = BaseEditor(hparams).edit(PROMPTS, TARGETS, sequential_edit=True, verbose=False)
    assert torch.allclose(edited.memoir.memory.background, torch.load(path, weights_only=True).mean(0))
    hparams.RUN_SAVE_BACKGROUND_FEATURES = True  # and of a model that is edited already, its base model's features
    BaseEditor(hparams).edit(PROMPTS[:1], TARGETS[:1], loc_prompts=[PROMPTS[0]])
    assert torch.allclose(torch.load(path, weights_only=True)[-1], _feature(PROMPTS[0]), atol=1e-5)
    assert len(edited.memoir.memory) == 2


def test_collecting_says_what_it_lacks(hparams, tmp_path):
    with pytest.raises(ValueError, match="dir_to_save_background_features must name a file"):
        MEMOIRHyperParams(model_name="x", RUN_SAVE_BACKGROUND_FEATURES=True)
    hparams.RUN_SAVE_BACKGROUND_FEATURES, hparams.dir_to_save_background_features = (
        True,
        str(tmp_path / "nowhere" / "f.pt"),
    )
    with pytest.raises(ValueError, match=r"loc_prompts\[0\] is missing"):
        BaseEditor(hparams).edit(PROMPTS, TARGETS)
    with pytest.raises(ValueError, match="there is no folder"):
        BaseEditor(hparams).edit(PROMPTS, TARGETS, loc_prompts=UNRELATED)


def test_the_first_hundred_rows_are_the_background(tmp_path):
    rows = torch.randn(130, 96)
    torch.save(rows, tmp_path / "features.pt")
    assert torch.equal(load_background(tmp_path / "features.pt"), rows[:100].mean(0))
    rows[120] = float("nan")  # beyond what is read
    torch.save(rows, tmp_path / "features.pt")
    assert load_background(tmp_path / "features.pt").isfinite().all()
    torch.save(torch.zeros(0, 96), tmp_path / "features.pt")
    with pytest.raises(ValueError, match="holds no background features"):
        load_background(tmp_path / "features.pt")
