"""Tables and plots of the quality runs: `python -m benchmarks.report` reads results/quality/*.json, writes results/quality.md"""

from __future__ import annotations

import json
import re
import statistics

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from .harness import RESULTS

FOLDER = RESULTS / "quality"
_SHOWN = ("reliability", "generalization", "locality", "average", "efficacy", "paraphrase", "neighbourhood",
          "ood_accuracy", "ood_perplexity")  # fmt: skip
_SEED = re.compile(r"_seed\d+$")  # the names of runs with further permutations end so
GROUPS = ("all", "first", "middle", "last")
_SETTINGS = (
    "write",
    "feature",
    "sketch",
    "replay",
    "top_k",
    "ridge",
    "edit_lr",
    "momentum",
    "weight_decay",
    "precision",
)


def main() -> None:
    runs = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
    streams = {name: run for name, run in runs.items() if "checkpoints" in run}
    for found in (
        mark[group] for run in streams.values() for mark in run["checkpoints"] for group in GROUPS if group in mark
    ):
        if "reliability" in found:  # the oldest runs did not write it
            found.setdefault("average", statistics.mean(found[metric] for metric in _SHOWN[:3]))
    peers = {name: run for name, run in runs.items() if "peers" in run}
    parts = [
        "# Quality of long streams of edits",
        "",
        "Made by `python -m benchmarks.report` from the runs in `quality/`.",
        "",
    ]
    parts += (
        _settings(streams)
        + _ablations(streams)
        + _retention(streams)
        + _sweep(streams)
        + _causes(streams)
        + _repeated(streams)
        + _free(streams)
        + _peers(peers, streams)
    )
    (RESULTS / "quality.md").write_text("\n".join(parts) + "\n")
    drawn = {name: run for name, run in streams.items() if not _SEED.search(name)}
    plot(drawn)
    plot_overlaps({name: run for name, run in drawn.items() if "overlaps" in run})


def _number(value) -> str:
    if isinstance(value, dict):  # a perplexity
        value = value["median"]
    return "" if value is None else f"{value:.3f}" if abs(value) < 100 else f"{value:.4g}"


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    return [
        "| " + " | ".join(head) + " |",
        "|" + "---|" * len(head),
        *("| " + " | ".join(row) + " |" for row in rows),
        "",
    ]


def _settings(streams: dict) -> list[str]:
    rows = []
    for name, run in streams.items():
        settings = [str(run["settings"].get(key) or "") for key in _SETTINGS]
        threads = run["environment"].get("threads")
        rows.append([name, run["edits"], str(run.get("seed", "")), *settings, f"{statistics.mean(run['steps']):.1f}",
                     f"{statistics.median(run['seconds']):.2f} ({threads})"])  # fmt: skip
    head = ["run", "rows", "seed", *_SETTINGS, "mean steps", "s an edit (threads)"]
    return ["## Runs", "", "Seconds are not comparable between runs: some shared the machine.", "", *_table(head, rows)]


def _ablations(streams: dict) -> list[str]:
    """Runs over the same hundred rows, seeds put together."""
    groups: dict[str, list[dict]] = {}
    for name, run in streams.items():
        if run["edits"] == "zsre.jsonl, rows 0-99":
            groups.setdefault(_SEED.sub("", name), []).append(run)
    rows = []
    for name, runs in groups.items():
        scores = [run["checkpoints"][-1]["all"] for run in runs]
        cells = [_spread([found[metric] for found in scores]) for metric in _SHOWN[:4]]
        steps, seconds = ([statistics.mean(run[what]) for run in runs] for what in ("steps", "seconds"))
        rows.append([name, str(len(runs)), *cells, f"{statistics.mean(steps):.1f}", f"{statistics.mean(seconds):.1f}",
                     _record(runs[0]["settings"], 1536), _record(runs[0]["settings"], 14336)])  # fmt: skip
    text = ("Mean over permutations (seeds), and the range. Seconds an edit on one thread of a shared machine: a guide, not a benchmark. "
            "The last two columns are the memory of C by calculation; V takes 3.5 MB and 235 MB beside it in every run.")  # fmt: skip
    head = ["run", "seeds", *_SHOWN[:4], "mean steps", "s an edit", "C, SmolLM2", "C, LLaMA-3-8B"]
    return ["## One switch each: ZsRE rows 0-99", "", text, "", *_table(head, rows)] if rows else []


