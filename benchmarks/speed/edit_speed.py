"""Editing time beside the published editor's, on the same edits in one run: `python -m benchmarks.speed.edit_speed`

Each fact is edited in turns by the published editor, by `exact` (its update with `recipe="published"`, step for step), by `default` (the
library's own update, both in the published protocol: plain text, ten contexts), by `chat` (the library's defaults: the chat template and two
made wordings), and by `fast` and `chat_fast` (these two with precision="fast"); all then answer the same questions. `floor_fraction` is the time that
the suffix's matrix products need at this machine's measured rates in float32, over the time that the edits took.
"""

from __future__ import annotations

import statistics
import time

import torch
from tqdm import tqdm

from benchmarks import harness
from benchmarks.library import PLAIN, PUBLISHED, answers, default_wordings, lay_out, load_facts, metrics, reworded
from benchmarks.models import load_model
from benchmarks.rivals.published import PublishedEditor
from benchmarks.timing import ratio, settle
from memoir_fast import MemoirConfig, MemoirModel


def matrix_rate(rows: int, inner: int, columns: int, dtype, device: torch.device) -> float:
    """Measured operations per second of (rows, inner) @ (inner, columns), the median of nine."""
    a, b = torch.randn(rows, inner).to(device, dtype), torch.randn(columns, inner).to(device, dtype).T
    seconds = []
    for _ in range(12):
        began = time.perf_counter()
        a @ b
        settle(device)
        seconds.append(time.perf_counter() - began)
    return 2 * rows * inner * columns / statistics.median(seconds[3:])


def matrices(module) -> int:
    """How many numbers a module's matrices hold."""
    return sum(p.numel() for p in module.parameters() if p.dim() == 2)


def suffix_operations(model, fact) -> tuple[int, int, int]:
    """(layers, head) operations of one step of this edit's suffix, forward and backward, and the tokens that it changes."""
    contexts = model.contexts if model.config.contexts is None and not model.encoder.is_chat else []
    contexts = model.contexts[: model.config.contexts] if model.config.contexts else contexts
    pair = model.encoder.pair
    made = reworded(fact.prompt)[: default_wordings(model.encoder.is_chat)]
    sequences = [*model.encoder.pairs(fact.prompt, fact.target), *(pair(text, fact.target) for text in made)]
    sequences += [pair(fact.prompt, fact.target, c) for c in contexts]
    layout = lay_out([sequences], True, "cpu", acts=model.config.acts)
    tokens, aims = len(layout.acting), len(layout.labels)
    above = list(model.model.get_submodule(model.target.layers_path))[model.target.layer + 1 :]
    per_step = sum(4 * tokens * matrices(layer) for layer in above[:-1])
    if above:  # the last layer: keys and values of all tokens, the rest at target positions
        shared = matrices(above[-1].self_attn.k_proj) + matrices(above[-1].self_attn.v_proj)
        per_step += 4 * tokens * shared + 4 * aims * (matrices(above[-1]) - shared)
    return per_step, 4 * aims * model.model.get_output_embeddings().weight.numel(), tokens


def floor_seconds(model, facts, steps: list[int], dtype) -> list[float]:
    """Per edit, what its suffix takes at the measured rates of the layers' and the head's shapes."""
    head = model.model.get_output_embeddings().weight
    hidden, inner = model.target.out_features, model.target.in_features
    found = []
    rates = None
    for fact, made in zip(facts, steps, strict=True):
        layers, top, tokens = suffix_operations(model, fact)
        if rates is None:
            rates = (
                matrix_rate(tokens, hidden, inner, dtype, head.device),
                matrix_rate(2048, head.shape[1], 44, dtype, head.device),
            )
        found.append(made * (layers / rates[0] + top / rates[1]))
    return found


def measured(model, facts) -> dict:
    """Teacher-forced scores of a `MemoirModel` after its edits."""
    local = [(f.unrelated, f.unrelated_answer) for f in facts if f.unrelated and f.unrelated_answer]
    with model.disabled():
        base = metrics.predictions(model, local)
    return {
        "reliability": metrics.mean(metrics.token_accuracy(model, [(f.prompt, f.target) for f in facts])),
        "generalization": metrics.mean(
            metrics.token_accuracy(model, [(f.rephrase, f.target) for f in facts if f.rephrase])
        ),
        "locality": metrics.mean(metrics.agreement(metrics.predictions(model, local), base)),
    }


