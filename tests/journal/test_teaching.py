"""What an edit says about itself when it is asked to: the answers, another try, and training on its rephrasings."""

from __future__ import annotations

import warnings

import pytest

from memoir_fast import EditRequest
from tests.support.models import tiny_memoir

A = ("w100 w101 w102 w103", "w150 w151")
REWORDED = "w103 w104 w102"


def test_a_verified_edit_says_what_the_model_answers():
    model = tiny_memoir()
    plain = model.edit(*A)
    assert plain.answers == {} and plain.took is None
    asked = model.edit(*A, verify=True)
    assert asked.took is True and asked.answers[A[0]].startswith(A[1]) and list(asked.answers) == [A[0]]


def test_an_edit_that_did_not_take_says_so():
    model = tiny_memoir()
    missed = model.edit(*A, verify=True, steps=1, edit_lr=1e-6)
    assert missed.took is False and not missed.answers[A[0]].startswith(A[1]) and not missed.converged


def test_each_of_many_gets_its_own_answers():
    model = tiny_memoir(router="tokens", threshold=None)
    requests = [EditRequest(*A, rephrasings=(REWORDED,)), EditRequest("w110 w111 w112", "w152")]
    first, second = model.edit_many(requests, verify=True)
    assert list(first.answers) == [A[0], REWORDED] and list(second.answers) == ["w110 w111 w112"]
    assert second.took and second.answers["w110 w111 w112"].startswith("w152")
    with pytest.raises(TypeError, match="verify must be True or False"):
        model.edit_many(requests, verify=1)


def test_an_edit_that_has_not_converged_is_tried_again_with_more_steps():
    settings = {
        "write": "preconditioned",
        "stop_loss": 3.2,
        "stop_delta": 1.0,
    }  # as low as a random model gets in a few steps
    once = tiny_memoir(**settings).edit(*A, steps=2)
    assert not once.converged and once.steps == 2
    again = tiny_memoir(**settings).edit(*A, steps=2, retries=5)
    assert again.converged and 8 < again.steps < 64 and again.loss <= 3.2
    enough = tiny_memoir(**settings).edit(*A, retries=5)  # nothing to try again
    assert enough.converged and enough.steps <= 30


def test_rephrasings_may_be_trained_on():
    losses = {}
    for trained in (False, True):
        model = tiny_memoir()
        request = EditRequest(*A, rephrasings=("w50 w51",))
        model.edit_many([request], train_rephrasings=trained)
        with model.only([]):  # nothing is read: the base model
            base = model.ask("w50 w51", max_new_tokens=2)
        model.threshold.fixed = 0.0  # whatever is asked reads the edit: the answer depends on the training alone
        losses[trained] = model.ask("w50 w51", max_new_tokens=2)
        assert base != A[1]
    assert losses[True] == A[1] != losses[False]
    with pytest.raises(TypeError, match="train_rephrasings must be True or False"):
        tiny_memoir(train_rephrasings="yes")


def test_a_memory_of_one_page_says_when_it_fills():
    """With 128 features a page has room for ten edits: the eighth and the tenth say so, and no other."""
    said = {}
    for pages in (0, 4):
        model = tiny_memoir(router="tokens", threshold=None, masks="spread", page_edits=pages, steps=1)
        room = model.memory.in_features // 12
        for number in range(room + 2):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                model.edit(f"w{100 + number} w{120 + number} w{140 + number}", "w160")
            full = [str(one.message) for one in caught if "% full" in str(one.message)]
            said.update({(pages, number + 1): full[0]} if full else {})
    assert list(said) == [(0, -(-8 * room // 10)), (0, room)]
    assert f"100 % full: its {room} edits share one page" in said[0, room] and "leave page_edits open" in said[0, room]
