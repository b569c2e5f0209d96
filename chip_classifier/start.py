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
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import NoReturn

from chip_classifier.layout import LOCK, logs_of, results_of
from chip_classifier.ports_json import STRING_PORTS
from chip_classifier.status import KILLED, write_status

DEFAULT_WORK_DIR = Path("/mnt/work")  # GBDX's contract with a container

# On a processor TensorFlow was seen to need a dozen, on a GPU it opens more.
LEAST_DESCRIPTORS = 32


@dataclass(frozen=True)
class Start:
    """What a run begins with.

    work_dir: its work directory, or the directory of --out, which no other run has.
    results, logs: where the results and the log go.
    chips, model, ports: what the command line gives in place of the directory `input`: paths, and
        the text of string ports; None and none where it gives a work directory.
    trained_with: backend that trained a Keras 1 model, "tensorflow" or "theano".
    warning: why the work directory could not be locked, or None.
    """

    work_dir: Path
    results: Path
    logs: Path
    trained_with: str
    warning: str | None
    chips: Path | None = None
    model: Path | None = None
    ports: dict[str, str] = field(default_factory=dict)


def begin(description: str) -> Start:
    """Parse the command line, take the work directory, and let status.json say "failed" for now.

    Ends the program, with a sentence on stderr, if the command line is wrong, or the work directory
    is not there, cannot be written to, or belongs to another run, which is left alone.

    Args:
        description: what --help says of the task.
    """
    _open_closed_streams()
    parser = _parser(description)
    arguments = parser.parse_args()
    work_dir = _choose_directory(parser, arguments)
    if not work_dir.is_dir():
        _give_up(
            f"The work directory {work_dir} does not exist or is no directory: mount it there, or "
            "give another one with --work-dir."
        )
    try:
        warning = take_lock(work_dir)
        write_status(work_dir, "failed", KILLED)
        _require_descriptors(work_dir)
        _require_proc(work_dir)
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
    if arguments.out:
        ports = {port: text for port in STRING_PORTS if (text := getattr(arguments, port))}
        given = (arguments.chips, arguments.model, ports)
        return Start(work_dir, work_dir, work_dir, arguments.trained_with, warning, *given)
    folders = (results_of(work_dir), logs_of(work_dir))
    return Start(work_dir, *folders, arguments.trained_with, warning)


def _choose_directory(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> Path:
    """Return the work directory, or that of --out, which is made; end the program on a mixture."""
    paths = (arguments.chips, arguments.model, arguments.out)
    ports = [port for port in STRING_PORTS if getattr(arguments, port) is not None]
    if not any(paths):
        if ports:
            parser.error(
                f"--{ports[0]} goes with --chips, --model and --out; the ports of a work directory "
                "are in its input/ports.json"
            )
        return arguments.work_dir or DEFAULT_WORK_DIR
    if not all(paths) or arguments.work_dir:
        parser.error("give --chips, --model and --out together, or --work-dir alone")
    out, chips = (path.resolve() for path in (arguments.out, arguments.chips))
    if out == chips or chips in out.parents:
        parser.error("--out lies in the folder of the chips: give another one")
    with contextlib.suppress(OSError):
        out.mkdir(parents=True, exist_ok=True)
    return arguments.out


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
        _fail(
            work_dir,
            f"The task may open only {hard} files at a time: raise that limit (ulimit -n) to "
            f"{LEAST_DESCRIPTORS} or more.",
        )


def _require_proc(work_dir: Path) -> None:
    """End the program on a Linux without /proc: TensorFlow aborts there when it is loaded."""
    if sys.platform == "linux" and not Path("/proc/self").exists():
        _fail(work_dir, "There is no /proc, which TensorFlow needs: mount it there.")


def _fail(work_dir: Path, reason: str) -> NoReturn:
    """End the program with a sentence that is in status.json too."""
    write_status(work_dir, "failed", reason)
    release_lock(work_dir)
    _give_up(reason)


def _give_up(reason: str) -> NoReturn:
    """End the program with a sentence."""
    with contextlib.suppress(OSError):
        print(reason, file=sys.stderr, flush=True)
    os._exit(1)


def _open_closed_streams() -> None:
    """Return the program the standard streams that it was started without.

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
        work_dir.add_argument("--work-dir", "--out", type=Path, default=DEFAULT_WORK_DIR)
        with contextlib.suppress(OSError, argparse.ArgumentError):
            found = work_dir.parse_known_args()[0].work_dir
            take_lock(found)
            reason = f"The command line is wrong ({message}): see --help."
            write_status(found, "failed", reason)
            release_lock(found)
        super().error(message)


def _parser(description: str) -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    parser = _Parser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--work-dir",
        type=Path,
        metavar="DIR",
        help=f"work directory (default: {DEFAULT_WORK_DIR})",
    )
    parser.add_argument(
        "--chips", type=Path, metavar="PATH", help="a tar, a zip or a folder of chips"
    )
    parser.add_argument(
        "--model", type=Path, metavar="PATH", help="a model file, or the folder of its two files"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the results go")
    for port in STRING_PORTS:
        names = dict.fromkeys((f"--{port}", f"--{port.replace('_', '-')}"))
        parser.add_argument(*names, dest=port, metavar="TEXT", help=f"the port {port}")
    parser.add_argument(
        "--trained-with",
        choices=("tensorflow", "theano"),
        default="tensorflow",
        help="Keras backend that the model was trained with; files of Keras 2 and later record it "
        "themselves (default: %(default)s)",
    )
    return parser
