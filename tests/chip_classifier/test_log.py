"""What a run says: times as people read them, each warning once."""

import logging

import pytest

from chip_classifier.log import Warnings, clock_time


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0:00:00"),
        (59.4, "0:00:59"),
        (59.6, "0:01:00"),
        (3661, "1:01:01"),
        (360000, "100:00:00"),
    ],
)
def test_times_are_hours_minutes_seconds(seconds: float, text: str) -> None:
    assert clock_time(seconds) == text


def test_each_warning_is_noted_once_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    warnings = Warnings()
    with caplog.at_level(logging.WARNING):
        warnings.add("a", "b", "a")
        with warnings.instead_of("the map"):
            raise ValueError("no place")
    expected = ["a", "b", "Could not make the map (ValueError: no place): the results are whole."]
    assert warnings.sentences == expected
    assert [record.getMessage() for record in caplog.records] == expected
