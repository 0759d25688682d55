"""What a question surely demands, and what a stored answer may be."""

from __future__ import annotations

import pytest

from memoir_fast.reading.matching.demands import (
    EVERYTHING,
    MONEY,
    NUMBER,
    PERSON,
    SPAN,
    TIME,
    YEAR,
    demands,
    offers,
)


@pytest.mark.parametrize(
    ("sentence", "kinds"),
    [
        ("in which year was norvane robotics founded", YEAR),
        ("how many people live in zeltia", NUMBER),
        ("how tall is the lighthouse", NUMBER),
        ("how much does the pump cost", MONEY),
        ("what is the fee for late returns", MONEY),
        ("how much memory does the server have", NUMBER),
        ("how long is the notice period", SPAN),
        ("how many days of leave do i get", SPAN),
        ("when does the canteen open", TIME),
        ("on which day is the standup", TIME),
        ("who leads norvane robotics", PERSON),
        ("the person who leads norvane robotics is", PERSON),
        ("how many people who work here speak welsh", NUMBER | PERSON),  # either may be meant
        ("where is the office", 0),
        ("the capital of zeltia is", 0),
        ("remind me when you can about the canteen", 0),
        ("wie viele menschen leben in zeltia", 0),
    ],
)
def test_demands(sentence, kinds):
    assert demands(sentence) == kinds


@pytest.mark.parametrize(
    ("answer", "kinds"),
    [
        ("Lena Ortiz", PERSON),
        ("the facilities desk", PERSON | TIME),  # "the next release" looks the same
        ("Mount Aldous", PERSON),
        ("45 days", NUMBER | YEAR | TIME | SPAN),
        ("12 euros", NUMBER | MONEY),
        ("$45", NUMBER | MONEY),
        ("30 kg", NUMBER),
        ("12kg", NUMBER),
        ("98 %", NUMBER),
        ("8443", NUMBER | YEAR | TIME | MONEY | SPAN),
        ("2002", NUMBER | YEAR | TIME | MONEY | SPAN),
        ("Friday", NUMBER | YEAR | TIME | SPAN),
        ("free", NUMBER | TIME | MONEY | SPAN),
        ("3M", EVERYTHING),
        ("blink-182", EVERYTHING),
        ("Ærøskøbing", EVERYTHING),
        ("...", EVERYTHING),
    ],
)
def test_offers(answer, kinds):
    assert offers(answer) == kinds
