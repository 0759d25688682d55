"""Wordings made from a prompt."""

from memoir_fast.text.rewording import reworded


def test_keywords_and_a_request():
    assert reworded("Who is the head of Norvane Robotics?") == [
        "head Norvane Robotics?",
        "Can you tell me: Who is the head of Norvane Robotics?",
    ]


def test_what_says_nothing_new_is_left_out():
    assert reworded("w100 w101") == ["Can you tell me: w100 w101"]  # no word that only shapes a question
    assert reworded("What is it?") == ["Can you tell me: What is it?"]  # nothing else
