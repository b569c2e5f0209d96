"""The documentation's command for Kubernetes, with a store and machines without a shared folder."""

import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from chip_files import assert_succeeded, make_tar, make_work_dir, read_json, run_task, uniform_png
from cluster import store
from workflow.test_snakefile import SNAKEFILE, call, copy_workflow, engine

PORTS = {"deploy_batch": "1"}
PLACE = {
    "type": "Feature",
    "properties": {"feature_id": "0"},
    "geometry": {"type": "Point", "coordinates": [1, 2]},
}
SECONDS = 600


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    """A store, as a client of boto3."""
    if reason := store.why_not():
        pytest.skip(reason)
    with store.running(tmp_path_factory.mktemp("store") / "weed") as running:
        yield running


def test_machines_that_share_nothing_but_a_store(
    client: object, softmax_model: Path, tmp_path: Path
) -> None:
    counts = {"big.tar": 3000, "cut.tar": 5, "small a.tar": 5, "small b.tar.gz": 5}
    archives = {
        name: [(f"{n}.png", uniform_png(n % 256, 40 * seed, 255 - n % 251)) for n in range(chips)]
        for seed, (name, chips) in enumerate(counts.items())
    }
    archives["small a.tar"].append(("notes.txt", b"no chip"))

    def put(name: str, data: bytes) -> None:
        client.put_object(Bucket=store.BUCKET, Key=f"run/{name}", Body=data)

    def get(name: str) -> object:
        answer = client.get_object(Bucket=store.BUCKET, Key=f"run/deployed/{name}")
        return answer["Body"].read().decode()

    whole = {
        name: make_tar(chips, "w:gz" if name.endswith("gz") else "w")
        for name, chips in archives.items()
    }
    for name, data in whole.items():
        put(f"chips/{name}", data[:1000] if name == "cut.tar" else data)
    put(
        "chips/small b.geojson",
        json.dumps({"type": "FeatureCollection", "features": [PLACE]}).encode(),
    )
    put("model.h5", softmax_model.read_bytes())
    put("ports.json", json.dumps(PORTS).encode())
    clone, pods = tmp_path / "clone", tmp_path / "pods"
    store.make_clone(clone)
    pods.mkdir()
    options = {"cwd": clone, "env": store.environment(pods), "stderr": subprocess.STDOUT}
    command = store.documented_command("run")

    # A machine dies on the way, and one archive is cut off.
    with (tmp_path / "first").open("w") as output:
        process = subprocess.Popen(command, stdout=output, **options)
    give_up = time.monotonic() + SECONDS
    while not any(
        journal.read_bytes().count(b"\n") > 100
        for journal in store.journals(pods, "run", "big.tar")
    ):
        assert process.poll() is None, (tmp_path / "first").read_text()
        assert time.monotonic() < give_up
        time.sleep(0.05)
    (journal,) = store.journals(pods, "run", "big.tar")
    assert store.kill_pod(store.pod_of(pods, journal))
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
    again = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True, **options)
    assert again.returncode == 0, again.stdout
    assert len(list(pods.iterdir())) == len(archives) + 2
    everything = [
        (f"{archive}/{chip}", data) for archive, chips in archives.items() for chip, data in chips
    ]
    work_dir = make_work_dir(tmp_path / "undisturbed", make_tar(everything), softmax_model, PORTS)
    assert json.loads(get("classified.json")) == assert_succeeded(run_task(work_dir)).classified
    listed = client.list_objects_v2(Bucket=store.BUCKET, Prefix="run/deployed/")["Contents"]
    merged = {item["Key"].removeprefix("run/deployed/") for item in listed}
    results = {f"classified.{kind}" for kind in ("json", "geojson", "csv")}
    results |= {"summary.json", "summary.html", ".merged"}
    assert {name for name in merged if "/" not in name} == results
    (feature,) = json.loads(get("classified.geojson"))["features"]
    assert feature["properties"]["archive"] == "small b.tar.gz"
    assert "notes.txt" in get("summary.html")  # the warning of a task that succeeded
    assert "</html>" in get("tasks/big.tar/output/logs/preview.html")
    third = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True, **options)
    assert "Nothing to be done" in third.stdout


def test_archives_in_a_store_and_results_in_a_folder(
    client: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("chips/a.tar", "chips/b.tar", "model.h5"):
        client.put_object(Bucket=store.BUCKET, Key=f"mixed/{name}", Body=b"{}")
    copy_workflow(tmp_path)  # with a stand-in for the task
    for name, value in store.environment(tmp_path / "pods").items():
        monkeypatch.setenv(name, value)
    inputs = {
        name: f"s3://{store.BUCKET}/mixed/{file}"
        for name, file in (("archives", "chips"), ("model", "model.h5"))
    }
    endpoint = ("--storage-s3-endpoint-url", store.ENDPOINT)
    done = call(engine(tmp_path, *endpoint, snakefile=tmp_path / SNAKEFILE, **inputs))
    assert done.returncode == 0, done.stdout
    merged = read_json(tmp_path / "deployed" / "classified.json")
    assert set(merged) == {"a.tar/a", "b.tar/a"}
