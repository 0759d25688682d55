"""Three replicas and one editor: all end equal, and none ever served half an edit, whatever breaks on the way."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from memoir_fast.cli.app import main
from memoir_fast.serving.following import Follower, Origin
from memoir_fast.store import Store, replica
from tests.serving.editing.support import KEYS, as_, listening, opened, service_of
from tests.serving.replica_driver import digest_of
from tests.support.cutting import Cutting


def start(url: str, folder: Path, name: str) -> subprocess.Popen[bytes]:
    command = [
        sys.executable,
        "-m",
        "tests.serving.replica_driver",
        url,
        str(folder / name),
        str(folder / f"{name}.jsonl"),
    ]
    with (folder / f"{name}.log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"})


def change(client: httpx.Client, draw: random.Random, made: int) -> int:
    """One edit, and now and then a change of an earlier one; returns how many edits were asked for."""
    first = 100 + draw.randrange(60)
    body = {
        "prompt": f"w{first} w{first + 7} w{first + 13} w{first + 19}",
        "target": f"w{150 + draw.randrange(30)}",
        "tags": [f"t{made % 3}"],
    }
    answer = client.post("/memoir/edits", params={"wait": 60}, json=body)
    assert answer.status_code in (201, 422), (
        answer.text
    )  # an edit that does not take is taken back, which the replicas see too
    for _ in range(draw.randrange(3)):
        row = client.get(f"/memoir/edits/{draw.randrange(made + 1)}").json()
        verb = {
            "active": draw.choice(("disable", "delete")),
            "disabled": "enable",
            "deleted": "restore",
            "superseded": None,
        }[row.get("status", "superseded")]
        if verb == "delete":
            assert client.delete(f"/memoir/edits/{row['id']}").status_code == 200
        elif verb:
            assert client.post(f"/memoir/edits/{row['id']}/{verb}").status_code in (
                200,
                409,
            )  # a contradiction of a stored one
    return made + 1


def expected(store: Path, folder: Path) -> dict[int, str]:
    """The digest of what is served after each record, by replaying the editor's log from its beginning."""
    with Store(store) as origin:
        records, kept = origin.history(), replica.told(origin.manifest, False)
        base = folder / "base"
        base.write_bytes((store / kept.base_file).read_bytes())
        (folder / "replayed").mkdir()
        replica.make(folder / "replayed", kept, [(kept.base_file, base)], [], "these tests")
        found = {}
        with Store(folder / "replayed", writer=True) as copy:
            found[0] = digest_of(copy)
            for entry in records:
                replica.take(copy, [entry.raw()])
                found[entry.seq] = digest_of(copy)
        assert found[records[-1].seq] == digest_of(origin)
    return found


