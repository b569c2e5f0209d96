"""How a run begins: its command line and its work directory, before any library loads.

Loading the libraries takes a second and may fail. Whatever fails from here on, status.json does not
say "success": that would be an earlier run's.
"""

import argparse
import contextlib
import difflib
import functools
import re
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NoReturn

from chip_classifier import VERSION
from chip_classifier.frame import (
    give_up,
    open_closed_streams,
    release_lock,
    require_addresses,
    require_descriptors,
    require_proc,
    take_lock,
    watch_processor_time,
)
from chip_classifier.layout import INPUT, Given, logs_of, results_of
from chip_classifier.output import Output
from chip_classifier.ports_json import STRING_PORTS

DEFAULT_WORK_DIR = Path("/mnt/work")  # GBDX's contract with a container

# Of each string port: what stands for its value, and what --help says of it.
HELP = {
    "classes": ("NAMES", "class names in the order of the model's outputs: 'A, B' (default: 0, 1)"),
    "size": ("PIXELS", "rows and columns that chips are resized to (default: the model's, or 224)"),
    "deploy_batch": ("CHIPS", "chips that are classified at a time (default: 100)"),
    "preprocessing": ("MODE", "caffe (default), tf, torch, zero_to_one or none"),
    "normalization_vector": ("R,G,B", "what is subtracted (default: that of the preprocessing)"),
    "normalization_value": ("NUMBERS", "what it is divided by: a number, three, or None"),
    "bands": ("NUMBERS", "the bands of a chip that the model takes: '5,3,2' (default: '1,2,3')"),
    "bit_depth": ("BITS", "how many bits of the values count: 11 (default: those of the file)"),
    "probabilities": ("True", "the results have the values of all classes"),
    "loading": ("FUNCTION", "how chips were loaded: cv2 (default), or as the README lists"),
    "values": ("KIND", "8bit (default), or native: the numbers of the file"),
}


@dataclass(frozen=True)
class Start:
    """What a run begins with.

    source: the directory `input`, or what the command line gives in its place.
    output: where the results and the log go.
    trained_with: backend that trained a Keras 1 model, "tensorflow" or "theano".
    warnings: why the work directory could not be locked, if so.
    """

    source: Path | Given
    output: Output
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
    output = _output_of(work_dir, is_out=bool(arguments.out))
    try:
        warnings = take_lock(work_dir)
        output.begin()
        watch_processor_time(output)
        require_descriptors(output)
        require_addresses(output)
        require_proc(output)
    except BlockingIOError:
        give_up(
            f"Another run of the task is at work in {work_dir}: wait for its end, or give this one "
            "another work directory."
        )
    except OSError as error:
        give_up(f"The work directory {work_dir} cannot be written to ({error}): mend that.")

    sys.excepthook = functools.partial(_report, output)  # until main has its own answers
    source = work_dir / INPUT
    if arguments.out:
        ports = {port: text for port in STRING_PORTS if (text := getattr(arguments, port))}
        source = Given(arguments.chips, arguments.model, ports, arguments.ports)
    return Start(source, output, arguments.trained_with, warnings)


def _output_of(work_dir: Path, is_out: bool) -> Output:
    """Return where a run writes to: folders in a work directory, or the directory of --out."""
    if is_out:
        return Output(work_dir, work_dir, work_dir)
    return Output(work_dir, results_of(work_dir), logs_of(work_dir))


def _report(
    output: Output, kind: type[BaseException], error: BaseException, trace: TracebackType
) -> None:
    """Say that a library cannot be loaded, and end."""
    reason = f"{kind.__name__}: {' '.join(str(error).split())[:500]}"
    reason = (
        f"The task's libraries cannot be loaded ({reason}): install them anew, or give the "
        "task more memory if that is short."
    )
    with contextlib.suppress(OSError):
        reason = output.fail(reason)
        traceback.print_exception(kind, error, trace)
        print(reason, file=sys.stderr)
    release_lock(output.work_dir)


