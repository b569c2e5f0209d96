"""Measure the Snakemake workflow on this machine, for the figures in docs/many-machines.md.

    python tests/measure/many_archives.py [--archives 100] [--chips 50] [--tasks 2] [--kill 5]
    python tests/measure/many_archives.py --slurm [--archives 100] [--chips 50] [--kill 5]
    python tests/measure/many_archives.py --store [--archives 100] [--chips 50] [--kill 5]

1. The engine alone: as many archives, with a program in the task's place that does nothing.
2. The workflow as it is, undisturbed.
3. The same with tasks killed at random moments and no further tries, and then the same call again.

With --slurm, as root, the documentation's command runs on a Slurm of three nodes on this machine:
with a program that does nothing on some archives, and then on all with tasks and nodes killed in
turn, which one call is to get over. With --store, the documentation's command for Kubernetes does
the same with an object store on this machine, and machines that share nothing else.

It ends with an error if a result is missing, differs, or was worked for twice.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np

# The repository, and what its tests share.
sys.path[:0] = [str(folder) for folder in Path(__file__).resolve().parents[1:3]]

from chip_files import (
    assert_succeeded,
    make_tar,
    make_work_dir,
    png,
    read_json,
    run_task,
    save_dense_model,
)
from cluster import slurm, store
from workflow.test_snakefile import (
    SNAKEFILE,
    copy_workflow,
    engine,
    first_chip,
    pid_of_task,
    times_of_change,
)

BATCH = 5
IDLE_TASKS = 12


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
    code, seconds = timed_call(engine(alone, cores=tasks, snakefile=alone / SNAKEFILE))
    assert code == 0
    return seconds


def seconds_in_tasks(out: Path) -> list[float]:
    """Return the seconds that each task took, from the lock at its start to its last status."""
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


def measure_slurm(folder: Path, chips: int, kills: int) -> None:
    """Run the documentation's command on a Slurm of three nodes, and kill tasks and nodes."""
    if reason := slurm.why_not():
        sys.exit(reason)
    (folder / "slurm").mkdir()
    cluster = slurm.Slurm(folder / "slurm")
    try:
        cluster.start()
        few = folder / "few"
        make_idle_folder(few)
        copy_workflow(few)
        started = time.monotonic()
        run_on_slurm(few, few / SNAKEFILE).wait()
        print_idle(time.monotonic() - started)
        assert len(read_json(few / "deployed" / "classified.json")) == IDLE_TASKS

        started = time.monotonic()
        process = run_on_slurm(folder)
        killed, before = kill_on_slurm(cluster, process, folder, kills)
        assert process.wait() == 0
        seconds = time.monotonic() - started
    finally:
        cluster.stop()
    archives = sorted(path.name for path in (folder / "chips").iterdir())
    tasks = folder / "deployed" / "tasks"
    assert {name: times_of_change(tasks / name / "output") for name in before} == before
    merged = read_json(folder / "deployed" / "classified.json")
    assert merged == undisturbed(folder, archives)
    assert len(merged) == len(archives) * chips
    in_tasks = seconds_in_tasks(folder / "deployed")
    print(f"With {', '.join(killed)} killed: {seconds:.1f} s, all {len(archives)} archives done")
    print(f"  a task took {sum(in_tasks) / len(archives):.2f} s; same results, nothing twice")


def make_idle_folder(folder: Path) -> None:
    """Make a folder for IDLE_TASKS tasks that do nothing (STAND_IN in the workflow's tests)."""
    (folder / "chips").mkdir(parents=True)
    for number in range(IDLE_TASKS):
        (folder / "chips" / f"{number}.tar").write_text("{}")
    for file in ("model.h5", "ports.json"):
        (folder / file).write_text("")


def print_idle(seconds: float) -> None:
    """Print what the engine alone took for a folder of make_idle_folder."""
    print(
        f"The engine alone, {IDLE_TASKS} tasks that do nothing, three at a time: {seconds:.1f} s, "
        f"{seconds / IDLE_TASKS:.1f} s for each",
        flush=True,
    )


def run_on_slurm(folder: Path, snakefile: Path = slurm.SNAKEFILE) -> subprocess.Popen:
    """Start the documentation's command in a folder; its output goes to a file there."""
    with (folder / "stdout").open("w") as output:
        return subprocess.Popen(
            slurm.documented_command(snakefile), cwd=folder, stderr=output, stdout=output
        )


def kill_on_slurm(
    cluster: slurm.Slurm, process: subprocess.Popen, folder: Path, kills: int
) -> tuple[list[str], dict[str, dict[str, int]]]:
    """Kill tasks and nodes in turn, while archives get done; a node comes back after 15 seconds.

    Returns:
        What was killed, and the archives that were done before the last kill -> their results'
        times of change.
    """
    tasks = folder / "deployed" / "tasks"
    archives = len(list((folder / "chips").iterdir()))
    killed, done = [], {}
    while len(killed) < kills and process.poll() is None:
        time.sleep(0.5)
        finished = [path.parent for path in tasks.glob("*/done")]
        if len(finished) < archives * (len(killed) + 1) // (kills + 2):
            continue
        done = {work_dir.name: times_of_change(work_dir / "output") for work_dir in finished}
        if len(killed) % 2:
            busy = [node for node, jobs in cluster.running().items() if jobs]
            if not busy:
                continue
            cluster.kill_node(busy[0])
            killed.append(f"node {busy[0]}")
            time.sleep(15)
            cluster.start_node(busy[0])
            continue
        for work_dir in tasks.iterdir():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid_of_task(work_dir), signal.SIGKILL)
                killed.append(f"task {work_dir.name}")
                break
    return killed, done


