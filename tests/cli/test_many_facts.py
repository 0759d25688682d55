"""`edit --from`, `edit --dry-run`, `check` and `chat` on a tiny checkpoint."""

from __future__ import annotations

import io
import json
import shutil
import signal
import subprocess
import sys
import time

import pytest

from memoir_fast.cli.app import main
from memoir_fast.store import Catalog
from tests.cli.support import Commands, options_of, save_checkpoint, shape_of

FACTS = [
    {
        "prompt": "w100 w101 w102",
        "target_new": "w150",
        "tags": ["a"],
        "author": "ann",
        "metadata": {"ticket": 7},
        "key": "k1",
    },
    {
        "prompt": "w110 w111 w112",
        "target": "w151",
        "rephrasings": ["w113 w114"],
        "not_prompts": ["w110 w111"],
        "subject": "w112",
    },
    {"prompt": "w120 w121 w122", "target": "w152"},
]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """The checkpoint, and a store `made` with the facts in it."""
    folder = tmp_path_factory.mktemp("base")
    save_checkpoint(folder)
    return folder


@pytest.fixture
def here(base, tmp_path):
    for name in ("base", "background.jsonl"):
        (tmp_path / name).symlink_to(base / name)
    write(tmp_path, FACTS)
    return tmp_path


@pytest.fixture
def run(capsys, monkeypatch):
    return Commands(capsys, monkeypatch)


def write(folder, facts) -> None:
    (folder / "facts.jsonl").write_text("\n".join(one if isinstance(one, str) else json.dumps(one) for one in facts))


def edit(here, *more: str) -> list[str]:
    return ["edit", *options_of(here), *shape_of(here), "--from", str(here / "facts.jsonl"), "--steps", "60", *more]


def again(here, *more: str) -> list[str]:
    return ["edit", *options_of(here), "--from", str(here / "facts.jsonl"), "--steps", "60", *more]


def rows(here) -> list[dict]:
    return Catalog(here / "store").rows()


def test_every_field_is_carried_and_the_second_time_nothing_is_made(here, run):
    notes = ["--author", "import", "--tags", "r7", "--metadata", '{"file": "f", "ticket": 1}']
    told = run.json(*edit(here, *notes, "--no-verify"))
    assert [(one["outcome"], one["edit"], one["took"]) for one in told] == [("made", n, None) for n in range(3)]
    kept = rows(here)
    assert [(row["author"], row["tags"], row["metadata"], row["key"]) for row in kept] == [
        ("ann", ["a", "r7"], {"file": "f", "ticket": 7}, "k1"),
        ("import", ["r7"], {"file": "f", "ticket": 1}, ""),
        ("import", ["r7"], {"file": "f", "ticket": 1}, ""),
    ]
    assert (kept[1]["rephrasings"], kept[1]["not_prompts"], kept[1]["subject"]) == (
        ["w113 w114"],
        ["w110 w111"],
        "w112",
    )
    assert "3 facts, 3 stored" in run(*again(here, "--model", "/nowhere"))  # no model is loaded for that
    assert rows(here) == kept
    write(here, [*FACTS, {"prompt": "w130 w131", "target": "w153"}])
    assert "4 facts, 3 stored, 1 made" in run(*again(here, "--json", str(here / "report.json")))
    report = json.loads((here / "report.json").read_text())
    assert [one["outcome"] for one in report] == ["stored"] * 3 + ["made"] and len(rows(here)) == 4


def test_csv_carries_the_same(here, run):
    (here / "facts.csv").write_text(
        'prompt,target,rephrasings,not_prompts,tags,author,metadata,key,note\n'
        'w100 w101 w102,w150,,,a|b,ann,"{""ticket"": 7}",k1,x\n'
        'w110 w111 w112,w151,w113 w114|w115 w116,"[""w110 w111""]",,,,,\n'
    )  # fmt: skip
    run(*edit(here, "--no-verify", "--edits", str(here / "facts.csv")))
    assert "do not keep 'note'" in run.err
    one, other = rows(here)
    assert (one["tags"], one["author"], one["metadata"], one["key"]) == (["a", "b"], "ann", {"ticket": 7}, "k1")
    assert (other["rephrasings"], other["not_prompts"]) == (["w113 w114", "w115 w116"], ["w110 w111"])


