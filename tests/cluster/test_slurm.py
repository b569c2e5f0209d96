"""The documentation's command for Slurm, on a Slurm of three nodes, one of which dies."""

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import chip_files
from chip_files import make_tar, make_work_dir, read_json, run_task, uniform_png
from cluster import slurm
from workflow.test_snakefile import first_chip, times_of_change

pytest.importorskip("snakemake_executor_plugin_slurm", reason="needs tests/requirements.txt")

ARCHIVES = 30
CHIPS, MANY_CHIPS = 6, 3000  # the one with many is there to be killed on the way
PORTS = {"deploy_batch": "1"}
SECONDS = 600


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[slurm.Slurm]:
    """A Slurm of three nodes."""
    if reason := slurm.why_not():
        pytest.skip(reason)
    folder = tmp_path / "slurm"
    folder.mkdir()
    started = slurm.Slurm(folder)
    try:
        started.start()
        yield started
    finally:
        started.stop()


def members(number: int) -> list[tuple[str, bytes]]:
    """Make the chips of an archive; the first archive has many."""
    count = CHIPS if number else MANY_CHIPS
    colours = [(n % 256, number, 255 - n % 251) for n in range(count)]
    return [(f"{n}.png", uniform_png(*colour)) for n, colour in enumerate(colours)]


def test_node_that_dies_costs_nothing(
    cluster: slurm.Slurm, softmax_model: Path, tmp_path: Path
) -> None:
    archives = {f"{number:02}.tar": members(number) for number in range(ARCHIVES)}
    (tmp_path / "chips").mkdir()
    for name, chips in archives.items():
        (tmp_path / "chips" / name).write_bytes(make_tar(chips))
    (tmp_path / "model.h5").write_bytes(softmax_model.read_bytes())
    (tmp_path / "ports.json").write_text(json.dumps(PORTS))
    tasks = tmp_path / "deployed" / "tasks"
    journal = tasks / "00.tar" / "output" / "results" / "resume.jsonl"

    output = (tmp_path / "stdout").open("w")
    with subprocess.Popen(
        slurm.documented_command(), cwd=tmp_path, stderr=subprocess.STDOUT, stdout=output
    ) as process:
        give_up = time.monotonic() + SECONDS
        while not journal.exists() or journal.read_bytes().count(b"\n") < 100:
            assert process.poll() is None
            assert time.monotonic() < give_up
            time.sleep(0.05)
        node = next(node for node in slurm.NODES if runs_on(cluster, node, tasks / "00.tar"))
        cluster.kill_node(node)
        answered = journal.read_bytes().count(b"\n") - 1
        finished = [task / "output" for task in tasks.iterdir() if (task / "done").exists()]
        before = [times_of_change(output) for output in finished]
        process.wait(SECONDS)
    assert process.returncode == 0, (tmp_path / "stdout").read_text()

    # One task on all chips, undisturbed, whose names begin with those of their archives.
    everything = [
        (f"{archive}/{chip}", data) for archive, chips in archives.items() for chip, data in chips
    ]
    work_dir = make_work_dir(tmp_path / "undisturbed", make_tar(everything), softmax_model, PORTS)
    undisturbed = chip_files.assert_succeeded(run_task(work_dir))
    assert read_json(tmp_path / "deployed" / "classified.json") == undisturbed.classified
    summary = read_json(tmp_path / "deployed" / "summary.json")
    assert (summary["complete"], summary["done"]) == (True, ARCHIVES)
    assert [times_of_change(output) for output in finished] == before
    assert answered < MANY_CHIPS
    assert first_chip(tasks / "00.tar") == answered


def runs_on(cluster: slurm.Slurm, node: str, work_dir: Path) -> bool:
    """Return whether the task of a work directory runs on a node."""
    commands = (Path(f"/proc/{pid}/cmdline") for pid in cluster.processes_on(node))
    return any(str(work_dir).encode() in path.read_bytes() for path in commands if path.exists())
