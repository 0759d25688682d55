"""Two checkouts are compared by medians, and only where both did the same work."""

from __future__ import annotations

import pytest

from benchmarks.results_page import speed
from benchmarks.rows import Row, append
from benchmarks.speed.checkouts import TIMED, compared


def run(seconds: float, **others) -> dict:
    return dict.fromkeys(TIMED, seconds) | {"unmatched tokens": [1, 2], "found": True} | others


def test_ratios_are_of_medians(tmp_path):
    found = compared([run(1.0), run(2.0), run(9.0)], [run(3.0), run(1.0), run(0.5)])
    assert set(found) == set(TIMED) and found["edit"] == {"before_s": 2.0, "now_s": 1.0, "ratio": 0.5}
    about = {"other": "abc", "count": 1, "pairs": 3, "facts": "f.jsonl"}
    append(
        Row(
            "checkouts",
            "2026-01-01",
            "abcdef123456",
            True,
            {"threads": 1, "cpu": "c", "simd": "avx2"},
            about,
            {"times": found, "steps": {"before": [4], "now": [2]}},
        ),
        tmp_path,
    )
    assert "| edit | 2000.000 | 1000.000 | 0.500 |" in "\n".join(speed.checkouts(tmp_path))


@pytest.mark.parametrize("other", [{"unmatched tokens": [1, 3]}, {"found": False}])
def test_other_work_is_not_compared(other):
    with pytest.raises(SystemExit, match="their times say nothing"):
        compared([run(1.0)], [run(1.0, **other)])
