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


def main() -> None:
    ops()


if __name__ == "__main__":
    main()
