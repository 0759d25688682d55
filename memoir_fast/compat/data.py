"""Reads the published data files into records for `BaseEditor.edit_requests`."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..base import files, json_text
from ..errors import quoted
from .requests import NO_TRUTH, Request

# Per data type: field here -> its names in the files, of which the first found is used. `?` marks a field that may be
# missing.
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
    "KnowEdit": {"prompt": ("prompt", "text"), "target_new": ("target_new", "labels"), "ground_truth?": ("ground_truth",),
                 "rephrase_prompt?": ("rephrase_prompt", "rephrase"), "subject?": ("subject", "concept")},
}  # fmt: skip
DATA_TYPES = tuple(_NAMES)
_MAY_HAVE_SEVERAL = ("target_new", "ground_truth", "locality_ground_truth")


@dataclass(frozen=True)
class Record:
    """One edit with its tests; fields that a file lacks are None. A list of answers means that any of them is right.

    Attributes:
        locality, portability: KnowEdit's prompts by name, each {"prompt": [texts], "ground_truth": [an answer, or a
            list of alternatives]}.
    """

    prompt: str
    target_new: str | list[str]
    ground_truth: str | list[str] | None = None
    rephrase_prompt: str | None = None
    locality_prompt: str | None = None
    locality_ground_truth: str | list[str] | None = None
    subject: str | None = None
    locality: dict[str, dict[str, list]] | None = None
    portability: dict[str, dict[str, list]] | None = None

    def request(self) -> Request:
        """The record as a request. Its locality prompt gets the name `neighborhood`, as in the published script."""
        found: Request = {
            "prompt": self.prompt,
            "target_new": self.target_new,
            "ground_truth": self.ground_truth or NO_TRUTH,
        }
        for name in ("rephrase_prompt", "subject"):
            if getattr(self, name) is not None:
                found[name] = getattr(self, name)
        found |= {"locality": dict(self.locality or {}), "portability": dict(self.portability or {})}
        if self.locality_prompt is not None and self.locality_ground_truth is not None:
            found["locality"]["neighborhood"] = {
                "prompt": self.locality_prompt,
                "ground_truth": self.locality_ground_truth,
            }
        return found


def load_records(path: str | Path, data_type: str = "ZsRE", size: int | None = None) -> list[Record]:
    """The first `size` records (all, when None) of a JSON list or a JSONL file.

    Records may be flat, ROME's nested CounterFact, or KnowEdit's with lists of prompts. If only some of them can be
    tested for locality (others have no prompt, or an empty answer), a warning says which.

    Args:
        path: the file.
        data_type: one of `DATA_TYPES`.
        size: the number of records.

    Raises:
        ValueError: the file is missing or has fewer records, or a record lacks a field or has a field that is not text.
            The message names the file, the line (or place in the list) and the field.
    """
    if data_type not in _NAMES:
        raise ValueError(f"data_type must be one of {DATA_TYPES}, got {data_type!r}")
    path = Path(path)
    records: list[Record] = []
    without: list[str] = []
    for where, value in _entries(path):
        if size is not None and len(records) == size:
            break
        records.append(_record(value, where, _NAMES[data_type]))
        if not records[-1].request()["locality"]:
            without.append(where.rpartition(", ")[2])
    if size is not None and len(records) < size:
        raise ValueError(f"{path}: {len(records)} records, asked for {size}")
    if without:
        some = ", ".join(without[:5]) + (", ..." if len(without) > 5 else "")
        rest = (
            f"it is measured on the other {len(records) - len(without)}"
            if len(without) < len(records)
            else "it is not measured"
        )
        warnings.warn(
            f"{path}: {len(without)} of {len(records)} records have no locality prompt with an answer ({some}): {rest}",
            stacklevel=2,
        )
    return records


def _entries(path: Path) -> Iterator[tuple[str, Any]]:
    """(place for messages, value) of each record."""
    where = f"data: {path}"
    text = json_text.text_of(files.read_named(path, "data", json_text.LONGEST_LINES), where)
    if not text.lstrip().startswith("["):
        yield from ((place, value) for value, place in json_text.lines(path, "data"))
        return
    for number, value in enumerate(json_text.parse(text, where), 1):
        yield f"{where}, record {number}", json_text.whole(value, f"{where}, record {number}")


def _record(value: Any, where: str, names: dict[str, tuple[str, ...]]) -> Record:
    if not isinstance(value, dict):
        raise ValueError(f"{where}: expected an object, got {type(value).__name__}")
    if "requested_rewrite" in value:
        value = _flattened(value, where)
    found: dict[str, Any] = {}
    for name, sources in names.items():
        field, optional = name.rstrip("?"), name.endswith("?")
        source = next((n for n in sources if value.get(n) is not None), None)
        content = value[source] if source else None
        if field in _MAY_HAVE_SEVERAL and isinstance(content, list):
            content = _without_empty(content)
            content = content[0] if len(content) == 1 else content or None
        if optional and (content is None or (isinstance(content, str) and not content.strip())):
            continue  # an empty answer or rephrasing is not measured, but does not stop a run
        texts = content if field in _MAY_HAVE_SEVERAL and isinstance(content, list) else [content]
        if not all(isinstance(text, str) and text.strip() for text in texts):
            raise ValueError(f"{where}: field {' / '.join(sources)} must be text and not empty, got {quoted(content)}")
        found[field] = content
    if "{}" in found["prompt"] and found.get("subject"):
        found["prompt"] = found["prompt"].replace("{}", found["subject"])
    for kind in ("locality", "portability"):
        if isinstance(value.get(kind), dict):
            found[kind] = {
                name: asked
                for name, entry in value[kind].items()
                if (asked := _asked(entry, f"{where}: {kind}, {name[:80]}"))
            }
    return Record(**found)


def _flattened(value: dict[str, Any], where: str) -> dict[str, Any]:
    """A record of ROME's CounterFact, flattened. It nests the rewrite, with `{}` for the subject, beside lists of
    paraphrases and neighbours."""
    rewrite = value["requested_rewrite"]
    try:
        true = rewrite["target_true"]["str"]
        flat = {
            "prompt": rewrite["prompt"],
            "subject": rewrite["subject"],
            "target_new": rewrite["target_new"]["str"],
            "ground_truth": true,
        }
    except (KeyError, TypeError):
        raise ValueError(
            f"{where}: requested_rewrite must have prompt, subject, target_new.str and target_true.str, got {quoted(rewrite)}"
        ) from None
    for name, source in (("rephrase_prompt", "paraphrase_prompts"), ("locality_prompt", "neighborhood_prompts")):
        if not isinstance(value.get(source) or [], list):
            raise ValueError(f"{where}: {source} must be a list of texts, got {quoted(value[source])}")
        if value.get(source):
            flat[name] = value[source][0]
    if "locality_prompt" in flat:
        flat["locality_ground_truth"] = true
    return flat


def _asked(entries: Any, where: str) -> dict[str, list] | None:
    """KnowEdit's list of {"prompt", "ground_truth"} as two lists; None if none of them has an answer."""
    found: dict[str, list] = {"prompt": [], "ground_truth": []}
    for entry in entries if isinstance(entries, list) else [entries]:
        if not isinstance(entry, dict) or not isinstance(entry.get("prompt"), str):
            raise ValueError(f"{where}: expected objects with prompt and ground_truth, got {quoted(entry)}")
        answers = _without_empty(entry.get("ground_truth"))
        if answers:
            found["prompt"].append(entry["prompt"])
            found["ground_truth"].append(answers)
    return found if found["prompt"] else None


def _without_empty(answers: Any) -> list[Any]:
    """The alternative answers from nested lists, without empty ones."""
    if isinstance(answers, list):
        return [inner for answer in answers for inner in _without_empty(answer)]
    return [] if answers is None or (isinstance(answers, str) and not answers.strip()) else [answers]
