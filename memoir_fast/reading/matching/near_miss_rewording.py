"""Rewords any question, or changes one thing in it, to make more pairs from the package's background texts."""

from __future__ import annotations

import random
import re

# (pattern at the start of a lower-case question, possible replacements)
_STARTS = [
    (r"who (is|was|are|were) the ", ["which person {0} the ", "what is the name of the ", "tell me who {0} the ", "name the ", "what {0} the name of the "]),
    (r"who (\w+) ", ["which person {0} ", "what is the name of the person who {0} ", "by whom or what, who {0} ", "which individual {0} "]),
    (r"when (did|was|is|does|do|were) ", ["in what year {0} ", "on what date {0} ", "at what time {0} ", "which year {0} ", "what is the date on which {0} "]),
    (r"where (is|was|did|does|do|are|were) ", ["in which place {0} ", "at what location {0} ", "in what city or country {0} ", "what is the place where {0} "]),
    (r"how many ", ["what number of ", "what is the number of ", "how large is the number of ", "tell me how many "]),
    (r"how (do|can|does|to) ", ["in what way {0} ", "what is the way to ", "what method {0} "]),
    (r"(?:what|which) (is|are|was|were) the ", ["tell me the ", "name the ", "which {0} the ", "could you give me the ", "i want to know the "]),
    (r"(?:what|which) (is|are|was|were) ", ["tell me what {0} ", "can you explain what {0} ", "which thing {0} "]),
    (r"(in|on|to|at|by|from) (?:what|which) ", ["{0} what specific ", "what is the ", "what ", "which "]),
    (r"what ", ["which ", "what specific ", "tell me what "]),
    (r"which ", ["what ", "which specific ", "what is the name of the "]),
]  # fmt: skip
_COMPILED = [(re.compile(pattern), heads) for pattern, heads in _STARTS]
_SYNONYMS = """movie film|wrote authored penned|big large|located situated found|start begin commence|called named termed|make produce create|made produced created|
built constructed erected|died deceased|show series programme|plays portrays|played portrayed|won received|ended finished concluded|began started|known recognised famous|
type kind sort|biggest largest|fastest quickest|used utilised employed|invented devised|discovered found identified|country nation state|city town|person individual|
show display|important significant|first initial earliest|sings performs|sang performed|song track|author writer|gave provided|takes requires|needs requires|
happen occur|happened occurred|came arrived|comes arrives|contains includes holds|get obtain receive|name title|part piece|tall high|car automobile|company firm business|
actor performer|leader head|founded established created|maker manufacturer|next following|organ body-part|chemical elemental|symbol sign|currency money|language tongue|
lies stands|born birthed|kill slay|war conflict|battle fight|became turned|most greatest|main chief principal|stands represents|wife spouse|husband spouse|job profession""".replace(
    "\n", ""
)
_SAME: dict[str, list[str]] = {}
for _line in _SYNONYMS.split("|"):
    for _word in _line.split():
        _SAME[_word] = [w for w in _line.split() if w != _word]
_PLAIN = frozenset("a an the of in on at to for by with from is are was were be been do does did has have had who what which when where how why it its and or that this as there their his her you your can will most first many much".split())  # fmt: skip


def reworded(text: str, rng: random.Random) -> str:
    """The same question in other words: another opening, synonyms, or the last phrase moved to the front."""
    body, mark = (text[:-1], text[-1]) if text[-1] in "?." else (text, "")
    small = body[0].lower() + body[1:]
    for pattern, heads in _COMPILED:
        match = pattern.match(small)
        if match and rng.random() < 0.85:
            small = rng.choice(heads).format(*match.groups()) + small[match.end() :]
            break
    words = [rng.choice(_SAME[w]) if w in _SAME and rng.random() < 0.6 else w for w in small.split(" ")]
    if rng.random() < 0.25:
        words = [w for w in words if w not in ("the", "a", "of") or rng.random() < 0.5]
    small = " ".join(words)
    tail = re.search(r" (in|on|during|for) (the )?[\w' -]{3,24}$", small)
    if tail and rng.random() < 0.35:
        small = small[tail.start() + 1 :] + ", " + small[: tail.start()]
    if rng.random() < 0.5:
        small = small[0].upper() + small[1:]
    return small + rng.choice((mark, "?", "", mark))


def changed(text: str, others: list[str], rng: random.Random) -> str | None:
    """The question with one content word replaced by one from another question; None if there is no such word."""
    words = text.split(" ")
    able = [i for i, word in enumerate(words) if len(word) > 3 and word.strip("?.,").lower() not in _PLAIN and i]
    donor = [w for w in rng.choice(others).rstrip("?.").split(" ")[1:] if len(w) > 3 and w.lower() not in _PLAIN]
    if not able or not donor:
        return None
    i = rng.choice(able)
    new = rng.choice(donor)
    if new.lower().strip("?.,") in text.lower():
        return None
    return " ".join([*words[:i], new + ("?" if words[i].endswith("?") else ""), *words[i + 1 :]])
