"""The model's own memory: how far the chips are from what its first normalization saw.

That layer stores the mean and the variance of each channel. What reaches it now has a mean and a
variance, too; the Kullback-Leibler distance of the two normal distributions, the mean over the
channels, says how far they are apart: 0 for the same, thousands where values of 0 to 255 reach a
model for 0 to 1. No limit separates right from wrong, for other chips are at some distance, too:
a comparison with the other settings does.
"""

from collections.abc import Sequence

import numpy as np

from keras_files.statistics import Memory, Seen

# The setting in force is doubted above this distance, and where another one is so many times
# nearer: as tests/measure/second_look.py has it.
DOUBTED = 0.2
TIMES_NEARER = 1.75
# More is asked for where the layer was frozen, and mostly saw other pictures, or where so much of
# its statistics may still be what they began with that every setting is at some distance; and more
# still of chips that are nearly all of one class, which vary less than those of a training.
TIMES_NEARER_UNSURE = 3.0
TIMES_NEARER_ALIKE = 4.0
ALIKE_CLASSES = 1.5  # of the same size, or fewer, see evidence.effective_classes

MOST_OF_A_CHANNEL = 1e3  # one channel alone, such as one without variance, is not to decide


def distance(moments: np.ndarray, recalled: Memory) -> float:
    """Return how far chips are from what a normalization saw in training, or may have seen.

    Args:
        moments: float64 (N, 2, channels), as `Memory.compute` gives them.
        recalled: the Memory.
    Returns:
        The distance, 0 and more; infinite where a value is not finite.
    """
    mean, square = moments.mean(axis=0)
    variance = np.maximum(square - mean**2, 0) + recalled.floor
    return min(_distance(mean, variance, seen) for seen in recalled.seen)


def _distance(mean: np.ndarray, variance: np.ndarray, seen: Seen) -> float:
    with np.errstate(all="ignore"):
        ratio = variance / seen.variance
        shift = (mean - seen.mean) ** 2 / seen.variance
        distances = (ratio + shift - 1 - np.log(np.maximum(ratio, 1e-12))) / 2
    mean_distance = float(np.minimum(distances, MOST_OF_A_CHANNEL).mean())
    return mean_distance if np.isfinite(mean_distance) else float("inf")


def is_doubtful(in_force: float) -> bool:
    """Return whether a distance is one at which the other settings are to be looked at."""
    return in_force > DOUBTED


def times_nearer(classes: float, is_sure: bool) -> float:
    """Return how many times nearer another setting must be.

    Args:
        classes: over how many classes of the same size the answers spread.
        is_sure: as `Memory` has it.
    """
    if classes < ALIKE_CLASSES:
        return TIMES_NEARER_ALIKE
    return TIMES_NEARER if is_sure else TIMES_NEARER_UNSURE


def nearer(in_force: float, others: Sequence[float], times: float) -> list[int]:
    """Return by which of the other settings the chips may have been prepared in training.

    Args:
        in_force: the distance with the setting in force.
        others: that with each of the others.
        times: how many times nearer they must be.
    Returns:
        The places of those that are, the nearest one first.
    """
    places = np.argsort(others, kind="stable").tolist()
    return [place for place in places if is_doubtful(in_force) and in_force > times * others[place]]