def test_a_malformed_line_is_refused_before_anything_is_made_or_left_out_and_told(here, run):
    write(here, [FACTS[0], {"prompt": "w110"}, "{", {**FACTS[2], "rephrasing": ["x"]}, FACTS[2]])
    run(*edit(here), status=2)
    assert "facts.jsonl, line 2: target / target_new is missing or empty (2 more lines are malformed)" in run.err
    assert not (here / "store").exists() and "Traceback" not in run.err
    told = run.json(*edit(here, "--continue-on-error"), status=1)
    assert [one["outcome"] for one in told] == ["made", "failed", "failed", "failed", "made"]
    assert "not JSON" in told[2]["note"] and "did you mean 'rephrasings'" in told[3]["note"]
    assert "line 2: failed: target" in run.err and "5 facts, 2 made, 3 failed" in run.err


def test_a_fact_that_cannot_be_made_stops_the_file_and_the_same_command_goes_on(here, run):
    write(here, [FACTS[0], {"prompt": "w110 " * 300, "target": "w151"}, FACTS[2]])
    told = run.json(*edit(here), status=2)
    assert [one["outcome"] for one in told] == ["made", "failed"]
    assert "facts.jsonl, line 2" in run.err and "1 not reached" in run.err and "Traceback" not in run.err
    write(here, FACTS)
    assert "1 stored, 2 made" in run(*again(here, "--no-verify"))


def test_what_did_not_take_ends_with_status_one(here, run):
    write(here, [{**FACTS[0], "target_new": "w150 w161 w155 w170"}, FACTS[2]])
    told = run.json(*edit(here, "--steps", "1"), status=1)
    assert told[0]["took"] is False and "line 1: edit 0 did not take" in run.err and "1 not reached" not in run.err
    run("edit", *options_of(here), "--steps", "1", "--prompt", "w140", "--target", "w155 w161 w150 w170", status=1)