def _spread(values: list[float]) -> str:
    middle = f"{statistics.mean(values):.3f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.3f}-{max(values):.3f})"


def _record(settings: dict, dimension: int) -> str:
    """The bytes of C, as the run kept it."""
    if settings["write"] == "sgd":
        return "none"
    sketch = settings.get("sketch") or "float32"
    if sketch.startswith("rank="):
        size = 4 * dimension * (int(sketch.removeprefix("rank=")) + 1)
    else:
        size = dimension**2 * (2 if sketch == "bfloat16" else 4)
    return f"{size / 1e6:.3g} MB"


def _retention(streams: dict) -> list[str]:
    rows = []
    for name, run in streams.items():
        last = run["checkpoints"][-1]
        unedited = [{"edits": last["edits"], "unedited": run["unedited"]}] if "unedited" in run else []
        for found in [*run["checkpoints"], *unedited]:
            for group in (*GROUPS, "unedited"):
                if group in found:
                    scores = found[group]
                    tau = "" if group == "unedited" else _number(found["threshold"])
                    rows.append([name, str(found["edits"]), group, tau, *(_number(scores.get(key)) for key in _SHOWN[:4]),
                                 _number(scores.get("perplexity")), *(_number(scores.get(key)) for key in _SHOWN[4:])])  # fmt: skip
    head = ["run", "edits", "of them", "tau", *_SHOWN[:4], "perplexity", *_SHOWN[4:]]
    used = [i for i, title in enumerate(head) if i < 3 or any(row[i] for row in rows)]
    text = "Teacher-forced, after so many edits; `first`, `middle` and `last` are a hundred each; `unedited` is the base model on all of them. tau is the median of the edits' thresholds that the scores were read at."
    return ["## Retention", "", text, "", *_table([head[i] for i in used], [[row[i] for i in used] for row in rows])]


def _sweep(streams: dict) -> list[str]:
    """The same memories read at other thresholds."""
    rows = [[name, f"{scores['threshold']:.3f}", *(_number(scores.get(key)) for key in (*_SHOWN, "perplexity", "routed_prompts", "routed_rephrasings", "free_locality"))]
            for name, run in streams.items() if "sweep" in run
            for scores in [_calibrated(run), *run["sweep"]]]  # fmt: skip
    if not rows:
        return []
    head = [
        "run",
        "tau",
        *_SHOWN,
        "perplexity",
        "prompts that read",
        "rephrasings that read",
        "unrelated answers unchanged",
    ]
    used = [i for i in range(len(head)) if any(row[i] for row in rows)]
    text = "The finished memories read with one threshold for all edits; the first line of each run is calibrated, an own one for each edit (tau is their median)."
    return ["## Thresholds", "", text, "", *_table([head[i] for i in used], [[row[i] for i in used] for row in rows])]


def _calibrated(run: dict) -> dict:
    last = run["checkpoints"][-1]
    return {"threshold": last["threshold"], **last["all"], "free_locality": run.get("free", {}).get("locality")}


def _causes(streams: dict) -> list[str]:
    """Why answers are wrong."""
    rows = [[name, str(run["checkpoints"][-1]["edits"]), part, *(_number(found[key]) for key in ("own", "retrieval", "conflict", "reads_its_own"))]
            for name, run in streams.items() for part, found in run.get("causes", {}).items()]  # fmt: skip
    if not rows:
        return []
    text = "Shares of the target tokens that are missed, and why: the row's own edit is read and still answers wrong; another edit or none is read; a later row gives the fact another target."
    head = ["run", "edits", "asked by", "own edit", "retrieval", "conflict", "rows that read their own edit"]
    return ["## Why answers are wrong", "", text, "", *_table(head, rows)]


def _repeated(streams: dict) -> list[str]:
    """Facts that a later row gives another target."""
    rows = []
    for name, run in streams.items():
        found = run.get("repeated", {})
        if not found.get("rows"):
            continue
        count, all_rows = run["checkpoints"][-1]["edits"], run["checkpoints"][-1]["all"]
        cells = [name, str(found["rows"])]
        for metric in ("reliability", "generalization"):
            own, late = found[f"own_{metric}"], found[f"latest_{metric}"]
            cells += [_number(own), _number(late), _number(all_rows[metric] + (late - own) * found["rows"] / count)]
        rows.append(cells)
    if not rows:
        return []
    head = ["run", "rows", *(f"{metric}, {what}" for metric in ("reliability", "generalization")
                             for what in ("own target", "latest target", "all rows by the latest"))]  # fmt: skip
    return ["## Facts given again with another target", "", *_table(head, rows)]


