"""What a run says while it goes on: out.log, the terminal, and its warnings, which all are told."""

import contextlib
import faulthandler
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path

from chip_classifier.files import overwrite

log = logging.getLogger("deploy-chip-classifier")
log.addHandler(logging.NullHandler())  # what comes before out.log is there is not printed twice


class Warnings:
    """The warnings that hold for a whole run: for out.log, the terminal, status.json and the page.

    sentences: each once, in their order.
    """

    def __init__(self) -> None:
        self.sentences: list[str] = []

    def add(self, *sentences: str) -> None:
        """Note warnings; those that were noted before are not repeated."""
        for sentence in sentences:
            if sentence not in self.sentences:
                self.sentences.append(sentence)
                log.warning(sentence)

    @contextlib.contextmanager
    def instead_of(self, what: str) -> Iterator[None]:
        """Turn an exception into a warning: the run matters more than this part of it."""
        try:
            yield
        except Exception as error:  # noqa: BLE001, whatever it is, the results are not at fault
            reason = f"{type(error).__name__}: {error}"
            self.add(f"Could not make {what} ({reason}): the results are whole.")


class PrintableFormatter(logging.Formatter):
    """Formats log records so that names of chips, which may hold anything, forge no lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Format the line of a record; a traceback below it keeps its lines."""
        record.message = printable(record.message)
        return super().formatMessage(record)


def printable(text: str) -> str:
    """Escape control characters, line breaks among them, as Python does in a literal."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def start_logging(path: Path) -> None:
    """Begin out.log, and send all that libraries write to stderr into it.

    TensorFlow, libpng and others write to the file descriptor itself, so that is what is replaced.
    Raises OSError if it cannot be written.
    """
    stream = overwrite(path, errors="backslashreplace")
    os.dup2(stream.fileno(), 2)
    faulthandler.enable(stream)
    logging.raiseExceptions = False  # a full disk is reported once, by the results
    handler = logging.StreamHandler(stream)
    handler.setFormatter(PrintableFormatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)


@contextlib.contextmanager
def without_lines(noise: re.Pattern[bytes]) -> Iterator[None]:
    """Take out of out.log the lines that match, of those that are written meanwhile.

    They are there until the end: should the process crash, they may be what tells why.
    """
    streams = [one.stream for one in log.handlers if isinstance(one.formatter, PrintableFormatter)]
    begins = [os.lseek(stream.fileno(), 0, os.SEEK_CUR) for stream in streams]
    yield
    for stream, begin in zip(streams, begins, strict=True):
        log_file = stream.fileno()
        with contextlib.suppress(OSError):  # a full disk is reported once, by the results
            end = os.lseek(log_file, 0, os.SEEK_CUR)
            lines = os.pread(log_file, end - begin, begin).splitlines(keepends=True)
            kept = b"".join(line for line in lines if not noise.match(line))
            os.pwrite(log_file, kept, begin)
            os.ftruncate(log_file, os.lseek(log_file, begin + len(kept), os.SEEK_SET))


def say(text: str, end: str = "\n") -> None:
    """Print to stdout at once; one that is closed or full is no reason to end the run."""
    with contextlib.suppress(OSError):
        print(text, end=end, flush=True)


def clock_time(seconds: float) -> str:
    """Write a time in seconds as h:mm:ss."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