def lines(path: Path) -> list[dict]:
    with contextlib.suppress(FileNotFoundError):
        return [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
    return []


def wait_for(seq: int, folder: Path, names: list[str], seconds: float = 600) -> None:
    until = time.monotonic() + seconds
    while any(
        max((one["seq"] for one in lines(folder / f"{name}.jsonl") if one["by"] == "told"), default=-1) < seq
        for name in names
    ):
        assert time.monotonic() < until, "\n".join((folder / f"{name}.log").read_text()[-1500:] for name in names)
        time.sleep(0.05)


@pytest.mark.parametrize("edits", [16, pytest.param(500, marks=pytest.mark.long)])
def test_three_replicas_end_equal_and_none_served_half_an_edit(tmp_path, edits):
    names, draw, made, running = ["a", "b", "c"], random.Random(5), 0, {}
    service = service_of(tmp_path, opened(tmp_path))
    cutting = None
    try:
        for part in range(2):  # the service is started again in between; the replicas go on by themselves
            with (
                listening(service, per_minute=1 << 20) as url,
                httpx.Client(base_url=url, headers=as_("anna"), timeout=120) as client,
            ):
                if cutting is None:
                    cutting = Cutting(int(url.rsplit(":", 1)[1]), seed=3, whole=0.8)
                    running = {name: start(cutting.url, tmp_path, name) for name in names[:2]}
                    wait_for(0, tmp_path, names[:2])
                cutting.port = int(url.rsplit(":", 1)[1])
                for number in range(edits // 2):
                    made = change(client, draw, made)
                    if part == 0 and number == edits // 4:
                        running["c"] = start(cutting.url, tmp_path, "c")  # comes later than the others
                        wait_for(0, tmp_path, ["c"])
                    if part == 1 and number == edits // 4:
                        running["a"].send_signal(signal.SIGKILL)
                        running["a"].wait()
                        running["a"] = start(cutting.url, tmp_path, "a")
                seq = client.get("/memoir/status").json()["seq"]
                if part == 1:
                    wait_for(seq, tmp_path, names)
            if part == 0:
                service = service_of(tmp_path, opened(tmp_path))
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.wait(180)  # a last look at hundreds of edits takes long on a machine that does much else
    right = expected(tmp_path / "store", tmp_path)
    for name in names:
        seen = lines(tmp_path / f"{name}.jsonl")
        wrong = [one for one in seen if right.get(one["seq"]) != one["digest"]]
        assert not wrong, (name, wrong[:3])
        assert {one["by"] for one in seen} == {"told", "any"} and len({one["seq"] for one in seen}) > 1
        with Store(tmp_path / name) as copy:
            assert (copy.state.seq, digest_of(copy)) == (seq, right[seq]) and copy.verify()["problems"] == []
    assert cutting.cuts > 3 and running["a"].returncode == 0, cutting.cuts
    print(
        f"{seq} records of {made} edits, {cutting.cuts} answers cut off, {sum(len(lines(tmp_path / f'{n}.jsonl')) for n in names)} tables looked at"
    )


def test_a_store_that_was_put_back_is_taken_anew_and_an_unfinished_copy_leaves_the_earlier_one(tmp_path):
    import shutil

    told = []
    model = opened(tmp_path)
    model.edit("w100 w101 w102", "w150")
    model.close()
    shutil.copytree(tmp_path / "store", tmp_path / "backup")
    service = service_of(tmp_path, opened(tmp_path))
    with listening(service) as url, httpx.Client(base_url=url, headers=as_("anna"), timeout=60) as client:
        assert client.post("/memoir/edits", json={"prompt": "w110 w111 w112", "target": "w151"}).status_code == 201
        with Follower(Origin(url, KEYS["rita"]), tmp_path / "copy", lambda *one: told.append(one)) as follower:
            follower.catch_up()
            assert follower.seq == 2 and told == [(2, True)] and not follower.step(0)
    shutil.rmtree(tmp_path / "store")
    shutil.copytree(tmp_path / "backup", tmp_path / "store")
    (tmp_path / "queue.sqlite").unlink()
    service = service_of(tmp_path, opened(tmp_path))
    with listening(service) as url, httpx.Client(base_url=url, headers=as_("anna"), timeout=60) as client:
        cutting = Cutting(int(url.rsplit(":", 1)[1]), whole=0.0)
        before = {path.name: path.read_bytes() for path in (tmp_path / "copy").glob("log-*")}
        with Follower(Origin(cutting.url, KEYS["rita"]), tmp_path / "copy") as follower:
            cutting._draw.choice = lambda _: 700
            with pytest.raises(Exception, match=r"ended|IncompleteRead|closed|longer|reset|not JSON|Expecting"):
                follower.catch_up()
            assert (
                follower.seq == 2
                and {path.name: path.read_bytes() for path in (tmp_path / "copy").glob("log-*")} == before
            )
        assert client.post("/memoir/edits", json={"prompt": "w120 w121 w122", "target": "w152"}).status_code == 201
        with Follower(Origin(url, KEYS["rita"]), tmp_path / "copy", lambda *one: told.append(one)) as follower:
            follower.catch_up()
            assert follower.seq == 2 and told[-1] == (2, True)
            assert digest_of(follower.store) == digest_of(service.store)
            assert [row["prompt"] for row in follower.store.edits.values()] == ["w100 w101 w102", "w120 w121 w122"]
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".memoir")]