def _free(streams: dict) -> list[str]:
    rows = [[name, *(_number(run["free"].get(key)) for key in ("reliability", "generalization", "locality")),
             *(_number(run.get("background_perplexity", {}).get(key)) for key in ("before", "after"))]
            for name, run in streams.items() if "free" in run]  # fmt: skip
    if not rows:
        return []
    head = [
        "run",
        "begins with the target",
        "rephrased",
        "unrelated answers unchanged",
        "perplexity of unrelated answers before",
        "after",
    ]
    return ["## Free generation", "", *_table(head, rows)]


def _peers(peers: dict, streams: dict) -> list[str]:
    """Other ways to edit, and below them the memory's own runs over the same rows."""
    parts = []
    for run in peers.values():
        rows = [[name, *(_number(found.get(key)) for key in _SHOWN[:4]), _number(found.get("background_perplexity")),
                 str(run["seconds"][name])] for name, found in run["peers"].items()]  # fmt: skip
        for name, stream in streams.items():
            if stream["edits"] == run["edits"]:
                found = stream["checkpoints"][-1]["all"]
                rows.append([name, *(_number(found.get(key)) for key in _SHOWN[:4]),
                             _number(stream.get("background_perplexity", {}).get("after")), f"{statistics.median(stream['seconds']):.2f}"])  # fmt: skip
        head = ["way", *_SHOWN[:4], "perplexity of unrelated answers", "s an edit (one thread)"]
        parts += [f"## Other ways: {run['edits']}", "", *_table(head, rows)]
    return parts


def plot(streams: dict) -> None:
    """Reliability and generalization of all edits so far and of the first hundred, and edits per second, along ZsRE streams."""
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.2))
    shown = {
        n: r
        for n, r in streams.items()
        if r.get("task", "zsre") == "zsre" and (len(r["checkpoints"]) > 1 or r["settings"]["write"] == "sgd")
    }
    for panel, metric in zip(axes, ("reliability", "generalization"), strict=False):
        for name, run in shown.items():
            points = [(found["edits"], found["all"][metric]) for found in run["checkpoints"]]
            (line,) = panel.plot(*zip(*points, strict=True), marker="o", label=name)
            first = [(found["edits"], found["first"][metric]) for found in run["checkpoints"] if "first" in found]
            if first:
                panel.plot(*zip(*first, strict=True), marker=".", linestyle=":", color=line.get_color())
        panel.set_title(f"{metric} (dotted: first hundred)", fontsize=9)
        panel.set_ylim(0.7, 1.01)
    for name, run in shown.items():
        seconds = run["seconds"]
        points = [(i + 25, 1 / statistics.median(seconds[i : i + 50])) for i in range(0, len(seconds) - 49, 50)]
        axes[2].plot(*zip(*points, strict=True), label=name)
    axes[2].set_title("edits per second, one thread, medians of 50", fontsize=9)
    axes[2].set_ylim(bottom=0)
    for panel in axes:
        panel.set_xlabel("edits")
        panel.grid(alpha=0.3)
    axes[0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(RESULTS / "quality.png", dpi=110)
    plt.close(figure)


def plot_overlaps(streams: dict) -> None:
    """Overlap with the nearest stored edit, and the median tau."""
    if not streams:
        return
    lines = -(-len(streams) // 4)
    figure, axes = plt.subplots(
        lines, min(4, len(streams)), figsize=(3.4 * min(4, len(streams)), 2.8 * lines), squeeze=False
    )
    for panel in axes.flat[len(streams) :]:
        panel.set_visible(False)
    for panel, (name, run) in zip(axes.flat, streams.items(), strict=False):
        parts = (
            ("prompt", "prompts", "tab:blue"),
            ("rephrase", "rephrasings", "tab:orange"),
            ("unrelated", "unrelated", "tab:green"),
        )
        for part, label, color in parts:
            if run["overlaps"].get(part):
                panel.hist(run["overlaps"][part], bins=40, range=(0, 1), alpha=0.6, label=label, color=color)
        panel.axvline(
            run["checkpoints"][-1]["threshold"], color="black", linestyle="--", linewidth=1, label="median tau"
        )
        panel.set_yscale("log")
        panel.set_title(name, fontsize=8)
        panel.set_xlabel("overlap", fontsize=8)
    axes.flat[0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(RESULTS / "overlaps.png", dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    main()
