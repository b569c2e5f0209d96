"""The frame around a task: its streams, its lock, its signals, status.json, and who waits for it.

Nothing here needs a library: it holds before any is loaded, and after one could not be.
"""

import contextlib
import fcntl
import json
import os
import queue
import resource
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import NoReturn

from chip_classifier.errors import Stopped, TaskError
from chip_classifier.files import create, obstacle, overwrite
from chip_classifier.layout import LOCK, LOG, PAGE, RESULTS, STATUS
from chip_classifier.log import start_logging

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)

# On a processor TensorFlow was seen to need a dozen, on a GPU it opens more.
LEAST_DESCRIPTORS = 32

# What status.json says while a run goes on: a process that is killed cannot write it any more.
KILLED = (
    "The task was ended from outside before it could finish (killed, out of memory or power); "
    "run it again to resume where it stopped."
)

# ------------------------------------------------------------------------------ status.json


def write_status(work_dir: Path, status: str, reason: str | None) -> None:
    """Write status.json, whole if possible. Raises OSError if it cannot be written at all."""
    path = work_dir / STATUS
    text = json.dumps({"status": status, "reason": reason}) + "\n"
    temporary = work_dir / f"{STATUS}.part"
    try:
        with create(temporary) as file:
            file.write(text)
        temporary.replace(path)
    except OSError:
        # On a full disk the old file's block is still there to be written over.
        if temporary.is_file():
            temporary.unlink()
        with overwrite(path) as file:
            file.write(text)


# ------------------------------------------------------------------------------ the work directory


def take_lock(work_dir: Path) -> tuple[str, ...]:
    """Keep other runs out of the work directory for as long as this process lives.

    The lock is one of the process (fcntl), which the processes that it forks do not keep alive.

    Returns:
        A warning where the file system has no locks.
    Raises:
        BlockingIOError: another process has it.
    """
    path, flags = work_dir / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        while True:
            descriptor = os.open(path, flags, 0o666)  # to be closed by the end of the process
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # A run that has just ended may have taken the file away between the two.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), path.stat()):
                    return ()
    except BlockingIOError:
        raise
    except OSError as error:
        reason = f"The work directory cannot be locked ({error})"
        return (f"{reason}: make sure that no other run of the task works in it at the same time.",)


def release_lock(work_dir: Path) -> None:
    """Take the file of the lock away: the last thing that a run does."""
    with contextlib.suppress(OSError):
        (work_dir / LOCK).unlink()


def prepare_output(results: Path, logs: Path) -> None:
    """Make the output directories, without results of an earlier run, and begin out.log.

    Raises TaskError if they cannot be written to.
    """
    try:
        for folder in (results, logs):
            if found := obstacle(folder):
                raise TaskError(
                    f"The output directory cannot be written to: {found}, where the task needs a "
                    "directory; take it away."
                )
        results.mkdir(parents=True, exist_ok=True)
        logs.mkdir(parents=True, exist_ok=True)
        for stale in RESULTS:
            (results / stale).unlink(missing_ok=True)
        (logs / PAGE).unlink(missing_ok=True)
        start_logging(logs / LOG)
    except OSError as error:
        raise TaskError(
            f"The output directory {results.parent} cannot be written to ({error}): mend that."
        ) from error


# ------------------------------------------------------------------------------ the process


def require_descriptors(work_dir: Path) -> None:
    """Raise a limit of open files that is too low as far as it goes; if that is not far, end."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= LEAST_DESCRIPTORS:
        return
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and hard < LEAST_DESCRIPTORS:
        fail(
            work_dir,
            f"The task may open only {hard} files at a time: raise that limit (ulimit -n) to "
            f"{LEAST_DESCRIPTORS} or more.",
        )


def require_proc(work_dir: Path) -> None:
    """End the program on a Linux without /proc: TensorFlow aborts there when it is loaded."""
    if sys.platform == "linux" and not Path("/proc/self").exists():
        fail(work_dir, "There is no /proc, which TensorFlow needs: mount it there.")


def fail(work_dir: Path, reason: str) -> NoReturn:
    """End the program with a sentence that is in status.json too."""
    write_status(work_dir, "failed", reason)
    release_lock(work_dir)
    give_up(reason)


def give_up(reason: str) -> NoReturn:
    """End the program with a sentence."""
    with contextlib.suppress(OSError):
        print(reason, file=sys.stderr, flush=True)
    os._exit(1)


def open_closed_streams() -> None:
    """Return the program the standard streams that it was started without.

    Else the next files that are opened take their places, and get what is meant for them.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest one that is free
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name) or os.fdopen(descriptor, "w", closefd=False)
        stream.reconfigure(errors="backslashreplace")
        setattr(sys, name, stream)


def hold_signals() -> None:
    """Let signals that ask to stop wait until somebody can answer them."""
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)


def stop_on_signals() -> None:
    """Raise Stopped in the main thread at the first signal that asks to stop; ignore others."""

    def stop(number: int, _frame: FrameType | None) -> None:
        ignore_signals()
        raise Stopped(signal.Signals(number).name)

    for number in STOP_SIGNALS:
        signal.signal(number, stop)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


def ignore_signals() -> None:
    """Let signals that ask to stop pass: the task is about to end."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def supervise(task: Callable[[], str | None]) -> str | None:
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
