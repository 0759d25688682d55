"""Changes of files that keep most of a format's structure, so that they come past the first check."""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import sqlite3
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

from memoir_fast.journal.record import MAGIC, digest, read_entry
from memoir_fast.store.manifest import checksum

from . import values

SPARSE = (100 << 20, 40 << 30)  # bytes of files that take no room on the disk


def kind_of_file(path: Path, rng: random.Random, outside: Path) -> None:
    """Put something else than a sound regular file at a path."""
    data = path.read_bytes()
    path.unlink()
    kind = rng.choice(
        [
            "fifo",
            "link",
            "link to itself",
            "folder",
            "empty",
            "missing",
            "socket",
            "sparse",
            "hanging link",
            "device",
            "bytes",
        ]
    )
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "link":
        os.symlink(outside / "keep.txt", path)
    elif kind == "link to itself":
        os.symlink(path, path)
    elif kind == "hanging link":
        os.symlink(outside / "made-by-a-link", path)
    elif kind == "device":
        os.symlink("/dev/zero", path)
    elif kind == "folder":
        path.mkdir()
        (path / "file").write_bytes(data[:100])
    elif kind == "socket":
        with (
            contextlib.closing(socket.socket(socket.AF_UNIX)) as made,
            contextlib.suppress(OSError),
        ):  # the path may be too long for one
            made.bind(str(path))
    elif kind in ("empty", "sparse"):
        path.write_bytes(data if kind == "sparse" else b"")
        if kind == "sparse" and rng.random() < 0.2:
            os.truncate(path, rng.choice(SPARSE))
    elif kind == "bytes":
        path.write_bytes(rng.choice(values.DEEP))


def json_file(path: Path, rng: random.Random) -> None:
    """One JSON value, its `checksum` put right in most cases where it has one."""
    value = values.changed(json.loads(path.read_bytes()), rng)
    if isinstance(value, dict) and "checksum" in value and rng.random() < 0.95:
        value.pop("checksum")
        with contextlib.suppress(ValueError, TypeError):
            value["checksum"] = checksum(value)
    path.write_bytes(values.text_of(value, rng))


def lines_file(path: Path, rng: random.Random) -> None:
    """JSONL."""
    lines = path.read_bytes().split(b"\n")
    number = rng.randrange(len(lines))
    with contextlib.suppress(ValueError):
        lines[number] = values.text_of(values.changed(json.loads(lines[number]), rng), rng)
    kind = rng.randrange(6)
    if kind == 0:
        lines.insert(number, rng.choice(values.DEEP))
    elif kind == 1:
        lines = [*lines[:number], b"", b"\r", "\u2028".encode(), b"# x", *lines[number:]]
    path.write_bytes(rng.choice([b"\n", b"\n", b"\n", b"\r\n", b"\r"]).join(lines))


