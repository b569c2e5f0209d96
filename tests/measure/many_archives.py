"""Measure the Snakemake workflow on this machine, for the figures in the README, "Many machines".

    python tests/measure/many_archives.py [--archives 100] [--chips 50] [--tasks 2] [--kill 5]

1. The engine alone: as many archives, with a program in the task's place that does nothing.
2. The workflow as it is, undisturbed.
3. The same with tasks killed at random moments and no further tries, and then the same call again.

It ends with an error if a result is missing, differs, or was worked for twice.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

# The repository, and what its tests share.
sys.path[:0] = [str(folder) for folder in Path(__file__).resolve().parents[1:3]]

from chip_files import make_tar, png, read_json, save_dense_model
from workflow.test_snakefile import (
    WORKFLOW,
    copy_workflow,
    engine,
    first_chip,
    pid_of_task,
    times_of_change,
)

BATCH = 5


def make_folder(folder: Path, archives: int, chips: int) -> None:
    """Make a folder with archives of random chips of 64 x 64 pixels, a small model and ports."""
    (folder / "chips").mkdir(parents=True)
    rng = np.random.default_rng(7)
    for number in range(archives):
        pixels = rng.integers(0, 256, (chips, 64, 64, 3), np.uint8)
        members = [(f"chips/{n}.png", png(image)) for n, image in enumerate(pixels)]
        (folder / "chips" / f"{number:04}.tar").write_bytes(make_tar(members))
    kernel = np.array([[0.1, 0], [0, 0], [0, 0.1]])
    save_dense_model(folder / "model.h5", kernel, np.zeros(2), "softmax", 64)
    (folder / "ports.json").write_text(json.dumps({"deploy_batch": str(BATCH)}))


def timed_call(command: list[str]) -> tuple[int, float]:
    """Run a command; give its exit code and the seconds that it took."""
    started = time.monotonic()
    code = subprocess.run(command, capture_output=True, check=False).returncode
    return code, time.monotonic() - started


def measure_engine(folder: Path, tasks: int) -> float:
    """Run the workflow with a task that does nothing; give the seconds that it took."""
    alone = folder / "alone"
    (alone / "chips").mkdir(parents=True)
    for archive in (folder / "chips").iterdir():
        (alone / "chips" / archive.name).write_text("{}")
    (alone / "model.h5").write_text("")
    copy_workflow(alone)
    code, seconds = timed_call(engine(alone, cores=tasks, snakefile=alone / WORKFLOW[0]))
    assert code == 0
    return seconds


def seconds_in_tasks(out: Path) -> list[float]:
    """Give the seconds that each task took, from the lock at its start to its last status."""
    return [
        (work_dir / "status.json").stat().st_mtime - (work_dir / "lock").stat().st_mtime
        for work_dir in (out / "tasks").iterdir()
    ]


def kill_tasks(process: subprocess.Popen, tasks: Path, names: list[str], number: int) -> dict:
    """Kill some tasks with SIGKILL while the engine runs.

    Args:
        process: the engine.
        tasks: the folder of the work directories.
        names: the archives to choose from, in random order.
        number: how many to kill.
    Returns:
        Name of the archive -> the number of chips that it had answered by then.
    """
    rng, killed = random.Random(5), {}
    # Each has its own moment: so many lines of its journal, or none and some seconds of its life.
    moments = {name: (rng.randrange(10), rng.uniform(0, 4)) for name in names}
    seen: dict[str, float] = {}
    while process.poll() is None and len(killed) < number:
        for name in names:
            work_dir = tasks / name
            if name in killed or not (work_dir / "lock").exists():
                continue
            alive = time.monotonic() - seen.setdefault(name, time.monotonic())
            journal = work_dir / "output" / "results" / "resume.jsonl"
            try:
                lines = journal.read_bytes().count(b"\n") if journal.exists() else 0
                wanted, seconds = moments[name]
                if lines <= wanted or (not wanted and alive < seconds):
                    continue
                os.kill(pid_of_task(work_dir), signal.SIGKILL)
                lines = journal.read_bytes().count(b"\n") if journal.exists() else 0
            except (FileNotFoundError, ProcessLookupError):
                continue  # it has ended by itself
            killed[name] = max(lines - 1, 0) * BATCH
        time.sleep(0.002)
    process.wait()
    return killed


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--archives", type=int, default=100)
    parser.add_argument("--chips", type=int, default=50)
    parser.add_argument("--tasks", type=int, default=2, help="tasks at a time")
    parser.add_argument("--kill", type=int, default=5, help="tasks to kill")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="many-archives-"))
    count, tasks = arguments.archives, arguments.tasks
    make_folder(folder, count, arguments.chips)
    print(f"{count} archives of {arguments.chips} chips, {tasks} tasks at a time")

    seconds = measure_engine(folder, tasks)
    print(f"The engine alone: {seconds:.1f} s, {seconds / count:.2f} s per task")

    command = engine(folder, cores=tasks, ports="ports.json", out="whole", retries=0)
    code, seconds = timed_call(command)
    whole = read_json(folder / "whole" / "classified.json")
    assert code == 0
    assert len(whole) == count * arguments.chips
    in_tasks = seconds_in_tasks(folder / "whole")
    print(f"Undisturbed: {seconds:.1f} s; a task took {sum(in_tasks) / count:.2f} s on average")
    print(f"  without a task: {(seconds * tasks - sum(in_tasks)) / count:.2f} s per task")

    out = folder / "killed"
    command = engine(folder, cores=tasks, ports="ports.json", out="killed", retries=0)
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    names = sorted(path.name for path in (folder / "chips").iterdir())
    random.Random(6).shuffle(names)
    killed = kill_tasks(process, out / "tasks", names[: 3 * arguments.kill], arguments.kill)
    seconds = time.monotonic() - started
    summary = read_json(out / "summary.json")
    assert process.returncode == 1
    assert len(killed) == arguments.kill
    assert not (out / "classified.json").exists()
    failed = {name for name, entry in summary["tasks"].items() if entry["status"] != "done"}
    assert failed == set(killed)
    print(f"With {len(killed)} tasks killed, after so many chips: {killed}")
    print(f"  first call: {seconds:.1f} s, {summary['done']} of {count} archives done")

    finished = [out / "tasks" / name for name in names if name not in killed]
    before = [times_of_change(work_dir) for work_dir in finished]
    code, seconds = timed_call(command)
    assert code == 0
    assert [times_of_change(work_dir) for work_dir in finished] == before
    for name, answered in killed.items():
        # A task may be killed between its last chip and its results: then there is no chip left.
        expected = answered if answered < arguments.chips else None
        assert first_chip(out / "tasks" / name) == expected
    assert read_json(out / "classified.json") == whole
    print(f"  second call: {seconds:.1f} s, all {count} archives done, same results, nothing twice")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
