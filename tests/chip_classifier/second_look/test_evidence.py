"""What answers tell: margins, names in another order, another setting that is right more often."""

import math

import numpy as np
import pytest

from chip_classifier.second_look.evidence import (
    Margins,
    effective_classes,
    is_righter,
    is_senseless,
    is_sensible,
    likely_order,
    recalls,
)


def test_margin_is_the_middle_ratio_of_the_two_best_classes() -> None:
    values = np.array([[0.8, 0.1, 0.1], [0.2, 0.2, 0.6], [0.9, 0.05, 0.05]])
    assert Margins(False, False).middle(values) == pytest.approx(math.log(8))
    assert Margins(True, False).middle(np.array([[5.0, -3.0]])) == 8
    # One output of 1: its complement is not 0, but less than float32 tells.
    assert Margins(False, True).middle(np.array([[0.0, 1.0]])) == pytest.approx(16.6, abs=0.1)
    assert Margins(False, False).middle(np.array([[0.0, 1.0]])) > 100


@pytest.mark.parametrize(
    ("margin", "senseless"), [(0.05, True), (2, False), (35, False), (90, True)]
)
def test_a_model_is_neither_unsure_nor_surer_than_any(margin: float, senseless: bool) -> None:
    assert is_senseless(margin) == senseless


def test_clearness_is_what_an_answer_tells_of_its_chip() -> None:
    margins = Margins(False, False)
    assert margins.clearness(np.eye(4)) == pytest.approx((1, 0))  # each chip another class
    assert margins.clearness(np.eye(4)[[0, 0, 0]]) == pytest.approx((0, 0))
    assert margins.clearness(np.full((3, 4), 0.25)) == pytest.approx((0, 1))
    assert margins.clearness(np.eye(4)[[0, 1]]) == pytest.approx((0.5, 0))
    logits = Margins(True, False)
    assert logits.clearness(np.array([[0.0, 0], [90, 0]]))[1] == pytest.approx(0.5)


def test_another_setting_is_sensible_where_its_scale_is_another_one() -> None:
    assert is_sensible(8, in_force=0.1)
    assert not is_sensible(2, in_force=0.3)  # as two settings of a model of few epochs
    assert not is_sensible(60, in_force=0.1)
    assert is_sensible(8, in_force=90)


def test_effective_classes_are_those_of_the_same_size() -> None:
    assert effective_classes(np.array([0, 1, 2, 3] * 5)) == pytest.approx(4)
    assert effective_classes(np.zeros(9, int)) == 1


def pairs(matrix: list[list[int]]) -> np.ndarray:
    """Return the cells of a confusion matrix that hold chips: true class, class given, chips."""
    matrix = np.array(matrix)
    return np.column_stack([*np.nonzero(matrix), matrix[np.nonzero(matrix)]])


@pytest.mark.parametrize(
    ("matrix", "order"),
    [
        ([[0, 20, 1], [1, 0, 20], [20, 1, 0]], [2, 0, 1]),  # output 0 gets the chips of class 2
        ([[1, 20, 0], [20, 1, 0], [0, 0, 20]], [1, 0, 2]),
        ([[20, 1, 1], [1, 20, 1], [1, 1, 20]], None),
        ([[20, 0, 0], [18, 2, 0], [0, 0, 20]], None),  # one class is mistaken for another one
        ([[1, 20, 0], [9, 8, 4], [0, 0, 20]], None),
        ([[0, 3, 0], [3, 0, 0], [0, 0, 90]], None),  # of too few chips
    ],
)
def test_names_in_another_order(matrix: list[list[int]], order: list[int] | None) -> None:
    assert likely_order(pairs(matrix), 3) == order


def test_another_setting_is_righter_beyond_chance_and_in_most_classes() -> None:
    assert is_righter(0.95, 0.5, [1, 0.9, 0.8])
    assert not is_righter(0.56, 0.5, [1, 0.9, 0.8])
    assert not is_righter(0.95, 0.5, [1, 0.1])  # it says one class for all
    assert not is_righter(0.9, 0.6, [1])  # so it may, where only one class is known
    assert is_righter(0.9, 0.05, [1])
    given = np.array([0, 0, 0, 1, 1, 0, 2])
    assert recalls(np.array([0, 0, 0, 1, 1, 1, 2]), given) == [1, pytest.approx(2 / 3)]
