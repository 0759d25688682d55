"""Is this checkout as fast as another one? `python -m benchmarks.speed.checkouts --other DIR --facts zsre.jsonl`

Both are measured in turns, in processes of their own with one thread, in CPU seconds and on the settings that both know. DIR is a checkout of
this project with its extension built. What is timed is compared: the answer to an unrelated prompt must be the same in both.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks import harness

TIMED = ("edit", "unmatched first token", "unmatched later token", "matched first token", "matched later token", "look-up")  # fmt: skip

# Not `python one_checkout.py`: that would put this folder, with its `threads.py` and `kernels.py`, in front of the modules of other packages.
_RUN = "import runpy, sys; runpy.run_path(sys.argv.pop(1), run_name='__main__')"


def measured(checkout: Path, args) -> dict[str, Any]:
    """One run of `one_checkout.py` in a checkout."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    path = os.pathsep.join((str(checkout), str(checkout / "kernels")))
    script = Path(__file__).with_name("one_checkout.py")
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", _RUN, str(script), str(Path(args.facts).resolve()), str(args.count)], cwd=checkout,
                          env={**os.environ, **threads, "PYTHONPATH": path}, capture_output=True, text=True)  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{checkout}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def compared(before: list[dict[str, Any]], now: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians of both and their ratio, by what was timed. Raises SystemExit where the two did not do the same work."""
    if len({str(run["unmatched tokens"]) for run in (*before, *now)}) > 1 or not all(
        run["found"] for run in (*before, *now)
    ):
        raise SystemExit(
            "the checkouts answer an unrelated prompt, or look masks up, differently: their times say nothing"
        )
    found = {}
    for name in TIMED:
        medians = [statistics.median(run[name] for run in runs) for runs in (before, now)]
        found[name] = {"before_s": medians[0], "now_s": medians[1], "ratio": round(medians[1] / medians[0], 3)}
    return found


def main() -> None:
    parser = harness.arguments(__doc__)
    parser.add_argument("--other", type=Path, required=True, help="the other checkout, built")
    parser.add_argument("--facts", required=True, help="JSONL of facts with prompt and target_new")
    parser.add_argument("--count", type=int, default=8, help="how many of the facts are edited")
    parser.add_argument("--pairs", type=int, default=3, help="runs of each checkout, in turns")
    args = parser.parse_args()
    recorder, runs = harness.Recorder("checkouts", args), []
    other = args.other.resolve()
    for _ in range(args.pairs):
        runs.append([measured(checkout, args) for checkout in (other, harness.ROOT)])
    result = compared([pair[0] for pair in runs], [pair[1] for pair in runs])
    for name, times in result.items():
        print(f"{name}: {times['before_s']:.6f} s -> {times['now_s']:.6f} s, {times['ratio']}")
    steps = {name: pair["steps"] for name, pair in zip(("before", "now"), runs[0], strict=True)}
    about = {
        "other": harness.commit_of(other)[0],
        "count": args.count,
        "pairs": args.pairs,
        "facts": Path(args.facts).name,
    }
    recorder.write(about, {"times": result, "steps": steps})


if __name__ == "__main__":
    main()
