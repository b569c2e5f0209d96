"""Numbers as text: as Python writes each of them."""

import numpy as np
import pytest

from chip_classifier.review.numerals import LIMIT, degree_texts, rounded_texts

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
    assert degree_texts(values) == expected


@pytest.mark.parametrize(
    "values",
    [
        RNG.random(20_000),
        RNG.random(20_000).astype(np.float32).astype(float),
        1 - RNG.random(2000) ** 20,
        RNG.random(5000) ** 20,
        RNG.integers(0, 10**9, 20_000) / 1e10 + 5e-11,  # next to a half of the last digit
        np.arange(1, 4097) / 2**12,  # a half of it, exactly
        np.arange(0, 1001) / 1000,
        np.array([0.0, 1.0, 1e-4, 9.9999e-5, 0.99999999995, 0.999999999949, 8.99999999999, 9.0]),
        np.array([-0.5, 12.25, 1e5, 1e17, 1e300, -1e-7, 0.1, 123.456]),
        np.array([]),
    ],
    ids=range(10),
)
def test_certainties_are_written_as_json_has_them(values: np.ndarray) -> None:
    assert rounded_texts(values) == [repr(round(value, 10)) for value in values.tolist()]