def tensors(data: bytes, rng: random.Random) -> bytes:
    """A safetensors file: its header changed, offsets put right in some cases, or values of its tensors."""
    length = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + length]), bytearray(data[8 + length :])
    kind = rng.randrange(6)
    if kind == 0 and body:  # values: NaN, infinity, large numbers, indices out of range
        place = rng.randrange(max(1, len(body) - 8)) & ~3
        body[place : place + 4] = rng.choice(
            [b"\x00\x00\xc0\x7f", b"\x00\x00\x80\x7f", b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff", b"\x00" * 4]
        )
    elif kind == 1:  # another shape of as many numbers, or another dtype of as many bytes
        name = rng.choice(list(header))
        about = header[name]
        if "shape" in about:
            about["shape"] = rng.choice(
                [about["shape"][::-1], [1, *about["shape"]], [0, *about["shape"]], [], [1 << 40, 0]]
            )
            if rng.random() < 0.3:
                about["dtype"] = rng.choice(["F32", "I32", "I64", "F64", "U8", "BOOL", "BF16", "F8_E4M3", "F4", "X"])
    elif kind == 2:  # a tensor gone, or under another name
        name = rng.choice(list(header))
        about = header.pop(name)
        if rng.random() < 0.5:
            header[rng.choice(["x", "", "words.x", "V", "C", "__metadata__"])] = about
    elif kind == 3:
        return values.raw(data, rng)
    elif kind == 4:  # shapes and offsets that go far beyond the file
        about = header[rng.choice(list(header))]
        if "data_offsets" in about:
            about["data_offsets"] = rng.choice([[0, 1 << 62], [-1, 4], [8, 4], [0, 0], about["data_offsets"][::-1]])
    else:
        header = values.changed(header, rng)
    text = json.dumps(header).encode("utf-8", "surrogatepass")
    size = len(text) if rng.random() < 0.97 else rng.choice([0, 1 << 62, (1 << 64) - 1, len(text) + 1])
    return struct.pack("<Q", size) + text + bytes(body)


def tensors_file(path: Path, rng: random.Random) -> None:
    """A safetensors file."""
    path.write_bytes(tensors(path.read_bytes(), rng))


# ---- records -----------------------------------------------------------------------------------------------------


def record(header: dict, body: bytes) -> bytes:
    """A record with sound checksums, whatever it says."""
    text = json.dumps({**header, "body": digest(body).hex()}).encode("utf-8", "surrogatepass")
    lengths = struct.pack("<4sIQ", MAGIC, len(text), len(body))
    return lengths + digest(lengths, text) + text + body


def split(data: bytes) -> list[tuple[dict, bytes]]:
    """(header, body) of a chain of records."""
    found, offset = [], 0
    while offset < len(data):
        entry = read_entry(data[offset:], len(data) - offset, Path("x"), offset)
        found.append((entry.header, data[offset + entry.length - entry.body_length : offset + entry.length]))
        offset += entry.length
    return found


def _settings(header: dict, rng: random.Random) -> dict:
    """A bundle's first record, the settings in it with a sound checksum."""
    value = values.changed({k: v for k, v in header["config"].items() if k != "checksum"}, rng)
    if isinstance(value, dict):
        with contextlib.suppress(ValueError, TypeError):
            value["checksum"] = checksum(value)
    return {**header, "config": value}


def records(path: Path, rng: random.Random) -> None:
    """A chain of records: one of them changed, gone, twice or elsewhere; the chain put right in most cases."""
    parts = split(path.read_bytes())
    if not parts:
        return path.write_bytes(rng.randbytes(100)) and None
    number = rng.randrange(len(parts))
    header, body = parts[number]
    kind = rng.randrange(8)
    if kind < 4:
        header = (
            _settings(header, rng)
            if isinstance(header.get("config"), dict) and rng.random() < 0.8
            else values.changed(header, rng)
        )
        parts[number] = (header if isinstance(header, dict) else {"seq": 1, "kind": "edit"}, body)
    elif kind == 4 and body:
        parts[number] = (header, tensors(body, rng))
    elif kind == 5:
        del parts[number]
    elif kind == 6:
        parts.insert(rng.randrange(len(parts) + 1), parts[number])
    else:
        rng.shuffle(parts)
    data, before, again = [], None, rng.random() < 0.85
    for header, body in parts:
        if again and before is not None and isinstance(header.get("after"), str):
            header = {**header, "after": before}
        data.append(record(header, body))
        before = data[-1][16:32].hex()
    whole = b"".join(data)
    if rng.random() < 0.05:
        whole += rng.choice([MAGIC + b"\xff" * 28, MAGIC, whole[: rng.randrange(len(whole) + 1)]])
    path.write_bytes(whole)


# ---- SQLite ------------------------------------------------------------------------------------------------------

_ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i AS seq, '' AS store FROM n"
_STATEMENTS = [
    f"DROP TABLE log; CREATE VIEW log AS {_ENDLESS}",
    f"DROP TABLE edits; CREATE VIEW edits AS {_ENDLESS}",
    "CREATE TRIGGER forge AFTER INSERT ON edits BEGIN UPDATE log SET seq = 99; END",
    "CREATE TRIGGER forge BEFORE UPDATE ON log BEGIN DELETE FROM edits; END",
    "CREATE VIRTUAL TABLE more USING fts5(x)", "CREATE TABLE more(x)", "CREATE INDEX more ON edits(prompt)", "DROP INDEX by_status", "DROP TABLE edits",
    "DELETE FROM log", "INSERT INTO log SELECT * FROM log", "UPDATE log SET seq = -5", "UPDATE log SET seq = 9007199254740993",
    "UPDATE log SET seq = 'x'", "UPDATE log SET seq = NULL", "UPDATE log SET seq = 1", "UPDATE log SET seq = 99", "UPDATE log SET store = 7",
    "UPDATE log SET store = zeroblob(1000)", "UPDATE edits SET tags = '['", "UPDATE edits SET metadata = x'ff'", "UPDATE edits SET id = id + 7",
    "UPDATE edits SET prompt = zeroblob(5000000)", "UPDATE edits SET loss = 9e999", "UPDATE edits SET steps = 'x'", "DELETE FROM edits",
    "UPDATE edits SET status = 'x'", "UPDATE edits SET tags = replace(hex(zeroblob(20000)), '0', '[')", "PRAGMA user_version = 7",
    "PRAGMA journal_mode = DELETE", "PRAGMA journal_mode = OFF", "PRAGMA page_size = 512; VACUUM", "PRAGMA encoding = 'UTF-16'; VACUUM",
    "PRAGMA application_id = 1", "PRAGMA auto_vacuum = 1; VACUUM",
    "PRAGMA writable_schema = ON; UPDATE sqlite_master SET sql = 'CREATE TABLE log(seq, store, x AS (load_extension(''x'')))' WHERE name = 'log'",
    "PRAGMA writable_schema = ON; UPDATE sqlite_master SET rootpage = 1", "PRAGMA writable_schema = ON; UPDATE sqlite_master SET name = 'x'",
    "ALTER TABLE edits ADD COLUMN more", "ALTER TABLE log RENAME COLUMN seq TO more",
]  # fmt: skip


def database(path: Path, rng: random.Random, outside: Path) -> None:
    """The ledger: statements that change what it says or does by itself, a foreign journal beside it, or bytes."""
    kind = rng.randrange(8)
    if kind == 0:
        return path.write_bytes(values.raw(path.read_bytes(), rng)) and None
    if kind == 1:
        name = f"{rng.choice([outside / 'keep.txt', '../outside/keep.txt', outside / 'keep.txt-mj0000'])}".encode()
        tail = (
            struct.pack(">I", 1) + name + struct.pack(">II", len(name), sum(name)) + b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7"
        )
        head = b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + struct.pack(">IIIII", 0, 1, 4, 512, 4096)
        path.with_name(f"{path.name}-journal").write_bytes(head.ljust(512, b"\0") + tail)
        return None
    if kind == 2:
        side = path.with_name(path.name + rng.choice(["-wal", "-shm", "-journal"]))
        return (
            side.write_bytes(rng.choice([b"", rng.randbytes(200), b"\x37\x7f\x06\x82" + rng.randbytes(4200)])) and None
        )
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(path)) as connection:
        for statements in rng.choices(_STATEMENTS, k=rng.choice([1, 1, 2])):
            with contextlib.suppress(sqlite3.Error):
                connection.executescript(statements)
    return None


