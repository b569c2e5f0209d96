"""What the page's tables show."""

import numpy as np
import pytest

from chip_classifier.review import tables


def test_statistics() -> None:
    rng = np.random.default_rng(0)
    class_indices = rng.integers(0, 4, 1001) * (np.arange(1001) % 7 > 0)
    certainties = rng.random(1001).astype(np.float32)
    found = tables.statistics(6, class_indices, certainties)
    assert found.counts.tolist() == np.bincount(class_indices, minlength=6).tolist()
    assert found.by_count()[0] == 0
    assert found.probabilities
    assert found.axis == (0, 1)
    for index in range(4):
        of_class = certainties[class_indices == index].astype(float)
        assert found.median[index] == pytest.approx(np.median(of_class))
        assert found.lowest[index] == of_class.min()
        assert found.highest[index] == of_class.max()
        expected, _ = np.histogram(of_class, bins=tables.BINS, range=(0, 1))
        assert found.histograms[index].tolist() == expected.tolist()
    assert np.isnan(found.median[4:]).all()


@pytest.mark.parametrize(
    ("certainties", "axis", "first", "last"),
    [
        ([], (0, 1), 0, 0),
        ([0, 1, 1.0000001], (0, 1), 1, 2),
        ([-4, 12, 12], (-4, 12), 1, 2),
        ([-1.7e308, 1.7e308], (-1.7e308, 1.7e308), 1, 1),
        ([7, 7], (7, 7), 2, 0),
        ([1e300, 1e300], (1e300, 1e300), 2, 0),
    ],
)
def test_the_axis_follows_the_data(
    certainties: list[float], axis: tuple[float, float], first: int, last: int
) -> None:
    found = tables.statistics(1, np.zeros(len(certainties), int), np.array(certainties, float))
    assert found.axis == pytest.approx(axis)
    assert found.histograms.sum() == len(certainties)
    assert found.histograms[0, 0] == first
    assert found.histograms[0, -1] == last
    assert found.probabilities == (axis == (0, 1))
