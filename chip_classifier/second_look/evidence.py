"""What the answers tell of the settings: how sure they are, one class for all, and the truth.

Pure functions of the values of the classes, float64 (N, classes), as `classifier.class_values`
gives them, and of class indices.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

LEAST_CHIPS = 50  # fewer of them tell nothing

# How far the two best classes of a chip are apart, as the logarithm of their ratio, in the middle
# of the chips. Models that are fed as in training are between these; values that are a hundred
# times too large or too small leave no doubt at all, or no difference.
LEAST_MARGIN = 0.5
LARGEST_MARGIN = 45.0
# What another setting must reach to be sensible, where the one in force is not, and how many times
# more than that.
SENSIBLE_MARGINS = (1.5, 40.0)
TIMES_SURER = 20.0

# By how much the answers must tell chips better apart with another setting, see Margins.clearness.
CLEARER = 0.35

ONE_CLASS = 0.95  # the share of a class from which nearly all chips are of one class
# How evenly another setting must spread the same chips, in classes of the same size.
SPREAD_CLASSES = 3.0

# Another setting must be right so much more often, and have at most so many of the errors.
MORE_RIGHT = 0.1
FEWER_ERRORS = 0.6
CHIPS_OF_A_CLASS = 3  # fewer of them tell nothing of a class

# float32 has no smaller number, and none nearer to 1, from which one output's first class is made.
SMALLEST = 1e-45
SMALLEST_COMPLEMENT = 6e-8


class Margins(NamedTuple):
    """How the margins of a model's values are computed.

    are_logits: whether the values are logits, no probabilities.
    is_one_output: whether the first of two classes has 1 minus the model's one output.
    """

    are_logits: bool
    is_one_output: bool

    def middle(self, values: np.ndarray) -> float:
        """Return how far the two best classes of a chip are apart, the median of the chips.

        The difference of logits, or of the logarithms of probabilities.
        """
        best = np.sort(self._logits(values), axis=1)
        return float(np.median(best[:, -1] - best[:, -2]))

    def clearness(self, values: np.ndarray) -> tuple[float, float]:
        """Return how well the model tells the chips apart, and how unsure it is of a chip.

        The first is what an answer tells of its chip (the mutual information of both), the second
        the entropy of a chip's probabilities, the mean of the chips; 1 is the entropy of classes
        that are all as probable.
        """
        logits = self._logits(values)
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities = odds / odds.sum(axis=1, keepdims=True)
        unsure = float(_entropy(probabilities).mean())
        most = np.log(values.shape[1])
        return float(_entropy(probabilities.mean(axis=0)) - unsure) / most, unsure / most

    def _logits(self, values: np.ndarray) -> np.ndarray:
        if self.are_logits:
            return values
        least = np.full(values.shape[1], SMALLEST)
        least[0] = SMALLEST_COMPLEMENT if self.is_one_output else SMALLEST
        return np.log(np.maximum(values, least))


def _entropy(shares: np.ndarray) -> np.ndarray:
    """Return the entropy of shares, (..., N), in nats."""
    return -(shares * np.log(np.maximum(shares, SMALLEST))).sum(axis=-1)


def effective_classes(classes: np.ndarray) -> float:
    """Return over how many classes of the same size the answers spread: exp of their entropy."""
    return float(np.exp(_entropy(np.unique(classes, return_counts=True)[1] / len(classes))))


def is_senseless(margin: float) -> bool:
    """Return whether a middle margin is none of a model that is fed as in training."""
    return not LEAST_MARGIN <= margin <= LARGEST_MARGIN


def is_sensible(margin: float, in_force: float) -> bool:
    """Return whether a middle margin is surely one of a model that is fed as in training.

    If the one in force is too small, or larger than that of any probabilities, it must be many
    times larger or smaller, as after a change of scale.
    """
    low, high = sorted([margin, in_force])
    is_known = in_force < LEAST_MARGIN or in_force > -np.log(SMALLEST) + 0.5
    is_far = not is_known or high >= TIMES_SURER * low
    return is_far and SENSIBLE_MARGINS[0] <= margin <= SENSIBLE_MARGINS[1]


def likely_order(pairs: np.ndarray, classes: int) -> list[int] | None:
    """Return the order of the class names with which most answers would be right.

    The cells of the confusion matrix are taken by their number of chips, the largest first, and
    each gives its column the name of its row unless one of them has been taken: where each class
    has most of its chips in one column, as after a change of names, this is the best assignment.

    Args:
        pairs: int64 (P, 3): true class, class given, number of chips.
        classes: how many there are.
    Returns:
        For each output of the model the index of the name that it should have, or None: where the
        order in force is the best one, where another does not make four of five answers right, or
        where a name that would move has too few chips.
    """
    names: dict[int, int] = {}  # output -> name
    taken: set[int] = set()
    for truth, given, _ in pairs[np.argsort(-pairs[:, 2], kind="stable")].tolist():
        if given not in names and truth not in taken:
            names[given] = truth
            taken.add(truth)
    moved = [output for output, name in names.items() if output != name]
    if not moved or set(moved) != {names[output] for output in moved}:
        return None  # not a permutation of names whose chips are known
    cells = {(truth, given): chips for truth, given, chips in pairs.tolist()}
    for output in moved:
        own = int(pairs[pairs[:, 0] == names[output], 2].sum())
        if own < 5 or cells[names[output], output] < 0.7 * own:
            return None
    order = [names.get(output, output) for output in range(classes)]
    right = sum(cells.get((order[output], output), 0) for output in range(classes))
    return order if right >= 0.8 * pairs[:, 2].sum() else None


def recalls(truths: np.ndarray, given: np.ndarray) -> list[float]:
    """Return the share of right answers for each true class that has some chips."""
    numbers, chips = np.unique(truths, return_counts=True)
    return [
        float((given[truths == number] == number).mean())
        for number in numbers[chips >= CHIPS_OF_A_CLASS]
    ]


def is_righter(reached: float, in_force: float, of_classes: Sequence[float]) -> bool:
    """Return whether another setting is right beyond chance about more chips than that in force.

    Args:
        reached, in_force: the accuracy of both.
        of_classes: what `recalls` gives for the other one. Where a single class is known, a setting
            that always says that class would be right: the one in force must be all but never.
    """
    if len(of_classes) < 2:
        return in_force < 0.35 and reached > 0.75
    errors = (1 - reached) / max(1 - in_force, 1e-9)
    mostly_right = sum(share >= 0.5 for share in of_classes) / len(of_classes)
    return reached > in_force + MORE_RIGHT and errors < FEWER_ERRORS and mostly_right >= 0.6
