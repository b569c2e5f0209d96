"""New results take the place of earlier ones all at once, whenever the run dies."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from chip_classifier.errors import TaskError
from chip_classifier.output import COMPLETE, Output, put_in_place
from chip_files import REPOSITORY

EARLIER = {"classified.json": "old", "unclassified.json": "old", "preview.html": "old"}
NEW = {"classified.json": "new", "classified.geojson": "new", "preview.html": "new"}

# Replaces the results, as the task does, and dies at the call of the system with a given number.
REPLACE_AND_DIE = """
import os, sys
from pathlib import Path
from chip_classifier.output import COMPLETE, Output, put_in_place
left = int(sys.argv[2])
def dying(call):
    def counted(*arguments, **options):
        global left
        left -= 1
        if left < 0:
            os._exit(9)
        return call(*arguments, **options)
    return counted
for name in ("open", "rename", "replace", "unlink", "rmdir", "mkdir"):
    setattr(os, name, dying(getattr(os, name)))
output = Output(*map(Path, sys.argv[1].split(":")))
output.replace()
output.write_status("success", None)
"""


def make_output(folder: Path, apart: bool) -> Output:
    """Make the output of an earlier run, in which the results of a new one are written.

    `apart`: as in a work directory, where results and logs have folders of their own.
    """
    results, logs = (folder / "results", folder / "logs") if apart else (folder, folder)
    output = Output(folder, results, logs)
    output.make_folders()
    for files, places in ((EARLIER, (results, logs)), (NEW, (output.new_results, output.new_logs))):
        for name, text in files.items():
            (places[name.endswith(".html")] / name).write_text(text)
    output.begin()
    return output


def results_in(output: Output) -> dict[str, str]:
    """Read the results and the page that are in place."""
    names = EARLIER.keys() | NEW.keys()
    paths = [folder / name for folder in {output.results, output.logs} for name in names]
    return {path.name: path.read_text() for path in paths if path.is_file()}


@pytest.mark.parametrize("apart", [True, False], ids=["work directory", "--out"])
def test_a_run_that_dies_while_it_replaces_leaves_whole_results(
    apart: bool, tmp_path: Path
) -> None:
    """At each call that changes a file: old or new ones, and no success that is not there."""
    found = []
    for calls in range(100):
        output = make_output(tmp_path / str(calls), apart)
        places = ":".join(map(str, (output.work_dir, output.results, output.logs)))
        code = subprocess.run(
            [sys.executable, "-c", REPLACE_AND_DIE, places, str(calls)],
            check=False,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        ).returncode
        status = json.loads((output.work_dir / "status.json").read_text())["status"]
        if status == "success":
            assert results_in(output) == NEW
        if code == 0:
            break
        next_run = Output(output.work_dir, output.results, output.logs)
        next_run.begin()
        next_run.make_folders()
        next_run.discard()
        assert results_in(next_run) in (EARLIER, NEW)
        found.append(results_in(next_run))
        left = {path.name for path in next_run.work_dir.rglob("*") if path.is_file()}
        assert left - found[-1].keys() == {"status.json"}
    assert status == "success"
    assert calls > 10
    assert found == sorted(found, key=lambda files: files == NEW)  # first old, then new
    assert found[-1] == NEW and found[0] == EARLIER


def test_results_of_a_stopped_run_replace_none(tmp_path: Path) -> None:
    output = make_output(tmp_path, apart=True)
    output.discard()
    output.new_results.mkdir()
    (output.new_results / "classified.csv").write_text("written behind the stop")
    with pytest.raises(TaskError):
        output.replace()
    assert results_in(output) == EARLIER


def test_a_failed_run_says_whose_the_results_are(tmp_path: Path) -> None:
    output = make_output(tmp_path, apart=True)
    os.utime(output.results / "classified.json", (1e9, 1e9))
    os.utime(output.results / "unclassified.json", (1e9, 1e9))
    output.begin()
    reason = output.fail("It failed.")
    assert reason.startswith(f"It failed. The results in {output.results} are still those of a run")
    assert "of 2001-09-" in reason
    assert json.loads((tmp_path / "status.json").read_text())["reason"] == reason
    assert results_in(output) == EARLIER


@pytest.mark.parametrize("text", ["", "[1]", "{"])
def test_a_damaged_list_of_complete_results_stops_no_further_run(text: str, tmp_path: Path) -> None:
    """As a power failure may leave it; the earlier results stay."""
    (tmp_path / "classified.json").write_text("old")
    (tmp_path / COMPLETE).mkdir()
    (tmp_path / COMPLETE / "names.json").write_text(text)
    put_in_place([tmp_path])
    assert [path.name for path in tmp_path.iterdir()] == ["classified.json"]