def test_a_killed_import_is_continued(here, run):
    """Killed in the middle, as by a restart of the machine; the same command makes the rest, each edit once."""
    write(
        here, [{"prompt": f"w{100 + n} w{101 + n} w{102 + n}", "target": f"w{150 + n}"} for n in range(20)]
    )  # each takes a while
    command = [sys.executable, "-m", "memoir_fast.cli", *edit(here, "--no-verify")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if (here / "store" / "config.json").exists() and len(rows(here)) >= 2:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL, "it ended before it was killed"
    before = len(rows(here))
    assert 2 <= before
    told = run.json(*again(here, "--no-verify"))
    assert [one["outcome"] for one in told] == ["stored"] * before + ["made"] * (20 - before)
    assert [row["prompt"] for row in rows(here)] == [one["prompt"] for one in told]


@pytest.fixture
def stored(base, here, run):
    """A store that holds the first two facts, made once for all tests."""
    if not (base / "store").exists():
        write(here, FACTS[:2])
        run(*edit(here, "--no-verify"))
        shutil.copytree(here / "store", base / "store")
    else:
        shutil.copytree(base / "store", here / "store")
    return here


def _bytes(folder) -> dict[str, bytes]:
    """The files' bytes, but for those that SQLite makes beside a database that is read."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.endswith(("-wal", "-shm"))}


def test_a_dry_run_says_what_would_change_and_writes_nothing(stored, run):
    here = stored
    before = _bytes(here / "store")
    (here / "questions.txt").write_text("w100 w101 w102\nw110 w111 w112\n\nw120 w121 w122\nw30 w31 w32\n")
    write(here, [{"prompt": "w120 w121 w122", "target": "w152"}, {**FACTS[0], "target_new": "w155"}])
    told = run.json(*again(here, "--dry-run", "--questions", str(here / "questions.txt"), "--max-new-tokens", "1"))
    assert _bytes(here / "store") == before
    assert [one["outcome"] for one in told["edits"]] == ["made", "made"]
    assert [(one["before"]["edit"], one["after"]["edit"], one["changed"]) for one in told["questions"]] == [
        (0, 3, True),
        (1, 1, False),
        (None, 2, True),
        (None, None, False),
    ]
    assert "2 of 4 questions would change; nothing was written" in run.err
    assert told["questions"][0]["after"]["answer"].strip() == "w155"


def test_a_dry_run_without_a_store_makes_none(here, run):
    out = run(
        "edit",
        *options_of(here),
        *shape_of(here),
        "--prompt",
        "w100 w101",
        "--target",
        "w150",
        "--steps",
        "60",
        "--dry-run",
        "--no-verify",
    )
    assert "1 of 1 questions would change" in out and not (here / "store").exists()
    # Of two answers to one question the later one is given, as in the store that would be made.
    write(here, [FACTS[0], {**FACTS[0], "target_new": "w155", "key": "k2"}])
    told = run.json(*edit(here, "--dry-run", "--max-new-tokens", "1"))
    assert [one["supersedes"] for one in told["edits"]] == [[], [0]] and not (here / "store").exists()
    told = run.json(*edit(here, "--dry-run", "--max-new-tokens", "1", "--conflict", "keep", "--no-verify"))
    assert [one["supersedes"] for one in told["edits"]] == [[], []]
    run(*edit(here, "--questions", "q.txt"), status=2)
    assert "--questions belongs to --dry-run" in run.err


def test_rows_have_the_same_fields_whatever_became_of_a_fact(stored, run):
    here = stored
    run("delete", "1", "--store", str(here / "store"))
    again_said = {**FACTS[2], "key": "k3"}
    write(
        here,
        [*FACTS[:2], {**again_said, "target": "w153"}, again_said, "{", {"prompt": "w130 " * 300, "target": "w151"}],
    )
    told = run.json(*again(here, "--no-verify", "--continue-on-error"), status=1)
    assert [one["outcome"] for one in told] == ["stored", "gone", "replaced", "made", "failed", "failed"]
    assert [one["status"] for one in told] == ["active", "deleted", None, "active", None, None]
    assert [one["prompt"] for one in told] == [
        FACTS[0]["prompt"],
        FACTS[1]["prompt"],
        *[FACTS[2]["prompt"]] * 2,
        None,
        "w130 " * 300,
    ]
    write(here, FACTS[:2])
    told += run.json(*again(here, "--model", "/nowhere"))  # nothing is to be made, so no model is loaded
    assert [one["status"] for one in told[6:]] == ["active", "deleted"]
    assert {*map(tuple, told)} == {tuple(told[3])} and {"loss", "tags", "took", "answers", "where"} < set(told[0])


def test_notes_of_the_command_line_are_checked_before_anything_is_loaded(here, run):
    for option, value, says in (
        ("--tags", "", "tags must be"),
        ("--metadata", '{"a":' * 101 + "1" + "}" * 101, "nested"),
    ):
        for facts in (["--prompt", "p", "--target", "t"], ["--from", str(here / "facts.jsonl"), "--continue-on-error"]):
            run("edit", "--model", "/nowhere", "--store", str(here / "store"), *facts, option, value, status=2)
            assert says in run.err and "/nowhere" not in run.err and "line 1" not in run.err


def test_check_says_which_questions_read_an_edit(stored, run):
    here = stored
    (here / "questions.jsonl").write_text('"w100 w101 w102"\n{"question": "w30 w31"}\n{"prompt": "w110 w111 w112"}\n')
    told = run.json("check", *options_of(here), "--from", str(here / "questions.jsonl"))
    assert [(one["question"], one["edit"]) for one in told] == [
        ("w100 w101 w102", 0),
        ("w30 w31", None),
        ("w110 w111 w112", 1),
    ]
    assert (
        all(0 <= one["score"] <= 1 and one["threshold"] > 0 for one in told)
        and "2 of 3 questions read an edit" in run.err
    )
    (here / "questions.csv").write_text("id,question\n1,w100 w101 w102\n2,\n")
    out = run("check", *options_of(here), "--from", str(here / "questions.csv"), "--all")
    assert "1 of 1 questions read an edit" in out and "w100 w101 w102" in out
    for name, text, says in (
        ("bad.jsonl", '{"text": "x"}', "line 1: expected a question"),
        ("bad.csv", "a,b\n", "must name the columns"),
    ):
        (here / name).write_text(text)
        run("check", *options_of(here), "--from", str(here / name), status=2)
        assert says in run.err and "Traceback" not in run.err


CHAT = """\
w120 w121 w122
/edit w120 w121 w122 => w152
w120 w121 w122
/route
/log 1
/undo
w120 w121 w122
/undo 0
/help
"""


def test_chat_asks_edits_and_takes_back_with_one_model(stored, run):
    here = stored
    turns = run.json("chat", *options_of(here), "--steps", "60", "--max-new-tokens", "1", "--author", "ann", says=CHAT)
    assert [turns[n]["edit"] for n in (0, 2, 6)] == [None, 2, None] and turns[2]["answer"].strip() == "w152"
    assert (
        turns[1]["edited"]["took"]
        and turns[3]["route"]["edit"] == 2
        and [row["id"] for row in turns[4]["edits"]] == [2]
    )
    assert turns[5]["undone"] == 2 and turns[7]["undone"] == 0 and "/undo [ID]" in run.err
    assert [(row["status"], row["author"]) for row in rows(here)] == [
        ("deleted", "ann"),
        ("active", ""),
        ("deleted", "ann"),
    ]


def test_chat_goes_on_behind_a_wrong_line_and_says_so_at_the_end(stored, run):
    here = stored
    says = "/edit w120\n/udno\n/undo\n/undo 99\n/undo x\n/log x\n/route\n/edit w120 =>\n/edit\nw100 w101\nw150\n/quit\nw100\n"
    turns = run.json("chat", *options_of(here), "--steps", "1", "--max-new-tokens", "1", says=says, status=1)
    errors = [turn["error"] for turn in turns[:8]]
    assert (
        "takes PROMPT => TARGET" in errors[0]
        and "did you mean /undo?" in errors[1]
        and "no edit of this session" in errors[2]
    )
    assert "there is no edit 99" in errors[3] and "takes an edit's id" in errors[4] and "takes a number" in errors[5]
    assert "nothing was asked yet" in errors[6] and "empty" in errors[7]
    assert turns[8]["edited"]["id"] == 2 and len(turns) == 9 and "Traceback" not in run.err


class Terminal(io.StringIO):
    """Standard input at which a person sits."""

    def isatty(self) -> bool:
        return True


def test_a_chats_prompt_does_not_stand_in_its_json(stored, capsys, monkeypatch):
    chat = ["chat", *options_of(stored), "--steps", "1", "--max-new-tokens", "1"]
    for more, told, prompted in (["--json", "-"], 1, "err"), ([], 0, "out"):
        monkeypatch.setattr("sys.stdin", Terminal("/edit\nw100 w101\nw150\n/quit\n"))
        assert main([*chat, *more]) == 0
        said = capsys.readouterr()
        assert "> prompt: target: " in getattr(said, prompted)
        assert not told or json.loads(said.out)[0]["edited"]["id"] == 2


def test_a_chat_that_only_reads_takes_no_lock(stored, run):
    from memoir_fast.store import Store

    here = stored
    with Store(here / "store", writer=True):
        run(
            "chat",
            *options_of(here),
            "--read-only",
            "--max-new-tokens",
            "1",
            says="w100 w101 w102\n/edit w1 => w2\n",
            status=1,
        )
        assert "edit 0, score" in run.out and "opened for reading" in run.err
        run("chat", *options_of(here), says="", status=2)
        assert "Traceback" not in run.err