# ---- zipped tensors, YAML ----------------------------------------------------------------------------------------


def zipped(path: Path, rng: random.Random) -> None:
    """A `.pt` file: one of its parts changed, compressed, twice, or with a name that leads elsewhere."""
    with zipfile.ZipFile(path) as box:
        parts = [(info.filename, box.read(info)) for info in box.infolist()]
    number, method = rng.randrange(len(parts)), zipfile.ZIP_STORED
    name, data = parts[number]
    kind = rng.randrange(6)
    if kind == 0:
        parts[number] = (name, values.raw(data, rng))
    elif kind == 1:
        method = zipfile.ZIP_DEFLATED
    elif kind == 2:
        parts.append(
            (rng.choice(["../../outside/keep.txt", "/etc/x", name, "archive/data/99", "archive/data.pkl"]), data)
        )
    elif kind == 3:
        del parts[number]
    elif kind == 4:  # the pickle's numbers: sizes, strides, names
        place = next(i for i, (n, _) in enumerate(parts) if n.endswith("data.pkl"))
        parts[place] = (parts[place][0], values.raw(parts[place][1], rng))
    else:
        return path.write_bytes(values.raw(path.read_bytes(), rng)) and None
    with zipfile.ZipFile(path, "w", method) as box:
        for name, data in parts:
            box.writestr(name, data)
    return None


def yaml_file(path: Path, rng: random.Random) -> None:
    """Settings in YAML: a value put in place of another, or lines that YAML makes much of."""
    lines = path.read_text("utf-8").split("\n")
    number = rng.randrange(len(lines))
    key = lines[number].split(":")[0]
    odd = [".inf", "-.inf", ".nan", "1e400", "0x" + "f" * 3000, "[" * 150, "{a: " * 150, "!!python/name:os.system", "&a [x]", "*a", "|\n  x", "2026-01-01",
           "'", '"', "!!binary aGk=", "? x", "1:30:20", "~", "yes", "[a, b]", "{a: 1}", "!!set {a, b}", "!!timestamp 2026-01-01", "9" * 5000]  # fmt: skip
    lines[number] = f"{key}: {rng.choice(odd) if rng.random() < 0.6 else json.dumps(values.nasty(rng))}"
    if rng.random() < 0.2:
        lines.insert(
            number,
            rng.choice(
                [
                    "<<: {x: 1}",
                    "---",
                    "...",
                    "- x",
                    "%YAML 9.9",
                    "\t",
                    "a: b: c",
                    "a" * 3000 + ": 1",
                    "#" * 5000,
                    "? [a, b]\n: c",
                ]
            ),
        )
    path.write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))


def raw_file(path: Path, rng: random.Random, other: Callable[[], bytes] = bytes) -> None:
    """Any file, byte by byte."""
    path.write_bytes(values.raw(path.read_bytes(), rng, other()))
