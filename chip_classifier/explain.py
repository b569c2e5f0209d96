"""What ended a run, as one sentence that says what to change."""

import contextlib
import errno
import resource
import traceback
from typing import TextIO

from chip_classifier.errors import BrokenArchive, Stopped, TaskError
from chip_classifier.frame import OUT_OF_TIME
from chip_classifier.layout import FINAL, TRY_AGAIN
from chip_classifier.log import log, printable
from keras_files.limits import LackOfTime
from keras_files.model_file import ModelError

INPUT_ERRORS = (TaskError, BrokenArchive, ModelError)

_FILES = "The task may open no more files: raise that limit (ulimit -n) and run it again."
_FULL = "The disk with the output directory is full: free space and run the task again."
_BY_NUMBER = {
    errno.EMFILE: _FILES,
    errno.ENFILE: _FILES,
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EAGAIN: (
        "The task may start no more processes: raise that limit (ulimit -u), or give it more "
        "memory."
    ),
    errno.EFBIG: (
        "The task came to its limit for the size of a file (ulimit -f): raise it and run the task "
        "again."
    ),
}


def exit_code(error: BaseException) -> int:
    """Return whether another try with the same input may mend a failure."""
    return FINAL if isinstance(error, INPUT_ERRORS) else TRY_AGAIN


def explain(error: BaseException, stderr: TextIO) -> str:
    """Turn an exception into the sentence for status.json.

    Where the sentence cannot say all, out.log has the traceback; stderr too where it is unexpected.
    """
    if isinstance(error, INPUT_ERRORS):
        return printable(str(error))
    if isinstance(error, LackOfTime) or (isinstance(error, Stopped) and str(error) == "SIGXCPU"):
        return OUT_OF_TIME
    if isinstance(error, Stopped):
        return f"The task was stopped by {error}: run it again to resume where it stopped."
    log.error("The task failed", exc_info=error)
    text = printable(" ".join(str(error).split())[:500])
    if isinstance(error, MemoryError) and _limit_of_memory():
        return (
            f"The task came to its limit of memory (ulimit -v, {_limit_of_memory():,} MiB): raise "
            "it, or set a smaller deploy_batch."
        )
    if isinstance(error, MemoryError):
        return "The task ran out of memory: give it more, or set a smaller deploy_batch."
    if isinstance(error, RuntimeError) and "start new thread" in text:
        return (
            "The task may start no more threads: give it more memory, or raise its limit of "
            "threads."
        )
    if isinstance(error, ImportError) and _limit_of_memory():
        return (
            f"A library cannot be loaded ({text}) within the task's limit of memory (ulimit -v, "
            f"{_limit_of_memory():,} MiB): raise it."
        )
    if isinstance(error, ImportError):
        return (
            f"A library cannot be loaded ({text}): install the libraries anew, or give the task "
            "more memory if that is short."
        )
    if isinstance(error, OSError):
        text = printable(str(error))
        return _BY_NUMBER.get(
            error.errno,
            f"A file cannot be read or written ({text}): mend that and run the task again.",
        )
    with contextlib.suppress(OSError):
        traceback.print_exception(error, file=stderr)
    return f"Unexpected error, {type(error).__name__}: {text} (out.log has the details)."


def _limit_of_memory() -> int:
    """Return the MiB of addresses that this process may have; 0 where there is no limit."""
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return 0 if soft == resource.RLIM_INFINITY else soft // 2**20
