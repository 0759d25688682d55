"""Requests in the format of EasyEdit's editor, checked once before anything is measured or edited.

A request is a dictionary with `prompt` and `target_new`; `rephrase_prompt`, `locality`, `portability` and any other
keys stay as they are. If an answer is a list of texts, the first one is learned, and any of them counts as right.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from ..errors import quoted

Request: TypeAlias = dict[str, Any]
Texts: TypeAlias = str | Sequence[Any]
Inputs: TypeAlias = dict[str, dict[str, Any]]
NO_TRUTH = "<|endoftext|>"  # EasyEdit's placeholder for a missing ground truth


def requests_from(
    prompts: Texts | None,
    target_new: Texts | None,
    ground_truth: Texts | None = None,
    target_neg: Texts | None = None,
    rephrase_prompts: Texts | None = None,
    locality_inputs: Inputs | None = None,
    portability_inputs: Inputs | None = None,
    subject: Texts | None = None,
    loc_prompts: Texts | None = None,
) -> list[Request]:
    """Requests from lists of the same length, or from single texts; not checked yet.

    Raises:
        ValueError: prompts or targets are missing, or a list has the wrong length; the message names it.
    """
    if prompts is None or target_new is None:
        raise ValueError("prompts and target_new must be given (or requests)")
    single = isinstance(prompts, str)
    prompts = _listed("prompts", prompts)
    targets = [target_new] if single and _aliases(target_new) else _column("target_new", target_new, len(prompts))
    requests: list[Request] = [{"prompt": p, "target_new": t} for p, t in zip(prompts, targets, strict=True)]
    columns = {
        "ground_truth": ground_truth,
        "target_neg": target_neg,
        "rephrase_prompt": rephrase_prompts,
        "subject": subject,
    }
    for name, values in columns.items():
        if values is not None:
            called = "rephrase_prompts" if name == "rephrase_prompt" else name
            for request, value in zip(requests, _column(called, values, len(requests)), strict=True):
                request[name] = value
    if loc_prompts is not None:  # if there are fewer than requests, they are used in turn
        unrelated = _listed("loc_prompts", loc_prompts)
        for number, request in enumerate(requests if unrelated else []):
            request["loc_prompt"] = unrelated[number % len(unrelated)]
    for request in requests:
        request.setdefault("ground_truth", NO_TRUTH)
        request |= {"locality": {}, "portability": {}}
    for kind, inputs in (("locality", locality_inputs), ("portability", portability_inputs)):
        for key, entry in (inputs or {}).items():
            _spread(requests, kind, key, entry)
    return requests


def checked(requests: Iterable[Request]) -> list[Request]:
    """Checked copies of the requests, with `{}` replaced by their subjects.

    Empty answers among the locality and portability prompts are not errors; they are not measured, and a warning says
    so.

    Raises:
        ValueError: a request lacks its prompt or target, or something in it is not text; the message names the place.
    """
    found, empty = [], 0
    for number, request in enumerate(requests):
        if not isinstance(request, dict):
            raise ValueError(
                f"requests[{number}] must be a dictionary with prompt and target_new, got {quoted(request)}"
            )
        filled = dict(request)
        for name in ("prompt", "target_new"):
            if name not in filled:
                raise ValueError(f"requests[{number}]: {name} is missing")
        _text(f"prompt[{number}]", filled["prompt"])
        for name in ("rephrase_prompt", "subject", "loc_prompt"):
            if filled.get(name) not in (None, ""):  # optional fields may be empty
                _text(f"{name}[{number}]", filled[name])
        target = filled["target_new"]
        if len(alternatives(f"target_new[{number}]", target)) == 1 and not isinstance(target, str):
            raise ValueError(
                f"target_new[{number}] must be text, or several texts of which any is right, got {quoted(target)}: take the list away"
            )
        if filled.get("subject"):
            for name in ("prompt", "rephrase_prompt"):
                if filled.get(name):
                    filled[name] = filled[name].replace("{}", filled["subject"])
        for kind in ("locality", "portability"):
            for key, entry in (filled.get(kind) or {}).items():
                empty += sum(not answers for _, answers in _pairs(f"{kind}[{key!r}][{number}]", entry))
        found.append(filled)
    if empty:
        warnings.warn(
            f"requests: {empty} locality or portability answers are empty; these are not measured", stacklevel=3
        )
    return found


def learned(request: Request) -> str:
    """The text that an edit of a checked request teaches."""
    return alternatives("target_new", request["target_new"])[0].strip()


def alternatives(name: str, value: Any) -> list[str]:
    """The texts of which any is right, from a text or a list of texts.

    Raises:
        ValueError: the value is a number, NaN, None, an empty text or list, or a list with anything but texts.
    """
    several = isinstance(value, (list, tuple))
    values = list(value) if several else [value]
    if not values:
        raise ValueError(f"{name} is an empty list: give the text, or a list of texts of which any is right")
    return [_text(f"{name}[{place}]" if several else name, text) for place, text in enumerate(values)]


def pairs_of(entry: dict[str, Any]) -> list[tuple[str, list[str]]]:
    """(prompt, alternative answers) of a locality or portability entry; prompts without an answer are left out."""
    return [(prompt, answers) for prompt, answers in _pairs("entry", entry) if answers]


def _pairs(name: str, entry: Any) -> list[tuple[str, list[str]]]:
    if not isinstance(entry, dict) or not {"prompt", "ground_truth"} <= set(entry):
        raise ValueError(f"{name} must have prompt and ground_truth, got {quoted(entry)}")
    prompts, answers = entry["prompt"], entry["ground_truth"]
    if isinstance(prompts, str):
        prompts, answers = [prompts], [answers]
    if not isinstance(answers, (list, tuple)) or len(prompts) != len(answers):
        raise ValueError(
            f"{name}: ground_truth must have {len(prompts)} entries, one per prompt, got {quoted(answers)}"
        )
    found = []
    for prompt, answer in zip(prompts, answers, strict=True):
        texts = list(answer) if isinstance(answer, (list, tuple)) else [answer]
        texts = [text for text in texts if not (text is None or (isinstance(text, str) and not text.strip()))]
        given = alternatives(f"{name}: ground_truth", texts) if texts else []
        found.append((_text(f"{name}: prompt", prompt), given))
    return found


def _spread(requests: list[Request], kind: str, key: str, entry: Any) -> None:
    """Give each request its part of a locality or portability input."""
    called = f"{kind}_inputs[{key!r}]"
    if not isinstance(entry, dict) or set(entry) != {"prompt", "ground_truth"}:
        got = sorted(entry) if isinstance(entry, dict) else entry
        raise ValueError(f"{called} must have prompt and ground_truth, got {quoted(got)}")
    columns = [_column(f"{called}, {name}", entry[name], len(requests)) for name in ("prompt", "ground_truth")]
    for request, prompt, answer in zip(requests, *columns, strict=True):
        if prompt is not None:
            request[kind][key] = {"prompt": prompt, "ground_truth": answer}


def _column(name: str, value: Texts, count: int) -> list[Any]:
    values = _listed(name, value)
    if len(values) != count:
        raise ValueError(f"{name} must have {count} entries, one per prompt, got {len(values)}")
    return values


def _listed(name: str, value: Texts) -> list[Any]:
    if isinstance(value, dict) or not isinstance(value, Iterable):
        raise ValueError(f"{name} must be a text or a list with one per prompt, got {quoted(value)}")
    return [value] if isinstance(value, str) else list(value)


def _aliases(value: Any) -> bool:
    """Whether a value is a list of several texts; with a single prompt these are the alternatives of its target."""
    return isinstance(value, (list, tuple)) and len(value) > 1


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        missing = value is None or (isinstance(value, float) and value != value)
        hint = ": a missing value?" if missing else ""
        raise ValueError(f"{name} must be text, got {quoted(value)} ({type(value).__name__}){hint}")
    if not value.strip():
        raise ValueError(f"{name} is empty: give the text")
    return value
