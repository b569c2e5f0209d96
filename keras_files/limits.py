"""A process of its own, with little time and memory and no files, for what may never end.

Libraries in C that read a file of unknown origin may loop for ever with Python's lock, take all
memory, or crash. In a process with limits the system ends that, and the caller is told how it came.
"""

from __future__ import annotations

import faulthandler
import gc
import itertools
import math
import os
import resource
import select
import signal
import time
from collections.abc import Callable, Iterable
from typing import NoReturn

READ_BYTES = 2**20

# Descriptors above this one are left open where the system cannot close all at once.
MOST_DESCRIPTORS = 2**16

# What the process exits with: all is handed over, its own limit of memory was too little, that of
# the process that made it was.
DONE, LIMIT, SHORTAGE = 0, 3, 4


class LimitError(Exception):
    """The process came to one of its limits, or crashed; the message is a clause about it."""


class LackOfTime(Exception):
    """The process came to the limit of processor time that the one that made it has too."""


def run_limited(
    work: Callable[[], Iterable[bytes]],
    descriptor: int,
    cpu_seconds: int,
    seconds: float,
    memory: int,
) -> bytearray:
    """Call a function in a copy of this process (fork), within limits; return what it yields.

    The copy has one open file, can open and write no other, and starts no process. It goes on until
    its time is up where this process is killed.

    Args:
        work: gives the bytes to hand over; it may raise nothing but MemoryError.
        descriptor: the file that it may read.
        cpu_seconds: its processor time; `allow_time` gives more.
        seconds: its time by the clock.
        memory: bytes that it may take beyond those that this process has (where there is /proc).
    Raises:
        LimitError: it came to a limit or crashed.
        LackOfTime: this process has a limit of processor time, which was too little for it.
        MemoryError: this machine, or the limit of this process, has too little memory for it.
        OSError: no process is to be had.
    """
    reading, writing = os.pipe()
    # Who stops the task with Ctrl-C does so to all of its processes: this one is ended by its own.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))
    try:
        child = os.fork()
        if child == 0:
            _serve(work, writing, descriptor, cpu_seconds, memory)
    except OSError:
        os.close(reading)
        raise
    finally:
        os.close(writing)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    answer = None
    try:
        answer = _receive(reading, seconds)
    finally:
        os.close(reading)
        if answer is None:
            os.kill(child, signal.SIGKILL)
        _, status, used = os.wait4(child, 0)
        code = os.waitstatus_to_exitcode(status)
    if code != DONE:
        _raise_failure(code, used.ru_utime + used.ru_stime, memory)
    return answer


def _raise_failure(code: int, cpu_seconds: float, memory: int) -> NoReturn:
    """Raise what an exit code means, after so many seconds; errors as run_limited has them."""
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    if cpu_seconds > hard - 0.5 > 0:
        raise LackOfTime
    if code in (SHORTAGE, -signal.SIGKILL):  # Linux kills where memory is short
        raise MemoryError
    if code == LIMIT:
        raise LimitError(f"takes more than {memory // 2**20:,} MiB of memory")
    if code == -signal.SIGXCPU:
        raise LimitError("takes too much processor time")
    cause = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    raise LimitError(f"makes the library that reads it crash ({cause})")


def allow_time(seconds: float) -> None:
    """Return this process so much more processor time: what `work` knows to be long, but finite."""
    soft, _ = resource.getrlimit(resource.RLIMIT_CPU)
    _limit_processor_time(soft + math.ceil(seconds))


def _limit_processor_time(seconds: int) -> None:
    """Limit this process' processor time; a limit that it has already may be lower."""
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soft = seconds if hard == resource.RLIM_INFINITY else min(seconds, hard)
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def _receive(reading: int, seconds: float) -> bytearray:
    """Read a pipe to its end. Raises LimitError if that does not come within so many seconds."""
    answer, end = bytearray(), time.monotonic() + seconds
    poll = select.poll()
    poll.register(reading, select.POLLIN)
    while True:
        if not poll.poll(max(0.0, end - time.monotonic()) * 1000):
            raise LimitError(f"takes more than {seconds:.0f} s")
        block = os.read(reading, READ_BYTES)
        if not block:
            return answer
        answer += block


def _serve(
    work: Callable[[], Iterable[bytes]],
    writing: int,
    descriptor: int,
    cpu_seconds: int,
    memory: int,
) -> NoReturn:
    """Take the limits, work, hand over, and end at once: what the copy does."""
    code, shortage = 1, SHORTAGE
    try:
        gc.disable()  # it would end what belongs to the other process
        faulthandler.disable()
        now = _memory_now()
        _close_all_but(writing, descriptor)
        shortage = _take_limits(cpu_seconds, now, memory)
        for block in work():
            left = memoryview(block)
            while left:
                left = left[os.write(writing, left) :]
        code = DONE
    except MemoryError:
        code = shortage
    finally:
        os._exit(code)


def _close_all_but(*kept: int) -> None:
    """Close all descriptors but these."""
    ends = [-1, *sorted(kept), MOST_DESCRIPTORS]
    for low, high in itertools.pairwise(ends):
        os.closerange(low + 1, high)


def _take_limits(cpu_seconds: int, now: int | None, memory: int) -> int:
    """Set this process' limits; return what it exits with where memory is too little."""
    for kind in ("CORE", "FSIZE", "NOFILE", "NPROC"):
        resource.setrlimit(getattr(resource, f"RLIMIT_{kind}"), (0, 0))
    signal.signal(signal.SIGXCPU, signal.SIG_DFL)  # a library in C would not hear of it
    _limit_processor_time(cpu_seconds)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    if now is None or resource.RLIM_INFINITY != soft <= now + memory:
        return SHORTAGE
    resource.setrlimit(resource.RLIMIT_AS, (now + memory, hard))
    return LIMIT


def _memory_now() -> int | None:
    """Return the bytes of this process' address space; None where there is no /proc."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[0]) * resource.getpagesize()
    except OSError:
        return None
