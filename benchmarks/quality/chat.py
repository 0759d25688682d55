"""What users of a long stream see: `python -m benchmarks.quality.chat --task qaedit --edits qaedit.jsonl --count 300 --folder runs/qa`

The library's defaults: edits in the model's chat template, one after the other; then every question, rewording and unrelated
question is asked in a chat of its own, and the model writes its whole answer. Teacher-forced scores stand beside. A stopped run
goes on where it was, as in `benchmarks.quality.retention`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from benchmarks.library import answers, metrics
from benchmarks.quality import measures, retention, tasks

ROOM = 8  # tokens that an answer may have beyond the longest target: one that runs on is seen to
ELSEWHERE = 24  # tokens looked at of an unrelated answer


def written_answers(model, rows: list[tasks.Row]) -> dict:
    """Free answers of all rows, of the first and the last tenth, and of rows whose subject occurs once."""
    encoder = model.encoder
    longest = max(len(encoder.pair(r.prompt, r.target).tokens) - len(encoder.prompt(r.prompt).tokens) for r in rows)
    written = {
        part: metrics.whole_answers(model, [getattr(row, part) for row in rows], longest + ROOM)
        for part in ("prompt", "rephrase")
    }
    elsewhere = [number for number, row in enumerate(rows) if row.unrelated]
    asked = [rows[number].unrelated for number in elsewhere]
    with model.disabled():
        before = dict(zip(elsewhere, metrics.whole_answers(model, asked, ELSEWHERE), strict=True))
    after = dict(zip(elsewhere, metrics.whole_answers(model, asked, ELSEWHERE), strict=True))
    counts = Counter(row.subject for row in rows)
    tenth = max(1, len(rows) // 10)
    groups = {
        "all": range(len(rows)),
        "first tenth": range(tenth),
        "last tenth": range(len(rows) - tenth, len(rows)),
        "subject once": [number for number, row in enumerate(rows) if counts[row.subject] == 1],
    }
    found = {}
    for name, group in groups.items():
        scores: dict = {"rows": len(group)}
        for part in written:
            pairs = [(written[part][number], rows[number].target) for number in group if getattr(rows[number], part)]
            scores[part] = {kind: _share(test, pairs) for kind, test in KINDS.items()}
        kept = [number for number in group if number in before]
        scores["unrelated"] = {
            "unchanged": metrics.mean(before[n] == after[n] for n in kept),
            "answered": metrics.mean(bool(before[n]) for n in kept),
            "given the target": metrics.mean(
                answers.begins_with(after[n], rows[n].target) and not answers.begins_with(before[n], rows[n].target)
                for n in kept
            ),
        }
        found[name] = scores
    return found


KINDS: dict[str, Callable[[str, str], bool]] = {
    "begins": answers.begins_with,
    "contains": answers.contains,
    "exact and ended": answers.equals,
}


def _share(test: Callable[[str, str], bool], pairs: list[tuple[str, str]]) -> float:
    return metrics.mean(test(answer, target) for answer, target in pairs)


def capability(model, rows: list[tasks.Row]) -> dict:
    """What edits must leave alone, with nothing to download: perplexity of unrelated answers before and after."""
    with model.disabled():
        before = measures.background_perplexity(model)
    return {"perplexity before": before, "perplexity after": measures.background_perplexity(model)}


def main() -> None:
    parser = retention.arguments(__doc__)
    variant = retention.Variant(
        benchmark="chat", config={}, afterwards={"answers": written_answers, "capability": capability}
    )
    retention.run(parser.parse_args(), variant)


if __name__ == "__main__":
    main()