def test_updates_that_were_given_up_come_in_a_snapshot(tmp_path):
    model = opened(tmp_path)
    model.edit("w100 w101 w102", "w150")
    model.close()
    service = service_of(tmp_path, opened(tmp_path))
    with listening(service) as url, Follower(Origin(url, KEYS["rita"]), tmp_path / "copy") as follower:
        follower.catch_up()
        assert follower.seq == 1
    model = opened(tmp_path)
    model.edit("w110 w111 w112", "w151")
    model.edit("w120 w121 w122", "w152")
    model.store.compact(forget_before=2)
    model.edit("w130 w131 w132", "w153")
    model.close()
    told = []
    service = service_of(tmp_path, opened(tmp_path))
    with (
        listening(service) as url,
        Follower(Origin(url, KEYS["rita"]), tmp_path / "copy", lambda *one: told.append(one)) as follower,
    ):
        follower.catch_up()
        assert told == [(4, True)] and digest_of(follower.store) == digest_of(service.store)
        assert follower.store.edits.keys() == {0, 1, 2, 3}


def test_what_cannot_be_followed_is_refused_and_said(tmp_path, caplog):
    service = service_of(tmp_path, opened(tmp_path))
    with listening(service) as url:
        with pytest.raises(ValueError, match="is a store of its own"):
            Follower(Origin(url, KEYS["rita"]), tmp_path / "store")
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "file").write_text("mine")
        with (
            Follower(Origin(url, KEYS["rita"]), tmp_path / "other") as follower,
            pytest.raises(ValueError, match="not empty and no copy of a store"),
        ):
            follower.catch_up()
        assert (tmp_path / "other" / "file").read_text() == "mine"
        with (
            Follower(Origin(url, "a wrong key, long enough"), tmp_path / "copy") as follower,
            pytest.raises(Exception, match="status 401: this key is not known"),
        ):
            follower.catch_up()
        with pytest.raises(ValueError, match="--follow must be like"):
            Origin("127.0.0.1:8100", None)
        answers = {path: httpx.get(url + path, headers=as_("rita")).status_code for path in (
            "/memoir/store/records?after=9", "/memoir/store/records?after=0&link=" + "0" * 32, "/memoir/store/records?after=-1",
            "/memoir/store/records?after=0&link=nohex", "/memoir/store/tensors?digest=" + "0" * 32, "/memoir/store/tensors?digest=..%2Fx",
            "/memoir/store/records?after=0&wait=31", "/memoir/store")}  # fmt: skip
        assert list(answers.values()) == [409, 409, 422, 422, 409, 422, 422, 200], answers
        assert httpx.get(url + "/memoir/store").status_code == 401


def test_a_server_that_follows_makes_its_copy_before_it_looks_into_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("memoir_fast.cli.serve_command.check_vllm", lambda: None)
    monkeypatch.setenv("MEMOIR_FAST_FOLLOW_KEY", KEYS["rita"])
    service = service_of(tmp_path, opened(tmp_path))
    with listening(service) as url:
        asked = ["serve", "--follow", url, "--store", str(tmp_path / "copy"), "--model", str(tmp_path / "no-model")]
        assert main(asked) == 2
    told = capsys.readouterr()
    assert f"a copy of {url} up to record 0" in told.out and "no-model" in told.err, told
    with Store(tmp_path / "copy") as copy:
        assert copy.state.seq == 0
    assert main(["follow", "--url", url, "--store", str(tmp_path / "copy"), "--once"]) == 0
    assert "is used as it is, up to record 0" in capsys.readouterr().err  # the service has ended
    assert main(["follow", "--url", url, "--store", str(tmp_path / "another"), "--once"]) == 2
    assert "start the editing service first" in capsys.readouterr().err
