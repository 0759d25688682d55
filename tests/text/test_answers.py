"""Answers beside targets."""

from __future__ import annotations

from memoir_fast.text import answers


def test_an_answer_may_begin_with_contain_or_be_the_target():
    assert answers.begins_with("Paris, of course", "paris") and not answers.begins_with("Parisian", "Paris")
    assert answers.contains("It is  Lena\nOrtiz.", "lena ortiz") and not answers.contains("Lena Ortizen", "Lena Ortiz")
    assert answers.contains("costs 12 euros (net)", "12 euros") and not answers.contains("112 euros", "12 euros")
    assert answers.contains("use C++ here", "C++")
    assert answers.equals(" Paris.", "paris") and not answers.equals("Paris it is", "Paris")


def test_full_stops_inside_a_target_end_nothing():
    assert answers.is_first_sentence("St. Petersburg. It lies at the sea", "St. Petersburg")
    assert answers.is_first_sentence("Version 2. 1 it is.", "Version 2. 1 it is") and answers.is_first_sentence(
        "U.S.", "U.S."
    )
    assert not answers.is_first_sentence("St. Petersburg days days", "St. Petersburg")
    assert not answers.is_first_sentence("St. Paul. St. Petersburg", "St. Petersburg")
    assert answers.begins_with("St. Petersburg days", "St. Petersburg")


def test_the_first_sentence():
    assert answers.first_sentence("It is 3.5 m. Or so") == "It is 3.5 m"
    assert answers.first_sentence("one. two. three", least=5) == "one. two"
