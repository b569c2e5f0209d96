"""What the page's tables show: classes, their certainties, reasons, answers against the truth."""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from chip_classifier.review.sample import MAX_CLASSES
from chip_classifier.review.scores import Scores

BINS = 20  # of a histogram; they divide its 200 units
MAX_REASONS = 10
MATRIX_CLASSES = 12  # of more classes the commonest confusions are listed
SHADES = 5  # of the cells of the matrix


@dataclass(frozen=True)
class Statistics:
    """Counts and certainties of the run's C classes.

    Attributes:
        counts: (C,) int.
        histograms: (C, BINS) int, in equal bins over `axis`.
        lowest: (C,) float, as `median` and `highest`; NaN for a class without chips.
        axis: (0, 1) if every certainty is a probability, otherwise the run's lowest and highest.
        probabilities: whether every certainty is from 0 to 1.
    """

    counts: np.ndarray
    histograms: np.ndarray
    lowest: np.ndarray
    median: np.ndarray
    highest: np.ndarray
    axis: tuple[float, float]
    probabilities: bool

    def by_count(self) -> np.ndarray:
        """Return class indices, the most frequent first, as many as the page has room for."""
        return np.argsort(-self.counts, kind="stable")[:MAX_CLASSES]

    def certainty(self, value: float) -> str:
        """Write a certainty as the page shows it."""
        return f"{value:.4f}" if self.probabilities else f"{value:#.4g}"


