"""The benchmark's own judgement: which edits it uses, and which answers it counts as wrong."""

from __future__ import annotations

from benchmarks.library import load_facts
from benchmarks.speed.serving_load import Asked, Edits, answered, apart, judged
from memoir_fast import EditRequest
from tests.support.models import tiny_memoir


def test_only_edits_that_are_answered_together_are_used():
    """The older one of two edits of one question is answered by the newer one's target, so it is left out."""
    model = tiny_memoir("llama", router="tokens", threshold=None, steps=15)
    model.journal.conflict = "keep"
    requests = [EditRequest(prompt, target) for prompt, target in (
        ("w100 w101 w102", "w150"), ("w110 w111 w112", "w151"), ("w100 w101 w102", "w152"), ("w120 w121 w122", "w153"))]  # fmt: skip
    made = {one.id: request for one, request in zip(model.edit_many(requests), requests, strict=True)}
    assert answered(model, made, 9) == [1, 2, 3]
    assert sorted(model.edits) == [1, 2, 3]
    fewer = answered(
        model, {edit: made[edit] for edit in (1, 2, 3)}, 2
    )  # without the third, another one may not be answered any more
    assert fewer and set(fewer) <= {1, 2}
    assert sorted(model.edits) == fewer
    assert all(model.ask(made[edit].prompt).startswith(made[edit].target) for edit in fewer)


def test_facts_that_name_what_an_earlier_one_names_are_left_out(tmp_path):
    file = tmp_path / "facts.jsonl"
    prompts = ["Who wrote Emma Grey?", "When was Emma Grey written?", "Who wrote that?", "Which club has Tom Lee?"]
    file.write_text("".join(f'{{"prompt": "{one}", "target_new": "x", "locality_prompt": "y"}}\n' for one in prompts))
    assert [fact.prompt for fact in apart(load_facts(str(file)))] == [prompts[0], prompts[3]]


def test_which_answers_are_wrong():
    """Asked for at 10, live at 12: before, the old answer; between, either; afterwards, the target only; and never anything else."""
    edits = Edits([0])
    edits.asked[0], edits.live[0] = 10.0, 12.0
    base = [Asked(None, "unrelated", 0, 1, "u"), Asked(0, "q", 0, 1, "old")]
    right = [(0, 1, "old"), (9, 11, "old"), (9, 11, "New, then"), (11, 13, "old"), (12, 13, "new")]
    wrong = [(8, 9, "new"), (12, 13, "old"), (11, 13, "neither")]
    found = judged([Asked(0, "q", *one) for one in right + wrong] + [Asked(None, "unrelated", 20, 21, text) for text in ("u", "v")], base, edits, {0: "New"})  # fmt: skip
    assert (found["target"], found["as_before"]) == (2, 4)
    assert [one["answer"] for one in found["wrong"]] == ["new", "old", "neither", "v"]
