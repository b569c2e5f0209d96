"""What the chips' files tell of the settings: bands, depth, size, colors."""

import threading
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from chip_classifier.picture import Picture

MOST_CHIPS = 100  # that are looked at, the first of a run
FEWEST_CHIPS = 20  # of which all must be alike to tell something

TOO_MANY_ABOVE = 0.01  # of the values, above what bit_depth says
USUAL_BANDS = 4  # red, green, blue, and near infrared or alpha
TIMES_LARGER = 4  # than the model's size, both ways
SCENE_PIXELS = 512  # a side of what may be a scene that was not cut


class Asked(NamedTuple):
    """What the ports and the model ask of the chips.

    bands: how many the model takes; are_bands_set: whether the port bands is set.
    bit_depth: the port, None where it is not set.
    size: rows and columns of the model.
    """

    bands: int
    are_bands_set: bool
    bit_depth: int | None
    size: tuple[int, int]


class ChipFacts:
    """What the files of the first chips of a run are like; any number of threads may note.

    chips: how many were looked at, at most MOST_CHIPS.
    bands: the most that one has.
    grey, colored: how many have three bands that are all the same, or not; of one value: neither.
    values, above: how many values have more than 8 bits, and of them are above the port bit_depth;
        the largest of their type does not count, for it often marks what is not known.
    largest: the largest of these values.
    sizes: rows and columns of each.
    last: what was noted of the last chip, whole numbers.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.chips = self.bands = self.grey = self.colored = 0
        self.values = self.above = self.largest = 0
        self.sizes: list[tuple[int, int]] = []
        self.last: list[int] = []

    def note(self, picture: Picture, pixels: np.ndarray, bit_depth: int | None) -> None:
        """Note a chip.

        Args:
            picture: the file's content.
            pixels: what was made of it for the model, uint8 (H, W, bands), before it is warped.
            bit_depth: the port, None where it is not set.
        """
        if self.chips >= MOST_CHIPS:
            return
        bands, counts = picture.number, (0, 0, 0)
        is_grey = pixels.shape[2] == 3 and _are_alike(pixels)
        has_values = is_grey and np.ptp(pixels) > 0
        if bit_depth is not None and picture.pixels.dtype in (np.uint16, np.int16, np.uint32):
            counts = _count(picture.pixels, bit_depth)
        self.add([bands, *pixels.shape[:2], int(has_values), int(not is_grey), *counts])

    def add(self, noted: list[int]) -> None:
        """Add what was noted of a chip, maybe in another process, where it was `last`."""
        bands, rows, columns, grey, colored, values, above, largest = noted
        with self._lock:
            if self.chips >= MOST_CHIPS:
                return
            self.last = noted
            self.chips += 1
            self.bands = max(self.bands, bands)
            self.sizes.append((rows, columns))
            self.grey += grey
            self.colored += colored
            self.values += values
            self.above += above
            self.largest = max(self.largest, largest)

    def doubts(self, asked: Asked) -> Iterator[str]:
        """Yield warnings where the files do not fit what is asked of them."""
        if self.bands > max(USUAL_BANDS, asked.bands) and not asked.are_bands_set:
            taken = ",".join(map(str, range(1, asked.bands + 1)))
            yield (
                f"The chips have {self.bands} bands, of which the model gets the first "
                f"{asked.bands} ({taken}): set the port bands to those that it was trained with, "
                "such as '5,3,2' for red, green and blue of eight-band WorldView chips."
            )
        yield from self._doubts_of_depth(asked.bit_depth)
        scenes = [
            size
            for size in self.sizes
            if min(size) > SCENE_PIXELS
            and all(n > TIMES_LARGER * own for n, own in zip(size, asked.size, strict=True))
        ]
        if scenes:
            yield (
                f"{len(scenes)} of the first {self.chips} chips are more than {TIMES_LARGER} times "
                f"as long and as wide as the model's {asked.size[0]} x {asked.size[1]} (the first "
                f"has {scenes[0][0]:,} x {scenes[0][1]:,}): a whole scene that is made so small "
                "loses what the model looks for: cut it into chips of the size that the model was "
                "trained with."
            )
        if asked.bands == 3 and self.grey >= FEWEST_CHIPS and not self.colored:
            yield (
                f"All of the first {self.chips} chips are grey, but the model takes three bands: "
                "if it was trained on colors, use chips with their red, green and blue bands, or "
                "set the port bands to where these are."
            )

    def _doubts_of_depth(self, bit_depth: int | None) -> Iterator[str]:
        """Yield a warning where the port bit_depth is too small or too large."""
        if bit_depth is None or not self.values:
            return
        bits = max(int(self.largest).bit_length(), 1)
        share = self.above / self.values
        if share > TOO_MANY_ABOVE:
            yield (
                f"{share:.1%} of the values of the first chips are above {2**bit_depth - 1:,}, the "
                f"largest of the port bit_depth ({bit_depth}), and are clipped to it; the largest "
                f"one is {self.largest:,}: set bit_depth to {bits}."
            )
        elif bits <= bit_depth - 2 and self.chips >= FEWEST_CHIPS:
            yield (
                f"The largest value of the first {self.chips} chips is {self.largest:,}, which "
                f"needs {bits} bits, but the port bit_depth is {bit_depth}, so that all of them "
                f"are very dark: set bit_depth to {bits}, or to what they were in the training."
            )


def _are_alike(pixels: np.ndarray) -> bool:
    """Return whether the three bands are the same: 80 times as fast as np.ptp over them."""
    first, second, third = (pixels[..., band] for band in range(3))
    return np.array_equal(first, second) and np.array_equal(second, third)


def _count(values: np.ndarray, bit_depth: int) -> tuple[int, int, int]:
    """Return how many values count, how many are above a depth, and the largest one."""
    known = values[values != np.iinfo(values.dtype).max]
    return known.size, int((known > 2**bit_depth - 1).sum()), int(known.max(initial=0))
