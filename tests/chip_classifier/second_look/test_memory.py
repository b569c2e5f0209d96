"""The distance between chips and a training, against its formula, and when it is a doubt."""

import math

import numpy as np
import pytest

from chip_classifier.second_look.memory import distance, nearer, times_nearer
from keras_files.statistics import Memory, Seen


def remembering(floor: np.ndarray, *further: Seen) -> Memory:
    """Return a memory of what is stored, and of what else may have been seen."""
    stored = Seen(np.zeros(len(floor)), np.ones(len(floor)))
    return Memory("a layer", len(floor), floor, lambda x: x, (stored, *further))


def moments(mean: list[float], deviation: list[float]) -> np.ndarray:
    """Return the moments of two chips around a mean, float64 (2, 2, channels)."""
    mean, deviation = np.array(mean), np.array(deviation)
    chips = np.stack([mean - deviation, mean + deviation])
    return np.stack([chips, chips**2], axis=1)


def test_distance_is_that_of_kullback_and_leibler() -> None:
    both = remembering(np.zeros(2))
    assert distance(moments([0, 0], [1, 1]), both) == 0
    # KL(N(3, 2^2), N(0, 1)) = (2^2 + 3^2 - 1 - ln 2^2) / 2, and half of it with another channel.
    expected = (4 + 9 - 1 - math.log(4)) / 2
    assert distance(moments([3, 0], [2, 1]), both) == pytest.approx(expected / 2)


def test_distance_is_the_least_of_what_may_have_been_seen() -> None:
    recalled = remembering(np.zeros(1), Seen(np.array([3.0]), np.array([4.0])))
    assert distance(moments([3], [2]), recalled) == pytest.approx(0)
    assert distance(moments([0], [1]), recalled) == 0
    # KL(N(9, 2^2), N(3, 2^2)) = 6^2 / 2^2 / 2
    assert distance(moments([9], [2]), recalled) == pytest.approx(4.5)


def test_a_channel_without_variance_is_at_no_distance_if_it_had_none() -> None:
    assert distance(moments([0], [0]), remembering(np.ones(1))) == 0
    assert distance(moments([0], [0]), remembering(np.full(1, 1e-3))) > 2
    assert distance(np.full((1, 2, 1), np.nan), remembering(np.zeros(1))) == math.inf


def test_another_setting_must_be_much_nearer() -> None:
    assert nearer(0.9, [5, 0.4, 70, 0.01], 2.0) == [3, 1]
    assert nearer(0.9, [5, 0.4, 70], 3.0) == []
    assert nearer(0.1, [0.001], 2.0) == []  # near enough
    assert nearer(500.0, [], 2.0) == []


def test_more_is_asked_for_where_less_is_known() -> None:
    known, unknown = times_nearer(4.2, is_sure=True), times_nearer(4.2, is_sure=False)
    assert 1 < known < unknown < times_nearer(1.1, is_sure=True)
