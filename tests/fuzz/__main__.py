"""`python -m tests.fuzz`: see the package's text."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from . import formats, http, runner


def main() -> int:
    """Run inputs, or one finding again; returns 1 where something was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Read files that are made to do harm.")
    parser.add_argument("--inputs", type=int, default=20_500, help="how many (%(default)s)")
    parser.add_argument("--seconds", type=float, help="end after so many, whatever is left")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--formats", nargs="+", choices=list(formats.FORMATS), default=list(formats.FORMATS))
    parser.add_argument(
        "--findings", type=Path, default=Path("build/fuzz"), help="where to save inputs with which something was wrong"
    )
    parser.add_argument("--replay", type=Path, metavar="FILE", help="read a saved input again, and nothing else")
    parser.add_argument("--url", help="send bodies to a running server, and read no files")
    parser.add_argument("--model", default="smollm2", help="the served model's name (%(default)s)")
    parser.add_argument("--api-key", help="the server's")
    options = parser.parse_args()
    if options.url is not None:
        answered = http.fuzz_http(
            http.over_url(options.url), options.model, options.inputs, options.seed, options.api_key
        )
        for path, wrong, body in answered.findings:
            print(f"{path}: {wrong}: {body[:300]!r}")
        print(json.dumps({"statuses": dict(answered.statuses), "findings": len(answered.findings)}))
        return int(bool(answered.findings))
    if options.replay is not None:
        wrong = runner.replay(options.replay)
        print(wrong.strip() or "nothing was wrong")
        return int(bool(wrong))
    found = runner.run(options.inputs, options.seed, options.formats, options.findings, options.seconds)
    print(json.dumps({"inputs": sum(found.inputs.values()), "by_format": dict(found.inputs), "findings": len(found.findings),
                      "seconds": round(found.seconds, 1)}))  # fmt: skip
    return int(bool(found.findings))


if __name__ == "__main__":
    sys.exit(main())
