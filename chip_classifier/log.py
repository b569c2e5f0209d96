"""The log of a run, out.log, and how it is written to."""

import contextlib
import faulthandler
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from chip_classifier.files import overwrite

log = logging.getLogger("deploy-chip-classifier")
log.addHandler(logging.NullHandler())  # what comes before out.log is there is not printed twice

# The warnings of this run in their order: for the terminal, status.json and the page.
warnings: list[str] = []


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
def harmless(what: str) -> Iterator[None]:
    """Turn an exception into a warning: the run matters more than this part of it."""
    try:
        yield
    except Exception as error:  # noqa: BLE001, whatever it is, the results are not at fault
        warn(f"Could not make {what} ({type(error).__name__}: {error}): the results are whole.")


def warn(message: str) -> None:
    """Note a warning that holds for the whole run: once in out.log, and for all who are told."""
    if message not in warnings:
        warnings.append(message)
        log.warning(message)
