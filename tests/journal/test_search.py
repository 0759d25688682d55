"""Finding edits among a journal's rows."""

from __future__ import annotations

import pytest

from memoir_fast.journal.edit_record import EditRecord
from memoir_fast.journal.search import search, tag_counts

ROWS = [
    EditRecord(0, "Who leads  Norvane Robotics?", "Lena Ortiz", "ann", "2026-01-01T10:00:00+00:00", tags=["hr", "eu"], key="hr/1").row(),
    EditRecord(1, "The capital of Zeltia is", "Morvane", "bob", "2026-02-01T10:00:00+00:00", "deleted", metadata={"ticket": "OPS-7"}).row(),
    EditRecord(2, "Which port?", "8443", "ann", "2026-03-01T10:00:00+00:00", rephrasings=["Where is Straße?"], not_prompts=["n"], tags=["hr"]).row(),
]  # fmt: skip


@pytest.mark.parametrize(
    ("about", "found"),
    [
        ({}, [0, 1, 2]),
        ({"words": ["leads norvane"]}, [0]),  # up to case and blanks
        ({"words": ["STRASSE"]}, [2]),
        ({"words": ["ops-7"]}, [1]),
        ({"words": ["hr/1", "lena"]}, [0]),
        ({"words": ["lena", "morvane"]}, []),
        ({"tags": ["eu", "none"]}, [0]),
        ({"author": "ann"}, [0, 2]),
        ({"key": "hr/1"}, [0]),
        ({"key": ""}, [1, 2]),
        ({"statuses": ["deleted"]}, [1]),
        ({"since": "2026-02-01T10:00:00+00:00"}, [1, 2]),
        ({"until": "2026-02-01T11:00:00+01:00"}, [0, 1]),
        ({"since": "2026-02-01T10:00:00Z"}, [1, 2]),
        ({"since": "2026-01-15", "until": "2026-02-15", "author": "ann"}, []),
    ],
)
def test_what_fits(about, found):
    assert [row["id"] for row in search(ROWS, **about)] == found


def test_a_time_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"since: 'soon' is not a time like"):
        search(ROWS, since="soon")


def test_tags_are_counted():
    assert tag_counts(ROWS) == {"eu": {"active": 1, "all": 1}, "hr": {"active": 2, "all": 2}}
