"""Run the task on one of many archives, in a work directory of its own.

The Snakefile calls this once per archive. It links the input files into the work directory, waits
for a free GPU, and then runs the task: the script, or `docker run` of the container image.

A task that succeeded, and one whose input has to be changed first, has come to its end: `done` in
the work directory tells which, and the exit code is 0. After any other end, such as that of a
machine, the exit code is another one, and Snakemake tries again.

Two locks make sure that a work directory and a GPU have one task at a time. They are held by the
process of the task too, and end with it, however it ends.
"""

import argparse
import csv
import fcntl
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

HOUSE = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(HOUSE))
from chip_classifier.layout import (
    CHIPS_FOLDER,
    CLASSIFIED,
    FINAL,
    INPUT,
    LOG,
    MODEL_FOLDER,
    PORTS,
    REFERENCE,
    STATUS,
    UNCLASSIFIED,
    logs_of,
    results_of,
)
from workflow.archives import contents_of, is_tar

SCRIPT = HOUSE / "deploy-chip-classifier.py"
MADE_FROM = "made_from.json"
IN_CONTAINER = "/mnt/work"
CHIP_WARNINGS = ("Chip '", "Chip number ")  # of one chip each (classify.py, record.py)


def absolute(path: str) -> Path:
    """Return a path that holds in any directory."""
    return Path(path).absolute()


def take_lock(path: Path, wait: bool) -> bool:
    """Lock a file for this process and the program that it runs.

    Args:
        path: a file, which is made if there is none.
        wait: whether to wait for another process that has it.
    Returns:
        Whether it is locked.
    """
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    os.set_inheritable(lock, True)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return False
    return True


def take_gpu(gpus: Sequence[str], locks: Path) -> str | None:
    """Wait for a GPU that no other task has; locks is a directory. None if there are no GPUs."""
    while gpus:
        for gpu in gpus:
            if take_lock(locks / f"gpu-{gpu}.lock", wait=False):
                return gpu
        time.sleep(1)
    return None


def made_from(files: Sequence[Path], trained_with: str) -> str:
    """Describe what the answers depend on: name, size and time of change of the input files."""
    facts = [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]
    folders = [contents for file in files if (contents := contents_of(file))]
    return json.dumps([*facts, *folders, trained_with])


def is_done(work_dir: Path, description: str) -> bool:
    """Return whether the task has succeeded with these inputs, and its results are there."""
    try:
        status = json.loads((work_dir / STATUS).read_text())
        found = (work_dir / MADE_FROM).read_text()
    except (OSError, ValueError):
        return False
    classified = results_of(work_dir) / CLASSIFIED
    return status["status"] == "success" and found == description and classified.exists()


def link_input(input_dir: Path, arguments: argparse.Namespace) -> None:
    """Make the input directory of a task out of links."""
    if input_dir.exists():
        shutil.rmtree(input_dir)
    archive, reference = arguments.archive, arguments.reference
    links = {Path(CHIPS_FOLDER, archive.name): archive}
    if reference:
        links[Path(CHIPS_FOLDER, reference.name if is_tar(archive) else REFERENCE)] = reference
    links[Path(MODEL_FOLDER, arguments.model.name)] = arguments.model
    if arguments.ports:
        links[Path(PORTS)] = arguments.ports
    if arguments.model_ports:
        links[Path(MODEL_FOLDER, PORTS)] = arguments.model_ports
    for link, target in links.items():
        (input_dir / link).parent.mkdir(parents=True, exist_ok=True)
        (input_dir / link).symlink_to(target)


def docker_command(image: str, work_dir: Path, files: Sequence[Path], gpu: str | None) -> list[str]:
    """Return the command that runs the task's container on a work directory.

    Args:
        image: name of the image.
        work_dir: absolute path.
        files: the absolute paths that the links in the work directory have as their targets. They
            are mounted under the same paths in the container, read-only.
        gpu: number of the GPU, or None.
    """
    # A container outlives a killed docker command. Its name keeps a second one off.
    name = f"chips-{hashlib.blake2b(os.fsencode(work_dir), digest_size=8).hexdigest()}"
    command = ["docker", "run", "--rm", "--name", name, "--user", f"{os.getuid()}:{os.getgid()}"]
    command += ["--env", "OMP_NUM_THREADS"]  # the cores of a task, from Snakemake
    for file in files:
        command += ["--mount", mount(file.resolve(), file, "readonly")]
    command += ["--mount", mount(work_dir, Path(IN_CONTAINER))]
    if gpu is not None:
        command += ["--gpus", f"device={gpu}"]
    return [*command, image, "python", f"/{SCRIPT.name}"]


