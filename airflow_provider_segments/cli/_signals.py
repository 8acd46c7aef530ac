# SPDX-License-Identifier: Apache-2.0
"""The signals that end a command."""

from __future__ import annotations

import signal

__all__ = ["Interrupted", "Signals"]

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Seconds, in which most commands have cleaned up. Python drops what a handler raises in a `__del__`, and a thread may
# take the signal from a call that blocks.
_AGAIN = 3.0


class Interrupted(KeyboardInterrupt):
    """A signal ended the command."""

    def __init__(self, number: int, message: str = "Interrupted.") -> None:
        super().__init__(number)
        self.number, self.message = number, message


class Signals:
    """Raise Interrupted at the first signal, and again until it is caught; then nothing interrupts the cleanup."""

    def __init__(self) -> None:
        self._number: int | None = None
        self._is_caught = False

    def install(self) -> None:
        """Handle the signals, but those that are ignored, as nohup and a shell's ``&`` have it."""
        for number in _ENDING:
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._interrupt)
        signal.signal(signal.SIGALRM, self._interrupt)

    def check(self) -> None:
        """Raise Interrupted if there was a signal."""
        if self._number is not None and not self._is_caught:
            raise Interrupted(self._number)

    def caught(self) -> None:
        """Ignore all further signals."""
        self._is_caught = True
        signal.setitimer(signal.ITIMER_REAL, 0)

    def _interrupt(self, number: int, _: object) -> None:
        if self._number is None and number != signal.SIGALRM:
            self._number = number
            signal.setitimer(signal.ITIMER_REAL, _AGAIN, _AGAIN)
            self.check()
        elif number == signal.SIGALRM:
            self.check()