def _choose_directory(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> Path:
    """Return the work directory, or that of --out, which is made; end the program on a mixture."""
    paths = (arguments.chips, arguments.model, arguments.out)
    ports = [port for port in STRING_PORTS if getattr(arguments, port) is not None]
    ports += ["ports"] if arguments.ports else []
    if not any(paths):
        if ports:
            parser.error(
                f"--{ports[0]} goes with --chips, --model and --out; the ports of a work directory "
                "are in its input/ports.json"
            )
        if not arguments.work_dir and not DEFAULT_WORK_DIR.is_dir():
            parser.error("give --chips, --model and --out, or --work-dir; --help explains them")
        return arguments.work_dir or DEFAULT_WORK_DIR
    if not all(paths) or arguments.work_dir:
        parser.error("give --chips, --model and --out together, or --work-dir alone")
    try:
        out, chips = (path.resolve() for path in (arguments.out, arguments.chips))
    except OSError as error:
        parser.error(f"the current directory cannot be used ({error.strerror}): change to another")
    if out == chips or chips in out.parents:
        parser.error("--out lies in the folder of the chips: give another one")
    with contextlib.suppress(OSError):
        out.mkdir(parents=True, exist_ok=True)
    return arguments.out


class _Parser(argparse.ArgumentParser):
    """A parser whose errors reach status.json too."""

    def error(self, message: str) -> NoReturn:
        """End the program; an earlier success in the work directory is not this run's."""
        if unknown := re.match(r"unrecognized arguments: (\S+)", message):
            flags = re.findall(r"--[\w-]+", self.format_usage())
            near = difflib.get_close_matches(unknown[1], flags, n=1)
            message += f"; did you mean {near[0]}?" if near else ""
        finder = argparse.ArgumentParser(add_help=False, exit_on_error=False)
        finder.add_argument("--work-dir", type=_path, default=DEFAULT_WORK_DIR)
        finder.add_argument("--out", type=_path)
        with contextlib.suppress(OSError, argparse.ArgumentError):
            found = finder.parse_known_args()[0]
            output = _output_of(found.out or found.work_dir, is_out=bool(found.out))
            take_lock(output.work_dir)
            output.begin()
            output.fail(f"The command line is wrong ({message}): see --help.")
            release_lock(output.work_dir)
        super().error(message)


def _path(text: str) -> Path:
    """Parse a path; an empty one, as of a variable that is not set, is not this directory."""
    if not text:
        raise argparse.ArgumentTypeError("the path is empty")
    return Path(text)


def _parser(description: str) -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    parser = _Parser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", action="version", version=f"%(prog)s {VERSION}")
    give, trained, get = map(
        parser.add_argument_group, ("what to give", "how the model was trained", "what to get")
    )
    for group, flag, metavar, text in (
        (give, "--chips", "PATH", "a tar, a zip or a folder of chips"),
        (give, "--model", "PATH", "a model file, or the folder of its two files"),
        (give, "--ports", "FILE", "a ports.json; flags go before what it sets"),
        (give, "--work-dir", "DIR", f"work directory, alone (default: {DEFAULT_WORK_DIR})"),
        (get, "--out", "DIR", "where the results go"),
    ):
        group.add_argument(flag, type=_path, metavar=metavar, help=text)
    for port in STRING_PORTS:
        names = dict.fromkeys((f"--{port}", f"--{port.replace('_', '-')}"))
        metavar, text = HELP[port]
        group = get if port in ("deploy_batch", "probabilities") else trained
        # A flag that is yes or no needs no word.
        options = {"nargs": "?", "const": "True"} if port == "probabilities" else {}
        group.add_argument(*names, dest=port, metavar=metavar, help=text, **options)
    trained.add_argument(
        "--trained-with",
        choices=("tensorflow", "theano"),
        default="tensorflow",
        help="Keras' backend; files of Keras 2 and later record it themselves (default: "
        "%(default)s)",
    )
    return parser
