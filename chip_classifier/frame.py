"""The frame around a task: its lock, its streams, its signals, and who waits for it.

Nothing here needs a library: it holds before any is loaded, and after one could not be.
"""

import contextlib
import fcntl
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

from chip_classifier.errors import Stopped
from chip_classifier.layout import FINAL, LOCK, TRY_AGAIN
from chip_classifier.output import Output

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
OUT_OF_TIME = (
    "The task came to its limit of processor time (ulimit -t): raise it, and run the task again to "
    "resume where it stopped."
)

# On a processor TensorFlow was seen to need a dozen, on a GPU it opens more.
LEAST_DESCRIPTORS = 32
# To load TensorFlow takes more; where there is less, it cannot always be ended in a sentence.
LEAST_CPU_SECONDS = 3
LEAST_ADDRESSES = 2 * 2**30

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


# ------------------------------------------------------------------------------ the process


def require_descriptors(output: Output) -> None:
    """Raise a limit of open files that is too low as far as it goes; if that is not far, end."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= LEAST_DESCRIPTORS:
        return
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and hard < LEAST_DESCRIPTORS:
        fail(
            output,
            f"The task may open only {hard} files at a time: raise that limit (ulimit -n) to "
            f"{LEAST_DESCRIPTORS} or more.",
            TRY_AGAIN,
        )


def watch_processor_time(output: Output) -> None:
    """Have the task end in a sentence before a limit of its processor time kills it without one.

    At the hard limit Linux kills (setrlimit(2)); the signal of the soft one is answered.
    """
    signal.signal(signal.SIGXCPU, lambda *_: fail(output, OUT_OF_TIME, TRY_AGAIN))
    soft, hard = resource.getrlimit(resource.RLIMIT_CPU)
    if hard == resource.RLIM_INFINITY:
        return
    if hard < LEAST_CPU_SECONDS:
        fail(output, OUT_OF_TIME, TRY_AGAIN)
    early = hard - (1 if hard < 30 else 3)
    soft = early if soft == resource.RLIM_INFINITY else min(soft, early)
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def require_addresses(output: Output) -> None:
    """End the program where a limit of memory is too low for TensorFlow, which crashes there."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if 0 <= limit < LEAST_ADDRESSES:
        fail(
            output,
            f"The task's limit of memory is {limit // 2**20:,} MiB (ulimit -v), too little to load "
            "TensorFlow: raise it to 4,096 MiB or more.",
            TRY_AGAIN,
        )


def require_proc(output: Output) -> None:
    """End the program on a Linux without /proc: TensorFlow aborts there when it is loaded."""
    if sys.platform == "linux" and not Path("/proc/self").exists():
        fail(output, "There is no /proc, which TensorFlow needs: mount it there.")


def fail(output: Output, reason: str, code: int = FINAL) -> NoReturn:
    """End the program with a sentence that is in status.json too."""
    reason = output.fail(reason)
    release_lock(output.work_dir)
    give_up(reason, code)


def give_up(reason: str, code: int = FINAL) -> NoReturn:
    """End the program with a sentence."""
    with contextlib.suppress(OSError):
        print(reason, file=sys.stderr, flush=True)
    os._exit(code)


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
    """Raise Stopped in the main thread at the first signal that asks to stop; ignore others.

    The system asks so too, where the task comes to a limit of processor time.
    """

    def stop(number: int, _frame: FrameType | None) -> None:
        ignore_signals()
        raise Stopped(signal.Signals(number).name)

    for number in (*STOP_SIGNALS, signal.SIGXCPU):
        signal.signal(number, stop)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


def ignore_signals() -> None:
    """Let signals that ask to stop pass: the task is about to end."""
    for number in (*STOP_SIGNALS, signal.SIGXCPU):
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
