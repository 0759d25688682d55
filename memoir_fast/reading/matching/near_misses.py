"""Generated near misses: stored prompts, and queries that ask for them or almost do.

The router's classifier is fitted on these texts, so that no user data and no public benchmark is needed. Every key (a
stored prompt) and query states what it asks for, as (relation, subject); a pair matches if both are equal. Everything
follows from one seed, and the order of the texts is part of the result. A class's texts depend on that seed and its own
relations only, so leaving out other classes does not change them.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from .near_miss_everyday import EVERYDAY
from .near_miss_household import HOUSEHOLD
from .near_miss_projects import PROJECTS
from .near_miss_relations import RELATIONS
from .near_miss_rewording import changed, reworded
from .near_miss_subjects import CONTEXTS, ELSEWHERE, MENTIONS, PREFIXES, SMALL_TALK, SUFFIXES, sibling, subjects

CLASSES: dict[str, list[str]] = {
    name: lines.strip().splitlines() for name, lines in (RELATIONS | EVERYDAY | HOUSEHOLD | PROJECTS).items()
}


Phrased = dict[str, list[str]]  # "class:number" of a relation -> its wordings


@dataclass(frozen=True)
class Asked:
    """One generated text.

    Attributes:
        text: the prompt.
        relation: "class:number" of what it asks for, "" for a text that asks for nothing.
        subject: who or what it asks about.
        kind: how it was made ("key", "rewording", "context", "subject", "relation", "mention", ...).
    """

    text: str
    relation: str
    subject: str
    kind: str

    @property
    def fact(self) -> tuple[str, str]:
        """What it asks for: (relation, subject)."""
        return self.relation, self.subject


@dataclass(frozen=True)
class NearMisses:
    """Stored prompts and queries; `keys[i]` and `queries[j]` match if their `fact` is the same."""

    keys: list[Asked]
    queries: list[Asked]


def wordings() -> dict[str, list[str]]:
    """Per relation ("class:number"), its wordings."""
    return {f"{name}:{number}": line.split("|") for name, lines in CLASSES.items() for number, line in enumerate(lines)}


def make_near_misses(
    seed: int = 0, keys_per_relation: int = 2, relations: list[str] | None = None, background: Sequence[str] = ()
) -> NearMisses:
    """Generate texts for fitting or measuring a router.

    Args:
        seed: for everything random.
        keys_per_relation: the number of facts per relation. Each comes with about seven queries, and three in ten are
            stored in three wordings.
        relations: "class:number" of the relations to use; None for all. (Leave some out to validate.)
        background: unrelated prompts. Two in three become keys, with queries that reword or change them by rule; the
            others are queries that ask for no key.
    """
    phrased = wordings()
    chosen = relations if relations is not None else list(phrased)
    of_class: dict[str, list[str]] = {}
    for relation in chosen:
        of_class.setdefault(relation.split(":")[0], []).append(relation)
    keys, queries = [], []
    for name, members in of_class.items():
        some, asked = _of_class(name, members, keys_per_relation, phrased, random.Random(f"{seed}:{name}"))
        keys += some
        queries += asked + _namesakes(some, list(background), random.Random(f"{seed}:{name}:namesakes"))
    rng = random.Random(f"{seed}:background")
    for number, text in enumerate(background):
        fact = f"background:{number}", ""
        if number % 3:
            clauses = rng.sample(CONTEXTS, 1 + number % 2) if number % 3 == 1 else []
            keys.append(Asked(_elaborated(text, clauses, rng), *fact, "key"))
            queries += _background_queries(text, clauses, fact, list(background), rng)
        else:
            queries.append(Asked(text, *fact, "unrelated"))
    return NearMisses(keys, queries)


def _of_class(
    name: str, members: list[str], keys_per_relation: int, phrased: Phrased, rng: random.Random
) -> tuple[list[Asked], list[Asked]]:
    """Stored prompts about subjects of one class, and the queries made for them."""
    keys: list[Asked] = []
    queries: list[Asked] = []
    taken: set[tuple[str, str]] = set()
    names = subjects(name, rng, 4 + len(members) * keys_per_relation // 2)
    for relation in members:
        for _ in range(keys_per_relation):
            subject = rng.choice(names)
            if (relation, subject) in taken:
                continue
            taken.add((relation, subject))
            key = Asked(_filled(rng.choice(phrased[relation]), subject), relation, subject, "key")
            keys.append(key)
            if rng.random() < 0.3:
                further = [w for w in phrased[relation] if _filled(w, subject) != key.text]
                texts = [_filled(w, subject) for w in rng.sample(further, min(2, len(further)))]
                keys += [Asked(text, relation, subject, "key") for text in texts]
            queries += _queries(key, name, members, names, phrased, rng)
    return keys, queries


def _namesakes(keys: list[Asked], background: list[str], rng: random.Random) -> list[Asked]:
    """Queries about other things that contain one word of a stored prompt's subject: "Where was chess first played?" beside a
    fact about Chess Records."""
    made = []
    for key in keys:
        words = [
            w for w in re.findall(r"[^\W\d_]{4,}", key.subject) if w.lower() not in ("with", "from", "over", "under")
        ]
        if not words or rng.random() < 0.5:
            continue
        word = rng.choice(words)
        asked = rng.choice(ELSEWHERE).replace("{w}", word if rng.random() < 0.25 else word.lower())
        if background and rng.random() < 0.4:
            asked = changed(rng.choice(background), [f"a {word.lower()}"], rng) or asked
        made.append(varied(Asked(asked, "", "", "namesake"), rng, share=0.15))
    return made


def _background_queries(
    text: str, clauses: list[str], fact: tuple[str, str], texts: list[str], rng: random.Random
) -> list[Asked]:
    def told(question: str, again: bool) -> str:
        return _elaborated(question, [reworded(c, rng).rstrip("?.") + "." for c in clauses] if again else clauses, rng)

    same = [Asked(told(text, False), *fact, "wording")]
    same += [Asked(told(reworded(text, rng), True), *fact, "rewording") for _ in range(2)]
    other = changed(reworded(text, rng) if rng.random() < 0.3 else text, texts, rng)
    made = [varied(one, rng, share=0.5 if one.kind == "wording" else 0.2) for one in same]
    if other is not None:
        made.append(varied(Asked(told(other, rng.random() < 0.5), fact[0] + "*", "", "subject"), rng, share=0.2))
    return made


def _elaborated(question: str, clauses: list[str], rng: random.Random) -> str:
    """The question with clauses added before or after it that say more about what it asks for."""
    for clause in clauses:
        said = clause.rstrip(".")
        if rng.random() < 0.5 or question[-1].isalpha():
            question = f"{said}, {_small(question)}"
        else:
            question = f"{question.rstrip('?.')}, {rng.choice(('where', 'given that', 'and', 'when'))} {_small(said)}?"
    return question


def _queries(
    key: Asked, name: str, members: list[str], names: list[str], phrased: Phrased, rng: random.Random
) -> list[Asked]:
    """The queries for one stored prompt: for the same fact, for almost the same, and mere mentions."""
    own = phrased[key.relation]

    def asked(relation: str, subject: str, kind: str, wording: str | None = None) -> Asked:
        text = _filled(wording or rng.choice(phrased[relation]), subject)
        return Asked(text, relation, subject, kind)

    same = [asked(key.relation, key.subject, "rewording") for _ in range(2)]
    same.append(Asked(key.text, key.relation, key.subject, "wording"))
    wording = next((w for w in own if _filled(w, key.subject) == key.text), own[0])
    other = sibling(name, key.subject, names, rng)
    misses = [
        asked(key.relation, other, "subject", wording),
        asked(key.relation, rng.choice([other, *names]), "subject"),
    ]
    others = [relation for relation in members if relation != key.relation]
    if others:
        misses += [asked(rng.choice(others), key.subject, "relation") for _ in range(2)]
    made = [varied(one, rng, share=0.55) for one in same] + [varied(one, rng, share=0.4) for one in misses]
    if rng.random() < 0.35:
        made.append(mention(key, name, phrased, rng))
    return made


def mention(key: Asked, name: str, phrased: Phrased, rng: random.Random) -> Asked:
    """A passage that names the subject, and perhaps states a fact about it, but asks for nothing stored."""
    lines = [rng.choice(MENTIONS).format(s=key.subject) for _ in range(rng.choice((1, 1, 2)))]
    statements = [w for relation in phrased if relation.startswith(name) for w in phrased[relation] if w[-1].isalpha()]
    if statements and rng.random() < 0.5:
        lines.insert(0, _filled(rng.choice(statements), key.subject) + " " + rng.choice(_ANSWERS) + ".")
    lines += rng.sample(CONTEXTS, rng.choice((1, 2, 4)))
    if rng.random() < 0.4:
        lines.insert(0, rng.choice(CONTEXTS))
    return Asked(" ".join(lines), "", "", "mention")


_ANSWERS = ("well known", "Marten Hale", "the north side", "1987", "not decided yet", "a matter of taste", "42", "blue")
_STYLES = ("prefix", "suffix", "both", "context", "context", "document", "talk", "question", "lower", "lower", "upper",
           "typo", "typo", "unmarked", "continued", "indirect", "indirect", "keywords")  # fmt: skip


def varied(asked: Asked, rng: random.Random, share: float = 1.0, style: str | None = None) -> Asked:
    """With probability `share`, the same question as people might send it: polite, after other text, in another case,
    mistyped.

    style: one of `_STYLES` to apply in any case.
    """
    if style is None:
        if rng.random() >= share:
            return asked
        style = rng.choice(_STYLES)
    return Asked(_styled(asked.text, style, rng), asked.relation, asked.subject, f"{asked.kind}/{style}")


def _styled(text: str, style: str, rng: random.Random) -> str:
    if style in ("prefix", "both"):
        prefix = rng.choice(PREFIXES)
        text = prefix + (text if prefix[-2] in ":.!?" or rng.random() < 0.3 else _small(text))
    if style in ("suffix", "both"):
        text = f"{text} {rng.choice(SUFFIXES)}" if text[-1] in ".?" else text
    elif style == "context":
        text = " ".join([*rng.sample(CONTEXTS, rng.choice((1, 1, 2, 3))), text])
    elif style == "document":
        text = " ".join(rng.sample(CONTEXTS, rng.choice((5, 8)))) + rng.choice((" ", "\n\n")) + text
    elif style == "talk":
        text = f"{rng.choice(SMALL_TALK)} {text}"
    elif style == "question":
        name = rng.choice(list(CLASSES))
        first = rng.choice([w for w in "|".join(CLASSES[name]).split("|") if w[-1] == "?"])
        text = f"{_filled(first, subjects(name, rng, 1)[0])} {rng.choice(('', 'And ', 'Also, ', 'Next: '))}{text}"
    elif style == "lower":
        text = text.lower()
    elif style == "upper":
        text = text.upper()
    elif style == "typo":
        text = mistyped(text, rng)
    elif style == "unmarked":
        text = text.rstrip("?.").lower() if rng.random() < 0.5 else text.rstrip("?.")
    elif style == "indirect":
        text = _indirect(text, rng)
    elif style == "keywords":
        text = _keywords(text, rng)
    elif style == "continued":
        text = f"{rng.choice(CONTEXTS)} {text}" if text[-1].isalpha() else f"{text} {rng.choice(SUFFIXES)}"
    return text


_INDIRECT = ("Do you know {}?", "Can you tell me {}?", "I'd like to know {}.", "Tell me {}.", "I need to find out {}.",
             "Any idea {}?", "I forgot {}.", "Could somebody say {}?", "We were wondering {}.", "I am looking for {}.")  # fmt: skip


def _indirect(text: str, rng: random.Random) -> str:
    """The question as a clause: "Do you know who the coach of X is?"."""
    body = text.rstrip("?.")
    turned = re.match(r"(Who|What|Where|When) (is|are|was) (.+)$", body)
    if turned:
        clause = f"{turned[1].lower()} {turned[3]} {turned[2]}"
    elif text[-1] == "?":
        clause = _small(body)
    else:
        return text
    return rng.choice(_INDIRECT).format(clause)


def _keywords(text: str, rng: random.Random) -> str:
    """The question as typed into a search box: "X coach"."""
    asked = re.match(r"(?:What|Who|Which|Where|When) (?:is|are|was) (?:the )?(.+?) (?:of|for|at|in) (.+)\?$", text)
    if not asked:
        return text.rstrip("?.")
    made = rng.choice(("{1} {0}", "{0} {1}", "{1}: {0}?", "the {0} of {1}?", "{0} of {1}", "{0}, {1}")).format(
        *asked.groups()
    )
    return made if rng.random() < 0.6 else made.lower()


def mistyped(text: str, rng: random.Random) -> str:
    """One to three words with two letters swapped, one left out, doubled or replaced."""
    words = text.split(" ")
    able = [
        i for i, word in enumerate(words) if sum(c.isalpha() for c in word) >= 4 and not any(c.isdigit() for c in word)
    ]
    for i in rng.sample(able, min(len(able), rng.choice((1, 2, 2, 3)))):
        word = words[i]
        at = rng.randrange(1, len(word) - 2)
        kind = rng.randrange(4)
        words[i] = (
            word[:at] + word[at + 1] + word[at] + word[at + 2 :]
            if kind < 2
            else word[:at] + word[at + 1 :]
            if kind == 2
            else word[:at] + word[at] + word[at:]
        )
    return " ".join(words)


def _filled(wording: str, subject: str) -> str:
    text = wording.replace("{s}", subject)
    return text[0].upper() + text[1:]


def _small(text: str) -> str:
    """The text with its first letter in lower case, if it begins with a common question word and so not with a name."""
    first = text.split(" ")[0].rstrip("'s,?")
    plain = {"Who", "What", "Which", "Where", "When", "How", "In", "On", "The", "To", "For", "From", "By", "At", "Under",
             "Whose", "Whom", "Since", "Until", "Up", "After", "Name", "People", "With", "Of"}  # fmt: skip
    return text[0].lower() + text[1:] if first in plain else text
