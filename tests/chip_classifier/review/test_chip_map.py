"""The map of the chips: where marks are, and how many there are at most."""

import re

import numpy as np
import pytest

from chip_classifier.review.chip_map import CELL, HEIGHTS, MARGIN, MAX_MARKS, WIDTH, color, draw_map


def marks(path: str) -> np.ndarray:
    """Return the places of a path's marks, (N, 2)."""
    return np.array(re.findall(r"M(\S+) (\S+?)h", path), float)


def test_chips_are_where_they_lie() -> None:
    centres = np.array([[10, 50], [10.01, 50], [10, 50.005], [np.nan, 50], [10.005, 50.002]])
    found = draw_map(centres, np.array([0, 0, 1, 0, -1]))
    assert found.chips == 3
    (west, south), (east, same) = marks(found.layers[0].path)
    ((x, north),) = marks(found.layers[1].path)
    assert (x, same) == (west, south)
    # On the ground a degree of longitude is cos(50 deg) as long as one of latitude.
    shrink = np.cos(np.radians(50.0025))
    assert (east - west) / (south - north) == pytest.approx(0.01 * shrink / 0.005, rel=1e-3)
    assert 0 < north < south < found.height
    assert 0 < west < east < WIDTH
    assert found.place(10.01, 50) == pytest.approx((east, south), abs=0.06)
    assert found.west < 10
    assert found.east > 10.01
    # The bar is as long as it says, on a sphere of 6,371 km.
    number, unit = found.bar_label.split()
    metres = float(number) * {"m": 1, "km": 1000}[unit]
    metres_per_unit = np.radians(0.005) * 6_371_000 / (south - north)
    assert found.bar * metres_per_unit == pytest.approx(metres, rel=1e-3)


@pytest.mark.parametrize(
    ("longitudes", "expected"),
    [
        ([179.9, -179.9], 0.2),
        ([-179.9, 179.9, 180], 0.2),
        ([0, 0], 1e-4 * (WIDTH - 80) / (HEIGHTS[1] - 80)),  # its height is the least
        ([-170, 10, 120], 180),  # from 10 to 190
        ([-60, 10, 120], 180),
    ],
)
def test_the_map_is_the_narrowest_that_shows_all(longitudes: list[float], expected: float) -> None:
    centres = np.column_stack([longitudes, np.zeros(len(longitudes))])
    found = draw_map(centres, np.zeros(len(longitudes), int))
    x, y = marks(found.layers[0].path).T
    assert (x > 0).all()
    assert (x < WIDTH).all()
    assert (y > 0).all()
    assert (y < found.height).all()
    span = (found.east - found.west) * (WIDTH - 2 * MARGIN) / WIDTH
    assert span == pytest.approx(expected, rel=1e-6)


def test_one_chip_and_none() -> None:
    found = draw_map(np.array([[1.0, 2.0]]), np.array([3]))
    assert found.layers[0].class_index == 3
    assert marks(found.layers[0].path).tolist() == [[WIDTH / 2, found.height / 2]]
    assert draw_map(np.full((5, 2), np.nan), np.zeros(5, int)) is None
    assert draw_map(np.zeros((5, 2)), np.full(5, -1)) is None
    assert draw_map(np.zeros((0, 2)), np.zeros(0, int)) is None


@pytest.mark.parametrize("chips", [MAX_MARKS, MAX_MARKS + 1, 300_000])
@pytest.mark.parametrize("classes", [2, 1000])
def test_the_marks_are_bounded(chips: int, classes: int) -> None:
    rng = np.random.default_rng(chips)
    centres = rng.uniform([5, 40], [15, 55], (chips, 2))
    given = rng.integers(0, classes, chips)
    found = draw_map(centres, given)
    number = sum(len(marks(layer.path)) for layer in found.layers)
    assert found.is_grid == (chips > MAX_MARKS)
    assert number <= MAX_MARKS
    assert sum(len(layer.path) for layer in found.layers) < 400_000
    assert HEIGHTS[0] <= found.height <= HEIGHTS[1]
    if not found.is_grid:
        assert number == chips


def test_a_cell_has_the_class_of_most_of_its_chips() -> None:
    rng = np.random.default_rng(0)
    centres = rng.uniform(0, 1, (60_000, 2))
    given = (rng.random(60_000) < 0.2 + 0.6 * (centres[:, 0] > 0.5)).astype(int)
    found = draw_map(centres, given)
    cells = {layer.class_index: marks(layer.path) for layer in found.layers}
    places = np.array([found.place(*centre) for centre in centres.tolist()])
    for index, found_cells in cells.items():
        for x, y in found_cells[:: len(found_cells) // 50]:
            left, top = places[:, 0] - x, places[:, 1] - (y - CELL / 2)
            here = given[(left >= 0) & (left < CELL) & (top >= 0) & (top < CELL)]
            assert (here == index).mean() >= 0.5


def test_colors_differ() -> None:
    assert len({color(rank) for rank in range(100)}) > 95
