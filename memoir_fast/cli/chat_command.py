"""`memoir-fast chat`: a prompt at which to ask, edit and take back, with the model loaded once."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from ..errors import EditError, StoreError, on_purpose
from .ask_commands import explain, read_by
from .model_options import model_options, open_model
from .parsers import Command, Commands, count, number
from .terminal import complain, say, shown, write_json

if TYPE_CHECKING:
    from ..model import MemoirModel

_ARROW = "=>"
_HELP = """\
a line                   is asked; each question stands by itself
/edit PROMPT => TARGET   teach a fact; /edit alone asks for both
/route [QUESTION]        which edit the question (or the last one) reads, and why
/undo [ID]               take back the last edit of this session, or this edit
/log [N]                 the last N edits in force (10)
/help                    this list
/quit                    leave; the end of the input does too"""


def add(commands: Commands, command: Command) -> None:
    """Add the command to the parser. command: `app.command`."""
    chat = command(commands, "chat", _chat, "ask, edit and take back at a prompt; the model is loaded once")
    model_options(chat, store=True)
    chat.add_argument(
        "--read-only", action="store_true", help="take no lock and change nothing: /edit and /undo are refused"
    )
    chat.add_argument("--author", default="", help="kept with the edits that are made")
    chat.add_argument(
        "--max-new-tokens", type=count, default=64, metavar="N", help="longest answer in tokens (%(default)s)"
    )


@dataclass
class _Session:
    """What a session remembers.

    Attributes:
        made: ids of its edits that stand, the latest last; asked: the last question; turns: what was said, as JSON; failed: whether a line was
            refused.
    """

    options: argparse.Namespace
    model: MemoirModel
    made: list[int] = field(default_factory=list)
    asked: str = ""
    turns: list[dict[str, Any]] = field(default_factory=list)
    failed: bool = False

    def do(self, line: str) -> bool:
        """Do what a line says; returns whether to go on. What is wrong with it is said, and the session goes on."""
        name, _, rest = line.partition(" ")
        try:
            if not line.startswith("/"):
                self.turns.append(self.ask(line))
            elif name == "/quit":
                return False
            else:
                self.turns.append({"line": line, **_verb(name)(self, rest.strip())})
        except (ValueError, TypeError, EditError, StoreError) as error:
            if isinstance(error, (ValueError, TypeError)) and not on_purpose(error):
                raise
            self.failed = True
            self.turns.append({"line": line, "error": str(error)})
            complain(self.options, str(error))
        return True

    def ask(self, question: str) -> dict[str, Any]:
        """Answer a question, and say what it read."""
        answer = self.model.ask(question, max_new_tokens=self.options.max_new_tokens)
        found = self.model.route(question, top=1)
        self.asked = question
        say(self.options, f"{answer.strip()}\n  ({read_by(found)})")
        return {"line": question, "answer": answer, **{name: found[name] for name in ("edit", "score", "threshold")}}

    def edit(self, text: str) -> dict[str, Any]:
        """Teach a fact."""
        prompt, arrow, target = text.partition(_ARROW)
        if not text:
            try:
                prompt, target = _line(self.options, "prompt: "), _line(self.options, "target: ")
            except EOFError:
                raise ValueError(f"/edit takes PROMPT {_ARROW} TARGET, and the input ended") from None
        elif not arrow:
            raise ValueError(f"/edit takes PROMPT {_ARROW} TARGET, got {shown(text, 60)}")
        result = self.model.edit(prompt.strip(), target.strip(), author=self.options.author, verify=True)
        self.made.append(result.id)
        answer = next(iter(result.answers.values()))
        say(self.options, f"edit {result.id} ({result.steps} steps, {result.seconds:.1f} s); answered: {answer}")
        if not result.took:
            say(self.options, "  that is not the target; /undo takes the edit back")
        if result.supersedes:
            say(self.options, f"  it takes the place of {', '.join(f'edit {old}' for old in result.supersedes)}")
        return {"edited": asdict(result)}

    def route(self, question: str) -> dict[str, Any]:
        """Say which edit a question reads, and why."""
        question = question or self.asked
        if not question:
            raise ValueError("/route needs a question: nothing was asked yet")
        found = self.model.route(question)
        explain(self.options, question, found, self.model.edits)
        return {"question": question, "route": found}

    def undo(self, text: str) -> dict[str, Any]:
        """Take an edit back."""
        given = number(text)
        if text and given is None:
            raise ValueError(f"/undo takes an edit's id, got {shown(text, 60)}")
        if not text and not self.made:
            raise ValueError("/undo: no edit of this session is left to take back; `/undo ID` takes another one back")
        edit = self.made[-1] if given is None else given
        self.model.delete(edit)
        self.made = [one for one in self.made if one != edit]
        row = self.model.journal.state.row(edit)
        say(self.options, f"edit {edit} is taken back: {shown(row['prompt'], 60)} -> {shown(row['target'], 30)}")
        return {"undone": edit}

    def log(self, text: str) -> dict[str, Any]:
        """List the last edits in force."""
        last = number(text or "10")
        if not last:
            raise ValueError(f"/log takes a number of edits, got {shown(text, 60)}")
        rows = list(self.model.edits.values())[-last:]
        for row in rows:
            say(self.options, f"{row['id']:>6}  {shown(row['prompt'], 60)} -> {shown(row['target'], 40)}")
        if not rows:
            say(self.options, "no edits")
        return {"edits": rows}

    def help(self, _: str) -> dict[str, Any]:
        """List the commands."""
        say(self.options, _HELP)
        return {}


_VERBS: dict[str, Callable[[_Session, str], dict[str, Any]]] = {
    "/edit": _Session.edit,
    "/route": _Session.route,
    "/undo": _Session.undo,
    "/log": _Session.log,
    "/help": _Session.help,
}


def _verb(name: str) -> Callable[[_Session, str], dict[str, Any]]:
    if name not in _VERBS:
        near = difflib.get_close_matches(name, [*_VERBS, "/quit"], n=1)
        raise ValueError(
            f"{shown(name, 40)}: there is no such command; "
            + (f"did you mean {near[0]}?" if near else "/help lists them")
        )
    return _VERBS[name]


def _chat(options: argparse.Namespace) -> int:
    """Read lines until their end; the exit status is 1 where a line of piped input was refused."""
    model = open_model(options, read_only=options.read_only)
    session = _Session(options, model)
    talking = sys.stdin.isatty()
    try:
        if talking:
            with contextlib.suppress(ImportError):
                import readline  # noqa: F401, arrow keys and history
            say(options, f"{options.store}: {len(model.edits)} edits; /help lists the commands")
        while True:
            try:
                line = _line(options, "> ")
            except EOFError:
                break
            try:
                if line and not session.do(line):
                    break
            except KeyboardInterrupt:  # of an answer or an edit, not of the session
                if not talking:
                    raise
                say(options, "interrupted")
    finally:
        model.close()
        write_json(options, session.turns)
    return 1 if session.failed and not talking else 0


def _line(options: argparse.Namespace, prompt: str) -> str:
    """The next line of standard input, without a prompt where nobody sees it, and with the prompt on stderr where standard output carries JSON.
    Raises EOFError at its end."""
    if sys.stdin.isatty():
        if options.json == "-":
            print(prompt, end="", file=sys.stderr, flush=True)
            prompt = ""
        return input(prompt).strip()
    text = sys.stdin.readline()
    if not text:
        raise EOFError("standard input ended")
    return text.strip()
