"""Chips as pictures for people: three bands of 8 bits of whatever pixels the model gets."""

import numpy as np

# Of the first batch, what becomes black and what becomes white where values have no fixed range.
PERCENTILES = (2, 98)
MOST_VALUES = 2**20  # that these are found from


def to_bgr(pixels: np.ndarray) -> np.ndarray:
    """Return three bands to look at, (..., rows, columns, 3), B, G, R, of pixels of any bands.

    Three bands are taken as they are, of more the first three as R, G, B; fewer show the first one.
    """
    bands = pixels.shape[-1]
    if bands < 3:
        return np.repeat(pixels[..., :1], 3, axis=-1)
    return pixels if bands == 3 else np.ascontiguousarray(pixels[..., 2::-1])


class Look:
    """How the pixels of a run are shown.

    limits: of the numbers of the files, what becomes black and what becomes white, float64 (2, 3),
        B, G, R; None before the first batch, and for values from 0 to 255, which are shown as they
        are.
    """

    def __init__(self, is_native: bool = False) -> None:
        """Begin without limits; `is_native`: the pixels are the numbers of the files."""
        self._is_native = is_native
        self.limits: np.ndarray | None = None

    def see(self, pixels: np.ndarray) -> None:
        """Take the limits from the first batch, (M, rows, columns, bands)."""
        if self._is_native and self.limits is None:
            values = to_bgr(pixels).reshape(-1, 3)
            values = values[:: max(1, len(values) // MOST_VALUES)]
            self.limits = np.percentile(values, PERCENTILES, axis=0)

    def show(self, chip: np.ndarray) -> np.ndarray:
        """Return a chip (rows, columns, bands) as a picture, uint8 (rows, columns, 3), B, G, R."""
        picture = to_bgr(chip)
        if self.limits is not None:
            low, high = self.limits
            picture = (picture - low) * (255 / np.where(high > low, high - low, 1))
        if picture.dtype == np.uint8:
            return picture
        return np.clip(np.rint(picture), 0, 255).astype(np.uint8)

    @property
    def description(self) -> str:
        """What is done to the numbers of the files, in words; "" if nothing is."""
        if self.limits is None:
            return ""
        ranges = ", ".join(f"{low:.4g} to {high:.4g}" for low, high in self.limits.T[::-1])
        return (
            f"the pictures are stretched from the {PERCENTILES[0]}nd to the {PERCENTILES[1]}th "
            f"percentile of the first batch: {ranges} (R,G,B)"
        )


class Pictures:
    """A batch's chips as pictures, made one by one as they are asked for.

    shape: (chips, rows, columns, 3).
    """

    def __init__(self, pixels: np.ndarray, look: Look) -> None:
        """Args: pixels: (M, rows, columns, bands); look: how they are shown."""
        self._pixels, self._look = pixels, look
        self.shape = (*pixels.shape[:3], 3)

    def __len__(self) -> int:
        """Return the number of chips."""
        return len(self._pixels)

    def __getitem__(self, row: int) -> np.ndarray:
        """Return a chip, uint8 (rows, columns, 3), B, G, R."""
        return self._look.show(self._pixels[row])
