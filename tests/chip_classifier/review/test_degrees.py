"""Degrees as text: as Python's own format writes each of them."""

import numpy as np
import pytest

from chip_classifier.review.degrees import LIMIT, texts

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    "values",
    [
        RNG.uniform(-180, 180, 20_000),
        RNG.uniform(-1e-7, 1e-7, 2000),
        RNG.integers(-(10**10), 10**10, 20_000) / 1e8 + 5e-9,  # next to a half of the last digit
        np.arange(-2000, 2000) / 2**9,  # a half of it, exactly
        np.array([0.0, -0.0, 180, -180, LIMIT, -LIMIT, 1e-300, -1e-300, np.nan, 5e-9, -5e-9]),
        np.array([LIMIT + 0.999999996, 1e9, -1e300, np.inf, np.nan, 0.5]),
        np.array([]),
    ],
    ids=["degrees", "small", "near halves", "halves", "special", "far", "none"],
)
def test_degrees_are_written_as_python_writes_them(values: np.ndarray) -> None:
    expected = ["" if np.isnan(value) else f"{value:.8f}" for value in values.tolist()]
    assert texts(values) == expected
