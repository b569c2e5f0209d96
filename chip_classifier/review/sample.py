"""A bounded sample of a run's chips, kept as thumbnails while the run goes on.

Of each class it has the least certain chips, the most certain ones, and a random sample of the
rest. No chip is decoded twice, and most chips of a batch cost one comparison in a NumPy expression.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

MAX_CLASSES = 1000  # classes of which chips are kept
# A thumbnail takes about a tenth of the time in which a fast GPU classifies its chip, at most. One
# for 16 chips keeps the cost below 1% in whatever order the certainties come, even if each beats
# the one before.
CHIPS_PER_THUMBNAIL = 16

SLOT = np.dtype([("row", "i4"), ("certainty", "f8"), ("key", "f8"), ("chip_id", "i8")])


class SampleSizes(NamedTuple):
    """How many chips of a class are kept (each at least 1), and the longer edge of a thumbnail."""

    least: int
    most: int
    rest: int
    edge: int

    @property
    def total(self) -> int:
        """Return how many chips are kept per class."""
        return self.least + self.most + self.rest


# (for up to so many classes, sizes that every page shows). With photographs' usual compression a
# page of each line's chips has at most 2 MB.
SAMPLE_SIZES = (
    (4, SampleSizes(least=16, most=8, rest=8, edge=128)),
    (20, SampleSizes(least=10, most=5, rest=5, edge=96)),
    (100, SampleSizes(least=5, most=3, rest=3, edge=64)),
    (300, SampleSizes(least=3, most=1, rest=1, edge=64)),
    (MAX_CLASSES, SampleSizes(least=1, most=1, rest=1, edge=48)),
)
# Of the thumbnails in memory. More are kept than every page shows: there may be room for them.
MOST_BYTES = 30_000_000


class SampledChip(NamedTuple):
    """A chip in the sample; its certainty is that of the class chosen."""

    chip_id: int
    certainty: float
    thumbnail: np.ndarray  # (h, w, 3) uint8, B,G,R


class Sample:
    """A bounded sample of the chips of a run.

    Attributes:
        sizes: how many chips of a class are kept.
        rows: classes of which chips are kept: the first so many that come up.
        seen: chips that were offered.
        chip_shape: (height, width) of a chip in pixels; (0, 0) before the first.
        passed_over: whether chips were passed over to keep the run fast, though they were less or
            more certain than some that were kept.
    """

    def __init__(self, classes: int) -> None:
        """Begin; `classes`: number of the model's classes, 1 or more."""
        self.sizes = sample_sizes(classes)
        self.rows = rows = min(classes, MAX_CLASSES)
        self.seen = 0
        self.passed_over = False
        self.chip_shape = (0, 0)
        # Filling the sample of N chips takes S thumbnails, improving it about S * ln(N / S) more,
        # if the certainties come in random order. 3 S + N / 16 is above S + S * ln(N / S) for any
        # N, so that the limit only tells where the order is far from random.
        self._allowance = 3.0 * rows * self.sizes.total
        self._random = np.random.default_rng(0)
        # A class gets a row of the sample when its first chip comes. Row -1, the last one, stands
        # for the classes that came when all rows were taken: its limits let no chip in.
        self._rows_taken = 0
        self._row_of_class = np.full(classes, -1)
        # A chip enters the sample below or above these certainties, or with a key below this one.
        self._below = np.append(np.full(rows, np.inf), -np.inf)
        self._above = np.append(np.full(rows, -np.inf), np.inf)
        self._key_below = np.append(np.full(rows, np.inf), -np.inf)
        self._slots = np.zeros(rows * self.sizes.total, SLOT)
        self._slots["row"] = -1  # a free slot
        self._thumbnails: list[np.ndarray | None] = [None] * len(self._slots)

    def add(
        self,
        chip_ids: Sequence[int],
        chips: np.ndarray,
        class_indices: np.ndarray,
        certainties: np.ndarray,
    ) -> None:
        """Offer one classified batch to the sample, which copies what it keeps.

        Args:
            chip_ids: (N,) the chips' numbers, as `chip_ids` and `groups` give them back.
            chips: (N, H, W, 3) uint8, B,G,R, as warped for the model, before normalization.
            class_indices: (N,) integers from 0 to classes - 1.
            certainties: (N,) floats, finite.
        """
        self.seen += len(chips)
        self.chip_shape = chips.shape[1:3]
        self._allowance += len(chips) / CHIPS_PER_THUMBNAIL
        if self._rows_taken < self.rows:
            self._give_rows(class_indices)
        rows = self._row_of_class[class_indices]
        keys = self._random.random(len(chips))
        enters = certainties < self._below[rows]
        enters |= certainties > self._above[rows]
        enters |= keys < self._key_below[rows]
        (candidates,) = enters.nonzero()
        if not candidates.size:
            return
        # Where the certainties rise or fall steadily, the batch's last chips are the most extreme.
        allowed = candidates[max(0, len(candidates) - int(self._allowance)) :]
        self.passed_over |= len(allowed) < len(candidates)
        newcomers = np.empty(len(allowed), SLOT)
        newcomers["row"] = rows[allowed]
        newcomers["certainty"] = certainties[allowed]
        newcomers["key"] = keys[allowed]
        newcomers["chip_id"] = np.asarray(chip_ids)[allowed]
        self._merge(newcomers, chips, allowed)

    def _give_rows(self, class_indices: np.ndarray) -> None:
        """Give a row of the sample to each class that has none yet, while there are rows."""
        classes = np.unique(class_indices[self._row_of_class[class_indices] < 0])
        classes = classes[: self.rows - self._rows_taken]
        self._row_of_class[classes] = self._rows_taken + np.arange(len(classes))
        self._rows_taken += len(classes)

    def _merge(self, newcomers: np.ndarray, chips: np.ndarray, positions: np.ndarray) -> None:
        """Let newcomers compete with their rows' chips; only those that stay become thumbnails.

        Args:
            newcomers: (K,) SLOT.
            chips: (N, H, W, 3) the batch.
            positions: (K,) the newcomers' positions in the batch.
        """
        touched = np.zeros(self.rows + 1, bool)
        touched[newcomers["row"]] = True
        (slots,) = touched[self._slots["row"]].nonzero()
        entries = np.concatenate([self._slots[slots], newcomers])
        order = np.lexsort((entries["key"], entries["certainty"], entries["row"]))
        entries = entries[order]
        stays = kept(entries, self.sizes)
        is_new = order >= len(slots)
        self._slots["row"][slots[order[~stays & ~is_new]]] = -1
        entering = order[stays & is_new] - len(slots)
        free = (self._slots["row"] < 0).nonzero()[0][: len(entering)]
        self._slots[free] = newcomers[entering]
        for slot, position in zip(free, positions[entering], strict=True):
            self._thumbnails[slot] = thumbnail(chips[position], self.sizes.edge)
        self._allowance -= len(entering)
        self._tighten(entries[stays])

    def _tighten(self, entries: np.ndarray) -> None:
        """Set the limits of the rows that are full, from all their entries, sorted SLOTs."""
        sizes = self.sizes
        row, count = np.unique(entries["row"], return_counts=True)
        full = row[count == sizes.total]
        is_full = np.zeros(self.rows, bool)
        is_full[full] = True
        entries = entries[is_full[entries["row"]]].reshape(-1, sizes.total)
        self._below[full] = entries["certainty"][:, sizes.least - 1]
        self._above[full] = entries["certainty"][:, sizes.total - sizes.most]
        rest = entries["key"][:, sizes.least : sizes.total - sizes.most]
        self._key_below[full] = rest.max(axis=1)

    def groups(
        self, class_index: int
    ) -> tuple[list[SampledChip], list[SampledChip], list[SampledChip]]:
        """Return a class's least certain chips, its most certain ones, and the sample of the rest.

        The least certain come in rising order, the most certain in falling order; few chips are
        shared out between the two. A class without chips in the sample has empty lists.
        """
        row = self._row_of_class[class_index]
        if row < 0:
            return [], [], []
        (slots,) = (self._slots["row"] == row).nonzero()
        entries = self._slots[slots]
        slots = slots[np.lexsort((entries["key"], entries["certainty"]))]
        most = min(self.sizes.most, len(slots) // 2)
        least = min(self.sizes.least, len(slots) - most)
        return (
            self._chips(slots[:least]),
            self._chips(slots[len(slots) - most :][::-1]),
            self._chips(slots[least : len(slots) - most]),
        )

    def _chips(self, slots: np.ndarray) -> list[SampledChip]:
        """Return the chips in these slots."""
        return [
            SampledChip(int(entry["chip_id"]), float(entry["certainty"]), self._thumbnails[slot])
            for slot, entry in zip(slots, self._slots[slots], strict=True)
        ]

    def chip_ids(self) -> set[int]:
        """Return the chips in the sample, by number."""
        return set(self._slots["chip_id"][self._slots["row"] >= 0].tolist())


def least_sizes(classes: int) -> SampleSizes:
    """Return the line of SAMPLE_SIZES for a number of classes."""
    return next(sizes for limit, sizes in SAMPLE_SIZES if min(classes, MAX_CLASSES) <= limit)


def sample_sizes(classes: int) -> SampleSizes:
    """Return how many chips of each class are kept: at least those that every page shows."""
    sizes = least_sizes(classes)
    chips = MOST_BYTES // (3 * sizes.edge**2 * min(classes, MAX_CLASSES))
    more = max(0, chips - sizes.total)
    return sizes._replace(least=sizes.least + more - more // 4, rest=sizes.rest + more // 4)


def kept(entries: np.ndarray, sizes: SampleSizes) -> np.ndarray:
    """Tell which entries stay in the sample: in each row the least and the most certain, and of
    the rest those with the lowest keys.

    With random keys this is a uniform sample of the rest, also over many batches: an entry that
    is pushed out of the least or the most certain joins the rest and never comes back.

    Args:
        entries: (K,) SLOT, sorted by row, certainty, key. The key breaks ties, so that a mass of
            equally certain chips is not sampled in the order of the archive.
        sizes: how many of each.

    Returns:
        (K,) bool.
    """
    position = np.arange(len(entries))
    from_bottom = position - np.searchsorted(entries["row"], entries["row"])
    from_top = np.searchsorted(entries["row"], entries["row"], side="right") - 1 - position
    stays = (from_bottom < sizes.least) | (from_top < sizes.most)
    (rest,) = (~stays).nonzero()
    rest = rest[np.lexsort((entries["key"][rest], entries["row"][rest]))]
    row = entries["row"][rest]
    stays[rest[np.arange(len(rest)) - np.searchsorted(row, row) < sizes.rest]] = True
    return stays


def thumbnail(chip: np.ndarray, edge: int) -> np.ndarray:
    """Copy a chip, shrunk in proportion where it is larger than the edge, never enlarged.

    Args:
        chip: (H, W, 3) uint8.
        edge: the longer side's limit in pixels.

    Returns:
        (h, w, 3) uint8, h and w from 1 to edge.
    """
    height, width = chip.shape[:2]
    if max(height, width) <= edge:
        return chip.copy()
    # Halving takes the mean of 2 x 2 pixels; then bilinear leaves no pixel out. Together they are
    # several times as fast as INTER_AREA in one step.
    while max(height, width) >= 2 * edge:
        height, width = max(1, height // 2), max(1, width // 2)
        chip = cv2.resize(chip, (width, height), interpolation=cv2.INTER_AREA)
    shrink = edge / max(height, width)
    size = max(1, round(width * shrink)), max(1, round(height * shrink))
    return cv2.resize(chip, size, interpolation=cv2.INTER_LINEAR)
