"""Records of the published data files, as `BaseEditor.edit` takes them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Per data type: field here -> names in the files, the first found wins. `?` marks a field that may be missing.
_NAMES: dict[str, dict[str, tuple[str, ...]]] = {
    "ZsRE": {"prompt": ("src", "prompt"), "target_new": ("alt", "target_new"), "rephrase_prompt?": ("rephrase", "rephrase_prompt"),
             "locality_prompt?": ("loc", "locality_prompt"), "locality_ground_truth?": ("loc_ans", "locality_ground_truth"),
             "subject?": ("subject",)},
    "hallucination": {"prompt": ("prompt",), "target_new": ("target_new",), "locality_prompt?": ("locality_prompt",),
                      "locality_ground_truth?": ("locality_ground_truth",), "subject?": ("subject",)},
    "temporal": {"prompt": ("prompt",), "target_new": ("target_new",), "rephrase_prompt?": ("ood_rephrase", "rephrase_prompt"),
                 "locality_prompt?": ("locality_prompt",), "locality_ground_truth?": ("locality_ground_truth",), "subject?": ("subject",)},
    "counterfact": {"prompt": ("prompt",), "target_new": ("target_new",), "ground_truth?": ("ground_truth",),
                    "rephrase_prompt?": ("rephrase_prompt",), "locality_prompt?": ("locality_prompt",),
                    "locality_ground_truth?": ("locality_ground_truth",), "subject?": ("subject",)},
}  # fmt: skip
DATA_TYPES = tuple(_NAMES)


@dataclass(frozen=True)
class Record:
    """One edit with its tests; what a file does not have is None."""

    prompt: str
    target_new: str
    ground_truth: str | None = None
    rephrase_prompt: str | None = None
    locality_prompt: str | None = None
    locality_ground_truth: str | None = None
    subject: str | None = None


def load_records(path: str | Path, data_type: str = "ZsRE", size: int | None = None) -> list[Record]:
    """The first `size` records of a JSON list or a JSONL file.

    Raises:
        ValueError: the file is missing or has fewer records, or a record lacks a field or holds something else than text; the
            message names the file, the line (or place in the list) and the field.
    """
    if data_type not in _NAMES:
        raise ValueError(f"data_type must be one of {DATA_TYPES}, got {data_type!r}")
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"data: there is no file {str(path)!r}")
    records: list[Record] = []
    for where, value in _entries(path):
        if size is not None and len(records) == size:
            break
        records.append(_record(value, where, _NAMES[data_type]))
    if size is not None and len(records) < size:
        raise ValueError(f"{path}: {len(records)} records, asked for {size}")
    return records


def _entries(path: Path) -> Iterator[tuple[str, Any]]:
    """(where, value) of each record."""
    text = path.read_text("utf-8")
    if text.lstrip().startswith("["):
        try:
            values = json.loads(text)
        except ValueError as error:
            raise ValueError(f"{path}: not JSON ({error})") from None
        yield from ((f"{path}, record {number}", value) for number, value in enumerate(values, 1))
        return
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                yield f"{path}, line {number}", json.loads(line)
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: not JSON ({error})") from None


def _record(value: Any, where: str, names: dict[str, tuple[str, ...]]) -> Record:
    if not isinstance(value, dict):
        raise ValueError(f"{where}: expected an object, got {type(value).__name__}")
    found = {}
    for name, sources in names.items():
        source = next((n for n in sources if value.get(n) is not None), None)
        content = value[source] if source else None
        if (
            isinstance(content, list)
            and content
            and name.startswith(("target_new", "ground_truth", "locality_ground_truth"))
        ):
            content = content[0]  # some files list several right answers
        if content is None and name.endswith("?"):
            continue
        if not isinstance(content, str) or not content.strip():
            raise ValueError(f"{where}: field {' / '.join(sources)} must be text and not empty, got {content!r}")
        found[name.rstrip("?")] = content
    return Record(**found)
