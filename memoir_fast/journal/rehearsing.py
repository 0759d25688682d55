"""Trying edits out: what is changed inside is taken back at the end, and nothing of it is written; `MemoirModel` inherits it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from .calibrated import Calibrated
from .connect import hand_over
from .edit_writer import EditWriter
from .journal import Journal
from .volatile import VolatileJournal


class Rehearsing(Calibrated):
    """For whatever is calibrated and has a writer of edits.

    Attributes:
        writer: makes the edits.
    """

    writer: EditWriter

    @contextlib.contextmanager
    def rehearsal(self) -> Iterator[None]:
        """A context in which this model can be edited and calibrated, and edits taken back, without keeping any of it: at its end memory,
        edits and threshold are what they were, to the bit. A store is not written to, and may be open for reading only.

        Meanwhile the memory is changed for all who read it, and holds a copy of itself; another thread that wants to change it waits.

        Example:
            >>> with model.rehearsal():
            ...     model.edit("Who leads Norvane Robotics?", "Lena Ortiz")
            ...     print(model.ask("Who leads Halden Shipping?"))
        """
        real = self.journal
        with real.writing:
            rehearsed = VolatileJournal.before(real)
            mark = rehearsed.mark()
            with self._calibration_kept():
                try:
                    self._keep_in(rehearsed)
                    yield
                finally:
                    rehearsed.return_to(mark)
                    self._keep_in(real)
                    rehearsed.close()

    def _keep_in(self, journal: Journal) -> None:
        self.journal = self.writer.journal = journal
        hand_over(self.router, self.threshold, journal)
