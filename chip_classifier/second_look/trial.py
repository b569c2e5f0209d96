"""Some chips in the settings that a run could have had instead: the most promising one of them."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from chip_classifier.second_look.alternatives import Alternative

MOST_CHIPS = 64  # that the model computes once more, for all settings together
LEAST_FRESH = 12


class Trial(NamedTuple):
    """What became of a trial.

    best: the setting that did best on a few chips.
    rows: the chips that it was tried with after that, int (N,): none of those few, so that they
        are no part of why it was chosen.
    values: what it gave for these, float64 (N, classes).
    """

    best: Alternative
    rows: np.ndarray
    values: np.ndarray


def race(
    others: Sequence[Alternative],
    rows: np.ndarray,
    compute: Callable[[Alternative, np.ndarray], np.ndarray],
    rate: Callable[[np.ndarray, np.ndarray], float],
) -> Trial | None:
    """Try other settings, each with a few chips, then the best one with what is left of MOST_CHIPS.

    Args:
        others: the settings.
        rows: the chips that there are, int, in the order in which they are to be used.
        compute: a setting, rows -> values of the classes, float64 (N, classes).
        rate: values, rows -> how good these are.
    Returns:
        None if there are too few chips.
    """
    if not others:
        return None
    few = MOST_CHIPS // (2 * len(others))
    heat, fresh = rows[:few], rows[few : few + MOST_CHIPS - few * len(others)]
    if len(fresh) < LEAST_FRESH:
        return None
    best = others[int(np.argmax([rate(compute(other, heat), heat) for other in others]))]
    return Trial(best, fresh, compute(best, fresh))