def mount(source: Path, target: Path, *options: str) -> str:
    """Return what `docker run --mount` takes: a line of CSV, so that paths may have commas."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(
        ["type=bind", f"source={source}", f"target={target}", *options]
    )
    return line.getvalue()


def run(command: Sequence[str]) -> int:
    """Run the task and give its exit code; signals that ask to stop are handed on to it."""
    process = subprocess.Popen(command, close_fds=False)  # it holds the locks too
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _frame: process.send_signal(number))
    code = process.wait()
    return code if code >= 0 else 128 - code  # as a shell reports a signal


def own_machine_options(work_dir: Path, arguments: argparse.Namespace) -> list[str]:
    """Return the options for a task on what is no tar: these come from a command line alone.

    work_dir is that of the task, as the task sees it; the input is linked into it.
    """
    folder = work_dir / INPUT
    options = ["--chips", str(folder / CHIPS_FOLDER / arguments.archive.name)]
    options += ["--model", str(folder / MODEL_FOLDER / arguments.model.name)]
    options += ["--ports", str(folder / PORTS)] if arguments.ports else []
    return [*options, "--out", str(results_of(work_dir))]


def link_output(work_dir: Path) -> None:
    """Let the files that a task leaves in one folder be found where it leaves them otherwise."""
    results_of(work_dir).mkdir(parents=True, exist_ok=True)
    for link, target in (
        (logs_of(work_dir), results_of(Path()).name),
        (work_dir / STATUS, results_of(Path()) / STATUS),
    ):
        link.unlink(missing_ok=True)
        link.symlink_to(target)


def warnings_in(log: Path) -> list[str]:
    """Return the warnings in a task's log that hold for its whole run; [] if there is no log."""
    if not log.exists():
        return []
    with log.open(errors="replace") as lines:
        found = (line.rstrip("\n").partition(" WARNING ")[2] for line in lines)
        return [text for text in found if text and not text.startswith(CHIP_WARNINGS)]


def mark_as_done(work_dir: Path) -> None:
    """Write `done`: why the task failed, or what it warns of, and how many chips have an answer.

    Raises OSError, ValueError if the task has left no status.
    """
    status = json.loads((work_dir / STATUS).read_text())
    results = results_of(work_dir)
    chips = 0
    if status["status"] == "success":
        for file in filter(Path.exists, (results / CLASSIFIED, results / UNCLASSIFIED)):
            with file.open("rb") as lines:
                chips += sum(1 for _ in lines) - 2  # one chip a line, between braces
    about = "reason" if status["status"] == "failed" else "warning"
    mark = {"reason": None, "warning": None, about: status["reason"], "chips": chips}
    mark["warnings"] = warnings_in(logs_of(work_dir) / LOG)
    (work_dir / "done").write_text(json.dumps(mark) + "\n")


def parse_arguments() -> argparse.Namespace:
    """Return what the command line says; paths are absolute."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--archive", type=absolute, required=True)
    parser.add_argument("--reference", type=absolute, help="features of the chips: a .geojson file")
    parser.add_argument("--model", type=absolute, required=True)
    parser.add_argument("--ports", type=absolute, help="ports.json")
    parser.add_argument("--model-ports", type=absolute, help="ports.json beside the model")
    parser.add_argument("--work-dir", type=absolute, required=True)
    parser.add_argument("--trained-with", default="tensorflow")
    parser.add_argument("--gpus", default="", help="numbers of the GPUs to choose one of: 0,1")
    parser.add_argument("--image", help="container image to run instead of the script")
    return parser.parse_args()


def main() -> None:
    """Prepare the work directory and run the task, unless it is done already."""
    arguments = parse_arguments()
    work_dir = arguments.work_dir
    files = [arguments.archive, arguments.reference, arguments.model, arguments.ports]
    files = [file for file in (*files, arguments.model_ports) if file]

    work_dir.mkdir(parents=True, exist_ok=True)
    # If the workflow was killed, its tasks went on: such a one is waited for, and not repeated.
    take_lock(work_dir / "lock", wait=True)
    description = made_from(files, arguments.trained_with)
    if is_done(work_dir, description):
        print("Done already, by an earlier call.")
        mark_as_done(work_dir)
        return
    (work_dir / MADE_FROM).write_text(description)
    link_input(work_dir / INPUT, arguments)
    code = run(task_command(arguments, files))
    if code not in (0, FINAL):
        sys.exit(code)
    mark_as_done(work_dir)


def task_command(arguments: argparse.Namespace, files: Sequence[Path]) -> list[str]:
    """Return the command of the task, which has a GPU to itself if there are any."""
    work_dir = arguments.work_dir
    (work_dir / STATUS).unlink(missing_ok=True)
    gpu = take_gpu([gpu for gpu in arguments.gpus.split(",") if gpu], work_dir.parent)
    if arguments.image:
        command = docker_command(arguments.image, work_dir, files, gpu)
    else:
        command = [sys.executable, str(SCRIPT)]
        if gpu is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    seen = Path(IN_CONTAINER) if arguments.image else work_dir
    if is_tar(arguments.archive):
        command += [] if arguments.image else ["--work-dir", str(work_dir)]
    else:
        link_output(work_dir)
        (results_of(work_dir) / STATUS).unlink(missing_ok=True)
        command += own_machine_options(seen, arguments)
    return [*command, "--trained-with", arguments.trained_with]


if __name__ == "__main__":
    main()
