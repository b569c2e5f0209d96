"""How a run begins: its command line and its work directory, before any library loads.

Loading the libraries takes a second and may fail. Whatever fails from here on, status.json does not
say "success": that would be an earlier run's.
"""

import argparse
import contextlib
import functools
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NoReturn

from chip_classifier.frame import (
    KILLED,
    give_up,
    open_closed_streams,
    release_lock,
    require_descriptors,
    require_proc,
    take_lock,
    write_status,
)
from chip_classifier.layout import INPUT, Given, logs_of, results_of
from chip_classifier.ports_json import STRING_PORTS

DEFAULT_WORK_DIR = Path("/mnt/work")  # GBDX's contract with a container


@dataclass(frozen=True)
class Start:
    """What a run begins with.

    work_dir: its work directory, or the directory of --out, which no other run has.
    source: the directory `input`, or what the command line gives in its place.
    results, logs: where the results and the log go.
    trained_with: backend that trained a Keras 1 model, "tensorflow" or "theano".
    warnings: why the work directory could not be locked, if so.
    """

    work_dir: Path
    source: Path | Given
    results: Path
    logs: Path
    trained_with: str
    warnings: tuple[str, ...]


def begin(description: str) -> Start:
    """Parse the command line, take the work directory, and let status.json say "failed" for now.

    Ends the program, with a sentence on stderr, if the command line is wrong, or the work directory
    is not there, cannot be written to, or belongs to another run, which is left alone.

    Args:
        description: what --help says of the task.
    """
    open_closed_streams()
    parser = _parser(description)
    arguments = parser.parse_args()
    work_dir = _choose_directory(parser, arguments)
    if not work_dir.is_dir():
        give_up(
            f"The work directory {work_dir} does not exist or is no directory: mount it there, or "
            "give another one with --work-dir."
        )
    try:
        warnings = take_lock(work_dir)
        write_status(work_dir, "failed", KILLED)
        require_descriptors(work_dir)
        require_proc(work_dir)
    except BlockingIOError:
        give_up(
            f"Another run of the task is at work in {work_dir}: wait for its end, or give this one "
            "another work directory."
        )
    except OSError as error:
        give_up(f"The work directory {work_dir} cannot be written to ({error}): mend that.")

    sys.excepthook = functools.partial(_report, work_dir)  # until main has its own answers
    source, folders = work_dir / INPUT, (results_of(work_dir), logs_of(work_dir))
    if arguments.out:
        ports = {port: text for port in STRING_PORTS if (text := getattr(arguments, port))}
        source, folders = Given(arguments.chips, arguments.model, ports), (work_dir, work_dir)
    return Start(work_dir, source, *folders, arguments.trained_with, warnings)


def _report(
    work_dir: Path, kind: type[BaseException], error: BaseException, trace: TracebackType
) -> None:
    """Say that a library cannot be loaded, and end."""
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