def written(model, facts) -> dict:
    """Shares of free answers that are the target and end, and that begin with it."""
    found = {}
    for part in ("prompt", "rephrase"):
        asked = [f for f in facts if getattr(f, part)]
        texts = metrics.whole_answers(model, [getattr(f, part) for f in asked])
        for name, test in (("ended", answers.equals), ("begins", answers.begins_with)):
            found[f"{name}_{part}"] = metrics.mean(test(t, f.target) for t, f in zip(texts, asked, strict=True))
    return found


def published_scores(editor: PublishedEditor, facts) -> dict:
    local = [(f.unrelated, f.unrelated_answer) for f in facts if f.unrelated and f.unrelated_answer]
    return {
        "reliability": editor.accuracy([(f.prompt, f.target) for f in facts]),
        "generalization": editor.accuracy([(f.rephrase, f.target) for f in facts if f.rephrase]),
        "locality": editor.locality(local) if local else float("nan"),
    }


def models_of(args) -> dict[str, MemoirModel]:
    """name -> the library with the settings that this name stands for; all share one permutation."""
    plain = {**PLAIN, "threshold": args.threshold}
    settings = {
        "exact": {**plain, **PUBLISHED, "steps": args.steps},
        "default": plain,
        "fast": {**plain, "precision": "fast"},
        "chat": {},
        "chat_fast": {"precision": "fast"},
    }
    models: dict[str, MemoirModel] = {}
    permutation = None
    for name in ("exact",) if args.exact_only else settings:
        config = MemoirConfig(**settings[name])
        models[name] = MemoirModel(*load_model(args.model), config, args.background, permutation)
        permutation = models[name].memory.permutation.clone()
    return models


def edit_in_turns(published, models: dict, facts) -> tuple[dict, dict, list[float]]:
    """(seconds, steps) of each editor by its name, and how far the last losses of `exact` and the published editor are apart."""
    seconds: dict[str, list[float]] = {"published": [], **{name: [] for name in models}}
    steps: dict[str, list[int]] = {name: [] for name in seconds}
    apart = []
    for fact in tqdm(facts, desc="editing", unit="fact"):
        theirs = published.edit(fact.prompt, fact.target)
        seconds["published"].append(theirs.seconds)
        steps["published"].append(theirs.steps)
        for name, model in models.items():
            result = model.edit(fact.prompt, fact.target)
            seconds[name].append(result.seconds)
            steps[name].append(result.steps)
            if name == "exact":
                apart.append(abs(result.loss - theirs.final))
    return seconds, steps, apart


def run(args) -> dict:
    facts, models = load_facts(args.edits, args.count), models_of(args)
    published = PublishedEditor(load_model(args.model)[0], models["exact"])
    seconds, steps, apart = edit_in_turns(published, models, facts)
    found: dict = {}
    for name, taken in seconds.items():
        found[f"{name}_s"] = round(statistics.median(taken), 3)
        found[f"{name}_steps"] = metrics.mean(steps[name])
    found["loss_difference"] = {"largest": max(apart), "median": statistics.median(apart)}
    for name, model in models.items():
        found[f"{name}_ratio"] = ratio(seconds["published"], seconds[name])
        found[f"{name}_metrics"] = measured(model, facts) | written(model, facts)
    found["published_metrics"] = published_scores(published, facts)
    found["floor_fraction"] = {}
    for name in models:
        floors = floor_seconds(models[name], facts, steps[name], torch.float32)
        shares = [floor / taken for floor, taken in zip(floors, seconds[name], strict=True)]
        found["floor_fraction"][name] = round(statistics.median(shares), 3)
    found["seconds"] = {name: [round(s, 3) for s in taken] for name, taken in seconds.items()}
    return found


def main() -> None:
    parser = harness.arguments(__doc__, count=5)
    parser.add_argument("--threshold", type=float, default=0.5)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--exact-only", action="store_true", help="time only `exact`")
    args = parser.parse_args()
    recorder = harness.Recorder("edit_speed", args)
    found = run(args)
    for name in ("published", "exact", "default", "fast", "chat", "chat_fast"):
        if f"{name}_s" in found:
            faster = f", {found[f'{name}_ratio']} times faster" if name != "published" else ""
            print(f"{name:<10} {found[f'{name}_s']} s an edit{faster}, {found[f'{name}_metrics']}")
    print(
        f"floor_fraction {found['floor_fraction']}, losses apart by at most {found['loss_difference']['largest']:.2g}"
    )
    settings = {"edits": harness.edits_of(args), "model": args.model, "threshold": args.threshold, "steps": args.steps,
                **PUBLISHED}  # fmt: skip
    recorder.write(settings | ({"partial": "exact"} if args.exact_only else {}), found)


if __name__ == "__main__":
    main()
