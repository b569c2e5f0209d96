"""Truth: the scores, against counting by hand, and the truth that folders' names tell."""

import math

import numpy as np
import pytest

from chip_classifier.review.scores import (
    NO_TRUTH,
    Scores,
    class_finder,
    headline,
    lines_of_scores,
    score,
    truths_of_folders,
)


def count_by_hand(truths: list[int], given: list[int], label: int) -> tuple[float, float, float]:
    """Return precision, recall and F1 of a class by their definitions, chip by chip."""
    pairs = [(t, g) for t, g in zip(truths, given, strict=True) if t >= 0 and g >= 0]
    hits = sum(t == label and g == label for t, g in pairs)
    got = sum(g == label for _, g in pairs)
    are = sum(t == label for t, _ in pairs)
    precision = hits / got if got else math.nan
    recall = hits / are if are else math.nan
    # The harmonic mean by way of false positives and negatives.
    f1 = hits / (hits + (got - hits + are - hits) / 2) if got + are else math.nan
    return precision, recall, f1


@pytest.mark.parametrize("classes", [2, 5, 40])
def test_scores_are_those_counted_by_hand(classes: int) -> None:
    rng = np.random.default_rng(classes)
    truths = rng.integers(-1, classes - 1, 300)  # no chip of the last class
    given = np.where(rng.random(300) < 0.6, truths, rng.integers(-1, classes, 300))
    found = score(truths, given, classes)
    expected = [count_by_hand(truths.tolist(), given.tolist(), label) for label in range(classes)]
    columns = np.column_stack([found.precision, found.recall, found.f1])
    assert np.allclose(columns, expected, rtol=1e-12, equal_nan=True)
    both = (truths >= 0) & (given >= 0)
    assert found.chips == both.sum()
    assert found.right == (truths == given)[both].sum()
    assert found.accuracy == pytest.approx(found.right / found.chips, rel=1e-12)
    for truth, answer, chips in found.pairs.tolist():
        assert chips == ((truths == truth) & (given == answer)).sum() > 0
    assert found.pairs[:, 2].sum() == found.chips


def small_scores() -> Scores:
    """Scores of 10 chips: 4 of 6 Water are right, 2 got Land; all of 3 Land, 1 of Ice got Land."""
    truths = np.array([0] * 6 + [1] * 3 + [2])
    given = np.array([0] * 4 + [1] * 2 + [1] * 3 + [1])
    return score(truths, given, 4)


def test_scores_of_a_small_run() -> None:
    found = small_scores()
    assert found.accuracy == 0.7
    assert found.precision[:2].tolist() == [1, 0.5]
    assert found.recall[:3].tolist() == pytest.approx([4 / 6, 1, 0])
    assert found.f1[:3].tolist() == pytest.approx([0.8, 2 / 3, 0])
    assert math.isnan(found.precision[2])  # no chip got it
    assert np.isnan([found.precision[3], found.recall[3], found.f1[3]]).all()
    assert found.confusions().tolist() == [[0, 1, 2], [2, 1, 1]]


def test_lines_for_the_log() -> None:
    assert list(
        lines_of_scores(small_scores(), ["Water", "Land", "Ice", "Fog"], "ref.geojson")
    ) == [
        "accuracy 0.7000: 7 of 10 chips are right (truth from ref.geojson)",
        "class 'Water': 6 chips, precision 1.0000, recall 0.6667, F1 0.8000",
        "class 'Land': 3 chips, precision 0.5000, recall 1.0000, F1 0.6667",
        "class 'Ice': 1 chips, precision nan, recall 0.0000, F1 0.0000",
        "2 of class 'Water' got 'Land'",
        "1 of class 'Ice' got 'Land'",
    ]


def test_headline_says_of_which_chips_it_is() -> None:
    two = score(np.array([0, 1, 1]), np.array([0, 1, 0]), 2)
    assert headline(two, "t.geojson", 0) == "Accuracy: 66.7% (2 of 3 chips, truth from t.geojson)"
    assert "(2 of 3 chips whose true class the model has, truth" in headline(two, "t.geojson", 5)
    one = score(np.array([1, 1]), np.array([1, 1]), 2)
    assert headline(one, "t", 0) == "Accuracy: 100.0% (2 of 2 chips, truth from t)"
    assert headline(one, "t", 1) is None
    nearly = score(np.zeros(10_000, int), (np.arange(10_000) == 7).astype(int), 2)
    assert headline(nearly, "t", 0).startswith("Accuracy: 99.9% (9,999 of 10,000 chips")


def test_nothing_to_compare() -> None:
    assert score(np.array([0, NO_TRUTH]), np.array([-1, 0]), 2) is None


def test_memory_does_not_grow_with_the_square_of_the_classes() -> None:
    found = score(np.arange(200_000), np.arange(200_000)[::-1], 200_000)
    assert found.chips == 200_000
    assert found.right == 0


@pytest.mark.parametrize(
    ("classes", "names", "expected"),
    [
        (["Open Water", "b"], ["Open Water", "open_water", "OPEN-WATER ", "openwater"], [0] * 4),
        (["Open Water", "b"], ["Open", "Waters", "", " ", "c"], [None] * 5),
        # Where it would make two classes one, the name must be theirs.
        (["a_b", "a-b", "C"], ["a_b", "a-b", "ab", "a b", "c"], [0, 1, None, None, 2]),
        (["Wald", "wald"], ["wald", "WALD"], [1, None]),
        (["Stra\u00dfe", "Geb\u00e4ude"], ["STRASSE", "Geba\u0308ude"], [0, 1]),
        (["-", "b"], ["", "_", "-"], [None, None, 0]),
    ],
)
def test_classes_are_found_as_people_write_them(
    classes: list[str], names: list[str], expected: list[int | None]
) -> None:
    assert list(map(class_finder(classes), names)) == expected


@pytest.mark.parametrize(
    ("paths", "truths"),
    [
        (["chips/a/1.jpg", "chips/b/1.jpg", "chips/a/2.jpg"], [0, 1, 0]),
        (["a/1.jpg", "b/1.jpg"], [0, 1]),
        (["chips/2020/b/1.jpg", "chips/2021/a/1.jpg"], [1, 0]),
        (["chips/a/1.jpg", "chips/a/2.jpg"], None),  # b may be another name of theirs
        (["chips/a/1.jpg", "chips/b/1.jpg", "chips/c/1.jpg"], None),
        (["chips/a/1.jpg", "chips/b/1.jpg", "chips/1.jpg"], None),
        (["chips/A/1.jpg", "chips/b/1.jpg", "chips/ a_/1.jpg"], [0, 1, 0]),
        (["a.jpg", "b.jpg"], None),
        ([], None),
    ],
)
def test_truth_of_folders(paths: list[str], truths: list[int] | None) -> None:
    found = truths_of_folders(iter(paths), len(paths), ["a", "b"])
    assert (found if found is None else found.tolist()) == truths
