"""`memoir-fast edit`: one fact, or a file of them, or a rehearsal that changes nothing."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..errors import EditError, StoreError
from .model_options import model_options, new_store_options, open_model
from .parsers import Command, Commands, count, json_object
from .terminal import complain, say, shown, write_json

if TYPE_CHECKING:
    from ..journal.edit_record import EditResult
    from ..journal.intake import Outcome, Statement
    from ..journal.state import State
    from ..model import MemoirModel

_TOLD = 20  # edits that are told of one by one, beside those that a person should look at


def add(commands: Commands, command: Command) -> None:
    """Add the command to the parser. command: `app.command`."""
    edit = command(commands, "edit", _edit, "teach facts; the memory is kept in --store")
    model_options(edit, store=True)
    one = edit.add_argument_group("one fact")
    one.add_argument("--prompt", help="what will be asked")
    one.add_argument("--target", help="the answer")
    one.add_argument("--rephrasings", nargs="+", default=[], metavar="TEXT", help="further wordings of the prompt")
    one.add_argument("--not-prompts", nargs="+", default=[], metavar="TEXT", help="prompts that must not read the edit")
    one.add_argument("--subject", default="", help="words that a question must hold to read the edit")
    one.add_argument(
        "--key", default="", help="your own name for the fact: a later edit with it takes this one's place"
    )
    many = edit.add_argument_group("many facts")
    many.add_argument("--from", "--edits", dest="edits", metavar="FILE", help="JSONL, or CSV with names in the first row: prompt, target (or "
                      "target_new), and if you like rephrasings, not_prompts, subject, key, author, tags, metadata. Given again, it goes on "
                      "where it was interrupted, and makes each edit once")  # fmt: skip
    many.add_argument("--count", type=count, metavar="N", help="only the first N facts of FILE (default: all)")
    many.add_argument(
        "--continue-on-error",
        action="store_true",
        help="go on behind a fact that cannot be made, and tell of it at the end",
    )
    many.add_argument(
        "--again",
        action="store_true",
        help="also make anew what was made of FILE before, and taken back or superseded since",
    )
    edit.add_argument("--author", default="", help="kept with the edits; a line of FILE may name another")
    edit.add_argument(
        "--tags",
        nargs="+",
        default=[],
        metavar="TAG",
        help="kept with the edits, to choose them by; beside those of a line",
    )
    edit.add_argument("--metadata", type=json_object, default={}, metavar="JSON", help="an object kept with the edits; what a line says of "
                      "the same name counts")  # fmt: skip
    new_store_options(edit)
    edit.add_argument("--verify", action=argparse.BooleanOptionalAction, help="ask each prompt and its rephrasings once it "
                      "is made, and say where the answer is not the target (default: --verify)")  # fmt: skip
    edit.set_defaults(verify=True)  # given above, argparse would tell of the default a second time (before Python 3.13)
    edit.add_argument("--dry-run", action="store_true", help="make the edits, say which questions they change, and forget them: nothing is "
                      "written")  # fmt: skip
    edit.add_argument("--questions", metavar="FILE", help="for --dry-run: JSONL, CSV or text with the questions to ask before and after "
                      "(default: the prompts, rephrasings and not_prompts themselves)")  # fmt: skip
    edit.add_argument(
        "--max-new-tokens", type=count, default=32, metavar="N", help="for --dry-run: longest answer (%(default)s)"
    )


def _edit(options: argparse.Namespace) -> int | None:
    statements = _statements(options)
    if options.questions and not options.dry_run:
        raise ValueError("--questions belongs to --dry-run")
    if options.dry_run:
        return _rehearse(options, statements)
    known = _known(options, statements)
    if known is not None:
        return _report(options, known[0], statements, known[1])
    outcomes: list[Outcome] = []
    model = open_model(options)
    try:
        _make(options, model, statements, outcomes)
    finally:
        try:
            status = _report(options, outcomes, statements, model.journal.state, model)
        finally:
            model.close()
    return status


def _statements(options: argparse.Namespace) -> list[Statement]:
    """What is to be edited, with the notes of the command line. Raises ValueError for what contradicts itself, before anything is loaded."""
    from dataclasses import replace

    from ..editing.request import EditRequest
    from ..evaluation.edit_file import load_edits
    from ..journal.edit_writer import note_of
    from ..journal.intake import Statement

    if bool(options.edits) == bool(options.prompt or options.target):
        raise ValueError("give either --prompt and --target, or --from FILE")
    notes = note_of(options.author, options.tags, options.metadata)
    if options.edits:
        file = load_edits(options.edits, options.count)
        found = file.statements if options.continue_on_error else file.checked()
        if file.left_out:
            complain(options, f"{options.edits}: edits do not keep {', '.join(map(repr, file.left_out))}; what is to be kept beside a fact "
                     "goes into metadata")  # fmt: skip
    elif options.prompt and options.target:
        found = [Statement(EditRequest(options.prompt, options.target, tuple(options.rephrasings), tuple(options.not_prompts),
                                       options.subject, options.key))]  # fmt: skip
    else:
        raise ValueError("--prompt and --target go together")
    return [
        replace(one, author=one.author or notes["author"], tags=tuple(dict.fromkeys([*one.tags, *notes["tags"]])),
                metadata={**notes["metadata"], **one.metadata})
        for one in found
    ]  # fmt: skip


def _known(options: argparse.Namespace, statements: Sequence[Statement]) -> tuple[list[Outcome], State] | None:
    """What is to be said where nothing has to be made of a file, which needs no model then, and the store's edits; else None."""
    from ..journal.intake import Intake, last_of_keys, skipped
    from ..store import Catalog, is_store

    if not options.edits or not is_store(options.store):
        return None
    state = Catalog(options.store).state
    intake, last = Intake(state), last_of_keys(statements)
    found = [skipped(intake, one, number, last, options.again) for number, one in enumerate(statements)]
    return None if None in found else ([one for one in found if one is not None], state)