def statistics(classes: int, class_indices: np.ndarray, certainties: np.ndarray) -> Statistics:
    """Count the chips of each class, and find how their certainties are distributed.

    Args:
        classes: number of classes.
        class_indices: (N,) integers from 0 to classes - 1; N may be 0.
        certainties: (N,) floats, any finite values.
    """
    # Halved, so that the difference of two finite numbers is finite too.
    halves = np.asarray(certainties, np.float64) / 2
    low, high = (halves.min(), halves.max()) if halves.size else (0.0, 0.5)
    rounding = 1e-6  # a float32 softmax may give 1.0000001
    probabilities = bool(low >= -rounding and high <= 0.5 + rounding)
    if probabilities:
        low, high = 0.0, 0.5
    span = high - low or 1.0
    histograms = _histograms(classes, class_indices, halves, low, span)
    counts = histograms.sum(axis=1)
    ordered = halves[np.lexsort((halves, class_indices))]
    first = np.cumsum(counts) - counts
    lowest, median, highest = np.full((3, classes), np.nan)
    used = counts > 0
    first, count = first[used], counts[used]
    lowest[used] = ordered[first] * 2
    median[used] = ordered[first + (count - 1) // 2] + ordered[first + count // 2]
    highest[used] = ordered[first + count - 1] * 2
    axis = (float(low) * 2, float(high) * 2)
    return Statistics(counts, histograms, lowest, median, highest, axis, probabilities)


def _histograms(
    classes: int, class_indices: np.ndarray, halves: np.ndarray, low: float, span: float
) -> np.ndarray:
    """Count values (N,) in BINS bins from `low` to `low + span`, (classes, BINS) int.

    In place, as far as that goes: N may be millions.
    """
    places = halves - low
    places /= span
    places *= BINS
    cells = np.clip(places, 0, BINS - 1, out=places).astype(np.int32)
    del places
    cells += np.asarray(class_indices, np.int32) * BINS
    return np.bincount(cells, minlength=classes * BINS).reshape(classes, BINS)


class Chart(NamedTuple):
    """The distribution of a class's certainties: a histogram in a field of 200 x 40 units.

    Attributes:
        bars: the middle lines of the bars, as the data of an SVG path.
        lowest: the lowest certainty, as `highest` the highest.
        peak: lower and upper edge of the tallest bar; None if it has all the chips.
    """

    bars: str
    lowest: str
    highest: str
    peak: tuple[str, str] | None


class ClassRow(NamedTuple):
    """A class in the table.

    Attributes:
        index: the class index.
        name: the class's name.
        count: its chips.
        share: of all classified chips, from 0 to 1.
        length: of the bar that shows the count, from 0 to 1 for the most frequent class.
        chart: its certainties; None without chips, as `median`.
        median: of its certainties.
    """

    index: int
    name: str
    count: int
    share: float
    length: float
    chart: Chart | None
    median: str | None


class ClassTable(NamedTuple):
    """The run's classes.

    Attributes:
        rows: the most frequent classes, in that order, as many as the page has room for.
        classes: number of all classes.
        used: number of those with chips.
        classified: number of chips in all classes.
        axis: where the charts begin and end.
        low, high: the same as numbers.
        probabilities: whether every certainty is from 0 to 1.
    """

    rows: list[ClassRow]
    classes: int
    used: int
    classified: int
    axis: tuple[str, str]
    low: float
    high: float
    probabilities: bool


def class_table(names: Sequence[str], classes: Statistics) -> ClassTable:
    """Return the run's classes as the page shows them.

    Args:
        names: class names, in the order of the model's outputs.
        classes: counts and certainties.
    """
    return ClassTable(
        rows=[class_row(index, names[index], classes) for index in classes.by_count().tolist()],
        classes=len(names),
        used=np.count_nonzero(classes.counts),
        classified=int(classes.counts.sum()),
        axis=("0", "1") if classes.probabilities else tuple(map(classes.certainty, classes.axis)),
        low=classes.axis[0],
        high=classes.axis[1],
        probabilities=classes.probabilities,
    )


def class_row(index: int, name: str, classes: Statistics) -> ClassRow:
    """Return a class as the table shows it."""
    count = int(classes.counts[index])
    if not count:
        return ClassRow(index, name, 0, 0.0, 0.0, None, None)
    return ClassRow(
        index,
        name,
        count,
        share=count / classes.counts.sum(),
        length=count / classes.counts.max(),
        chart=chart(index, classes),
        median=classes.certainty(classes.median[index]),
    )


def chart(class_index: int, classes: Statistics) -> Chart:
    """Draw the distribution of the certainties of a class that has chips."""
    histogram = classes.histograms[class_index]
    # Every chip counts: no bar with a chip in it is lower than 2 units.
    heights = np.where(histogram, np.maximum(2, 40 * histogram / histogram.max()), 0)
    step = 200 // BINS
    peak = None
    if histogram.max() < histogram.sum():
        edges = np.linspace(*classes.axis, BINS + 1)[histogram.argmax() + np.arange(2)]
        peak = tuple(f"{edge:.3g}" for edge in edges)
    return Chart(
        bars="".join(
            f"M{step * index + step // 2} 40v-{height:.0f}"
            for index, height in enumerate(heights.tolist())
            if height
        ),
        lowest=classes.certainty(classes.lowest[class_index]),
        highest=classes.certainty(classes.highest[class_index]),
        peak=peak,
    )


class Reasons(NamedTuple):
    """Why chips were not classified.

    Attributes:
        chips: number of all these chips.
        commonest: (reason, chips) of the commonest reasons.
        others: number of all other reasons.
        chips_of_others: number of their chips.
    """

    chips: int
    commonest: list[tuple[str, int]]
    others: int
    chips_of_others: int


def reasons(unclassified: Mapping[str, int]) -> Reasons:
    """Return the commonest reasons, of reason -> number of chips."""
    commonest = heapq.nlargest(MAX_REASONS, unclassified.items(), key=lambda item: item[1])
    chips = sum(unclassified.values())
    return Reasons(
        chips,
        commonest,
        others=len(unclassified) - len(commonest),
        chips_of_others=chips - sum(count for _, count in commonest),
    )


class TruthRow(NamedTuple):
    """How right the answers for a class are; a share is None where it has no chips."""

    index: int
    name: str
    chips: int
    precision: str | None
    recall: str | None
    f1: str | None


class MatrixCell(NamedTuple):
    """A cell of the confusion matrix: its chips, and a shade from 0 to SHADES by their share of the
    true class."""

    truth: int
    given: int
    chips: int
    shade: int


class TruthTable(NamedTuple):
    """The run against the truth.

    rows: the classes concerned, those with most chips first, as many as the page has room for.
    classes: number of all classes concerned.
    matrix: a row of cells for each of `rows`; None if they are too many.
    """

    rows: list[TruthRow]
    classes: int
    matrix: list[list[MatrixCell]] | None


def truth_table(scores: Scores, names: Sequence[str]) -> TruthTable:
    """Return the run against the truth, as the page shows it.

    Args:
        scores: of the run.
        names: class names, in the order of the model's outputs.
    """

    def share(value: float) -> str | None:
        return None if np.isnan(value) else f"{value:.1%}"

    (concerned,) = (~np.isnan(scores.f1)).nonzero()
    order = concerned[np.argsort(-scores.of_class[concerned], kind="stable")].tolist()
    rows = [
        TruthRow(
            index,
            names[index],
            int(scores.of_class[index]),
            *(share(part[index]) for part in (scores.precision, scores.recall, scores.f1)),
        )
        for index in order[:MAX_CLASSES]
    ]
    if len(order) > MATRIX_CLASSES:
        return TruthTable(rows, len(order), None)
    chips = {(truth, given): number for truth, given, number in scores.pairs.tolist()}
    return TruthTable(
        rows,
        len(order),
        [
            [
                MatrixCell(truth, given, number, -(-number * SHADES // max(total, 1)))
                for given in order
                for number in [chips.get((truth, given), 0)]
            ]
            for truth in order
            for total in [scores.of_class[truth].item()]
        ],
    )
