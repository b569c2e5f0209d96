"""How right the answers are, where the chips' true classes are known.

Pure functions of class indices. The confusion matrix has a row for each true class and a column for
each class that the model gave; accuracy, precision, recall and F1 follow from it (as in
scikit-learn's precision_recall_fscore_support).
"""

import posixpath
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

NO_TRUTH = -1
MOST_LOGGED = 100  # classes, and confusions, in out.log
# Those of which chips are named.
MOST_CONFUSIONS = 50
CHIPS_PER_CONFUSION = 12


class Scores(NamedTuple):
    """How right the answers for N chips with a known class are, for C classes.

    pairs: int64 (P, 3): true class, class given, number of chips; the cells of the confusion matrix
        that hold chips, row by row.
    of_class: int64 (C,): chips of each class.
    accuracy: the share of right answers, 0 to 1.
    precision: float64 (C,): of the chips that got the class, the share that is of it.
    recall: float64 (C,): of the chips of the class, the share that got it.
    f1: float64 (C,): the harmonic mean of precision and recall.

    A share of no chips is NaN; F1 is 0 where there are chips and none is right.
    """

    pairs: np.ndarray
    of_class: np.ndarray
    accuracy: float
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray

    @property
    def chips(self) -> int:
        """Number of chips compared."""
        return int(self.of_class.sum())

    @property
    def right(self) -> int:
        """Number of right answers."""
        return int(self.pairs[self.pairs[:, 0] == self.pairs[:, 1], 2].sum())

    def confusions(self) -> np.ndarray:
        """Return the pairs of different classes, int64 (Q, 3), the commonest first."""
        wrong = self.pairs[self.pairs[:, 0] != self.pairs[:, 1]]
        return wrong[np.argsort(-wrong[:, 2], kind="stable")]


def score(truths: np.ndarray, given: np.ndarray, classes: int) -> Scores | None:
    """Compare answers with the truth.

    Args:
        truths: the chips' true classes, integers (N,), 0 to classes - 1, or NO_TRUTH.
        given: the classes that the model gave, integers (N,); negative for a chip without one.
        classes: how many there are.
    Returns:
        The scores of the chips that have both; None if there is no such chip.
    """
    both = (truths >= 0) & (given >= 0)
    if not both.any():
        return None
    # Few of all the cells hold chips where there are many classes.
    cells, chips = np.unique(truths[both].astype(np.int64) * classes + given[both], return_counts=1)
    pairs = np.column_stack([cells // classes, cells % classes, chips])
    is_right = pairs[:, 0] == pairs[:, 1]
    of_class, answered, right = (
        np.bincount(index, weights, classes).astype(np.int64)
        for index, weights in (
            (pairs[:, 0], chips),
            (pairs[:, 1], chips),
            (pairs[is_right, 0], chips[is_right]),
        )
    )
    return Scores(
        pairs,
        of_class,
        accuracy=float(right.sum() / chips.sum()),
        precision=_share(right, answered),
        recall=_share(right, of_class),
        f1=_share(2 * right, of_class + answered),
    )


class Mistakes(NamedTuple):
    """Chips of one class that got another one.

    truth, given: class indices; chips: how many.
    rows: of some of them, the most certain first.
    """

    truth: int
    given: int
    chips: int
    rows: list[int]


def mistakes(
    scores: Scores, truths: np.ndarray, given: np.ndarray, certainties: np.ndarray
) -> list[Mistakes]:
    """Return the commonest confusions, each with some of its chips.

    Args:
        scores: of the run.
        truths, given: as for `score`.
        certainties: of the answers, floats (N,).
    """
    found = []
    for truth, answer, chips in scores.confusions()[:MOST_CONFUSIONS].tolist():
        (rows,) = ((truths == truth) & (given == answer)).nonzero()
        rows = rows[np.argsort(-certainties[rows], kind="stable")][:CHIPS_PER_CONFUSION]
        found.append(Mistakes(truth, answer, chips, rows.tolist()))
    return found


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Divide counts (C,); NaN where the whole is 0."""
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)


def class_finder(class_names: Sequence[str]) -> Callable[[str], int | None]:
    """Return what finds the index of a class by its name, None if it is none of them.

    Without regard to case, blanks, _ and -, unless that would make two of the classes one.
    """
    exact = {name: index for index, name in enumerate(class_names)}
    folded = Counter(map(_folded, class_names))
    loose = {_folded(name): index for name, index in exact.items() if folded[_folded(name)] == 1}
    loose.pop("", None)
    return lambda name: exact.get(name.strip(), loose.get(_folded(name)))


def _folded(name: str) -> str:
    """Return the name of a class without what writers differ in."""
    return re.sub(r"[\s_-]+", "", unicodedata.normalize("NFC", name).casefold())


def truths_of_folders(
    paths: Iterable[str], chips: int, class_names: Sequence[str]
) -> np.ndarray | None:
    """Take the true classes from the chips' folders: chips/<class>/x.jpg.

    Args:
        paths: of the N chips in the archive.
        chips: N.
        class_names: in the order of the model's outputs, all different.
    Returns:
        Class indices, int32 (N,), or None unless the folders' names are the classes: all of them,
        and no others.
    """
    find = cache(class_finder(class_names))
    truths = np.full(chips, NO_TRUTH, np.int32)
    for number, path in enumerate(paths):
        truth = find(posixpath.basename(posixpath.dirname(path)))
        if truth is None:
            return None
        truths[number] = truth
    return truths if len(np.unique(truths)) == len(class_names) else None


def headline(scores: Scores, source: str, strange: int) -> str | None:
    """Write the accuracy in a line, for the terminal.

    Args:
        scores: of the run.
        source: where the truth is from.
        strange: how many true classes are none of the model's.
    Returns:
        The line; None where only one class remains of several: to have answered it says little.
    """
    if strange and np.count_nonzero(scores.of_class) == 1:
        return None
    which = " whose true class the model has" if strange else ""
    shown = scores.accuracy if scores.right == scores.chips else min(scores.accuracy, 0.999)
    return (
        f"Accuracy: {shown:.1%} ({scores.right:,} of {scores.chips:,} chips{which}, "
        f"truth from {source})"
    )


def lines_of_scores(scores: Scores, class_names: Sequence[str], source: str) -> Iterator[str]:
    """Write scores for out.log, a line each; of many classes those that have the most chips.

    Args:
        scores: of the run.
        class_names: in the order of the model's outputs.
        source: where the truth is from.
    """
    yield (
        f"accuracy {scores.accuracy:.4f}: {scores.right:,} of {scores.chips:,} chips are right "
        f"(truth from {source})"
    )
    concerned = (~np.isnan(scores.f1)).nonzero()[0]
    order = np.argsort(-scores.of_class[concerned], kind="stable")
    for index in concerned[order][:MOST_LOGGED].tolist():
        yield (
            f"class '{class_names[index]}': {scores.of_class[index]:,} chips, precision "
            f"{scores.precision[index]:.4f}, recall {scores.recall[index]:.4f}, F1 "
            f"{scores.f1[index]:.4f}"
        )
    for truth, given, chips in scores.confusions()[:MOST_LOGGED].tolist():
        yield f"{chips:,} of class '{class_names[truth]}' got '{class_names[given]}'"
