"""How often edits are read: lines for the edits used last, the rest together, and nothing lost between them."""

from __future__ import annotations

import multiprocessing
import threading

import numpy as np
import pytest

from memoir_fast.reading.usage import EDGES, OTHER, USE, is_near, listed, merged
from memoir_fast.serving.vllm import shared, usage
from memoir_fast.serving.vllm.answers import Decision
from memoir_fast.serving.vllm.usage import Usage, used


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv(shared.ENVIRONMENT, str(tmp_path))
    return tmp_path


def read(edit, score=0.95):
    return Decision("matched", edit, edit, score, 0.5)


def nearly(edit, score=0.45):
    return Decision("unmatched", None, edit, score, 0.5)


def counted(lines):
    """Edit -> how often it was read and nearly read."""
    return {int(line["edit"]): (int(line["reads"]), int(line["nearly"])) for line in lines}


def test_what_is_nearly_read_scores_nearly_enough():
    assert [is_near(score, 0.5) for score in (0.3, 0.4, 0.49, 0.5, 0.9)] == [False, True, True, False, False]


def test_reads_nearly_read_and_scores_are_counted_for_each_edit(place):
    one = Usage(5)
    for decision in (read(3), read(3, 0.5), nearly(3), nearly(4), nearly(4, 0.1), Decision("off"), Decision("refused"), Decision("unmatched"),
                     Decision("unmatched", None, None, 0.0, 0.5), Decision("matched", 7)):  # fmt: skip
        one.note(decision)
    lines = used()
    assert counted(lines) == {3: (2, 1), 4: (0, 1), 7: (1, 0), OTHER: (0, 0)}
    three = lines[lines["edit"] == 3][0]
    assert three["scores"].tolist() == [0, 2, 0, 0, 0, 0, 1, 0] and abs(three["total"] - 1.9) < 1e-9
    assert lines[lines["edit"] == 7]["scores"].sum() == 0  # it was named: nothing was compared
    assert listed(lines, [3, 4, 7, 8]) == {"never": [4, 8], "edits": {
        3: {"reads": 2, "nearly_read": 1}, 7: {"reads": 1, "nearly_read": 0}, 4: {"reads": 0, "nearly_read": 1}}}  # fmt: skip


def test_the_edit_used_longest_ago_gives_its_line_away_and_nothing_is_lost(place):
    one, rng, wanted = Usage(3), np.random.default_rng(0), {}
    for edit in rng.integers(0, 12, 500).tolist():
        decision = read(edit) if rng.random() < 0.7 else nearly(edit)
        one.note(decision)
        counts = wanted.pop(edit, (0, 0))
        wanted[edit] = (counts[0] + (decision.edit is not None), counts[1] + (decision.edit is None))
        now = counted(used())
        last = list(wanted)[-3:]
        assert set(now) == {*last, OTHER}
        for column in (0, 1):
            assert sum(counts[column] for counts in now.values()) == sum(counts[column] for counts in wanted.values())
    assert used()["scores"].sum() == 500


def test_without_lines_all_are_others(place, monkeypatch):
    monkeypatch.setenv(usage.ENVIRONMENT, "0")
    one = Usage(usage.most_edits())
    one.note(read(3)), one.note(nearly(4))
    assert counted(used()) == {OTHER: (1, 1)}
    for wrong in ("-1", "many", "", "1e3"):
        monkeypatch.setenv(usage.ENVIRONMENT, wrong)
        with pytest.raises(ValueError, match="MEMOIR_FAST_METRICS_EDITS must be a number"):
            usage.most_edits()


def _worker(edits):
    one = Usage(4)
    for edit in edits:
        one.note(read(edit))


def test_the_counts_of_all_workers_are_added_up(place, monkeypatch):
    context = multiprocessing.get_context("fork")
    for edits in ([1, 2, 2], [2, 3]):
        process = context.Process(target=_worker, args=(edits,))
        process.start()
        process.join()
        assert process.exitcode == 0
    assert counted(used()) == {1: (1, 0), 2: (3, 0), 3: (1, 0), OTHER: (0, 0)}
    monkeypatch.setenv(usage.ENVIRONMENT, "2")
    assert counted(used()) == {2: (3, 0), 3: (1, 0), OTHER: (1, 0)}  # the one used last has its line
    (place / "reads-7").write_bytes(b"damaged")
    assert counted(used())[2] == (3, 0)
    assert counted(merged(np.zeros(0, USE), 3)) == {OTHER: (0, 0)}


def test_a_line_is_never_seen_half_written(place):
    one, ended = Usage(2), threading.Event()

    def write():
        edit = 0
        while not ended.is_set():
            edit += 1
            one.note(read(edit % 5))

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(40):
            lines = used()
            assert lines["scores"].sum() == lines["reads"].sum()
            assert abs(lines["total"].sum() - 0.95 * lines["reads"].sum()) < 1e-6 * max(1, lines["reads"].sum())
    finally:
        ended.set()
        thread.join()
    assert used()["reads"].sum() > 0


def test_what_prometheus_reads(place):
    one = Usage(2)
    one.note(read(3)), one.note(nearly(3)), one.note(read(8, 0.999))
    (reads, near, scores) = usage.families(used())
    assert reads[:2] == ("memoir_fast_edit_reads", "counter") and near[:2] == (
        "memoir_fast_edit_nearly_read",
        "counter",
    )
    assert scores[:2] == ("memoir_fast_edit_score", "histogram")
    assert ('memoir_fast_edit_reads_total{edit="3"}', 1.0) in reads[3]
    assert ('memoir_fast_edit_nearly_read_total{edit="3"}', 1.0) in near[3]
    of_three = {name: value for name, value in scores[3] if 'edit="3"' in name}
    assert list(of_three.values()) == [0, 1, 1, 1, 1, 1, 2, 2, 1.4, 2]
    assert list(of_three)[-3:] == ['memoir_fast_edit_score_bucket{edit="3",le="+Inf"}', 'memoir_fast_edit_score_sum{edit="3"}', 'memoir_fast_edit_score_count{edit="3"}']  # fmt: skip
    assert len(of_three) == len(EDGES) + 3 and ('memoir_fast_edit_score_count{edit="other"}', 0.0) in scores[3]
