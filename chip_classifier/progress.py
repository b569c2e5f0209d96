"""How far the run is, on the terminal."""

import contextlib
import sys
import time

from chip_classifier.listing import Listing

PROGRESS_SECONDS = {"terminal": 0.5, "log": 10.0}


class Progress:
    """Tells on stdout how far the run is: a line that renews itself on a terminal, else a new line
    every ten seconds."""

    def __init__(self, listing: Listing, resumed: int) -> None:
        """Begin the count.

        Args:
            listing: the chips, all or so far.
            resumed: chips answered by an earlier run, which do not count for the rate.
        """
        self._listing, self._resumed = listing, resumed
        self._live = sys.stdout.isatty()
        self._interval = PROGRESS_SECONDS["terminal" if self._live else "log"]
        self._started = self._shown = time.monotonic()

    def show(self, done: int) -> None:
        """Report `done` chips of the archive, if it is time to."""
        now = time.monotonic()
        if now - self._shown < self._interval:
            return
        self._shown = now
        rate = (done - self._resumed) / (now - self._started)
        total, about = self._listing.number, ""
        if not self._listing.is_complete:
            total, about = round(total / max(self._listing.source.progress, 1e-9)), "about "
        line = f"{done:,} of {about}{max(total, done):,} chips, {rate:,.1f} chips/s"
        if rate:
            line += f", {duration(max(total - done, 0) / rate)} left"
        say(f"\r{line:<78}" if self._live else line, end="" if self._live else "\n")

    def clear(self) -> None:
        """Take the line off the terminal: the summary comes next."""
        if self._live:
            say(f"\r{'':<78}\r", end="")


def say(text: str, end: str = "\n") -> None:
    """Print to stdout at once; one that is closed or full is no reason to end the run."""
    with contextlib.suppress(OSError):
        print(text, end=end, flush=True)


def duration(seconds: float) -> str:
    """Write a time in seconds as h:mm:ss."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
