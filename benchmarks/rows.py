"""Results as rows: `results/<benchmark>.jsonl` has one compact JSON line a run, `results/series/` the long lists of numbers beside it."""

from __future__ import annotations

import gzip
import json
from dataclasses import asdict, dataclass
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Row:
    """One run of one benchmark.

    Attributes:
        benchmark: the script's name, which names the file too.
        date: ISO day of the run.
        commit: what was measured, as git names it; `+changes` behind it where the tree was not clean, None where it is not known.
        traced: whether `commit` alone says what was measured.
        environment: machine and versions. settings: what was asked for. result: what was measured.
        name: a label of the run, where a benchmark has many.
        series: the file with the run's long lists, relative to the results' folder, if it has one.
    """

    benchmark: str
    date: str
    commit: str | None
    traced: bool
    environment: dict
    settings: dict
    result: dict
    name: str | None = None
    series: str | None = None

    def __post_init__(self) -> None:
        if self.traced != is_clean(self.commit):
            raise ValueError(
                f"{self.benchmark}, {self.date}: traced is {self.traced}, but its commit is {self.commit!r}"
            )

    def line(self) -> str:
        """The row as its file has it, without a line break; fields that are None by default are left out."""
        fields = {key: value for key, value in asdict(self).items() if value is not None or key == "commit"}
        return json.dumps(fields, ensure_ascii=False, separators=(",", ":"))


def is_clean(commit: str | None) -> bool:
    """Whether a commit's name says exactly what was measured."""
    return bool(commit) and "+" not in commit


def read(benchmark: str, results: Path = RESULTS) -> list[Row]:
    """A benchmark's rows in the order of their file; none where it has no file.

    Raises:
        ValueError: a line is not a row, or names another benchmark.
    """
    path = results / f"{benchmark}.jsonl"
    if not path.is_file():
        return []
    rows = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        try:
            row = Row(**json.loads(line))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}, line {number}: not a result row ({error})") from None
        if row.benchmark != benchmark:
            raise ValueError(f"{path}, line {number}: a row of the benchmark {row.benchmark!r}")
        rows.append(row)
    return rows


def append(row: Row, results: Path = RESULTS) -> Path:
    """Put a row behind the others of its benchmark; returns the file."""
    path = results / f"{row.benchmark}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(row.line() + "\n")
    return path


def series_file(benchmark: str, name: str) -> str:
    """Where a run's long lists lie, relative to the results' folder."""
    return f"series/{benchmark}-{name}.json.gz"


def write_series(series: dict, benchmark: str, name: str, results: Path = RESULTS) -> str:
    """Write a run's long lists, compressed; returns their file, relative to `results`.

    Raises:
        ValueError: the file is there already: a run's series are never replaced.
    """
    relative = series_file(benchmark, name)
    path = results / relative
    if path.exists():
        raise ValueError(f"{path} is there already: give this run another name (--name)")
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(series, separators=(",", ":"))
    path.write_bytes(gzip.compress(text.encode(), mtime=0))
    return relative


def read_series(row: Row, results: Path = RESULTS) -> dict:
    """A run's long lists by name; empty where it has none."""
    if row.series is None:
        return {}
    return json.loads(gzip.decompress((results / row.series).read_bytes()))
