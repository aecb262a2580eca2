"""Stopping at the end of a step when the user interrupts the training."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopRequest:
    """The request of the user to stop.

    Attributes:
        signal: The signal that was received; None while there is none.
    """

    signal: signal.Signals | None = None


@contextmanager
def stop_on_signal() -> Iterator[StopRequest]:
    """Records signals in the body of a `with` statement instead of interrupting it.

    The first Ctrl-C, SIGTERM or SIGHUP (the terminal was closed) only sets the `signal` of the
    request. A second Ctrl-C interrupts at once. Outside the main thread, where Python delivers no
    signals, this changes nothing.

    Yields:
        The request, which the body checks.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def record(number: int, frame: FrameType | None) -> None:
        if request.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        request.signal = signal.Signals(number)

    signals = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP"):  # Windows does not have it
        signals.append(signal.SIGHUP)
    handlers_before = {number: signal.signal(number, record) for number in signals}
    try:
        yield request
    finally:
        for number, handler in handlers_before.items():
            signal.signal(number, handler)
