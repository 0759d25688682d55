"""Write the results page and its plots from the committed rows: `python -m benchmarks.results_page`"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks import rows
from benchmarks.harness import ROOT
from benchmarks.results_page import page, plots


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="the folder that takes results.md and images/")
    args = parser.parse_args()
    args.docs.mkdir(parents=True, exist_ok=True)
    (args.docs / "results.md").write_text(page.made(rows.RESULTS), "utf-8")
    plots.draw_all(rows.RESULTS, args.docs / "images")
    print(f"wrote {args.docs / 'results.md'} and {len(plots.PLOTS)} plots")


if __name__ == "__main__":
    main()
