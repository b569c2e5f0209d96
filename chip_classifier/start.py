"""How a run begins: its streams, its command line, its work directory, before any library loads.

Loading the libraries takes a second and may fail. Whatever fails from here on, status.json does not
say "success": that would be an earlier run's.
"""

import argparse
import contextlib
import fcntl
import os
import resource
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NoReturn

from chip_classifier.status import KILLED, write_status

LOCK = "task.lock"

# On a processor TensorFlow was seen to need a dozen, on a GPU it opens more.
LEAST_DESCRIPTORS = 32


@dataclass(frozen=True)
class Start:
    """What a run begins with.

    work_dir: its work directory, which no other run has.
    trained_with: backend that trained a Keras 1 model, "tensorflow" or "theano".
    warning: why the work directory could not be locked, or None.
    """

    work_dir: Path
    trained_with: str
    warning: str | None


def begin(description: str) -> Start:
    """Parse the command line, take the work directory, and let status.json say "failed" for now.

    Ends the program, with a sentence on stderr, if the command line is wrong, or the work directory
    is not there, cannot be written to, or belongs to another run, which is left alone.

    Args:
        description: what --help says of the task.
    """
    _open_closed_streams()
    arguments = _parser(description).parse_args()
    work_dir = arguments.work_dir
    if not work_dir.is_dir():
        _give_up(
            f"The work directory {work_dir} does not exist: mount it there, or give another one "
            "with --work-dir."
        )
    try:
        warning = take_lock(work_dir)
        write_status(work_dir, "failed", KILLED)
        _require_descriptors(work_dir)
    except BlockingIOError:
        _give_up(
            f"Another run of the task is at work in {work_dir}: wait for its end, or give this one "
            "another work directory."
        )
    except OSError as error:
        _give_up(f"The work directory {work_dir} cannot be written to ({error}): mend that.")

    def report(kind: type[BaseException], error: BaseException, trace: TracebackType) -> None:
        reason = f"{kind.__name__}: {' '.join(str(error).split())[:500]}"
        reason = (
            f"The task's libraries cannot be loaded ({reason}): install them anew, or give the "
            "task more memory if that is short."
        )
        with contextlib.suppress(OSError):
            write_status(work_dir, "failed", reason)
            traceback.print_exception(kind, error, trace)
            print(reason, file=sys.stderr)
        release_lock(work_dir)

    sys.excepthook = report  # until main has its own answers
    return Start(work_dir, arguments.trained_with, warning)


def take_lock(work_dir: Path) -> str | None:
    """Keep other runs out of the work directory for as long as this process lives.

    The lock is one of the process (fcntl), which the processes that it forks do not keep alive.

    Returns:
        Why there is no lock, where the file system has none; else None.
    Raises:
        BlockingIOError: another process has it.
    """
    path, flags = work_dir / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        while True:
            descriptor = os.open(path, flags, 0o666)  # to be closed by the end of the process
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # A run that has just ended may have taken the file away between the two.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), path.stat()):
                    return None
    except BlockingIOError:
        raise
    except OSError as error:
        return (
            f"The work directory cannot be locked ({error}): make sure that no other run of the "
            "task works in it at the same time."
        )


def release_lock(work_dir: Path) -> None:
    """Take the file of the lock away: the last thing that a run does."""
    with contextlib.suppress(OSError):
        (work_dir / LOCK).unlink()


def _require_descriptors(work_dir: Path) -> None:
    """Raise a limit of open files that is too low as far as it goes; if that is not far, end."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= LEAST_DESCRIPTORS:
        return
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and hard < LEAST_DESCRIPTORS:
        reason = (
            f"The task may open only {hard} files at a time: raise that limit (ulimit -n) to "
            f"{LEAST_DESCRIPTORS} or more."
        )
        write_status(work_dir, "failed", reason)
        release_lock(work_dir)
        _give_up(reason)


def _give_up(reason: str) -> NoReturn:
    """End the program with a sentence."""
    with contextlib.suppress(OSError):
        print(reason, file=sys.stderr, flush=True)
    os._exit(1)


def _open_closed_streams() -> None:
    """Give the program the standard streams that it was started without.

    Else the next files that are opened take their places, and get what is meant for them.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest one that is free
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name) or os.fdopen(descriptor, "w", closefd=False)
        stream.reconfigure(errors="backslashreplace")
        setattr(sys, name, stream)


class _Parser(argparse.ArgumentParser):
    """A parser whose errors reach status.json too."""

    def error(self, message: str) -> NoReturn:
        """End the program; an earlier success in the work directory is not this run's."""
        work_dir = argparse.ArgumentParser(add_help=False, exit_on_error=False)
        _add_work_dir(work_dir)
        with contextlib.suppress(OSError, argparse.ArgumentError):
            found = work_dir.parse_known_args()[0].work_dir
            take_lock(found)
            reason = f"The command line is wrong ({message}): see --help."
            write_status(found, "failed", reason)
            release_lock(found)
        super().error(message)


def _add_work_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--work-dir",
        type=Path,
        default=Path("/mnt/work"),
        metavar="DIR",
        help="work directory (default: %(default)s)",
    )


def _parser(description: str) -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    parser = _Parser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    _add_work_dir(parser)
    parser.add_argument(
        "--trained-with",
        choices=("tensorflow", "theano"),
        default="tensorflow",
        help="Keras backend that the model was trained with; files of Keras 2 and later record it "
        "themselves (default: %(default)s)",
    )
    return parser
