"""The Snakemake workflow, run by the real engine: complete, with failures, killed, called again."""

import contextlib
import csv
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

import chip_files
from chip_files import (
    REPOSITORY,
    TIMEOUT_SECONDS,
    TRY_AGAIN,
    make_tar,
    make_work_dir,
    read_json,
    run_task,
    uniform_png,
)

pytest.importorskip("snakemake", reason="needs snakemake: pip install -r tests/requirements.txt")

SNAKEFILE = "workflow/Snakefile"
PACKAGES = ("workflow", "chip_classifier", "keras_files")


def engine(
    folder: Path, *options: str, cores: int | None = 2, retries: int = 1, **settings: object
) -> list[str]:
    """Return the command line of the workflow for a folder that holds chips/ and model.h5.

    Args:
        folder: becomes the working directory of the command.
        options: further options of Snakemake.
        cores: of this machine, for its tasks; None on a cluster.
        retries: further tries of a failed task.
        settings: what goes behind --config besides archives and model; "snakefile" is the workflow,
            "interpreter" the Python that runs Snakemake.
    """
    snakefile = settings.pop("snakefile", REPOSITORY / SNAKEFILE)
    interpreter = settings.pop("interpreter", sys.executable)
    named = {"archives": "chips", "model": "model.h5", **settings}
    command = [str(interpreter), "-m", "snakemake", "--snakefile", str(snakefile)]
    command += ["--directory", str(folder), *(["--cores", str(cores)] if cores else [])]
    command += [
        "--keep-going",
        "--rerun-incomplete",
        "--retries",
        str(retries),
        *options,
        "--config",
    ]
    return command + [f"{name}={value}" for name, value in named.items()]


def call(command: list[str]) -> subprocess.CompletedProcess:
    """Run the engine to its end; stdout and stderr come as one text."""
    return subprocess.run(
        command,
        check=False,
        encoding="utf-8",
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        timeout=TIMEOUT_SECONDS,
    )


