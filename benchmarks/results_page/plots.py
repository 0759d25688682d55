"""Plots drawn from committed results: `python -m benchmarks.plots` (nothing is measured here)."""

from __future__ import annotations

import json

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from .harness import RESULTS


def ops() -> None:
    """How many times faster each operation is than the fastest torch sequence."""
    result = json.loads((RESULTS / "ops.json").read_text())
    rows = result["rows"]
    labels = [f"{r['op']} {r['size']} {r['dtype']} N={r['N']}" for r in rows]
    figure, axes = plt.subplots(figsize=(8, 0.3 * len(rows) + 1.2))
    bars = axes.barh(
        labels, [r["ratio"] for r in rows], color=["tab:blue" if r["ratio"] >= 1 else "tab:red" for r in rows]
    )
    axes.bar_label(bars, [f"{r['ratio']:.2f}" for r in rows], padding=3, fontsize=8)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.invert_yaxis()
    axes.set_xlabel("time of the fastest torch sequence / ours")
    axes.set_title(f"{result['environment']['cpu']}, {result['environment']['threads']} threads", fontsize=9)
    figure.tight_layout()
    figure.savefig(RESULTS / "ops.png", dpi=110)


def edit_speed() -> None:
    """Seconds an edit, beside the published editor's."""
    result = json.loads((RESULTS / "edit_speed.json").read_text())
    names = [n for n in ("published", "exact", "default", "fast") if f"{n}_s" in result]
    figure, axes = plt.subplots(figsize=(5, 2.2))
    bars = axes.barh(
        names, [result[f"{n}_s"] for n in names], color=["tab:gray", "tab:blue", "tab:cyan", "tab:green"][: len(names)]
    )
    labels = [
        f"{result[f'{n}_s']:.1f} s" + (f" ({result[f'{n}_ratio']:.1f}x)" if n != "published" else "") for n in names
    ]
    axes.bar_label(bars, labels, padding=3)
    axes.set_xlim(0, 1.3 * max(result[f"{n}_s"] for n in names))
    axes.invert_yaxis()
    axes.set_xlabel(f"seconds an edit, {result['model']}, {result['edits']}")
    figure.tight_layout()
    figure.savefig(RESULTS / "edit_speed.png", dpi=110)


def scaling() -> None:
    """What an edit, a query and the look-up cost as edits accumulate."""
    rows = json.loads((RESULTS / "scaling.json").read_text())["rows"]
    figure, axes = plt.subplots(figsize=(5, 3))
    sizes = [r["edits"] for r in rows]
    for name, factor, label in (
        ("edit_s", 1e3, "one edit"),
        ("query_ms", 1, "one query (prompt to route)"),
        ("lookup_ms", 1, "its look-up"),
    ):
        axes.plot(sizes, [r[name] * factor for r in rows], marker="o", label=label)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("stored edits")
    axes.set_ylabel("milliseconds")
    axes.legend()
    figure.tight_layout()
    figure.savefig(RESULTS / "scaling.png", dpi=110)


def main() -> None:
    for plot in (ops, edit_speed, scaling):
        if (RESULTS / f"{plot.__name__}.json").is_file():
            plot()


if __name__ == "__main__":
    main()
