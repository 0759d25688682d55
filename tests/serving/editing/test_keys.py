"""Keys and roles from files and the environment."""

from __future__ import annotations

import json

import pytest

from memoir_fast.serving.editing.keys import ENVIRONMENT, ROLES, Caller, Keys, load_keys

KEY = "0123456789-abcdefghij"


def test_roles_include_those_before():
    assert [[Caller("a", role).may(other) for other in ROLES] for role in ROLES] == [
        [True, False, False],
        [True, True, False],
        [True] * 3,
    ]


def test_a_key_is_found_by_itself_only(tmp_path):
    file = tmp_path / "keys.json"
    file.write_text(json.dumps({"ann": {"role": "read", "key": KEY}, "bob": {"role": "approve", "key": KEY + "k"}}))
    for keys in (load_keys(str(file), {}), load_keys(None, {ENVIRONMENT: file.read_text()})):
        assert keys.find(KEY) == Caller("ann", "read") and keys.find(KEY + "k") == Caller("bob", "approve")
        assert keys.find("") is keys.find(KEY[:-1]) is keys.find(KEY + "kk") is keys.find("\ud800é") is None
        assert KEY not in repr(vars(keys)) and keys.names == ["ann", "bob"]


@pytest.mark.parametrize("value, says", [
    ({}, "must hold a JSON object"), ([], "must hold a JSON object"), ({"a b": {"role": "read", "key": KEY}}, "is no name"),
    ({"ann": {"role": "admin", "key": KEY}}, "role must be one of"), ({"ann": {"role": "read"}}, "a role and a key and nothing else"),
    ({"ann": {"role": "read", "key": "short"}}, "at least 20"), ({"ann": {"role": "read", "key": "with a blank " + KEY}}, "without blanks"),
    ({"ann": {"role": "read", "key": 7}}, "must be text"), ({"ann": {"role": [], "key": KEY}}, "role must be one of"),
    ({"ann": {"role": "read", "key": KEY}, "bob": {"role": "read", "key": KEY}}, "the same key"),
])  # fmt: skip
def test_what_is_not_accepted_is_said_without_the_key(value, says):
    with pytest.raises(ValueError, match=says) as caught:
        Keys(value, "keys.json")
    assert KEY not in str(caught.value) and str(caught.value).startswith("keys.json")


def test_without_keys_nothing_starts(tmp_path):
    with pytest.raises(ValueError, match="token_urlsafe"):
        load_keys(None, {})
    with pytest.raises(ValueError, match="there is no file"):
        load_keys(str(tmp_path / "none"), {})
    for text in (f'{{"ann": {KEY}', f"[{KEY * 400}1e99999]"):
        with pytest.raises(ValueError, match="is not JSON") as caught:
            load_keys(None, {ENVIRONMENT: text})
        assert KEY not in str(caught.value)
