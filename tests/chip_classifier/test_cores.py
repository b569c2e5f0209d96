"""What a control group allows is found: in faked file systems, in a real group of this machine."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from chip_classifier import cores
from chip_classifier.cores import usable_cores, usable_memory
from chip_classifier.pipeline import MOST_BYTES_AHEAD, batches_ahead

REPOSITORY = Path(__file__).parents[2]
MODEL = REPOSITORY / "tests" / "models" / "keras3151_effblock.h5"

V1 = "5:memory:{0}\n4:cpu,cpuacct:{0}\n1:name=systemd:{0}\n0::{0}\n"
V2 = "0::{0}\n"
NO_LIMIT_OF_V1 = 9223372036854771712


def fake_root(folder: Path, groups: str, files: dict[str, object]) -> Path:
    """Make a file system with the group of this process and files below /sys/fs/cgroup."""
    (folder / "proc" / "self").mkdir(parents=True)
    (folder / "proc" / "self" / "cgroup").write_text(groups)
    for name, content in files.items():
        path = folder / "sys" / "fs" / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    return folder


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        pytest.param("", {}, 8, id="no groups"),
        pytest.param(V2.format("/"), {"cpu.max": "200000 100000"}, 2, id="v2, in a container"),
        pytest.param(V2.format("/a"), {"a/cpu.max": "max 100000"}, 8, id="v2, no quota"),
        pytest.param(V2.format("/a"), {"a/cpu.max": "150000 100000"}, 2, id="one and a half"),
        pytest.param(V2.format("/a"), {"a/cpu.max": "1000 100000"}, 1, id="a hundredth"),
        pytest.param(V2.format("/a"), {"a/cpu.max": "6400000 100000"}, 8, id="more than there are"),
        pytest.param(
            V2.format("/a/b"),
            {"a/b/cpu.max": "max 100000", "a/cpu.max": "300000 100000", "other/cpu.max": "1 1"},
            3,
            id="v2, of the group above",
        ),
        pytest.param(
            V2.format("/a/b"),
            {"a/b/cpu.max": "500000 100000", "a/cpu.max": "50000 10000", "cpu.max": "6 1"},
            5,
            id="the smallest counts",
        ),
        pytest.param(V2.format("/../b"), {"cpu.max": "200000 100000"}, 2, id="v2, beside the root"),
        pytest.param(V2.format("/.."), {"cpu.max": "200000 100000"}, 2, id="v2, above the root"),
        pytest.param(
            V1.format("/a"),
            {"cpu/a/cpu.cfs_quota_us": 300000, "cpu/a/cpu.cfs_period_us": 100000},
            3,
            id="v1",
        ),
        pytest.param(
            V1.format("/a"),
            {"cpu/a/cpu.cfs_quota_us": -1, "cpu/a/cpu.cfs_period_us": 100000},
            8,
            id="v1, no quota",
        ),
        pytest.param(
            V1.format("/docker/1f"),
            {"cpu/cpu.cfs_quota_us": 400000, "cpu/cpu.cfs_period_us": 100000},
            4,
            id="v1, in a container with the path of the host",
        ),
        pytest.param(
            V1.format("/a"), {"memory/a/cpu.max": "1 1", "cpu/a/cpu.max": ""}, 8, id="not its files"
        ),
    ],
)
def test_cores_are_those_that_the_quota_allows(
    groups: str,
    files: dict[str, object],
    expected: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cores, "cores_of_affinity", lambda: 8)
    assert usable_cores(fake_root(tmp_path, groups, files)) == expected


@pytest.mark.parametrize(
    ("given", "expected"), [("1", 1), ("0", 1), ("99", 8), ("", 8), ("all", 8)]
)
def test_task_keeps_to_the_cores_that_its_scheduler_names(
    given: str, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cores, "cores_of_affinity", lambda: 8)
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    assert usable_cores(tmp_path) == expected


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("", {}, sys.maxsize),
        (V2.format("/"), {"memory.max": 2**30}, 2**30),
        (V2.format("/a"), {"a/memory.max": "max"}, sys.maxsize),
        (V2.format("/a/b"), {"a/b/memory.max": 2**31, "a/memory.max": 2**30}, 2**30),
        (V1.format("/a"), {"memory/a/memory.limit_in_bytes": 2**28}, 2**28),
        (V1.format("/a"), {"memory/a/memory.limit_in_bytes": NO_LIMIT_OF_V1}, NO_LIMIT_OF_V1),
        (V1.format("/docker/1f"), {"memory/memory.limit_in_bytes": 2**28}, 2**28),
    ],
)
def test_memory_is_what_the_group_allows(
    groups: str, files: dict[str, object], expected: int, tmp_path: Path
) -> None:
    assert usable_memory(fake_root(tmp_path, groups, files)) == expected


def test_without_control_groups_all_is_allowed(tmp_path: Path) -> None:
    """As on macOS, which has no /proc."""
    assert usable_cores(tmp_path) == cores.cores_of_affinity()
    assert usable_memory(tmp_path) == sys.maxsize


@pytest.mark.parametrize(
    ("memory", "batch_bytes", "expected"),
    [
        (sys.maxsize, 2**20, 2),
        (sys.maxsize, MOST_BYTES_AHEAD, 1),
        (2**30, 2**26, 2),
        (2**30, 2**27, 1),
        (2**20, 2**27, 1),  # one always, else nothing could be computed
    ],
)
def test_what_waits_for_the_model_is_an_eighth_of_the_memory_at_most(
    memory: int, batch_bytes: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chip_classifier.cores.usable_memory", lambda: memory)
    assert batches_ahead(batch_bytes) == expected


@contextlib.contextmanager
def group_of_one_core() -> Iterator[Path]:
    """Make a control group of this machine that has time for one core; skip where it cannot be."""
    top = Path("/sys/fs/cgroup")
    group = (top / "cpu" if (top / "cpu").exists() else top) / f"one-core-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    try:
        is_v1 = (group / "cpu.cfs_quota_us").exists()
        quota = (group / "cpu.cfs_quota_us", "100000") if is_v1 else (group / "cpu.max", "100000")
        if not quota[0].exists():
            pytest.skip("control groups have no processor time here")
        quota[0].write_text(quota[1])
        yield group
    finally:
        for _ in range(50):  # a process that has just ended may still be in it
            with contextlib.suppress(OSError):
                group.rmdir()
                break
            time.sleep(0.1)


COMPUTE = """
import numpy as np
from chip_classifier.classifier import Classifier
from chip_classifier.ports import Ports
from chip_classifier.log import Warnings
from chip_classifier.settings import settle
from keras_files.open_model import open_model
model = open_model(MODEL)
classifier = Classifier(model, settle(Ports(size=48), model), 100, Warnings())
classifier(np.zeros((50, 48, 48, 3), np.uint8))
import tensorflow as tf
context = tf.config.threading
print(classifier.device, context.get_intra_op_parallelism_threads(),
      context.get_inter_op_parallelism_threads(), sep=";")
"""


@pytest.mark.skipif(cores.cores_of_affinity() < 2, reason="one core is all there is")
def test_task_in_a_group_of_one_core_takes_one() -> None:
    """The real thing: a process is put into the group, and loads TensorFlow."""
    code = COMPUTE.replace("MODEL", f"__import__('pathlib').Path({str(MODEL)!r})")
    with group_of_one_core() as group:
        script = 'echo $$ > "$0/cgroup.procs" && exec "$@"'
        output = subprocess.run(
            ["sh", "-c", script, str(group), sys.executable, "-c", code],
            cwd=REPOSITORY,
            check=True,
            capture_output=True,
            text=True,
            timeout=300,
        ).stdout
    assert output.split() == ["CPU,", "1", "cores;1;1"]
