"""Chips -> batches of pixels, decoded and warped on all cores, a few ahead of the model."""

import math
import queue
import sys
import threading
from array import array
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from chip_classifier.answers import Answers, Noticed
from chip_classifier.cores import allowed_bytes, usable_cores
from chip_classifier.decode import ByteBudget, Decoded, Decoder
from chip_classifier.errors import UndecodableChip
from chip_classifier.isolation import CRASHES
from chip_classifier.listing import Listing
from chip_classifier.names import Names
from chip_classifier.review.geotiff import TIFF_SUFFIXES, Places
from chip_classifier.review.pictures import Look
from chip_classifier.sources.source import Chip

# Batches that may wait, decoded, for the model, at least one: enough that it never waits, few
# enough that memory stays flat and that most of it is left to the model.
MOST_BATCHES_AHEAD = 2
MOST_BYTES_AHEAD = 2**29

# Files that are read or wait for a decoder at a time, unless a single group of chips has more.
MOST_FILE_BYTES = 2**29

# Batches without answers of which a run may have decoded chips when it died: those that wait, that
# are decoded, computed and noted, on any number of GPUs.
SUSPECT_BATCHES = 32

# Chips that a decoder takes at a time: to hand over each by itself takes time in which no other
# thread of Python runs.
MOST_CHIPS_OF_A_GROUP = 16


class Prepared(NamedTuple):
    """Chips that are decoded: chip number -> problem, and chip number -> pixels (rows, columns,
    bands) of a chip that needs a wider type than its batch has."""

    problems: dict[int, str]
    wider: dict[int, np.ndarray]


@dataclass
class Batch:
    """The chips number `first`, first + 1, ... of the archive.

    names, links: as in Answers.
    pixels: (N, rows, columns, bands), one row a chip, uint8, or uint16 or float32 where a chip
        needs that; not set for chips that have no pixels.
    preparing: what fills these.
    problems: chip number -> reason.
    """

    first: int
    names: list[str] = field(default_factory=list)
    links: dict[int, str] = field(default_factory=dict)
    problems: dict[int, str] = field(default_factory=dict)
    pixels: np.ndarray | None = None
    preparing: list[Future[Prepared]] = field(default_factory=list)

    def complete(self) -> None:
        """Wait until all chips are prepared."""
        wider: dict[int, np.ndarray] = {}
        for part in self.preparing:
            problems, pixels = part.result()
            self.problems |= problems
            wider |= pixels
        if wider:
            kinds = {pixels.dtype for pixels in wider.values()}
            self.pixels = self.pixels.astype(np.result_type(self.pixels, *kinds), copy=False)
            for number, pixels in wider.items():
                self.pixels[number - self.first] = pixels

    def decoded_rows(self) -> np.ndarray:
        """Return the rows of `pixels` that hold a chip, int (M,), once these are complete."""
        if self.pixels is None:
            return np.array([], dtype=int)
        return np.array(
            [
                row
                for row in range(len(self.names))
                if self.first + row not in self.links and self.first + row not in self.problems
            ],
            dtype=int,
        )


class Earlier(NamedTuple):
    """What an earlier run of the same task has come to.

    answered: this many chips, whole batches of them, need no pixels any more.
    has_crashed: whether it died of a library's crash, which may be due to one of the next chips.
    """

    answered: int = 0
    has_crashed: bool = False


NONE_EARLIER = Earlier()


def rows_of(batch: Batch, rows: np.ndarray) -> np.ndarray:
    """Return rows of a batch's pixels, (M, rows, columns, bands); no copy if all are."""
    return batch.pixels if len(rows) == len(batch.pixels) else batch.pixels[rows]


