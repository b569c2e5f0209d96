"""Texts and times as the page shows them."""

import pytest

from chip_classifier.review.text import text, time_in_words


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("a\n\x00\x7f", "a\\n\\x00\\x7f"),
        ("\udcff\ud800", "\\udcff\\ud800"),
        ("\u202etxt", "\\u202etxt"),
        (
            "Z\u00fcrich \u65e5\u672c \u0645\u06cc\u200c\u062e",
            "Z\u00fcrich \u65e5\u672c \u0645\u06cc\u200c\u062e",
        ),
        ("x" * 60, "x" * 60),
        ("a" * 40 + "b" * 40, "a" * 30 + "\u2026" + "b" * 29),
    ],
)
def test_text(value: str, shown: str) -> None:
    assert text(value) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.04, "0.0 s"),
        (59.94, "59.9 s"),
        (60, "1 min 0 s"),
        (3599.6, "1 h 0 min"),
        (7500, "2 h 5 min"),
    ],
)
def test_duration(seconds: float, shown: str) -> None:
    assert time_in_words(seconds) == shown
