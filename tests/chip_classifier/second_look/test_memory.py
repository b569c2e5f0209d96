"""The distance between chips and a training, against its formula, and when it is a doubt."""

import math

import numpy as np
import pytest

from chip_classifier.second_look.memory import (
    distance,
    nearest,
    times_nearer,
)
from keras_files.statistics import Memory


def moments(mean: list[float], deviation: list[float]) -> np.ndarray:
    """Return the moments of two chips around a mean, float64 (2, 2, channels)."""
    mean, deviation = np.array(mean), np.array(deviation)
    chips = np.stack([mean - deviation, mean + deviation])
    return np.stack([chips, chips**2], axis=1)


def test_distance_is_that_of_kullback_and_leibler() -> None:
    floor = np.zeros(2)
    assert distance(moments([0, 0], [1, 1]), floor) == 0
    # KL(N(3, 2^2), N(0, 1)) = (2^2 + 3^2 - 1 - ln 2^2) / 2, and half of it with another channel.
    expected = (4 + 9 - 1 - math.log(4)) / 2
    assert distance(moments([3, 0], [2, 1]), floor) == pytest.approx(expected / 2)


def test_a_channel_without_variance_is_at_no_distance_if_it_had_none() -> None:
    assert distance(moments([0], [0]), np.ones(1)) == 0
    assert distance(moments([0], [0]), np.full(1, 1e-3)) > 2
    assert distance(np.full((1, 2, 1), np.nan), np.zeros(1)) == math.inf


def test_another_setting_must_be_much_nearer() -> None:
    assert nearest(0.9, [5, 0.4, 70], 2.0) == 1
    assert nearest(0.7, [5, 0.4, 70], 2.0) is None
    assert nearest(0.1, [0.001], 2.0) is None  # near enough
    assert nearest(500.0, [], 2.0) is None


def test_less_is_said_of_statistics_that_are_not_settled_or_of_other_pictures() -> None:
    def times(unsettled: float | None, is_frozen: bool) -> float:
        return times_nearer(Memory("", 1, np.zeros(1), lambda x: x, unsettled, is_frozen))

    settled = times(0.001, False)
    assert settled < times(None, False) < times(0.5, False)
    assert settled < times(0.0, True)
