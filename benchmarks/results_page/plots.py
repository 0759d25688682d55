"""The page's plots, as SVG. What each draws is computed first, without matplotlib; a digest of it lies in the file, so that a test can
tell whether a plot is of the committed rows."""

from __future__ import annotations

import hashlib
import json
import statistics
from pathlib import Path

from benchmarks import rows
from benchmarks.results_page import streams as of
from benchmarks.results_page.routing import RULES, runs_of
from benchmarks.results_page.speed import EDITORS, last
from benchmarks.results_page.stores import groups

# ---- what is drawn -----------------------------------------------------------------------------------------------


def ops(results: Path) -> dict:
    """How many times faster each operation is than the fastest torch sequence."""
    run = last("ops", results)
    bars = [[f"{r['op']} {r['size']} {r['dtype']} N={r['N']}", r["ratio"]] for r in run.result["rows"]]
    return {"bars": bars, "machine": f"{run.environment['cpu']}, {run.environment['threads']} threads"}


def edit_speed(results: Path) -> dict:
    """Seconds an edit, beside the published editor's."""
    run = last("edit_speed", results)
    bars = [
        [name, run.result[f"{name}_s"], run.result.get(f"{name}_ratio")]
        for name in EDITORS
        if f"{name}_s" in run.result
    ]
    return {"bars": bars, "label": f"seconds an edit, {run.settings['model']}, {run.settings['edits']}"}


def scaling(results: Path) -> dict:
    """What an edit, a query and the look-up cost as edits accumulate."""
    found = last("scaling", results).result["rows"]
    lines = {"one edit": [r["edit_s"] * 1e3 for r in found], "one query (prompt to route)": [r["query_ms"] for r in found],
             "its look-up": [r["lookup_ms"] for r in found]}  # fmt: skip
    return {"edits": [r["edits"] for r in found], "milliseconds": lines}


def retention(results: Path) -> dict:
    """Reliability and generalization of all edits so far and of the first hundred, and edits per second, along ZsRE streams."""
    lines = []
    for row in of.read(results):
        marks = row.result["checkpoints"]
        long, published = len(marks) > 1, of.switches(row)["write"] == "sgd" and row.settings["seed"] == 0
        if row.settings["task"] == "zsre" and (long or published):
            seconds = rows.read_series(row, results)["seconds"]
            speed = [
                [at + 25, round(1 / statistics.median(seconds[at : at + 50]), 4)]
                for at in range(0, len(seconds) - 49, 50)
            ]
            line: dict = {"name": row.name, "speed": speed}
            for metric in ("reliability", "generalization"):
                line[metric] = [[mark["edits"], mark["all"][metric]] for mark in marks]
                line[f"first_{metric}"] = [[mark["edits"], mark["first"][metric]] for mark in marks if "first" in mark]
            lines.append(line)
    return {"lines": lines}


def overlaps(results: Path) -> dict:
    """Overlap with the nearest stored edit, and the median tau; one stream a set of facts and masks (other settings do not change it)."""
    panels = {}
    for row in of.read(results):
        own = of.switches(row)
        found = rows.read_series(row, results).get("overlaps")
        if found and row.settings["seed"] == 0:
            key = row.settings["edits"], own["feature"], own["top_k"]
            title = f"{key[0]}\n{key[1]}, k={key[2]}"
            panels.setdefault(key, {"title": title, "tau": of.last(row)["threshold"], "overlaps": found})
    return {"panels": list(panels.values())}


def routing(results: Path) -> dict:
    """Of each data set and rule: rephrasings right and unrelated prompts kept out, over the thresholds and at the calibrated one."""
    panels: dict[str, list] = {}
    for rule, row in runs_of(results, "smollm2").items():
        made = row.result["rules"][rule]
        for name, found in made.get("public", {}).items():
            at = [found["unrelated"]["kept_out"], found["rephrased"]["right"]]
            curve = [[kept, right] for _, right, kept in found.get("curve", ())]
            panels.setdefault(name, []).append({"rule": RULES[rule], "at": at, "curve": curve})
    return {"panels": panels}


def long_stream(results: Path) -> dict:
    """Questions answered with exactly the target, along the latest long stream."""
    found = rows.read("long_stream", results)
    if not found:
        return {}
    marks = found[-1].result["checkpoints"]
    named = groups(marks[0])
    lines = {name: [mark[group]["prompt"]["exact and ended"] for mark in marks] for group, name in named.items()}
    return {"edits": [mark["edits"] for mark in marks], "lines": lines}


PLOTS = {
    "routing": routing,
    "ops": ops,
    "edit_speed": edit_speed,
    "scaling": scaling,
    "retention": retention,
    "overlaps": overlaps,
    "long_stream": long_stream,
}


def digest(name: str, data: dict) -> str:
    """What a plot's file says about what it draws."""
    return f"{name} {hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]}"


# ---- drawing -----------------------------------------------------------------------------------------------------


