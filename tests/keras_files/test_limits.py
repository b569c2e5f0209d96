"""A process of its own with limits: what it hands over, and how it ends."""

import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest

from keras_files.limits import LimitError, allow_time, run_limited


def limited(
    work: Callable[[], Iterable[bytes]], cpu: int = 5, seconds: float = 30, memory: int = 2**28
) -> bytes:
    """Call a function within limits, with /dev/null as the file that it may read."""
    descriptor = os.open(os.devnull, os.O_RDONLY)
    try:
        return bytes(run_limited(work, descriptor, cpu, seconds, memory))
    finally:
        os.close(descriptor)


def test_all_that_is_yielded_arrives_in_order() -> None:
    blocks = [os.urandom(size) for size in (0, 1, 3_000_000, 17)]
    assert limited(lambda: blocks) == b"".join(blocks)


def test_the_file_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"content")
    descriptor = os.open(tmp_path / "a", os.O_RDONLY)
    assert (
        run_limited(lambda: [os.pread(descriptor, 99, 0)], descriptor, 5, 30, 2**28) == b"content"
    )
    os.close(descriptor)


def loop() -> Iterator[bytes]:
    """Loop in C, with Python's lock, as a damaged file makes libhdf5 do."""
    yield b"first"
    (10 ** (10**9)).bit_length()


def wait() -> Iterator[bytes]:
    """Wait for ever."""
    yield b"first"
    while True:
        time.sleep(60)


def take_memory() -> Iterator[bytes]:
    """Take more memory than there is to be had."""
    yield b"first"
    np.ones(2**28)


def crash() -> Iterator[bytes]:
    """Crash, as C does."""
    yield b"first"
    os.kill(os.getpid(), signal.SIGSEGV)


def children() -> set[int]:
    """Return the processes that this one has started and that are not gone."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has just ended
            if int(path.read_text().rpartition(")")[2].split()[1]) == os.getpid():
                found.add(int(path.parent.name))
    return found


@pytest.mark.parametrize(
    ("work", "limits", "cause"),
    [
        (loop, {"cpu": 1}, "processor time"),
        (wait, {"seconds": 0.5}, "takes more than 0 s"),
        (take_memory, {"memory": 2**27}, "128 MiB of memory"),
        (crash, {}, "SIGSEGV"),
        (lambda: [None], {}, "exit code 1"),
    ],
)
def test_what_comes_to_a_limit_is_ended(
    work: Callable[[], Iterable[bytes]], limits: dict[str, int], cause: str
) -> None:
    before, started = children(), time.monotonic()
    with pytest.raises(LimitError, match=cause):
        limited(work, **limits)
    assert time.monotonic() - started < 20
    assert children() <= before  # nothing is left behind


def test_too_little_memory_of_the_machine_is_no_fault_of_the_file() -> None:
    before = resource.getrlimit(resource.RLIMIT_AS)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + 2**26, before[1]))
    try:
        with pytest.raises(MemoryError):
            limited(take_memory)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


LOOP_WITH_LITTLE_TIME = """
import os, resource
from keras_files.limits import LackOfTime, run_limited
resource.setrlimit(resource.RLIMIT_CPU, (1, 1))
try:
    run_limited(lambda: [(10 ** (10**9)).bit_length()], os.open("/dev/null", 0), 5, 30, 2**28)
except LackOfTime:
    print("lack of time")
"""


def test_too_little_time_of_this_process_is_no_fault_of_the_file() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOOP_WITH_LITTLE_TIME],
        cwd=Path(__file__).parents[2],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "lack of time\n", done.stderr


def test_processor_time_can_be_given() -> None:
    def work() -> Iterator[bytes]:
        allow_time(30)
        end = time.process_time() + 1.5
        while time.process_time() < end:
            pass
        yield b"done"

    assert limited(work, cpu=1) == b"done"


def test_nothing_else_can_be_opened_written_or_started(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    kept = (tmp_path / "kept").open("w")

    def attempts() -> Iterator[bytes]:
        for attempt in (
            lambda: os.open("/etc/passwd", os.O_RDONLY),
            lambda: os.open(tmp_path / "new", os.O_WRONLY | os.O_CREAT),
            lambda: os.write(kept.fileno(), b"x"),
            lambda: theirs.send(b"x"),
            lambda: os.write(2, b"x"),
            socket.socket,
            os.pipe,
        ):
            try:
                attempt()
                yield b"done "
            except OSError:
                yield b"refused "

    with ours, theirs, kept:
        assert limited(attempts).split() == [b"refused"] * 7