def batches_ahead(batch_bytes: int) -> int:
    """Return how many batches of so many bytes may wait, decoded, for the model."""
    return min(MOST_BATCHES_AHEAD, max(1, allowed_bytes(MOST_BYTES_AHEAD) // batch_bytes))


class Pipeline:
    """Reads, decodes and warps chips on several threads, a few batches ahead of the model.

    listing: the chips.
    places: those of the tif chips, None if they are not wanted.
    noticed: what may be wrong with the chips that came by.
    look: how chips are shown.
    """

    def __init__(
        self,
        listing: Listing,
        decoder: Decoder,
        shape: tuple[int, int, int],
        earlier: Earlier = NONE_EARLIER,
        places: Places | None = None,
    ) -> None:
        """Start reading.

        Args:
            listing: the chips.
            decoder: what makes pixels of them.
            shape: chips per batch, of which the last one may have fewer; rows and columns to warp
                the chips to.
            earlier: what an earlier run of the same task has come to.
            places: receives those of the tif chips, if they are wanted.
        """
        self.noticed: set[Noticed] = set()
        self.look = Look(decoder.is_native)
        self.listing, self._decoder, self.places = listing, decoder, places
        self._answered, self._shape = earlier.answered, (*shape, decoder.channels)
        # Chips below this number are decoded in processes of their own.
        self._suspects = 0
        if earlier.has_crashed:
            self._suspects = earlier.answered + SUSPECT_BATCHES * shape[0]
        # Offset and size of each chip, 0 where it cannot be decoded again by these; in a folder
        # the path, too.
        self._where, self._paths = array("q"), Names()
        self._is_folder = listing.source.file is None
        threads = usable_cores()
        self._decoders = ThreadPoolExecutor(threads, "decode")
        # Chips of a compressed archive wait for a decoder with their data.
        self._waiting = threading.Semaphore(4 * threads)
        self._files = ByteBudget(allowed_bytes(MOST_FILE_BYTES))
        self._group_size = 1
        if not listing.source.is_compressed:
            self._group_size = min(MOST_CHIPS_OF_A_GROUP, max(1, shape[0] // (4 * threads)))
        # Chips come in the type that the widest one so far has.
        self._type, widest = np.dtype(np.uint8), np.dtype(decoder.widest_type)
        batch_bytes = math.prod(self._shape) * widest.itemsize
        self._batches: queue.Queue = queue.Queue(batches_ahead(batch_bytes))
        threading.Thread(target=self._read, name="read", daemon=True).start()

    @property
    def mostly_empty(self) -> int:
        """Chips so far of which more than half of the pixels have no data."""
        return self._decoder.mostly_empty

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches in order, each with its pixels complete.

        Raises BrokenArchive after the last sound batch if the archive is damaged, and before the
        next one if it is changed.
        """
        while (batch := self._batches.get()) is not None:
            try:
                if isinstance(batch, Exception):
                    raise batch
                batch.complete()
            finally:  # what went wrong may be due to a change
                self.listing.source.require_unchanged()
            yield batch

    def _read(self) -> None:
        try:
            batch = Batch(0)
            group: list[tuple[int, Chip]] = []
            for number, chip in enumerate(self.listing):
                if len(batch.names) == self._shape[0]:
                    self._prepare(batch, group)
                    self._batches.put(batch)
                    batch, group = Batch(number), []
                batch.names.append(chip.name)
                if self._is_folder:
                    self._paths.extend([chip.name])
                is_found = chip.problem is None and chip.data is None and not chip.is_sparse
                self._where.extend((chip.offset, chip.size) if is_found else (0, 0))
                if chip.link is not None:
                    batch.links[number] = chip.link
                elif chip.problem is not None:
                    batch.problems[number] = chip.problem
                elif number >= self._answered or self._has_place(chip):
                    group.append((number, chip))
                if len(group) == self._group_size:
                    self._prepare(batch, group)
                    group = []
            self._prepare(batch, group)
            if batch.names:
                self._batches.put(batch)
            self._batches.put(None)
        except Exception as error:  # noqa: BLE001, __iter__ raises it
            self._batches.put(error)

    def _prepare(self, batch: Batch, group: list[tuple[int, Chip]]) -> None:
        """Have numbered chips of a batch decoded."""
        if not group:
            return
        if batch.pixels is None and batch.first >= self._answered:
            batch.pixels = np.empty(self._shape, self._type)
        self._waiting.acquire()
        files = self._files.take(sum(chip.size for _, chip in group))
        batch.preparing.append(
            self._decoders.submit(self._decode, batch.pixels, batch.first, group, files)
        )

    def _decode_one(self, number: int, out: np.ndarray, data: bytes) -> Decoded:
        """Decode a chip as Decoder.decode_into does, where it may crash in a process of its own.

        Once one has, all that follow are decoded so: chips of a kind come together.
        """
        if number >= self._suspects:
            return self._decoder.decode_into(out, data)
        try:
            pixels, noticed = self._decoder.decode_alone(out, data)
        except UndecodableChip as error:
            if str(error) == CRASHES:
                self._suspects = sys.maxsize
            raise
        if np.can_cast(pixels.dtype, out.dtype):
            out[...] = pixels
            pixels = out
        return Decoded(pixels, noticed)

    def decode_again(self, number: int) -> np.ndarray | None:
        """Return the pixels of a chip once more, uint8 (rows, columns, 3), B, G, R; or None."""
        pixels = self.pixels_again(number)
        return None if pixels is None else self.look.show(pixels)

    def pixels_again(self, number: int) -> np.ndarray | None:
        """Return the pixels of a chip as in its batch, (rows, columns, bands), once more.

        None if there are none, as where the chips come as a stream.
        """
        offset, size = self._where[2 * number : 2 * number + 2]
        if not size:
            return None
        pixels = np.empty((1, *self._shape[1:]), self._type)
        self._waiting.acquire()
        files = self._files.take(size)
        path = self._paths[number] if self._is_folder else ""
        group = [(number, Chip(path, offset=offset, size=size))]
        problems, wider = self._decode(pixels, number, group, files)
        return None if problems else wider.get(number, pixels[0])

    def _has_place(self, chip: Chip) -> bool:
        """Return whether the file of a chip may say where it lies, and that is wanted."""
        return self.places is not None and chip.name.lower().endswith(TIFF_SUFFIXES)

    def _decode(
        self, pixels: np.ndarray | None, first: int, group: list[tuple[int, Chip]], files: int
    ) -> Prepared:
        """Put chips into `pixels`, where chip `first` has row 0.

        Without pixels, only the chips' places are noted: an earlier run answered them. Gives back
        so many bytes of files at the end.
        """
        prepared = Prepared({}, {})
        try:
            read = self.listing.source.reader([chip for _, chip in group])
            for number, chip in group:
                try:
                    data = read(chip)
                    if self._has_place(chip):
                        self.places.add(number, data)
                    if pixels is None:
                        continue
                    row = pixels[number - first]
                    decoded = self._decode_one(number, row, data)
                except UndecodableChip as error:
                    prepared.problems[number] = str(error)
                    continue
                if decoded.pixels is not row:
                    prepared.wider[number] = decoded.pixels
                    self._type = np.promote_types(self._type, decoded.pixels.dtype)
                if decoded.noticed:
                    self.noticed.add(decoded.noticed)
        finally:
            self._files.give_back(files)
            self._waiting.release()
        return prepared


def batches_to_compute(pipeline: Pipeline, answers: Answers) -> Iterator[Batch]:
    """Take batches from the pipeline, whose chips become known to the answers.

    Yields those that have no answers from an earlier run. Raises BrokenArchive as soon as it is
    known that the archive is damaged, wherever that is.
    """
    answered = len(answers)
    for batch in pipeline:
        if pipeline.listing.error:
            pipeline.listing.source.require_unchanged()
            raise pipeline.listing.error
        answers.names.extend(batch.names)
        answers.links |= batch.links
        if batch.first >= answered:
            yield batch
