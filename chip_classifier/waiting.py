"""The main thread waits for the task, so that it can answer signals, and hears of dying threads."""

import contextlib
import queue
import sys
import threading
from collections.abc import Callable


def wait_for(task: Callable[[], str | None]) -> str | None:
    """Call a function in a thread of its own and wait for what it returns or raises.

    The main thread only waits, so that a signal is answered while the model computes.

    A thread that dies of an exception is the end too: others may wait for it for ever (those of an
    executor do not die of what their functions raise). Where there is memory for a thread, but not
    for its first step in Python, whoever starts it waits for ever; only sys.unraisablehook is told.
    That cannot be a function in Python either, which would need the same memory: both hooks are the
    queue's own method.

    Raises:
        MemoryError: a thread of the function's could not begin, or memory was short where nothing
            can be raised.
        BaseException: whatever the function raised, or another thread died of.
    """
    ends: queue.SimpleQueue = queue.SimpleQueue()

    def work() -> None:
        try:
            ends.put(task())
        except BaseException as error:  # noqa: BLE001, the main thread reports it
            ends.put(error)

    sys.unraisablehook = threading.excepthook = ends.put
    threading.Thread(target=work, name="task", daemon=True).start()
    while True:
        end = ends.get()
        if end is None or isinstance(end, str):
            return end
        if isinstance(end, BaseException):
            raise end
        if isinstance(end, threading.ExceptHookArgs):
            raise end.exc_value
        if issubclass(end.exc_type, MemoryError) or "thread started" in (end.err_msg or ""):
            raise MemoryError from end.exc_value
        with contextlib.suppress(OSError):  # out.log may be on a full disk
            sys.__unraisablehook__(end)
