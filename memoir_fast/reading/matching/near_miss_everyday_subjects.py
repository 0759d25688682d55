"""Subjects for the classes in `near_miss_everyday.py`, and words that can be exchanged to make a similar subject."""

from __future__ import annotations

import random
from collections.abc import Callable

from .near_miss_household import PATTERN_KINDRED, patterned_subject

TEAMS = (
    "sales legal finance payroll marketing research purchasing quality security logistics facilities training press export audit claims "
    "recruiting design data support planning travel packaging pricing translation health dispatch catering billing procurement advertising"
).split()
UNITS = "department team office desk group unit division section branch".split()
FLAVOURS = (
    "apple lentil carrot potato tomato lemon almond pumpkin mushroom onion walnut ginger cherry spinach barley salmon rhubarb plum fennel "
    "chicken poppy honey banana leek vanilla pear beetroot cabbage apricot chestnut"
).split()
DISHES = "pie soup cake bread stew salad tart curry casserole pudding roll pancake omelette biscuit quiche dumpling strudel loaf".split()
LAWS = (
    "water noise tenancy fishing privacy tobacco forest lottery copyright pension trade asylum energy banking road milk mining harbour "
    "insurance health aviation packaging broadcasting building gambling dog waste inheritance"
).split()
ACTS = "Act Law Ordinance Code Regulation Directive Bill Treaty Decree".split()
SIDES = "United Rovers City Wanderers Athletic Rangers Albion Falcons Tigers Wolves Bears Sharks Hawks Lions Pirates Comets Giants".split()
MACHINES = "van truck bus tractor car bike scooter forklift trailer boat tram ambulance minibus crane digger motorbike lorry".split()
COLOURS = "red blue green yellow white black grey silver orange".split()
PAPERS = "report plan handbook guide manual contract checklist brochure survey proposal memo roadmap agenda letter specification list".split()
TALKS = "review sync round retrospective workshop briefing call lunch interview kick-off stand-up breakfast rehearsal hearing".split()
SCHOOLS = "Primary Grammar High Music Boarding Nursery Dance Evening Language Art Riding Cooking".split()
DOSED = "drops syrup tablets cream spray capsules ointment gel".split()
GATES = "gate entrance door wing tower stairs car-park lift hall courtyard garage roof cellar canteen reception library pool workshop".split()
SEATS = "north south east west front back upper lower main side old new inner outer left right".split()
ACRONYMS = "HR IT PR QA R&D CRM ERP VPN API DNS CMS ATM GPS SSO FAQ NDA KPI".split()

# Each list holds words of one kind, any of which can replace another.
KINDRED = (
    TEAMS,
    FLAVOURS,
    DISHES,
    LAWS,
    ACTS,
    SIDES,
    MACHINES,
    COLOURS,
    PAPERS,
    TALKS,
    SCHOOLS,
    DOSED,
    GATES,
    SEATS,
    ACRONYMS,
    *PATTERN_KINDRED,
)
_ROOTS = "Vel Cor Mito Zar Lipo Neu Fena Ator Ibu Keta Oxa Dolo Rani Pera Sul Tra Amo Clari Ser Bisa Loxa".split()
_STEMS = "dra xi ta lo ni ra me co pa vi zo".split()
_ENDS = "pril statin mab zole cillin dine prine xan vir fen mine sartan cort phen lax".split()
_REAL = "ibuprofen aspirin paracetamol insulin penicillin morphine cortisone".split()
_DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
_MONTHS = "January February March April May June July August September October November December".split()


