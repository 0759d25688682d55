"""Near misses of left-out classes: the network that is asked has not seen them, and reads are counted rightly."""

from __future__ import annotations

import pytest

from benchmarks.library import CLASSES, Asked, make_near_misses, relation_wordings
from benchmarks.quality import left_out


def test_a_fold_is_fitted_on_the_other_classes_only():
    left = set(sorted(CLASSES)[:3])
    seen = {key.relation for key in make_near_misses(0, relations=left_out.relations_of(set(CLASSES) - left)).keys}
    asked = {key.relation for key in make_near_misses(0, relations=left_out.relations_of(left)).keys}
    assert asked == set(left_out.relations_of(left)) and not seen & asked
    assert seen | asked == set(relation_wordings())


def test_reads_are_counted():
    right, wrong, none = (True, True), (True, False), (False, False)
    found = {"rewording": [right, right, wrong, none], "wording": [right], "subject": [none, none, none, wrong],
             "relation": [wrong], "mention": [none], "namesake": [none]}  # fmt: skip
    scores = left_out.scores(found)
    assert scores["rewording"] == {"right": 0.5, "wrong": 0.25, "prompts": 4}
    assert scores["subject"] == {"kept_out": 0.75, "prompts": 4} and scores["relation"]["kept_out"] == 0
    assert scores["wording"]["right"] == pytest.approx(1) and scores["mention"]["kept_out"] == 1


def test_what_a_near_miss_tests_depends_on_what_is_stored():
    facts = [("company:1", "Acme"), ("company:2", "Bolt")]
    for kind in ("subject", "subject/lower", "relation"):
        assert left_out.tested(Asked("Who leads Acme?", "company:2", "Acme", kind), facts) == "relation"
        assert left_out.tested(Asked("Who leads Cord?", "company:2", "Cord", kind), facts) == "subject"
    assert left_out.tested(Asked("Who leads Acme?", "company:1", "Acme", "rewording/typo"), facts) == "rewording"
    assert left_out.tested(Asked("Acme fell silent.", "", "", "mention"), facts) == "mention"
