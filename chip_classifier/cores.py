"""The processor cores that the task may use, and who goes first on them."""

import contextlib
import os
import sys
import threading


def usable_cores() -> int:
    """Give the number of processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux; respects what a container was given
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def give_way() -> None:
    """Let the model's threads go first on the cores (Linux has a priority for each thread).

    The model waits for the slowest of its threads at each step; one that has to share its core with
    a decoder delays all.
    """
    if sys.platform == "linux":
        thread = threading.get_native_id()
        with contextlib.suppress(OSError):
            niceness = os.getpriority(os.PRIO_PROCESS, thread)
            os.setpriority(os.PRIO_PROCESS, thread, min(niceness + 10, 19))
