"""What the terminal shows while a run goes on."""

import re
import time
from types import SimpleNamespace

import pytest

from chip_classifier.progress import PROGRESS_SECONDS, Progress, duration


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
def test_durations_are_hours_minutes_seconds(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("listed", "is_complete", "read", "part"),
    [
        (2000, True, 1.0, "150 of 2,000 chips"),
        (200, False, 0.1, "150 of about 2,000 chips"),
    ],
)
def test_progress_tells_chips_rate_and_time_left(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    listed: int,
    is_complete: bool,
    read: float,
    part: str,
) -> None:
    monkeypatch.setitem(PROGRESS_SECONDS, "log", 0.0)
    archive = SimpleNamespace(progress=read)
    listing = SimpleNamespace(number=listed, is_complete=is_complete, archive=archive)
    progress = Progress(listing, 50)
    time.sleep(0.1)
    progress.show(150)
    line = capsys.readouterr().out
    assert line.startswith(part)
    # 100 chips in a little more than 0.1 s; the 50 of an earlier run do not count.
    rate = float(re.search(r"([0-9,.]+) chips/s", line)[1].replace(",", ""))
    assert 100 < rate < 1000
    assert line.endswith(" left\n")
