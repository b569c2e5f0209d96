"""The command that runs the task's container."""

import csv
from pathlib import Path

from workflow.run_archive import docker_command


def test_container_gets_its_input_read_only_and_one_gpu(tmp_path: Path) -> None:
    archive = tmp_path / "a.tar"
    (tmp_path / "real.tar").write_text("")
    archive.symlink_to("real.tar")
    command = docker_command("image", tmp_path / "w", [archive], "1")
    assert command[:3] == ["docker", "run", "--rm"]
    assert f"type=bind,source={tmp_path / 'real.tar'},target={archive},readonly" in command
    assert f"type=bind,source={tmp_path / 'w'},target=/mnt/work" in command
    assert command[command.index("--gpus") + 1] == "device=1"
    assert "--gpus" not in docker_command("image", tmp_path / "w", [archive], None)


def test_mounts_of_paths_with_commas_and_quotes() -> None:
    archive, work_dir = Path('/a,b/"c".tar'), Path("/w,1:2")
    command = docker_command("image", work_dir, [archive], None)
    mounts = [command[n + 1] for n, argument in enumerate(command) if argument == "--mount"]
    # Docker reads a line of CSV.
    assert [next(csv.reader([mount])) for mount in mounts] == [
        ["type=bind", f"source={archive}", f"target={archive}", "readonly"],
        ["type=bind", f"source={work_dir}", "target=/mnt/work"],
    ]
