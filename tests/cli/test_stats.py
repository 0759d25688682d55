"""`memoir-fast stats`: from a server's counters, and from a file of questions."""

from __future__ import annotations

import http.server
import threading

import pytest

from memoir_fast.serving.scrape import usage_of_server
from memoir_fast.serving.vllm import shared
from memoir_fast.serving.vllm.answers import Decision
from memoir_fast.serving.vllm.counters import written
from memoir_fast.serving.vllm.usage import Usage
from tests.cli.support import Commands, options_of, save_checkpoint, shape_of
from tests.support.models import tiny_memoir

FACTS = [("w100 w101 w102 w103", "w150"), ("w110 w111 w112", "w151"), ("w120 w121 w122 w123", "w152")]


@pytest.fixture
def run(capsys, monkeypatch):
    return Commands(capsys, monkeypatch)


@pytest.fixture
def answer():
    """What a server's /metrics says; change its text."""
    said = {"status": 200, "text": ""}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            status = said["status"] if self.path == "/metrics" else 404
            self.send_response(status)
            self.end_headers()
            self.wfile.write(said["text"].encode())

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    said["url"] = f"http://127.0.0.1:{server.server_address[1]}"
    yield said
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def counted(tmp_path, monkeypatch, answer):
    """A server that has counted that edit 0 was read 3 times and nearly read once, edit 1 nearly read once, and one read of an edit without a line."""
    (tmp_path / "server").mkdir()
    monkeypatch.setenv(shared.ENVIRONMENT, str(tmp_path / "server"))
    worker = Usage(2)
    for edit, score in ((7, 0.9), (0, 0.9), (0, 0.99), (0, 0.6), (0, 0.45), (1, 0.49)):
        worker.note(
            Decision("matched" if score >= 0.5 else "unmatched", edit if score >= 0.5 else None, edit, score, 0.5)
        )
    answer["text"] = written(False).decode() + "# HELP vllm:x\nvllm:x 1.0\n"
    return answer["url"]


def test_a_server_s_counters_beside_its_store(run, counted, tmp_path):
    model = tiny_memoir("llama", steps=2)
    model.create_store(str(tmp_path / "store"))
    for fact in FACTS:
        model.edit(*fact)
    model.close()
    alone = run.json("stats", "--url", counted)
    assert alone == {"other": {"reads": 1, "nearly_read": 0}, "never": [], "edits": [
        {"edit": 0, "reads": 3, "nearly_read": 1, "prompt": None}, {"edit": 1, "reads": 0, "nearly_read": 1, "prompt": None}]}  # fmt: skip
    found = run.json("stats", "--url", counted + "/metrics", "--store", str(tmp_path / "store"))
    assert [row["prompt"] for row in found["edits"]] == [FACTS[0][0], FACTS[1][0]]
    assert found["never"] == [{"edit": edit, "prompt": FACTS[edit][0]} for edit in (1, 2)]
    text = run("stats", "--url", counted, "--store", str(tmp_path / "store"), "--top", "1")
    assert FACTS[0][0] in text and "(edits without a line of their own)" in text and "... and 1 more" in text
    assert "2 edits have no line that says that they were read" in text and "MEMOIR_FAST_METRICS_EDITS" in text


def test_a_file_of_questions(run, tmp_path):
    save_checkpoint(tmp_path)
    shape = shape_of(tmp_path)
    for prompt, target in FACTS:
        run(
            "edit", *options_of(tmp_path), *shape, "--steps", "2", "--no-verify", "--prompt", prompt, "--target", target
        )
        shape = []
    asked = [FACTS[0][0], FACTS[0][0], "w30 w31 w32", FACTS[1][0]]
    (tmp_path / "asked.txt").write_text("\n".join(asked))
    found = run.json("stats", *options_of(tmp_path), "--from", str(tmp_path / "asked.txt"))
    assert found["questions"] == 4 and [(row["edit"], row["reads"]) for row in found["edits"]] == [(0, 2), (1, 1)]
    assert found["never"] == [{"edit": 2, "prompt": FACTS[2][0]}]
    text = run("stats", *options_of(tmp_path), "--from", str(tmp_path / "asked.txt"), "--count", "2")
    assert "2 edits were never read:" in text and FACTS[2][0] in text


@pytest.mark.parametrize(("text", "status", "reason"), [
    ("", 200, "does not count edits"), ("vllm:x 1.0\n", 200, "does not count edits"), ("", 401, "status 401"),
    ('memoir_fast_edit_reads_total{edit="other"} nan\n', 200, "a count is 'nan'"), ('memoir_fast_edit_reads_total{edit="1"} x\n', 200, "a count is 'x'"),
])  # fmt: skip
def test_what_a_server_says_else_is_refused(answer, text, status, reason):
    answer.update(text=text, status=status)
    with pytest.raises(ValueError, match=reason):
        usage_of_server(answer["url"])


def test_wrong_arguments_are_named(run, tmp_path):
    for arguments, said in ((["--url", "file:///etc/hostname"], "expected an address like http"), (["--url", "http://127.0.0.1:1"], "nothing answers"),
                            (["--from", "x.txt"], "--from needs --store"), (["--url", "http://127.0.0.1:1", "--count", "2"], "--count goes with --from")):  # fmt: skip
        run("stats", *arguments, status=2)
        assert said in run.err and len(run.err.splitlines()) == 1
    with pytest.raises(SystemExit):
        run("stats", "--json", "-")
