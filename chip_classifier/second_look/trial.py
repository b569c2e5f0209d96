"""Some chips in the settings that a run could have had instead: the most promising one of them."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from chip_classifier.second_look.alternatives import Alternative

MOST_CHIPS = 64  # that the model computes once more, for all settings together

# How many of them a run can afford: so much of its chips, or as many as take so many
# multiplications, which a core does within a second. No time is measured: the same chips are to
# have the same warnings on any machine.
AFFORDABLE_SHARE = 0.02
AFFORDABLE_WORK = 2e10


def affordable(chips: int, work: float) -> int:
    """Return how many chips may be computed once more in a run.

    Args:
        chips: of the run.
        work: multiplications that one of them takes.
    """
    return int(min(max(AFFORDABLE_SHARE * chips, AFFORDABLE_WORK / max(work, 1)), MOST_CHIPS))


class Trial(NamedTuple):
    """What became of a trial.

    best: the setting that did best on a few chips.
    rows: the chips that it was tried with after that, int (N,): none of those few, so that they
        are no part of why it was chosen.
    values: what it gave for these, float64 (N, classes).
    rivals: other settings that did at least half as well on the few chips.
    """

    best: Alternative
    rows: np.ndarray
    values: np.ndarray
    rivals: tuple[Alternative, ...] = ()


def race(
    others: Sequence[Alternative],
    rows: np.ndarray,
    compute: Callable[[Alternative, np.ndarray], np.ndarray],
    rate: Callable[[np.ndarray, np.ndarray], float],
    least: int,
) -> Trial | None:
    """Try other settings, each with a few chips, then the best one with those that are left.

    Args:
        others: the settings.
        rows: the chips that may be used, int, in the order in which they are to be.
        compute: a setting, rows -> values of the classes, float64 (N, classes).
        rate: values, rows -> how good these are; 0 or less: not worth another chip.
        least: how many chips must be left for the best one.
    Returns:
        None if there are too few chips, or no setting is worth more of them.
    """
    if not others or not len(rows):
        return None
    few = max(1, len(rows) // (2 * len(others)))
    heat, fresh = rows[:few], rows[few : len(rows) + few - few * len(others)]
    if len(fresh) < least:
        return None
    rates = [rate(compute(other, heat), heat) for other in others]
    if max(rates) <= 0:
        return None
    best = others[int(np.argmax(rates))]
    rivals = (
        other
        for other, its in zip(others, rates, strict=True)
        if its > max(rates) / 2 and other is not best
    )
    return Trial(best, fresh, compute(best, fresh), tuple(rivals))
