"""The second look at a run: what it saw, and what that tells of the settings."""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from chip_classifier.answers import NO_CLASS, AnsweredBatch
from chip_classifier.class_names import write_classes
from chip_classifier.preprocessing import Preprocessing
from chip_classifier.second_look import evidence, memory
from chip_classifier.second_look.alternatives import (
    Alternative,
    alternatives,
    name_in_force,
    prepare,
    spread,
)
from chip_classifier.second_look.trial import MOST_CHIPS, Trial, affordable, race
from keras_files.statistics import Memory

MOST_BYTES = 2**26  # of the chips that are kept
PIXELS_AT_A_TIME = 16 * 224 * 224  # to the layers before the first normalization

AS_NEAR = 2.0  # times the distance of the nearest setting: the other one may be it, too

LEAST_REMEMBERED = 16  # chips to compare with what the model remembers

SAME_SCALE = 10  # times: tf, torch and zero_to_one are of the same scale, caffe and none, too

LEAST_FRESH = 12  # chips to tell whether they are of several classes

# Where so many of the chips with a known class are right, nothing else can be wrong by much.
RIGHT_ENOUGH = 0.85
SURELY_RIGHT = 0.75  # a setting with which fewer are right may be wrong itself


class Finding(NamedTuple):
    """Something that was looked at.

    figures: what was found, with its figures.
    warning: what is wrong and what to set, or None where nothing seems to be.
    """

    figures: str
    warning: str | None = None

    @property
    def line(self) -> str:
        """The figures as a line of the page."""
        verdict = "see the warning" if self.warning else "nothing to object"
        return f"{self.figures[:1].upper()}{self.figures[1:]}: {verdict}."


class Truth(NamedTuple):
    """The true classes of a run's chips, where they are known.

    classes: chip number -> class index, of those chips in the sample that have one.
    pairs: int64 (P, 3): true class, class given, number of chips; of the whole run.
    """

    classes: Mapping[int, int]
    pairs: np.ndarray


class Model(NamedTuple):
    """What the second look asks of the model.

    values: float32 (N, rows, columns, bands), as the model gets them -> float64 (N, classes).
    recall: what it remembers of its training, or None.
    margins: how sure its values are.
    class_names: in the order of the outputs.
    work: multiplications that a chip takes.
    """

    values: Callable[[np.ndarray], np.ndarray]
    recall: Callable[[], Memory | None]
    margins: evidence.Margins
    class_names: tuple[str, ...]
    work: float = 0.0


