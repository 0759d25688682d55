"""Whether a module's call is still running, however it ends.

Torch calls a module's hooks after an exception, but none after a KeyboardInterrupt or another BaseException. What was
begun for a call would outlive it then, so whoever uses it asks here first.
"""

from __future__ import annotations

import sys
from types import FrameType

from torch.nn.modules import module

_FILE = module.__file__


class Pass:
    """The call of a module that a hook is made in: it runs as long as it is on its thread's stack.

    Made outside of a module's call, it counts as running for ever.
    """

    def __init__(self) -> None:
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and frame.f_code.co_filename != _FILE:
            frame = frame.f_back
        while frame is not None and frame.f_back is not None and frame.f_back.f_code.co_filename == _FILE:
            frame = frame.f_back  # a hook may be called by any of the frames that make up a module's call
        self._frame = frame

    def is_over(self) -> bool:
        """Whether the call has ended. Asked in the thread of the call."""
        if self._frame is None:
            return False
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and frame is not self._frame:
            frame = frame.f_back
        return frame is None