def _make(
    options: argparse.Namespace, model: MemoirModel, statements: list[Statement], outcomes: list[Outcome]
) -> None:
    """Make the edits and add to `outcomes` what became of them, one at a time, so that it is known after an error as well."""
    from tqdm import tqdm

    from ..journal.intake import Outcome, take_in

    if not options.edits:  # said by hand, and so meant, whatever is stored
        [one] = statements
        assert one.request is not None
        result = model.edit_many(
            [one.request], author=one.author, tags=one.tags, metadata=one.metadata, verify=options.verify
        )[0]
        outcomes.append(Outcome(one, "stored" if result.existing else "made", result.id, result))
        return
    made = take_in(model, model.journal, statements, again=options.again, continue_on_error=options.continue_on_error,
                   verify=options.verify)  # fmt: skip
    try:
        with tqdm(made, desc="editing", unit="fact", total=len(statements)) as bar:
            for outcome in bar:
                outcomes.append(outcome)
                bar.set_postfix(Counter(one.outcome for one in outcomes), refresh=False)
    except (ValueError, TypeError, EditError, StoreError) as error:
        outcomes.append(Outcome(statements[len(outcomes)], "failed", note=str(error)))
        raise


def _report(
    options: argparse.Namespace,
    outcomes: list[Outcome],
    statements: list[Statement],
    state: State | None = None,
    model: Any = None,
) -> int:
    """Say what became of the facts, as text and, where the journal's `state` is known, as JSON; returns the exit status."""
    told = 0
    for outcome in outcomes:
        result = outcome.result
        if result is not None and (
            told < _TOLD or result.supersedes or result.also_answers or not result.converged or not outcome.took
        ):
            _told(options, result)
            told += 1
        elif outcome.note:
            say(options, f"{outcome.statement.where}: {outcome.outcome}: {shown(outcome.note, 300)}")
    bad = [one for one in outcomes if not one.took]
    if options.edits:
        counts = Counter(one.outcome for one in outcomes)
        listed = ", ".join(f"{number} {name}" for name, number in counts.items()) or "none done"
        left = len(statements) - len(outcomes)
        say(options, f"{options.edits}: {len(statements)} facts, {listed}" + (f", {left} not reached" if left else ""))
        for one in bad:
            if one.result is not None:
                say(options, f"{one.statement.where}: edit {one.edit} did not take: an answer is not the target")
    if model is not None:
        say(options, f"{options.store}: {len(model.memory)} edits, threshold {model.threshold.median:.3f}")
    if state is not None:
        write_json(options, [_row(one, state) for one in outcomes])
    return 1 if bad else 0