def measure_store(folder: Path, chips: int, kills: int) -> None:
    """Run the documentation's command with a store, and kill machines while they work."""
    if reason := store.why_not():
        sys.exit(reason)
    few, pods = folder / "few", folder / "pods"
    make_idle_folder(few)
    with store.running(folder / "store") as client:
        upload(client, few, "few")
        copy_workflow(few)
        store.track(few)
        started = time.monotonic()
        run_in_pods(few, few, folder / "few-pods", "few").wait()
        print_idle(time.monotonic() - started)
        assert len(result_in(client, "few")) == IDLE_TASKS

        upload(client, folder, "run")
        store.make_clone(folder / "clone")
        started = time.monotonic()
        process = run_in_pods(folder, folder / "clone", pods, "run")
        killed = kill_pods(process, pods, len(list((folder / "chips").iterdir())), kills)
        assert process.wait() == 0
        seconds = time.monotonic() - started
        merged = result_in(client, "run")
    archives = sorted(path.name for path in (folder / "chips").iterdir())
    assert len(list(pods.iterdir())) == len(archives) + kills  # each once, and what was killed
    assert merged == undisturbed(folder, archives)
    assert len(merged) == len(archives) * chips
    print(f"With the machines of {', '.join(killed)} killed: {seconds:.1f} s")
    print(f"  all {len(archives)} archives done, same results, nothing twice")


def upload(client: object, folder: Path, prefix: str) -> None:
    """Put the archives, the model and the ports of a folder into the store."""
    for path in (*(folder / "chips").iterdir(), folder / "model.h5", folder / "ports.json"):
        key = f"{prefix}/{path.relative_to(folder)}"
        client.put_object(Bucket=store.BUCKET, Key=key, Body=path.read_bytes())


def result_in(client: object, prefix: str) -> dict:
    """Return the content of classified.json in the store."""
    key = f"{prefix}/deployed/classified.json"
    return json.loads(client.get_object(Bucket=store.BUCKET, Key=key)["Body"].read())


def run_in_pods(folder: Path, clone: Path, pods: Path, prefix: str) -> subprocess.Popen:
    """Start the documentation's command in a clone; its output goes to a file in the folder."""
    pods.mkdir()
    with (folder / "stdout").open("w") as output:
        return subprocess.Popen(
            store.documented_command(prefix),
            cwd=clone,
            env=store.environment(pods),
            stderr=output,
            stdout=output,
        )


def kill_pods(process: subprocess.Popen, pods: Path, archives: int, kills: int) -> list[str]:
    """Kill machines whose tasks have answered some chips; give the names of their archives.

    The kills are spread over the run: the next one comes when so many machines have been started.
    """
    killed: dict[Path, str] = {}
    while len(killed) < kills and process.poll() is None:
        time.sleep(0.02)
        if len(list(pods.iterdir())) < archives * (len(killed) + 1) // (kills + 1):
            continue
        for journal in store.journals(pods, "run"):
            pod = store.pod_of(pods, journal)
            # An archive that was killed before is left to its second try.
            name = journal.parents[2].name
            if pod not in killed and name not in killed.values() and store.kill_pod(pod):
                killed[pod] = name
                break
    return list(killed.values())


def undisturbed(folder: Path, archives: list[str]) -> dict:
    """Classify the chips of all archives with one task; names begin with those of the archives."""
    members = []
    for name in archives:
        with tarfile.open(folder / "chips" / name) as archive:
            members += [
                (f"{name}/{Path(member.name).name}", archive.extractfile(member).read())
                for member in archive
            ]
    work_dir = make_work_dir(
        folder / "undisturbed", make_tar(members), folder / "model.h5", {"deploy_batch": str(BATCH)}
    )
    return assert_succeeded(run_task(work_dir)).classified


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--archives", type=int, default=100)
    parser.add_argument("--chips", type=int, default=50)
    parser.add_argument("--tasks", type=int, default=2, help="tasks at a time")
    parser.add_argument("--kill", type=int, default=5, help="tasks to kill")
    parser.add_argument("--slurm", action="store_true", help="on a Slurm of three nodes")
    parser.add_argument(
        "--store", action="store_true", help="with an object store, three at a time"
    )
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="many-archives-"))
    count, tasks = arguments.archives, arguments.tasks
    make_folder(folder, count, arguments.chips)
    if arguments.slurm or arguments.store:
        measure = measure_slurm if arguments.slurm else measure_store
        measure(folder, arguments.chips, arguments.kill)
        shutil.rmtree(folder)
        return
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