def times_of_change(folder: Path) -> dict[str, int]:
    """Return the time of change of every file below a directory, links aside."""
    return {
        str(path.relative_to(folder)): path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


# ------------------------------------------------------------------------------- the task itself


def coloured(seed: int, chips: int) -> list[tuple[str, bytes]]:
    """Make chips of one colour, the last of them broken: their names and bytes."""
    colours = np.random.default_rng(seed).integers(0, 256, (chips - 1, 3)).tolist()
    members = [(f"{n}.png", uniform_png(*colour)) for n, colour in enumerate(colours)]
    return [*members, ("broken.jpg", b"")]


def pid_of_task(work_dir: Path) -> int:
    """Find the process of a task."""
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            arguments = (process / "cmdline").read_bytes().split(b"\0")
            if arguments[1:4:2] == [os.fsencode(chip_files.SCRIPT), os.fsencode(work_dir)]:
                return int(process.name)
    raise ProcessLookupError(work_dir)


def kill_in_the_middle(work_dir: Path, answered: int) -> int:
    """Send SIGKILL to a task as soon as it has answered more chips; give how many it has by then.

    Args:
        work_dir: of the task, which has batches of one chip.
        answered: the number of chips that an earlier try has answered.
    """
    journal = work_dir / "output" / "results" / "resume.jsonl"
    give_up = time.monotonic() + TIMEOUT_SECONDS
    while not journal.exists() or journal.read_bytes().count(b"\n") < answered + 30:
        assert time.monotonic() < give_up
        time.sleep(0.01)
    pid = pid_of_task(work_dir)
    os.kill(pid, signal.SIGSTOP)  # so that the next try does not begin before the look at this one
    time.sleep(0.1)
    answered = journal.read_bytes().count(b"\n") - 1
    os.kill(pid, signal.SIGKILL)
    return answered


def first_chip(work_dir: Path) -> int | None:
    """Return the number of the first chip that the latest run of a task classified."""
    log = (work_dir / "output" / "logs" / "out.log").read_text()
    found = re.search(r"Chips (\d+) to", log)
    return int(found[1]) if found else None


def test_second_call_finishes_what_is_missing(softmax_model: Path, tmp_path: Path) -> None:
    counts = {"east.tar": 20, "east.tar.gz": 20, "killed.tar": 1500, "truncated.tar": 20}
    chips = {name: coloured(seed, count) for seed, (name, count) in enumerate(counts.items())}
    archives = {
        name: make_tar(members, "w:gz" if name.endswith("gz") else "w")
        for name, members in chips.items()
    }
    ports = {"classes": "blue, red", "deploy_batch": "1"}
    (tmp_path / "chips").mkdir()
    for name, data in archives.items():
        (tmp_path / "chips" / name).write_bytes(data)
    (tmp_path / "chips" / "truncated.tar").write_bytes(archives["truncated.tar"][:9000])
    (tmp_path / "ports.json").write_text(json.dumps(ports))
    place = {"type": "Point", "coordinates": [1, 2]}
    feature = {"type": "Feature", "properties": {"feature_id": "0"}, "geometry": place}
    reference = {"type": "FeatureCollection", "features": [feature]}
    (tmp_path / "chips" / "east.geojson").write_text(json.dumps(reference))
    out = tmp_path / "deployed"
    killed = out / "tasks" / "killed.tar"
    command = engine(tmp_path, model=softmax_model, ports="ports.json")

    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        first_try = kill_in_the_middle(killed, 0)
        second_try = kill_in_the_middle(killed, first_try)
    assert process.returncode == 1
    assert first_chip(killed) == first_try  # the engine's second try went on from the first
    summary = read_json(out / "summary.json")
    assert (summary["complete"], summary["archives"], summary["done"]) == (False, 4, 2)
    assert summary["tasks"]["east.tar"]["status"] == "done"
    assert summary["tasks"]["killed.tar"]["status"] == "failed"
    assert "ended from outside" in summary["tasks"]["killed.tar"]["reason"]
    assert "cut off or damaged" in summary["tasks"]["truncated.tar"]["reason"]
    assert not (out / "classified.json").exists()
    partial = read_json(out / "classified.partial.json")
    assert {name.partition("/")[0] for name in partial} == {"east.tar", "east.tar.gz"}

    (tmp_path / "chips" / "truncated.tar").write_bytes(archives["truncated.tar"])
    finished = [out / "tasks" / name for name in ("east.tar", "east.tar.gz")]
    before = [times_of_change(work_dir) for work_dir in finished]
    second = call(command)
    assert second.returncode == 0, second.stdout
    assert [times_of_change(work_dir) for work_dir in finished] == before
    assert first_chip(killed) == second_try
    assert not (out / "classified.partial.json").exists()
    # One task on all chips, whose names begin with those of their archives.
    everything = make_tar([(f"{a}/{chip}", data) for a in chips for chip, data in chips[a]])
    work_dir = make_work_dir(tmp_path / "whole", everything, softmax_model, ports)
    undisturbed = run_task(work_dir)
    assert undisturbed.code == 0, undisturbed.stderr
    assert read_json(out / "classified.json") == undisturbed.classified
    assert read_json(out / "unclassified.json") == undisturbed.unclassified
    features = read_json(out / "classified.geojson")["features"]
    answers = read_json(out / "classified.json")
    assert [feature["properties"] for feature in features] == [
        {"archive": name, "feature_id": "0", **answers[f"{name}/0"]}
        for name in ("east.tar", "east.tar.gz")
    ]
    summary = read_json(out / "summary.json")
    counts = summary["tasks"]["killed.tar"]
    assert (counts["status"], counts["chips"], counts["unclassified"]) == ("done", 1500, 1)
    assert (summary["complete"], summary["done"], summary["chips"]) == (True, 4, 1560)

    before = times_of_change(out)
    third = call(command)
    assert third.returncode == 0
    assert "Nothing to be done" in third.stdout
    assert times_of_change(out) == before


def test_every_kind_of_archive_is_done_and_the_rest_is_named(
    softmax_model: Path, tmp_path: Path
) -> None:
    """A tar, a zip, a folder; one file of features for all; what is no archive."""
    members = {
        name: [(f"c/{name}{n}.png", uniform_png(n, 0, 9)) for n in (1, 200)] for name in "tzf"
    }
    chips = tmp_path / "chips"
    for name, data in members["f"]:
        (chips / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
        (chips / "folder" / name).write_bytes(data)
    (chips / "empty").mkdir()
    (chips / "tar.tar").write_bytes(make_tar([*members["t"], ("c/note.txt", b"")]))
    with zipfile.ZipFile(chips / "zip.zip", "w") as archive:
        for name, data in [*members["z"], ("c/other.txt", b"")]:
            archive.writestr(name, data)
    for name in ("loose.png", "old.tar.zst", "readme"):
        (chips / name).write_bytes(b"")
    place = {"type": "Point", "coordinates": [1, 2]}
    names = ["t1", "z200", "nowhere"]
    features = [{"type": "Feature", "properties": {"id": n}, "geometry": place} for n in names]
    reference = {"type": "FeatureCollection", "features": features}
    (chips / "ref.geojson").write_text(json.dumps(reference))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.h5").write_bytes(softmax_model.read_bytes())
    (tmp_path / "model" / "ports.json").write_text('{"classes": "blue, red"}')  # as it was trained
    (tmp_path / "ports.json").write_text('{"deploy_batch": "1", "sice": "4"}')
    command = engine(tmp_path, model="model/model.h5", ports="ports.json")
    done = call(command)
    assert done.returncode == 0, done.stdout
    out = tmp_path / "deployed"
    answers = {"1": "blue", "200": "red"}
    expected = {f"tar.tar/t{n}": name for n, name in answers.items()}
    expected |= {f"zip.zip/z{n}": name for n, name in answers.items()}
    expected |= {f"folder/c/f{n}": name for n, name in answers.items()}
    merged = read_json(out / "classified.json")
    assert {name: answer["class"] for name, answer in merged.items()} == expected
    found = [one["properties"] for one in read_json(out / "classified.geojson")["features"]]
    assert [(one.get("archive"), one["id"], one.get("class")) for one in found] == [
        ("tar.tar", "t1", "blue"),
        ("zip.zip", "z200", "red"),
        (None, "nowhere", None),
    ]
    with (out / "classified.csv").open(newline="") as file:
        table = {row["chip"]: row for row in csv.DictReader(file)}
    assert {chip: row["class"] for chip, row in table.items()} == expected
    assert table["zip.zip/z200"]["longitude"] == "1.00000000"
    summary = read_json(out / "summary.json")
    assert summary["passed_over"].keys() == {"empty", "loose.png", "old.tar.zst", "readme"}
    warnings = {one["warning"][:20]: one["archives"] for one in summary["warnings"]}
    assert warnings["1 file(s) of the arc"] == 2  # though they name other files
    assert warnings["ports.json sets 'sic"] == 3
    lines = done.stdout.splitlines()
    assert lines[-1].startswith("3 of 3 archives are done, 6 chips of them (0 unclassified)")
    told = [line for line in lines if line.startswith("Warning")]
    assert len(told) == len(warnings) == 6
    assert told[0].startswith("Warning: 1 of the 3 features in the file for all archives match no ")
    assert told[-1].startswith("Warning in tar.tar and 1 more archives: 1 file(s) of the archive")

    # What is done is not done again, but for a folder in which a chip was changed.
    (chips / "folder" / "c" / "f1.png").write_bytes(uniform_png(230, 0, 9))
    again = call(command)
    assert again.returncode == 0, again.stdout
    assert read_json(out / "classified.json")["folder/c/f1"]["class"] == "red"
    assert again.stdout.count("(Rule: classify)") == 1


# --------------------------------------------------------------------- the engine, with a stand-in

# Reads its "archive", {"seconds": how long it takes, "fails": a reason, "code": the exit code,
# "dies": as its machine does}, and notes its runs.
STAND_IN = """
import json, os, sys, time
from pathlib import Path

work_dir = Path(sys.argv[2])
chips = (work_dir / "input" / "chips").iterdir()
archive, *beside = sorted(chips, key=lambda path: path.suffix == ".geojson")
order = json.loads(archive.read_text())
if "dies" in order:
    os.kill(os.getppid(), 9)
    sys.exit()
note = {"gpu": os.environ.get("CUDA_VISIBLE_DEVICES"), "start": time.time()}
note["beside"] = [path.name for path in beside]
note["cores"] = os.environ.get("OMP_NUM_THREADS")
(work_dir / "status.json").write_text('{"status": "failed", "reason": "killed"}')
(work_dir / "output").mkdir(exist_ok=True)
time.sleep(order.get("seconds", 0))
with open(work_dir / "runs", "a") as runs:
    print(json.dumps({**note, "end": time.time()}), file=runs)
if "fails" in order:
    failed = {"status": "failed", "reason": order["fails"]}
    (work_dir / "status.json").write_text(json.dumps(failed))
    sys.exit(order.get("code", 1))
results = work_dir / "output" / "results"
results.mkdir(parents=True, exist_ok=True)
(results / "classified.json").write_text('{\\n"a": {"class": "0", "certainty": 1.0}\\n}\\n')
(work_dir / "status.json").write_text('{"status": "success", "reason": null}')
"""


def copy_workflow(folder: Path) -> None:
    """Copy the workflow to a folder, with a stand-in in the place of the task."""
    ignored = shutil.ignore_patterns("__pycache__")
    for name in PACKAGES:
        shutil.copytree(REPOSITORY / name, folder / name, ignore=ignored)
    (folder / chip_files.SCRIPT.name).write_text(STAND_IN)


@pytest.fixture
def stand_in(tmp_path: Path) -> Path:
    """A folder with a copy of the workflow, in which a stand-in takes the place of the task."""
    (tmp_path / "chips").mkdir()
    (tmp_path / "model.h5").write_text("")
    copy_workflow(tmp_path)
    return tmp_path


def order(folder: Path, name: str, **content: object) -> None:
    """Put an "archive" for the stand-in into the folder of archives."""
    (folder / "chips" / name).write_text(json.dumps(content))


def stand_in_engine(folder: Path, *options: str, **settings: object) -> list[str]:
    """Return the command line of the workflow with the stand-in."""
    return engine(folder, *options, snakefile=folder / SNAKEFILE, **settings)


def runs_of(folder: Path, name: str) -> list[dict]:
    """Return what the stand-in noted of its runs on an archive."""
    runs = folder / "deployed" / "tasks" / name / "runs"
    return [json.loads(line) for line in runs.read_text().splitlines()]


def python_that_sees(folder: Path, gpus: int) -> Path:
    """Make a Python whose TensorFlow, if it is asked for them, sees so many GPUs."""
    python = folder / "python"
    python.write_text(f'#!/bin/sh\n[ "$1" = -c ] && echo {gpus} || exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return python


def test_each_gpu_has_one_task_at_a_time(stand_in: Path) -> None:
    names = [f"{number}.tar" for number in range(6)]
    for name in names:
        order(stand_in, name, seconds=0.5)
    python = python_that_sees(stand_in, 2)
    done = call(
        stand_in_engine(stand_in, "--set-threads", "classify=1", cores=4, gpus="3,5", python=python)
    )
    assert done.returncode == 0, done.stdout
    runs = [run for name in names for run in runs_of(stand_in, name)]
    assert len(runs) == len(names)
    for gpu in ("3", "5"):
        spans = sorted((run["start"], run["end"]) for run in runs if run["gpu"] == gpu)
        assert spans
        for (_, end), (start, _) in itertools.pairwise(spans):
            assert end <= start


def test_gpus_that_tensorflow_does_not_see_are_told_before_any_task(stand_in: Path) -> None:
    order(stand_in, "a.tar")
    done = call(stand_in_engine(stand_in, gpus="0,1"))
    assert done.returncode == 1
    assert "gpus=0,1 names 2, but TensorFlow sees 0 of them" in done.stdout
    assert not (stand_in / "deployed" / "tasks").exists()


def test_a_task_has_all_cores_or_its_share_and_is_told_so(stand_in: Path) -> None:
    names = ["a.tar", "b.tar"]
    for name in names:
        order(stand_in, name, seconds=3)
    done = call(stand_in_engine(stand_in, cores=3))
    assert done.returncode == 0, done.stdout
    (first,), (second,) = sorted((runs_of(stand_in, n) for n in names), key=lambda r: r[0]["start"])
    assert first["cores"] == second["cores"] == "3"
    assert first["end"] <= second["start"]
    assert re.search(r"1 of 2 archives done, 0\.\d chips/s, 0:00:\d\d left", done.stdout)


def test_names_with_blanks_quotes_and_wildcards(stand_in: Path) -> None:
    names = ["a b.tar", "a'b\"$HOME.TGZ", "[a]*?.tar.gz", "ä#%.tar.xz", "a,b:c.tar"]
    for name in [*names, ".hidden.tar", "readme.txt"]:
        order(stand_in, name)
    (stand_in / "its venv").symlink_to(sys.prefix)
    interpreter = stand_in / "its venv" / "bin" / "python"
    done = call(stand_in_engine(stand_in, out="out put", interpreter=interpreter))
    assert done.returncode == 0, done.stdout
    merged = read_json(stand_in / "out put" / "classified.json")
    assert set(merged) == {f"{name}/a" for name in names}


def test_archive_that_no_task_can_be_made_of_costs_no_other(stand_in: Path) -> None:
    chips = stand_in / "chips"
    order(stand_in, "good.tar")
    order(stand_in, "beside.tar")
    for name in ("beside.geojson", "dangling.tar"):
        (chips / name).symlink_to("nowhere")
    (chips / "itself.tar").symlink_to("itself.tar")
    (chips / "{wild}.tar").write_text("{}")
    Path(os.fsdecode(os.fsencode(chips) + b"/latin-\xe4.tar")).write_text("{}")
    done = call(stand_in_engine(stand_in))
    assert done.returncode == 1
    first, *reasons = done.stdout.splitlines()[-6:]
    assert first.startswith("1 of 6 archives are done, 1 chips of them (0 unclassified): ")
    unreadable = "{} cannot be read ({}): mend or remove the link.".format
    assert dict(reason.split(": ", 1) for reason in reasons) == {
        "beside.tar": unreadable("beside.geojson", "No such file or directory"),
        "dangling.tar": unreadable("dangling.tar", "No such file or directory"),
        "itself.tar": unreadable("itself.tar", "Too many levels of symbolic links"),
        r"latin-\xe4.tar": "The name of the archive is not UTF-8: rename it.",
        "{wild}.tar": "The name of the archive has a brace or a line break, which Snakemake takes "
        "for a pattern: rename it.",
    }
    assert list(read_json(stand_in / "deployed" / "classified.partial.json")) == ["good.tar/a"]


def test_final_failure_is_not_tried_again_any_other_is(stand_in: Path) -> None:
    order(stand_in, "final.tar", fails="The archive is damaged.")
    order(stand_in, "stopped.tar", fails="The task was stopped.", code=TRY_AGAIN)
    order(stand_in, "well.tar")
    order(stand_in, "lost.tar", dies=True)
    done = call(stand_in_engine(stand_in, retries=2))
    assert done.returncode == 1
    assert [len(runs_of(stand_in, n)) for n in ("final.tar", "stopped.tar", "well.tar")] == [
        1,
        3,
        1,
    ]
    final, lost, stopped = done.stdout.splitlines()[-3:]
    assert final == "final.tar: The archive is damaged."
    assert lost.startswith("lost.tar: Tries of the task that ended without a word: 3.")
    assert stopped == "stopped.tar: The task was stopped."

    # When only final failures are left, the summary is told again, and then the mended one is done.
    order(stand_in, "stopped.tar")
    order(stand_in, "lost.tar")
    again = call(stand_in_engine(stand_in, retries=2))
    assert again.returncode == 1
    assert again.stdout.splitlines()[-1] == "final.tar: The archive is damaged."
    assert [len(runs_of(stand_in, n)) for n in ("final.tar", "stopped.tar", "well.tar")] == [
        1,
        4,
        1,
    ]
    order(stand_in, "final.tar")
    assert call(stand_in_engine(stand_in)).returncode == 0
    assert len(read_json(stand_in / "deployed" / "classified.json")) == 4


def test_features_lie_beside_their_archive_and_belong_to_its_input(stand_in: Path) -> None:
    names = ["a.tar", "b.TAR.gz", "c.tar"]
    for name in names:
        order(stand_in, name)
    for name in ("a.geojson", "b.geojson", "other.geojson"):
        (stand_in / "chips" / name).write_text("{}")
    done = call(stand_in_engine(stand_in))
    assert done.returncode == 0, done.stdout
    assert [runs_of(stand_in, name)[0]["beside"] for name in names] == [
        ["a.geojson"],
        ["b.geojson"],
        [],
    ]
    assert re.findall(r"(\S+) is not used", done.stdout) == ["other.geojson"]

    (stand_in / "chips" / "c.geojson").write_text("{}")
    (stand_in / "chips" / "a.geojson").write_text("{ }")
    assert call(stand_in_engine(stand_in)).returncode == 0
    assert [len(runs_of(stand_in, name)) for name in names] == [2, 1, 2]


def test_killed_engine_leaves_tasks_that_are_not_run_again(stand_in: Path) -> None:
    order(stand_in, "finishes-before.tar", seconds=1)
    order(stand_in, "still-runs.tar", seconds=8)
    command = stand_in_engine(stand_in, "--set-threads", "classify=1")
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    tasks = stand_in / "deployed" / "tasks"
    give_up = time.monotonic() + TIMEOUT_SECONDS
    while len(list(tasks.glob("*/status.json"))) < 2:
        assert time.monotonic() < give_up
        time.sleep(0.01)
    process.kill()
    process.wait()
    while not (tasks / "finishes-before.tar" / "output").exists():
        assert time.monotonic() < give_up
        time.sleep(0.01)
    assert call([*command[:-2], "--unlock", *command[-3:]]).returncode == 0
    again = call(command)
    assert again.returncode == 0, again.stdout
    for name in ("finishes-before.tar", "still-runs.tar"):
        assert len(runs_of(stand_in, name)) == 1


def test_changes_between_calls(stand_in: Path) -> None:
    out = stand_in / "deployed"
    order(stand_in, "old.tar")
    order(stand_in, "changed.tar")
    assert call(stand_in_engine(stand_in)).returncode == 0
    assert read_json(out / "summary.json")["complete"]

    # A new archive that fails: the complete result stays, and is said to be of the others.
    complete = {name: (out / name).read_bytes() for name in ("classified.json",)}
    order(stand_in, "new.tar", fails="No such luck.")
    order(stand_in, "changed.tar", seconds=0)
    failed = call(stand_in_engine(stand_in))
    assert failed.returncode == 1
    assert "2 of 3 archives are done" in failed.stdout
    assert "new.tar: No such luck." in failed.stdout
    runs = [len(runs_of(stand_in, name)) for name in ("old.tar", "changed.tar", "new.tar")]
    assert runs == [1, 2, 1]
    assert {name: (out / name).read_bytes() for name in complete} == complete
    assert read_json(out / "summary.json")["merged"]["archives"] == ["changed.tar", "old.tar"]
    assert "those of an earlier call, of 2 archives" in failed.stdout
    partial = read_json(out / "classified.partial.json")
    assert list(partial) == ["changed.tar/a", "old.tar/a"]
    assert read_json(out / "summary.json")["tasks"]["new.tar"] == {
        "status": "failed",
        "reason": "No such luck.",
    }

    # Without it, and with another model, which is older than the results.
    (stand_in / "chips" / "new.tar").unlink()
    (stand_in / "other.h5").write_text("other")
    os.utime(stand_in / "other.h5", (0, 0))
    assert call(stand_in_engine(stand_in, model="other.h5")).returncode == 0
    assert list(read_json(out / "classified.json")) == ["changed.tar/a", "old.tar/a"]
    assert not (out / "classified.partial.json").exists()
    assert [len(runs_of(stand_in, name)) for name in ("old.tar", "changed.tar")] == [2, 3]

    # A typo in ports.json costs nothing; a merged result that was taken away is made again.
    before = times_of_change(out)
    (stand_in / "typo.json").write_text('{"size": "big"}')
    typo = call(stand_in_engine(stand_in, model="other.h5", ports="typo.json"))
    assert typo.returncode == 1
    assert "typo.json: The port size must be" in typo.stdout
    assert times_of_change(out) == before
    (out / "classified.json").unlink()
    assert call(stand_in_engine(stand_in, model="other.h5")).returncode == 0
    assert list(read_json(out / "classified.json")) == ["changed.tar/a", "old.tar/a"]

    # Other GPUs change no answer, another backend does.
    gpu = {"gpus": 0, "python": python_that_sees(stand_in, 1)}
    assert call(stand_in_engine(stand_in, model="other.h5", **gpu)).returncode == 0
    assert [len(runs_of(stand_in, name)) for name in ("old.tar", "changed.tar")] == [2, 3]
    theano = stand_in_engine(stand_in, model="other.h5", **gpu, trained_with="theano")
    assert call(theano).returncode == 0
    assert [len(runs_of(stand_in, name)) for name in ("old.tar", "changed.tar")] == [3, 4]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": ""}, "Set model: "),
        ({"archives": "workflow"}, "holds no archive"),
        ({"archives": "missing"}, "is no folder"),
        ({"archives": "model.h5"}, "is no folder"),
        ({"out": "{}"}, "Rename"),
    ],
)
def test_wrong_settings_are_explained(
    settings: dict[str, str], message: str, stand_in: Path
) -> None:
    order(stand_in, "a.tar")
    wrong = call(stand_in_engine(stand_in, **settings))
    assert wrong.returncode == 1
    assert message in wrong.stdout
    assert "Traceback" not in wrong.stdout