def _row(outcome: Outcome, state: State) -> dict[str, Any]:
    """An outcome as JSON, with the row of the edit that holds the fact, whether this command made it or an earlier one; what there is not is
    null, so that all rows have the same fields."""
    from ..journal.edit_record import FIELDS

    edit = {} if outcome.edit is None else state.row(outcome.edit)
    return {**dict.fromkeys(FIELDS), **outcome.row(), **edit}


def _told(options: argparse.Namespace, result: EditResult) -> None:
    """Say what an edit did, and what a person should look at."""
    if result.existing:
        say(options, f"edit {result.id}: the same fact is stored under this key already; nothing was written")
        return
    say(options, f"edit {result.id}: loss {result.loss:.4f} after {result.steps} steps, {result.seconds:.1f} s")
    if not result.converged:
        say(options, "  it did not converge: the answer may not be the target; try more --steps, or --retries 1")
    for text, answer in result.answers.items():
        if result.took is False:
            say(options, f"  {text} -> {answer}")
    if result.took is False:
        say(options, "  not every answer is the target (above)")
    elif result.took:
        say(options, f"  answered: {next(iter(result.answers.values()))}")
    if result.supersedes:
        say(options, f"  it takes the place of {', '.join(f'edit {old}' for old in result.supersedes)}")
    others = [edit for edit in result.similar if edit not in result.supersedes]
    if others:
        say(options, f"  similar: {', '.join(f'edit {edit}' for edit in others)}")
    for text in result.also_answers:
        say(options, f"  without being named in not_prompts, this would read it too: {text}")


def _rehearse(options: argparse.Namespace, statements: list[Statement]) -> int:
    """`--dry-run`: ask, edit, ask again, and forget the edits."""
    from ..evaluation.questions import load_questions
    from ..journal.preview import preview
    from ..store import is_store

    if options.questions:
        questions = load_questions(options.questions, "--questions")
    else:
        questions = list(dict.fromkeys(text for one in statements if one.request for text in one.request.wordings))
    stored = is_store(options.store)
    if not stored:
        # The default of the store that would be made, which is not that of a memory without one.
        options.conflict = options.conflict or "supersede"
        say(options, f"{options.store}: there is no store in this folder yet; the edits are tried on an empty memory")
    model = open_model(options, read_only=stored, kept=stored)
    outcomes: list[Outcome] = []
    try:
        changes = preview(model, questions, lambda: _make(options, model, statements, outcomes), options.max_new_tokens)
    finally:
        model.close()
    status = _report(options, outcomes, statements)
    for change in changes:
        if change.changed:
            say(options, change.question)
            for name, reading in (("before", change.before), ("after", change.after)):
                used = "base model" if reading.edit is None else f"edit {reading.edit}"
                say(options, f"  {name:>6}: {reading.answer.strip()}  ({used}, score {reading.score:.2f})")
    say(
        options,
        f"{sum(change.changed for change in changes)} of {len(changes)} questions would change; nothing was written to {options.store}",
    )
    write_json(options, {"edits": [one.row() for one in outcomes], "questions": [change.row() for change in changes]})
    return status
