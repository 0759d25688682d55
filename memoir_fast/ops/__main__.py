"""`python -m memoir_fast.ops` prints which backend runs each operation on this machine, and what looks up stored
edits."""

from __future__ import annotations

import argparse
import json

import torch

from . import cpu, gpu, search
from .dispatch import OPERATIONS, backend_of


def main() -> None:
    """Print which backend runs each operation, as a table or as JSON."""
    parser = argparse.ArgumentParser(description="Which backend serves each operation on this machine.")
    parser.add_argument("--json", action="store_true", help="as one JSON object")
    devices = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
    as_json = parser.parse_args().json
    served = {device: {op: backend_of(op, device) for op in OPERATIONS} for device in devices}
    if as_json:
        found = {"torch": torch.__version__, "extension": cpu.describe(), "gpu": gpu.describe(), "served": served,
                 "lookup": search.engines()}  # fmt: skip
        print(json.dumps(found))
        return
    print(f"torch {torch.__version__}, extension: {cpu.describe()}, GPU kernels: {gpu.describe()}")
    for device in devices:
        for op in OPERATIONS:
            print(f"  {device:<5} {op:<16} {served[device][op]}")
    for rule, engine in search.engines().items():
        print(f"  look-up with router={rule}: {engine}")


if __name__ == "__main__":
    main()
