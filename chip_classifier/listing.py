"""The chips of a source in their order, listed ahead of their use.

A large source that is no stream is listed in a process of its own, beside the import of TensorFlow.
"""

import _thread
import contextlib
import itertools
import math
import multiprocessing
import os
import pickle
import queue
import signal
import sys
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import NamedTuple

from chip_classifier.errors import BrokenArchive, TaskError
from chip_classifier.sources.source import Chip, Source

# For how long chips are listed before TensorFlow is loaded: long enough for thousands, so that a
# small archive that is damaged fails at once, short enough that a large one costs nothing.
LISTING_SECONDS = 0.1

# How often the process that lists an archive hands over what it has listed.
LISTED_SECONDS = 0.05


class PackedChips(NamedTuple):
    """Chips as another process sends them, a fifth as large as they are: number and pickled list.

    They stay so until they are used, which may be hours later.
    """

    number: int
    data: bytes


def _send_chips(source: Source, listed: int, receiver: Connection, sender: Connection) -> None:
    """Read the chips behind the first `listed` and send them: what a process of its own does.

    It sends parts: (PackedChips, progress so far, None or, with the last part, how the reading
    ended). It reads the first ones too: the position in a file that is open already is one for both
    processes.
    """

    def end_with_parent() -> None:
        multiprocessing.parent_process().join()
        os._exit(0)

    # The task's own hooks tell a queue of dead threads, which nobody reads here.
    sys.unraisablehook, threading.excepthook = sys.__unraisablehook__, threading.__excepthook__
    # Thread.start would wait for ever for a thread for whose first step there is no memory.
    _thread.start_new_thread(end_with_parent, ())
    receiver.close()
    os.nice(10)  # the task, which loads TensorFlow meanwhile, goes first
    part: list[Chip] = []
    error = None
    sent = time.monotonic()
    with contextlib.suppress(BrokenPipeError):  # the other process has just ended
        try:
            for chip in itertools.islice(source.chips(), listed, None):
                part.append(chip)
                if time.monotonic() > sent + LISTED_SECONDS:
                    sender.send((_pack(part), source.progress, None))
                    part, sent = [], time.monotonic()
        except BrokenArchive as damage:
            error = damage
        end = (error, source.passed_over, source.first_passed_over, source.left_behind)
        sender.send((_pack(part), source.progress, end))


def _pack(chips: list[Chip]) -> PackedChips:
    return PackedChips(len(chips), pickle.dumps(chips))


def _receive_chips(
    source: Source, listed: int, receiver: Connection, process: BaseProcess
) -> Iterator[Chip | PackedChips]:
    """Yield the chips behind the first `listed` as a process sends them; see _send_chips.

    Should that be killed, this one reads on. Raises BrokenArchive as Source.chips does.
    """
    end = None
    with receiver, contextlib.suppress(EOFError, OSError):
        while end is None:
            part, source.progress, end = receiver.recv()
            yield part
            listed += part.number
    process.join()
    if end is None:
        yield from itertools.islice(source.chips(), listed, None)
        return
    error, source.passed_over, source.first_passed_over, source.left_behind = end
    if error:
        raise error


class Listing:
    """The chips of a source in their order, listed ahead of their use.

    A plain tar is listed header by header, which is quick beside decoding, so that the number of
    chips is known and a damaged archive found before much work was put into it. A compressed one,
    of which all would have to be decompressed for that, is listed one chip ahead.

    number: the chips listed so far.
    is_complete: whether these are all.
    error: what ended the listing before the end of the archive, or None.
    """

    def __init__(self, source: Source) -> None:
        self.number = 0
        self.is_complete = False
        self.error: Exception | None = None
        self.source = source
        self._chips: Iterator[Chip | PackedChips] = source.chips()
        self._listed: queue.SimpleQueue[Chip | PackedChips | None] = queue.SimpleQueue()
        self._lister: threading.Thread | None = None

    def go_on(self, seconds: float = math.inf, chips: float = math.inf) -> None:
        """List chips for so many seconds, or until there are so many, or to the end.

        Of a compressed archive one chip more is listed.
        """
        if self.is_complete or self.error or self.number >= chips:
            return
        end = time.monotonic() + seconds
        try:
            for chip in self._chips:  # or many at once
                self.number += chip.number if isinstance(chip, PackedChips) else 1
                self._listed.put(chip)
                if self.source.is_compressed or self.number >= chips or time.monotonic() > end:
                    return
            self.is_complete = True
        except Exception as error:  # noqa: BLE001, whoever uses the chips gets it
            self.error = error
        self._listed.put(None)

    def batch_size(self, most: int) -> int:
        """Return the chips per batch: `most`, but of a plain tar no more than there are.

        For a batch memory would be taken whether it has so many chips or not.
        """
        if self.source.is_compressed:
            return most
        self.go_on(chips=most)
        return min(most, self.number)

    def go_on_aside(self) -> None:
        """List the rest of a plain tar in another process, from now on (Linux).

        Python runs one thread of a process at a time: one that lists holds up those that import,
        decode and classify. The other process is a copy of this one (fork), which is quick and
        safe before TensorFlow is there, with its memory and its threads. It ends with this one;
        the signals that stop the task are not for it. A compressed archive is left as it is.
        """
        if self.source.is_compressed or self.is_complete or self.error:
            return
        if sys.platform == "linux":
            with contextlib.suppress(OSError):  # no process is to be had: the thread lists
                receiver, sender = multiprocessing.Pipe(duplex=False)
                process = multiprocessing.get_context("fork").Process(
                    target=_send_chips, args=(self.source, self.number, receiver, sender)
                )
                mask = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))
                try:
                    process.start()
                finally:
                    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
                    sender.close()
                self._chips = _receive_chips(self.source, self.number, receiver, process)
        self._start_lister()

    def _start_lister(self) -> None:
        self._lister = threading.Thread(target=self.go_on, name="list", daemon=True)
        self._lister.start()

    def __iter__(self) -> Iterator[Chip]:
        """Yield the chips; the rest of a plain tar is listed meanwhile. To be used once.

        Raises BrokenArchive after the last sound chip if the archive is damaged.
        """
        if not self.source.is_compressed and self._lister is None:
            self._start_lister()
        while True:
            if self.source.is_compressed and self._listed.empty():
                self.go_on()
            chips = self._listed.get()
            if chips is None:
                break
            if isinstance(chips, PackedChips):
                yield from pickle.loads(chips.data)
            else:
                yield chips
        if self.error:
            raise self.error


def list_chips(source: Source) -> Listing:
    """Begin to list the chips of an archive; a small one is listed to its end.

    Raises TaskError, BrokenArchive: there is no chip, or the archive is damaged, if that is found
    at once.
    """
    listing = Listing(source)
    listing.go_on(LISTING_SECONDS)
    if listing.error:
        raise listing.error
    if not listing.number:
        others = ", ".join(f"{n} {what}" for what, n in source.passed_over.items() if n)
        raise TaskError(
            f"{source.path.name} holds no jpeg, png, tif, webp, bmp or jp2 chips "
            f"({others or 'it is empty'}): "
            "put them there, or make the archive with 'tar -cvf chips.tar chips'."
        )
    return listing
