"""The model's own memory: how far the chips are from what its first normalization saw.

That layer stores the mean and the variance of each channel. What reaches it now has a mean and a
variance, too; the Kullback-Leibler distance of the two normal distributions, the mean over the
channels, says how far they are apart: 0 for the same, thousands where values of 0 to 255 reach a
model for 0 to 1. No limit separates right from wrong, for other chips are at some distance, too:
a comparison with the other settings does.
"""

from collections.abc import Sequence

import numpy as np

from keras_files.statistics import Memory

# The setting in force is doubted above this distance, and where another one is so many times
# nearer: as tests/measure/second_look.py has it.
DOUBTED = 0.2
TIMES_NEARER = 2.0
# Of a model of few epochs so much of the statistics is still what they began with, mean 0 and
# variance 1, that every setting is at some distance: then more is asked for.
UNSETTLED = 0.05
TIMES_NEARER_UNSETTLED = 6.0
TIMES_NEARER_UNKNOWN = 3.0  # where the file does not tell how many steps it had
# Those of a frozen layer are of other pictures, mostly.
TIMES_NEARER_FROZEN = 4.0

MOST_OF_A_CHANNEL = 1e3  # one channel alone, such as one without variance, is not to decide


def distance(moments: np.ndarray, floor: np.ndarray) -> float:
    """Return how far chips are from what a normalization saw in training.

    Args:
        moments: float64 (N, 2, channels), as `keras_files.statistics.Memory.compute` gives them.
        floor: float64 (channels,), of the same Memory.
    Returns:
        The distance, 0 and more; infinite where a value is not finite.
    """
    mean, square = moments.mean(axis=0)
    variance = np.maximum(square - mean**2, 0) + floor
    with np.errstate(all="ignore"):
        distances = (variance + mean**2 - 1 - np.log(np.maximum(variance, 1e-12))) / 2
    mean_distance = float(np.minimum(distances, MOST_OF_A_CHANNEL).mean())
    return mean_distance if np.isfinite(mean_distance) else float("inf")


def is_doubtful(in_force: float) -> bool:
    """Return whether a distance is one at which the other settings are to be looked at."""
    return in_force > DOUBTED


def times_nearer(recalled: Memory) -> float:
    """Return how many times nearer another setting must be for what a model remembers."""
    if recalled.is_frozen:
        return TIMES_NEARER_FROZEN
    if recalled.unsettled is None:
        return TIMES_NEARER_UNKNOWN
    return TIMES_NEARER if is_settled(recalled) else TIMES_NEARER_UNSETTLED


def is_settled(recalled: Memory) -> bool:
    """Return whether the statistics are not known to be on their way from where they began."""
    return recalled.unsettled is None or recalled.unsettled <= UNSETTLED


def nearest(in_force: float, others: Sequence[float], times: float) -> int | None:
    """Return which of the other settings the chips were prepared by in training, by all signs.

    Args:
        in_force: the distance with the setting in force.
        others: that with each of the others.
        times: how many times nearer one of them must be, as `times_nearer` has it.
    Returns:
        The place of the nearest one; None where the signs are not clear.
    """
    if not is_doubtful(in_force) or not len(others):
        return None
    place = int(np.argmin(others))
    return place if in_force > times * others[place] else None