class SecondLook:
    """Keeps some chips of a run, spread over it, and tells at its end what they mean.

    counts: int64 (classes,), the chips of each class in this run.
    numbers: of the chips that are kept, int64 (N,).
    pixels: of the chips that are kept, each (rows, columns, bands).
    """

    def __init__(self, in_force: Preprocessing, model: Model, is_native: bool = False) -> None:
        """Begin.

        Args:
            in_force: what the model gets.
            model: the model.
            is_native: whether the pixels are the numbers of the files, instead of 0 to 255.
        """
        self._in_force, self._model = in_force, model
        self._others = list(alternatives(in_force, is_native))
        classes = len(model.class_names)
        self.counts = np.zeros(classes, np.int64)
        self.numbers = np.empty(0, np.int64)
        self._keys = np.empty(0)
        self.pixels: list[np.ndarray] = []
        self._values = np.empty((0, classes))
        # What the model remembers tells more than how sure it is: what is no nearer is left out.
        # And the order of the bands changes little of how sure it is.
        self._worth_trying = [other for other in self._others if not other.reverses]
        self._affordable = MOST_CHIPS

    def see(self, batch: AnsweredBatch) -> None:
        """Take some chips of a batch into the sample, in the place of earlier ones.

        Every chip of the run has the same chance; which ones stay depends on their numbers alone.
        """
        if batch.pixels is None or batch.values is None:
            return
        rows = np.flatnonzero(np.asarray(batch.classes) != NO_CLASS)
        self.counts += np.bincount(batch.values.argmax(axis=1), minlength=len(self.counts))
        keys = np.random.default_rng(batch.first).random(len(rows))
        most = min(MOST_CHIPS, max(1, MOST_BYTES // batch.pixels[0].nbytes))
        all_keys, old = np.concatenate([self._keys, keys]), len(self._keys)
        kept = np.sort(np.argsort(all_keys, kind="stable")[:most])
        self.pixels = [
            self.pixels[row] if row < old else batch.pixels[row - old].copy()
            for row in kept.tolist()
        ]
        self._keys = all_keys[kept]
        self.numbers = np.concatenate([self.numbers, batch.first + rows])[kept]
        self._values = np.concatenate([self._values, batch.values])[kept]

    @property
    def most_chips(self) -> int:
        """How many chips it is worth to see once more if it has seen none."""
        return max(LEAST_REMEMBERED, affordable(0, self._model.work))

    def see_again(self, number: int, pixels: np.ndarray) -> None:
        """Take a chip that an earlier run has answered, (rows, columns, bands)."""
        values = self._model.values(prepare(pixels[None], self._in_force))
        if np.isfinite(values).all():
            given = values.argmax(axis=1).tolist()
            self.see(AnsweredBatch(number, given, [], pixels=pixels[None], values=values))

    def tell(self, truth: Truth | None = None) -> list[Finding]:
        """Return what was looked at and found; at most one warning on the preprocessing."""
        if not len(self.numbers):
            return []
        self._affordable = affordable(int(self.counts.sum()), self._model.work)
        findings = []
        if truth is not None:
            findings.append(self._judge_names(truth))
            accuracy = _accuracy(truth.pairs)
            is_right = accuracy >= RIGHT_ENOUGH and truth.pairs[:, 2].sum() >= evidence.LEAST_CHIPS
            if is_right or findings[0].warning:
                return findings  # whatever else it looks like
        recalled = self._model.recall() if len(self.numbers) >= LEAST_REMEMBERED else None
        for judge, known in ((self._judge_memory, recalled), (self._judge_truth, truth)):
            if finding := judge(known):
                findings.append(finding)
                if finding.warning:
                    return findings
        if self._worth_trying:
            findings += filter(None, [self._judge_answers()])
        return findings

    def _judge_names(self, truth: Truth) -> Finding:
        """Tell whether the class names are in another order than in the training."""
        chips = int(truth.pairs[:, 2].sum())
        accuracy = _accuracy(truth.pairs)
        figures = f"{accuracy:.1%} of {chips:,} chips with a known class are right"
        order = evidence.likely_order(truth.pairs, len(self._model.class_names))
        if order is None or chips < 20:
            return Finding(figures)
        names = write_classes([self._model.class_names[name] for name in order])
        moved = {output: name for output, name in enumerate(order)}
        right = sum(n for true, given, n in truth.pairs.tolist() if moved[given] == true) / chips
        return Finding(
            figures,
            f"The class names seem to be in another order than in the training: {figures}, but "
            f"{right:.1%} would be with the port classes set to '{names}'.",
        )

    def _judge_memory(self, recalled: Memory | None) -> Finding | None:
        """Compare the chips with what the model's first normalization saw in training."""
        if recalled is None:
            return None
        in_force = self._distance(recalled, self._in_force)
        figures = (
            f"what reaches {recalled.layer} is at a distance of {in_force:,.2f} from what it saw "
            "in training (0: the same)"
        )
        if not memory.is_doubtful(in_force):
            self._worth_trying = []
            return Finding(figures)
        others = [self._distance(recalled, other.preprocessing) for other in self._others]
        self._worth_trying = [
            other
            for other, its in zip(self._others, others, strict=True)
            if its < in_force and not other.reverses
        ]
        classes = evidence.effective_classes(self._values.argmax(axis=1))
        places = memory.nearer(in_force, others, memory.times_nearer(classes, recalled.is_sure))
        if not places:
            return Finding(figures)
        best, *further = places
        near = [place for place in further if others[place] < AS_NEAR * others[best]]
        found = [f"with {self._others[n].name} it is {others[n]:,.2f}" for n in (best, *near)]
        advice = self._others[best].advice
        if near:
            advice = f"look which of them it was in the training, and {advice}"
        return Finding(
            figures,
            f"The chips do not look to the model as in its training: with "
            f"{name_in_force(self._in_force)} {figures}, {', '.join(found)}: {advice}, if the "
            "model was trained so.",
        )

    def _distance(self, recalled: Memory, preprocessing: Preprocessing) -> float:
        """Return how far the sample is from the training with some preprocessing."""
        pixels = self.pixels[: max(LEAST_REMEMBERED, self._affordable)]
        at_a_time = max(1, PIXELS_AT_A_TIME // math.prod(pixels[0].shape[:2]))
        moments = [
            recalled.compute(prepare(np.stack(pixels[i : i + at_a_time]), preprocessing))
            for i in range(0, len(pixels), at_a_time)
        ]
        return memory.distance(np.concatenate(moments), recalled)

    def _judge_truth(self, truth: Truth | None) -> Finding | None:
        """Try the other settings on chips whose class is known, right ones and wrong ones."""
        if truth is None or truth.pairs[:, 2].sum() < evidence.LEAST_CHIPS:
            return None
        classes = np.array([truth.classes.get(number, -1) for number in self.numbers.tolist()])
        is_right = classes == self._values.argmax(axis=1)
        wrong = np.flatnonzero(~is_right & (classes >= 0))
        right = np.flatnonzero(is_right & (classes >= 0))
        accuracy = _accuracy(truth.pairs)

        def estimate(values: np.ndarray, rows: np.ndarray) -> float:
            """Return how many of all chips a setting is right about, by some of them."""
            now_right = values.argmax(axis=1) == classes[rows]
            was_right = is_right[rows]
            parts = ((was_right, accuracy), (~was_right, 1 - accuracy))
            return sum(now_right[part].mean() * share for part, share in parts if part.any())

        # Where one class for all would be as right as that, something is surely wrong.
        most = MOST_CHIPS if accuracy <= _largest_class(truth.pairs) else self._affordable
        trial = self._race(
            self._others,
            _alternate(wrong, right)[:most],
            lambda values, rows: estimate(values, rows) - accuracy,
        )
        if trial is None:
            return None
        reached = estimate(trial.values, trial.rows)
        other = trial.best
        figures = (
            f"{accuracy:.0%} of the chips with a known class are right; {other.name} would be "
            f"right about {reached:.0%} of them, by {len(trial.rows)} that were tried"
        )
        recalls = evidence.recalls(classes[trial.rows], trial.values.argmax(axis=1))
        if not evidence.is_righter(reached, accuracy, recalls):
            return Finding(figures)
        advice = f"{other.advice}, if the model was trained so"
        if reached < SURELY_RIGHT:
            advice = f"look what the model was trained with, maybe {other.name}"
        return Finding(figures, f"With {name_in_force(self._in_force)} {figures}: {advice}.")

    def _judge_answers(self) -> Finding | None:
        """Try the other settings where the answers cannot be those of a model that is fed right."""
        chips = int(self.counts.sum())
        if chips < evidence.LEAST_CHIPS:
            return None
        margin = self._model.margins.middle(self._values)
        share = self.counts.max() / chips
        figures = (
            f"{share:.1%} of the chips are of one class; the two best classes of a chip differ by "
            f"a factor of {_factor(margin)} in the middle"
        )
        if evidence.is_senseless(margin):
            trial = self._try_other_scales(margin)
        else:
            trial = self._try_to_be_surer(share)
        return Finding(figures, self._say(figures, trial) if trial else None)

    def _try_other_scales(self, margin: float) -> Trial | None:
        """Try other settings where the model is surer than any, or as unsure.

        The pixels have to be nearer to each other then, or farther apart.
        """
        own, is_unsure = spread(self._in_force), margin < evidence.LEAST_MARGIN
        others = [
            other
            for other in self._worth_trying
            if (spread(other.preprocessing) > own) == is_unsure
        ]

        def rate(values: np.ndarray, _: np.ndarray) -> float:
            sensible = evidence.is_sensible(self._model.margins.middle(values), margin)
            return sensible * evidence.effective_classes(values.argmax(axis=1))

        trial = self._race(others, np.arange(len(self.numbers))[: self._affordable], rate, 1)
        return trial if trial and rate(trial.values, trial.rows) > 0 else None

    def _try_to_be_surer(self, share: float) -> Trial | None:
        """Try other settings where another one may tell the chips apart much better.

        Args:
            share: of the largest class.
        """
        margins = self._model.margins
        if margins.clearness(self._values)[0] > 1 - evidence.CLEARER:
            return None

        def rate(values: np.ndarray, rows: np.ndarray) -> float:
            low, high = evidence.SENSIBLE_MARGINS
            sensible = low <= margins.middle(values) <= high
            clearer = margins.clearness(values)[0] - margins.clearness(self._values[rows])[0]
            return sensible * clearer

        rows = np.arange(len(self.numbers))[: self._affordable]
        trial = self._race(self._worth_trying, rows, rate)
        if trial is None:
            return None
        own, its = (margins.clearness(v) for v in (self._values[trial.rows], trial.values))
        # Values that are many times larger make any model surer.
        times = spread(trial.best.preprocessing) / spread(self._in_force)
        is_clearer = its[0] - own[0] > evidence.CLEARER and its[1] < own[1] and times < SAME_SCALE
        spreads = evidence.effective_classes(trial.values.argmax(axis=1)) > evidence.SPREAD_CLASSES
        sensible = rate(trial.values, trial.rows) > 0
        if sensible and (is_clearer or spreads and share >= evidence.ONE_CLASS):
            return trial
        return None

    def _say(self, figures: str, trial: Trial) -> str:
        """Return the warning for answers that another setting makes sensible."""
        other = trial.best
        classes = len(np.unique(trial.values.argmax(axis=1)))
        said = (
            f"The answers are hardly those of a model that is fed as in its training: with "
            f"{name_in_force(self._in_force)} {figures}. With {other.name} that factor is "
            f"{_factor(self._model.margins.middle(trial.values))}"
        )
        if classes == 1:
            return (
                f"{said}: look whether the port preprocessing is that of the training, and "
                "whether the model was trained to its end."
            )
        also = " and ".join(rival.name for rival in trial.rivals)
        also = f" ({also} did nearly as well)" if also else ""
        return (
            f"{said}, and {len(trial.rows)} chips that were tried fall into {classes} classes: "
            f"{other.advice}, if the model was trained so{also}."
        )

    def _race(
        self,
        others: list[Alternative],
        rows: np.ndarray,
        rate: Callable[[np.ndarray, np.ndarray], float],
        least: int = LEAST_FRESH,
    ) -> Trial | None:
        """Try other settings on chips of the sample."""

        def compute(other: Alternative, chosen: np.ndarray) -> np.ndarray:
            pixels = np.stack([self.pixels[row] for row in chosen.tolist()])
            return self._model.values(prepare(pixels, other.preprocessing))

        return race(others, rows, compute, rate, least)


def _accuracy(pairs: np.ndarray) -> float:
    """Return the share of right answers of a confusion matrix's cells."""
    return float(pairs[pairs[:, 0] == pairs[:, 1], 2].sum() / pairs[:, 2].sum())


def _largest_class(pairs: np.ndarray) -> float:
    """Return the share of the largest true class."""
    return float(np.bincount(pairs[:, 0], weights=pairs[:, 2]).max() / pairs[:, 2].sum())


def _alternate(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return rows of both in turn, as long as both have some, then those that are left."""
    both = min(len(first), len(second))
    turns = np.column_stack([first[:both], second[:both]]).ravel()
    return np.concatenate([turns, first[both:], second[both:]])


def _factor(margin: float) -> str:
    """Write the ratio of the two best classes, of which the logarithm is given."""
    return f"{np.exp(margin):.3g}" if margin < 12 else f"10^{margin / np.log(10):.0f}"