def everyday_subject(name: str, rng: random.Random, word: Callable[[], str], first: list[str]) -> str | None:
    """A random subject of one of the everyday classes; None for another class.

    Args:
        name: the class.
        word: makes an invented name.
        first: first names.
    """
    pick = rng.choice
    if name == "department":
        return pick((f"the {pick(TEAMS)} {pick(UNITS)}", f"the {pick(TEAMS)} {pick(UNITS)}", f"the {word()} {pick(UNITS)}",
                     f"the {pick(TEAMS)} {pick(UNITS)} in {word()}", pick(ACRONYMS), f"the {pick(ACRONYMS)} {pick(UNITS)}",
                     f"{pick(TEAMS)}"))  # fmt: skip
    if name == "recipe":
        dish = f"{pick(FLAVOURS)} {pick(DISHES)}"
        return pick(
            (dish, f"the {dish}", f"{pick(first)}'s {dish}", f"{word()} {pick(DISHES)}", f"{pick(FLAVOURS)} and {dish}")
        )
    if name == "medicine":
        drug = pick(_ROOTS) + pick(("", pick(_STEMS))) + pick(_ENDS)
        return pick(
            (drug, drug, f"{drug} {pick(DOSED)}", f"{drug} {pick((5, 10, 20, 50, 100, 200, 400, 500))}", pick(_REAL))
        )
    if name == "law":
        field = pick(LAWS)
        return pick((f"the {field.capitalize()} {pick(ACTS)}", f"the {field} {pick(ACTS).lower()}", f"the {word()} {pick(ACTS)}",
                     f"the {rng.randrange(1890, 2030)} {field.capitalize()} {pick(ACTS)}",
                     f"the {word()} {field} {pick(ACTS).lower()}", f"Regulation {rng.randrange(10, 999)}"))  # fmt: skip
    if name == "club":
        return pick(
            (f"FC {word()}", f"{word()} {pick(SIDES)}", f"the {word()} {pick(SIDES)}", f"{word()} {word()}", word())
        )
    return _at_work(name, rng, word, first)


def _at_work(name: str, rng: random.Random, word: Callable[[], str], first: list[str]) -> str | None:
    pick = rng.choice
    if name == "vehicle":
        thing = pick(MACHINES)
        return pick((f"the {pick(COLOURS)} {thing}", f"{thing} {rng.randrange(1, 60)}", f"the {word()} {pick('ABCDEKLMX')}{rng.randrange(2, 99)}",
                     f"{pick(first)}'s {thing}", f"the {pick(TEAMS)} {thing}", f"the {word()} {thing}"))  # fmt: skip
    if name == "document":
        paper = pick(PAPERS)
        return pick((f"the {pick(TEAMS)} {paper}", f"the {rng.randrange(2001, 2040)} {pick(TEAMS)} {paper}", f"the {word()} {paper}",
                     f"the {pick(_MONTHS)} {paper}", f"document {pick('ABCDEF')}-{rng.randrange(10, 999)}",
                     f"the {pick(TEAMS)} {paper} for {word()}"))  # fmt: skip
    if name == "meeting":
        talk = pick(TALKS)
        return pick((f"the {pick(_DAYS)} {talk}", f"the {pick(TEAMS)} {talk}", f"the {pick(_MONTHS)} {pick(TEAMS)} {talk}",
                     f"the {word()} {talk}", f"the {talk} with {pick(first)}", f"{talk} {rng.randrange(1, 30)}"))  # fmt: skip
    if name == "school":
        return pick((f"{word()} {pick(SCHOOLS)} School", f"the {pick(SCHOOLS).lower()} school", f"St {pick(first)}'s School",
                     f"{word()} Academy", f"the {pick(SCHOOLS).lower()} school in {word()}"))  # fmt: skip
    return patterned_subject(name, rng, word, first)


def place_inside(rng: random.Random) -> str:
    """A part of a building or site that differs from its neighbours by one common word."""
    return f"the {rng.choice(SEATS)} {rng.choice(GATES)}"


def kindred(subject: str, rng: random.Random) -> str | None:
    """The subject with one common word replaced by another of the same kind; None if it has no such word."""
    words = subject.split(" ")
    able = [(i, group) for i, word in enumerate(words) for group in KINDRED if word in group or word.lower() in group]
    if not able:
        return None
    i, group = rng.choice(able)
    new = rng.choice([w for w in group if w.lower() != words[i].lower()])
    return " ".join([*words[:i], new.capitalize() if words[i][0].isupper() and new.islower() else new, *words[i + 1 :]])
