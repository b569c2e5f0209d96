"""The second look at a run of the task: its classifier, its truth, and what is written of it."""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from chip_classifier.answers import NO_CLASS
from chip_classifier.classifier import Classifier, class_values
from chip_classifier.decode import Decoder
from chip_classifier.log import Warnings, log
from chip_classifier.pipeline import Pipeline
from chip_classifier.ports import NATIVE
from chip_classifier.review.final_chips import FinalChips
from chip_classifier.review.scores import Scores
from chip_classifier.second_look.chips import Asked
from chip_classifier.second_look.evidence import Margins
from chip_classifier.second_look.look import Finding, Model, SecondLook, Truth
from chip_classifier.settings import Settings
from keras_files.statistics import recall


def second_look(classifier: Classifier) -> SecondLook:
    """Begin the second look at a run with a classifier."""

    def values(x: np.ndarray) -> np.ndarray:
        return class_values(classifier.compute(x), classifier.head)

    model = Model(
        values,
        lambda: recall(classifier.opened),
        Margins(classifier.head.is_logit, classifier.outputs == 1),
        classifier.class_names,
        classifier.replicas[0].work,
    )
    settings = classifier.settings
    return SecondLook(settings.preprocessing, model, settings.ports.values == NATIVE)


def see_again(look: SecondLook, chips: FinalChips, pipeline: Pipeline) -> None:
    """Show a second look some chips if it has seen none: an earlier run has answered all."""
    if look.counts.any():
        return
    (rows,) = (chips.classes != NO_CLASS).nonzero()
    for row in rows[:: math.ceil(len(rows) / look.most_chips) or 1].tolist():
        pixels = pipeline.pixels_again(int(chips.answering[row]))
        if pixels is not None:
            look.see_again(int(chips.numbers[row]), pixels)


def truth_of(
    look: SecondLook, numbers: np.ndarray, truths: np.ndarray, scores: Scores | None
) -> Truth | None:
    """Return what a second look needs to know of the true classes of a run.

    Args:
        look: has kept some of the chips.
        numbers: of the chips that count, int (N,).
        truths: their true classes, int (N,), negative where it is unknown.
        scores: of the run, None where no true class is known.
    """
    if scores is None:
        return None
    asked = (truths >= 0) & np.isin(numbers, look.numbers)
    classes = dict(zip(numbers[asked].tolist(), truths[asked].tolist(), strict=True))
    return Truth(classes, scores.pairs)


def doubts_of_chips(decoder: Decoder, settings: Settings) -> Iterator[str]:
    """Yield warnings where the chips' files do not fit the settings."""
    bands = len(settings.preprocessing.vector)
    asked = Asked(bands, settings.ports.bands is not None, decoder.bit_depth, settings.size)
    yield from decoder.facts.doubts(asked)


def look_again(look: SecondLook, truth: Truth | None, warnings: Warnings) -> Sequence[Finding]:
    """Ask a second look what it found: for the log, as warnings, and for the page.

    It costs no answer if that fails.
    """
    findings: list[Finding] = []
    with warnings.instead_of("the second look at the settings"):
        findings = look.tell(truth)
        for finding in findings:
            log.info("Second look: %s", finding.figures)
            if finding.warning:
                warnings.add(finding.warning)
    return findings
