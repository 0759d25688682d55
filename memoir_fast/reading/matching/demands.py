"""Which kind of answer a question certainly demands, and whether a stored answer can be of that kind.

"In which year was X founded?" cannot be answered by an edit that says who leads X, however many words the two share.
Only what is certain counts: a demand that the lists do not know, or an answer that might be of the kind, excludes
nothing. English only; in other languages nothing is demanded.
"""

from __future__ import annotations

import re
from functools import lru_cache

NUMBER, YEAR, TIME, PERSON, MONEY, SPAN = (1 << bit for bit in range(6))
EVERYTHING = 63  # what an answer offers if nothing is known about it
ODDS = 0.05  # factor on the odds of a match if the question demands what the stored answer cannot be

_PAID = r"(?:cost|costs|pay|paid|price|priced|fee|fees|charge|charges|charged|salary|wage|rent|fine|expensive|spend|budget|earn|earns)"
_DEMANDS = (
    (NUMBER, re.compile(r"\bhow (?:many|much|old|long|tall|high|heavy|wide|deep|far|fast|hot)\b|\bwhat (?:number|percentage|share) of\b")),
    (YEAR, re.compile(r"\b(?:what|which) (?:exact |calendar )?(?:year|century|decade)\b")),
    (TIME, re.compile(r"^when\b|\bwhen (?:is|are|was|were|do|does|did|will|can|could|should|must|has|have|had)\b"
                      r"|\b(?:what|which) (?:exact )?(?:day|date|month|weekday|time|hour)\b")),
    (PERSON, re.compile(r"\b(?:who|whom|whose|who's)\b")),
    (MONEY, re.compile(rf"\bhow expensive\b|\bwhat (?:is|are|was|were) the (?:\w+ )?{_PAID}\b")),
    (SPAN, re.compile(r"\bhow (?:long|old)\b|\bhow many (?:seconds|minutes|hours|days|weeks|months|years)\b")),
)  # fmt: skip
_HOW_MUCH, _PRICE = re.compile(r"\bhow much\b"), re.compile(rf"\b{_PAID}\b")
_NARROWER = MONEY | SPAN  # a question that demands one of these does not demand other numbers

_PERIODS = (
    "second minute hour day week weekend fortnight month quarter year decade century morning noon afternoon evening night midnight dawn dusk "
    "season spring summer autumn winter monday tuesday wednesday thursday friday saturday sunday january february march april may june july "
    "august september october november december jan feb mar apr jun jul aug sep sept oct nov dec today tomorrow yesterday overnight forever "
    "lifetime indefinitely permanently always never daily weekly monthly quarterly yearly annually christmas easter ago now soon later"
).split()  # fmt: skip
_QUANTITIES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty "
    "thirty forty fifty sixty seventy eighty ninety hundred thousand million billion trillion dozen half double triple single pair couple few "
    "several many none no all both any unlimited infinite nothing free once twice thrice zillion some more less every each full twofold"
).split()  # fmt: skip
_CURRENCIES = "euro dollar pound cent franc yen rupee yuan usd eur gbp chf".split()
_MEASURES = (
    "percent degree metre meter kilometre kilometer mile foot feet inch gram kilo kilogram ton tonne litre liter gallon byte kilobyte megabyte "
    "gigabyte terabyte bit hertz watt volt pixel kg km cm mm mg ml gb mb tb kb"
).split()  # fmt: skip
_FILLING = "page item piece point people employee seat room am pm o'clock to and of per a an the at on in from until till by about around up or".split()
_TIMES, _NUMBERS = frozenset(_PERIODS), frozenset(_PERIODS + _QUANTITIES)
_PAYS, _MEASURED = frozenset(_CURRENCIES), frozenset(_MEASURES)
_NAMELESS = frozenset(_PERIODS + _QUANTITIES + _CURRENCIES + _MEASURES + _FILLING)
_WORD = re.compile(r"[^\W_]+(?:['’.,:-][^\W_]+)*")


@lru_cache(1 << 14)
def demands(sentence: str) -> int:
    """The kinds of answer, as bits, that a lower-case sentence demands; any one of them will do. 0 if nothing is
    certain."""
    found = sum(kind for kind, pattern in _DEMANDS if pattern.search(sentence))
    if (much := _HOW_MUCH.search(sentence)) and _PRICE.search(sentence, much.end()):
        found |= MONEY
    return found & ~NUMBER if found & _NARROWER else found


@lru_cache(1 << 14)
def offers(answer: str) -> int:
    """The kinds of answer, as bits, that a stored answer may be. EVERYTHING if it has no words or is in another
    script."""
    words = _WORD.findall(answer)
    if not words or not answer.replace("€", "").replace("£", "").replace("’", "").isascii():
        return EVERYTHING
    small = [re.sub(r"^[\d.,:-]+(?=[a-z])", "", word.lower()) for word in words]  # "12kg" is kilograms
    stems = {*small, *(word.removesuffix("s") for word in small)}
    digits = any(character.isdigit() for character in answer)
    numeric, timed = digits or bool(stems & _NUMBERS), bool(stems & _TIMES)
    paid = bool(stems & _PAYS) or re.search(r"[$€£]", answer) is not None
    measured = bool(stems & _MEASURED) or "%" in answer
    amount = paid or measured
    kinds = {
        NUMBER: numeric or amount,
        YEAR: timed or (digits and not amount),
        TIME: timed or (not amount and (digits or not all(word[0].isupper() for word in words))),
        PERSON: not all(word[0].isdigit() or {word, word.removesuffix("s")} & _NAMELESS for word in small),
        MONEY: paid or (numeric and not timed and not measured),
        SPAN: timed or (numeric and not paid and not measured),
    }
    return sum(kind for kind, offered in kinds.items() if offered)
