"""Near misses of classes that the network never saw: `python -m benchmarks.quality.left_out [--folds 4]`

The network that compares prompts is fitted on the package's own near misses. Here it is fitted on some of their classes of subjects, with all
relations of these, and asked about the others; every class is left out once. Edits are stored, not trained, as in `routing`.

What a near miss tests depends on what is stored beside it: where its subject has a stored fact, it is another relation of that subject,
otherwise another subject.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Collection
from typing import Any

from benchmarks import harness
from benchmarks.library import (
    CLASSES,
    KEYS_FITTED,
    Asked,
    Encoder,
    PromptCode,
    fit_classifier,
    joined_prompts,
    make_near_misses,
    read_prompts,
    relation_wordings,
)
from benchmarks.models import load_model
from benchmarks.rivals.routers import Words
from memoir_fast import MemoirConfig, MemoirModel, load_texts

KINDS = {
    "rewording": True,
    "wording": True,
    "subject": False,
    "relation": False,
    "mention": False,
    "namesake": False,
}  # kind -> is read


def relations_of(classes: set[str]) -> list[str]:
    """ "class:number" of all relations of some classes."""
    return [relation for relation in relation_wordings() if relation.split(":")[0] in classes]


def fit(model: MemoirModel, classes: set[str], seed: int, known: dict[str, PromptCode]) -> None:
    """Give the model's matcher a network that is fitted on some classes only, as `fit_matcher.py` fits the shipped one.

    known: the codes of texts that were read before; those that are read now are added. A class's texts are the same whatever is left out.
    """
    texts = load_texts()
    background = [*texts.for_mean, *texts.for_threshold]
    near = make_near_misses(seed, KEYS_FITTED, relations_of(classes), background)
    plain, matcher = Encoder(model.tokenizer, chat_template=False), model.router.words.keys.matcher
    asked = [one.text for one in (*near.keys, *near.queries)]
    new = [text for text in dict.fromkeys(asked) if text not in known]
    read = read_prompts(model.model, model.router, matcher, [plain.prompt(text) for text in new], 32)
    known |= {text: code for text, (_, code) in zip(new, read, strict=True)}
    codes = [known[text] for text in asked]
    matcher.classifier = fit_classifier(near, codes[: len(near.keys)], codes[len(near.keys) :], seed)


def tested(query: Asked, facts: Collection[tuple[str, str]]) -> str:
    """Which of `KINDS` a query is beside these stored facts, (relation, subject) each."""
    kind, subject = query.kind.split("/")[0], (query.relation.split(":")[0], query.subject)
    if kind not in ("subject", "relation"):
        return kind
    return "relation" if any((relation.split(":")[0], one) == subject for relation, one in facts) else "subject"


def ask(model: MemoirModel, classes: set[str], seed: int) -> dict[str, list[tuple[bool, bool]]]:
    """Kind of query -> for each of them (reads an edit, reads the right one), with the facts of some classes stored."""
    near = make_near_misses(seed, relations=relations_of(classes))
    wordings: dict[tuple[str, str], list[str]] = {}
    for key in near.keys:
        wordings.setdefault(key.fact, []).append(key.text)
    facts = list(wordings)
    rule = Words(model, list(wordings.values()), [""] * len(facts))
    # A query made as a near miss of one fact that asks for another stored one is neither.
    queries = [(query, tested(query, facts)) for query in near.queries]
    queries = [(query, kind) for query, kind in queries if KINDS[kind] or query.fact not in wordings]
    encode = joined_prompts(model.encoder)
    found: dict[str, list[tuple[bool, bool]]] = {kind: [] for kind in KINDS}
    for (query, kind), edit in zip(queries, rule.read([encode(query.text) for query, _ in queries]), strict=True):
        found[kind].append((edit >= 0, edit >= 0 and facts[edit] == query.fact))
    return found


def scores(found: dict[str, list[tuple[bool, bool]]]) -> dict[str, Any]:
    """Shares that read the right edit, of rewordings, and that read none, of near misses; and how many were asked."""
    result: dict[str, Any] = {}
    for kind, reads in found.items():
        share = sum(right if KINDS[kind] else not read for read, right in reads) / len(reads)
        result[kind] = {"right" if KINDS[kind] else "kept_out": share, "prompts": len(reads)}
        if KINDS[kind]:
            result[kind]["wrong"] = sum(read and not right for read, right in reads) / len(reads)
    return result


def main() -> None:
    parser = harness.arguments(__doc__, model=True)
    parser.add_argument("--folds", type=int, default=4, help="parts of the classes, each left out once")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    recorder, began = harness.Recorder("left_out", args), time.perf_counter()
    classes = sorted(CLASSES)
    random.Random(args.seed).shuffle(classes)
    base, tokenizer = load_model(args.model)
    total: dict[str, list[tuple[bool, bool]]] = {kind: [] for kind in KINDS}
    known: dict[str, PromptCode] = {}
    folds = []
    for fold in range(args.folds):
        left = set(classes[fold :: args.folds])
        with MemoirModel(base, tokenizer, MemoirConfig()) as model:
            fit(model, set(classes) - left, args.seed, known)
            found = ask(model, left, args.seed + 1)
        folds.append({"left_out": sorted(left), **scores(found)})
        print(json.dumps(folds[-1]), flush=True)
        for kind, reads in found.items():
            total[kind] += reads
    result = {"all": scores(total), "folds": folds}
    print(json.dumps(result["all"]), f"{time.perf_counter() - began:.0f} s")
    recorder.write({"model": args.model, "classes": len(classes), "folds": args.folds, "seed": args.seed}, result)


if __name__ == "__main__":
    main()
