"""What chips' files tell of the settings, with files that are made for it."""

import numpy as np
import pytest

from chip_classifier.picture import Picture
from chip_classifier.second_look.chips import FEWEST_CHIPS, Asked, ChipFacts

RANDOM = np.random.default_rng(5)


def doubts(
    pixels: np.ndarray, asked: Asked, number: int = 3, fed: np.ndarray | None = None
) -> list[str]:
    """Return what is said of FEWEST_CHIPS chips of the same pixels and number of bands."""
    facts = ChipFacts()
    if fed is None:
        fed = RANDOM.integers(0, 256, (*pixels.shape[:2], asked.bands), np.uint8)
    for _ in range(FEWEST_CHIPS):
        facts.note(Picture(pixels, number, {}), fed, asked.bit_depth)
    return list(facts.doubts(asked))


CHIP = RANDOM.integers(0, 1500, (8, 8, 3)).astype(np.uint16)


@pytest.mark.parametrize(
    ("asked", "number"),
    [
        (Asked(3, False, None, (8, 8)), 4),
        (Asked(3, True, None, (8, 8)), 8),
        (Asked(8, False, None, (8, 8)), 8),
        (Asked(3, False, 11, (8, 8)), 3),
        (Asked(3, False, 12, (8, 8)), 3),
        (Asked(3, False, None, (1, 1)), 3),  # small, whatever the model's size
    ],
)
def test_nothing_is_said_of_chips_that_fit(asked: Asked, number: int) -> None:
    assert doubts(CHIP, asked, number) == []


def test_bands_and_depth_and_size_and_grey() -> None:
    (said,) = doubts(CHIP, Asked(3, False, None, (8, 8)), number=8)
    assert "have 8 bands" in said and "set the port bands" in said
    (said,) = doubts(CHIP, Asked(3, False, 10, (8, 8)))
    assert "above 1,023" in said and "set bit_depth to 11" in said
    (said,) = doubts(CHIP, Asked(3, False, 16, (8, 8)))
    assert "needs 11 bits, but the port bit_depth is 16" in said
    wide = np.zeros((513, 600, 3), np.uint8)
    (said,) = doubts(wide, Asked(3, False, None, (128, 128)))
    assert "513 x 600" in said
    assert doubts(wide, Asked(3, False, None, (129, 128))) == []
    grey = np.repeat(RANDOM.integers(0, 256, (8, 8, 1), np.uint8), 3, axis=2)
    (said,) = doubts(grey, Asked(3, False, None, (8, 8)), fed=grey)
    assert "are grey" in said
    black = np.zeros((8, 8, 3), np.uint8)
    assert doubts(black, Asked(3, False, None, (8, 8)), fed=black) == []


def test_what_marks_nodata_is_not_above_the_depth() -> None:
    chip = CHIP.copy()
    chip[:4] = 65535
    assert doubts(chip, Asked(3, False, 11, (8, 8))) == []