def draw_all(results: Path, folder: Path) -> None:
    """Draw every plot whose rows are there."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context({"svg.hashsalt": "memoir_fast", "svg.fonttype": "none", "font.size": 9}):
        for name, collect in PLOTS.items():
            data = collect(results)
            if not data:
                continue
            figure = globals()[f"draw_{name}"](plt, data)
            figure.tight_layout()
            figure.savefig(folder / f"{name}.svg", metadata={"Date": None, "Description": digest(name, data)})
            plt.close(figure)


def draw_routing(plt, data: dict):
    panels = data["panels"]
    figure, axes = plt.subplots(1, max(len(panels), 1), figsize=(3.3 * max(len(panels), 1), 3.4), squeeze=False)
    colors = dict(zip(RULES.values(), ("tab:blue", "tab:gray", "tab:orange", "tab:red", "tab:green"), strict=True))
    for axis, (name, rules) in zip(axes.flat, panels.items(), strict=False):
        for drawn in rules:
            color = colors[drawn["rule"]]
            if drawn["curve"]:
                axis.plot(*zip(*drawn["curve"], strict=True), color=color)
            axis.plot(*drawn["at"], marker="o", linestyle="", color=color, label=drawn["rule"])
        axis.set_title(name)
        axis.set_xlabel("unrelated prompts kept out")
        axis.set_xlim(-0.02, 1.03)
        axis.set_ylim(-0.02, 1.03)
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("rephrasings that read the right edit")
    axes[0][0].legend(fontsize=7, loc="lower left")
    return figure


def draw_ops(plt, data: dict):
    labels, ratios = zip(*data["bars"], strict=True)
    figure, axes = plt.subplots(figsize=(8, 0.3 * len(labels) + 1.2))
    bars = axes.barh(labels, ratios, color=["tab:blue" if ratio >= 1 else "tab:red" for ratio in ratios])
    axes.bar_label(bars, [f"{ratio:.2f}" for ratio in ratios], padding=3)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.invert_yaxis()
    axes.set_xlabel("time of the fastest torch sequence / ours")
    axes.set_title(data["machine"])
    return figure


def draw_edit_speed(plt, data: dict):
    names, seconds, ratios = zip(*data["bars"], strict=True)
    figure, axes = plt.subplots(figsize=(6, 2.2))
    colors = dict(zip(EDITORS, ("tab:gray", "tab:blue", "tab:cyan", "tab:green", "tab:orange", "tab:red"), strict=True))
    bars = axes.barh(names, seconds, color=[colors[name] for name in names])
    labels = [f"{s:.1f} s" + (f" ({ratio:.1f}x)" if ratio else "") for s, ratio in zip(seconds, ratios, strict=True)]
    axes.bar_label(bars, labels, padding=3)
    axes.set_xlim(0, 1.3 * max(seconds))
    axes.invert_yaxis()
    axes.set_xlabel(data["label"])
    return figure


def draw_scaling(plt, data: dict):
    figure, axes = plt.subplots(figsize=(5, 3))
    for label, values in data["milliseconds"].items():
        axes.plot(data["edits"], values, marker="o", label=label)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("stored edits")
    axes.set_ylabel("milliseconds")
    axes.legend()
    return figure


def draw_long_stream(plt, data: dict):
    figure, axes = plt.subplots(figsize=(5, 3))
    for label, values in data["lines"].items():
        axes.plot(data["edits"], values, marker="o", label=label)
    axes.set_ylim(0.5, 1.01)
    axes.set_xlabel("edits")
    axes.set_ylabel("answered with exactly the target")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower left")
    return figure


def draw_retention(plt, data: dict):
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.4))
    for panel, metric in zip(axes, ("reliability", "generalization"), strict=False):
        for line in data["lines"]:
            (drawn,) = panel.plot(*zip(*line[metric], strict=True), marker="o", label=line["name"])
            if line[f"first_{metric}"]:
                panel.plot(
                    *zip(*line[f"first_{metric}"], strict=True), marker=".", linestyle=":", color=drawn.get_color()
                )
        panel.set_title(f"{metric} (dotted: first hundred)")
        panel.set_ylim(0.7, 1.01)
    for line in data["lines"]:
        if line["speed"]:
            axes[2].plot(*zip(*line["speed"], strict=True), label=line["name"])
    axes[2].set_title("edits per second, one thread, medians of 50")
    axes[2].set_ylim(bottom=0)
    for panel in axes:
        panel.set_xlabel("edits")
        panel.grid(alpha=0.3)
    axes[0].legend(fontsize=7)
    return figure


def draw_overlaps(plt, data: dict):
    panels = data["panels"]
    lines = -(-len(panels) // 4)
    figure, axes = plt.subplots(lines, 4, figsize=(13, 2.8 * lines), squeeze=False)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for axis, panel in zip(axes.flat, panels, strict=False):
        for part, color in (("prompt", "tab:blue"), ("rephrase", "tab:orange"), ("unrelated", "tab:green")):
            if panel["overlaps"].get(part):
                axis.hist(
                    panel["overlaps"][part],
                    bins=40,
                    range=(0, 1),
                    histtype="stepfilled",
                    alpha=0.6,
                    label=part,
                    color=color,
                )
        axis.axvline(panel["tau"], color="black", linestyle="--", linewidth=1, label="median tau")
        axis.set_yscale("log")
        axis.set_title(panel["title"], fontsize=8)
        axis.set_xlabel("overlap")
    axes.flat[0].legend(fontsize=7)
    return figure
