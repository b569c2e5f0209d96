"""The task as a process: truth beside the chips, and their place on the map."""

import base64
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin
from rasterio.warp import transform

from chip_files import (
    REPOSITORY,
    Run,
    assert_failed,
    assert_succeeded,
    command,
    fail_before_tensorflow,
    make_tar,
    make_work_dir,
    png,
    run_task,
    uniform_png,
)

PORTS = {"classes": "Red, Blue", "preprocessing": "none"}
RED, BLUE = (200, 0, 0), (0, 0, 200)


def make_run(
    folder: Path,
    model: Path,
    chips: Mapping[str, tuple[int, int, int]],
    reference: Sequence[dict] | str | None = None,
    ports: Mapping[str, str] | None = None,
) -> Path:
    """Make a work directory of chips of one color, with the features they were cut at."""
    archive = make_tar([(name, uniform_png(*color)) for name, color in chips.items()])
    work_dir = make_work_dir(folder, archive, model, {**PORTS, **(ports or {})})
    if reference is not None:
        text = reference if isinstance(reference, str) else collection(reference)
        (work_dir / "input" / "chips" / "ref.geojson").write_text(text)
    return work_dir


def collection(features: Sequence[dict], **members: object) -> str:
    """Write features as a collection."""
    return json.dumps({"type": "FeatureCollection", **members, "features": list(features)})


def feature(name: str, x: float, **properties: object) -> dict:
    """Make a feature for a chip: a square of a thousandth of a degree, counterclockwise."""
    ring = [[x, 1], [x + 0.001, 1], [x + 0.001, 1.001], [x, 1.001], [x, 1]]
    geometry = {"type": "Polygon", "coordinates": [ring]}
    properties = {"feature_id": name, **properties}
    return {"type": "Feature", "properties": properties, "geometry": geometry}


def truth_lines(run: Run) -> list[str]:
    """Return what out.log says of the truth."""
    return [line.partition("Truth: ")[2] for line in run.log.splitlines() if "Truth: " in line]


def written_features(run: Run) -> list[dict] | None:
    """Return the features of classified.geojson, None if it was not written."""
    path = run.work_dir / "output" / "results" / "classified.geojson"
    return json.loads(path.read_text())["features"] if path.exists() else None


def test_truth_from_the_folders(tmp_path: Path, softmax_model: Path) -> None:
    chips = {"chips/Red/1.png": RED, "chips/Red/2.png": BLUE, "chips/Blue/3.png": BLUE}
    run = assert_succeeded(run_task(make_run(tmp_path / "w", softmax_model, chips)))
    assert set(run.classified) == {"Red/1", "Red/2", "Blue/3"}
    assert truth_lines(run) == [
        "accuracy 0.6667: 2 of 3 chips are right (truth from the folders' names)",
        "class 'Red': 2 chips, precision 1.0000, recall 0.5000, F1 0.6667",
        "class 'Blue': 1 chips, precision 0.5000, recall 1.0000, F1 0.6667",
        "1 of class 'Red' got 'Blue'",
    ]
    assert written_features(run) is None


@pytest.mark.parametrize("probabilities", ["False", "True"])
def test_features_get_the_answers(tmp_path: Path, softmax_model: Path, probabilities: str) -> None:
    chips = {f"chips/{n}.png": (RED, BLUE)[n % 2] for n in range(6)}
    reference = [feature("4", 0.4, class_name="Red", owner="x"), feature("lost", 0.9)]
    reference += [feature(str(n), n / 10, class_name="Blue") for n in range(3)]
    ports = {"probabilities": probabilities}
    work_dir = make_run(tmp_path / "w", softmax_model, chips, reference, ports)
    run = assert_succeeded(run_task(work_dir))
    expected = [
        {**one, "properties": {**one["properties"], **run.classified.get(name, {})}}
        for one in reference
        for name in [one["properties"]["feature_id"]]
    ]
    assert written_features(run) == expected
    assert expected[0]["properties"]["class"] == "Red"
    assert ("probabilities" in expected[0]["properties"]) == (probabilities == "True")
    assert "class" not in expected[1]["properties"]
    assert truth_lines(run)[0].startswith("accuracy 0.5000: 2 of 4 chips are right (truth from ref")
    assert "Features in ref.geojson: 5, matched by feature_id" in run.log
    assert "Features without a chip, left as they are: 1" in run.log
    assert "Chips without a feature: 2" in run.log


@pytest.mark.parametrize(
    ("reference", "warning", "writes"),
    [
        ([feature("other", 1, class_name="Red")], "None of the 1 features in ref.geojson", True),
        ([feature("1", 1, class_name="Pink")], "a class_name that is none of the classes", True),
        (
            collection([feature("1", 1)], crs={"properties": {"name": "EPSG:32633"}}),
            "ref.geojson is in EPSG:32633, GeoJSON is in WGS 84",
            False,
        ),
        ([feature("1", 500_000)], "is in coordinates that are no longitudes and latitudes", False),
        (collection([feature("1", 1)] * 2)[:-99], "ref.geojson is damaged after feature 1", False),
    ],
)
def test_a_reference_that_may_be_wrong_is_warned_about(
    tmp_path: Path, softmax_model: Path, reference: object, warning: str, writes: bool
) -> None:
    run = run_task(make_run(tmp_path / "w", softmax_model, {"chips/1.png": RED}, reference))
    assert_succeeded(run)
    assert any(warning in line for line in run.warnings())
    assert (written_features(run) is not None) == writes
    assert truth_lines(run) == []


def test_a_file_that_is_no_reference_fails_at_once(tmp_path: Path, softmax_model: Path) -> None:
    work_dir = make_run(tmp_path / "w", softmax_model, {"chips/1.png": RED}, "{}")
    assert "ref.geojson is no GeoJSON FeatureCollection" in fail_before_tensorflow(work_dir)


def test_results_of_an_earlier_run_stay_after_a_failure(
    tmp_path: Path, softmax_model: Path
) -> None:
    work_dir = make_run(tmp_path / "w", softmax_model, {"chips/1.png": RED}, [feature("1", 1)])
    results = work_dir / "output" / "results"
    results.mkdir(parents=True)
    (results / "classified.geojson").write_text("of the earlier run")
    (work_dir / "input" / "chips" / "chips.tar").write_bytes(b"")
    assert_failed(run_task(work_dir))
    assert (results / "classified.geojson").read_text() == "of the earlier run"


def test_a_chip_without_class_leaves_its_feature_as_it_is(
    tmp_path: Path, softmax_model: Path
) -> None:
    reference = [feature("1", 1, class_name="Red"), feature("2", 2, class_name="Red")]
    work_dir = make_work_dir(
        tmp_path / "w",
        make_tar([("chips/1.png", b"no image"), ("chips/2.png", uniform_png(*RED))]),
        softmax_model,
        PORTS,
    )
    (work_dir / "input" / "chips" / "ref.geojson").write_text(collection(reference))
    run = run_task(work_dir)
    assert run.code == 0
    assert written_features(run)[0] == reference[0]
    assert written_features(run)[1]["properties"]["class"] == "Red"
    assert np.isclose(float(truth_lines(run)[0].split()[1].rstrip(":")), 1)


# ------------------------------------------------------------- tif chips that say where they are

# Coordinate system -> x and y of the upper left corner, size of a pixel in its unit.
SYSTEMS = {
    "EPSG:32633": (5e5, 5e6, 0.5),
    "EPSG:4326": (14.9, 45.2, 1e-5),
    "EPSG:3035": (4.8e6, 2.5e6, 2),
}


def geotif(system: str, number: int) -> bytes:
    """Make a chip in a coordinate system, red if its number is even."""
    x, y, pixel = SYSTEMS[system]
    color = (RED, BLUE)[number % 2]
    profile = {"driver": "GTiff", "width": 6, "height": 4, "count": 3, "dtype": "uint8"}
    place = from_origin(x + 7 * number * pixel, y, pixel, pixel)
    with rasterio.MemoryFile() as file:
        with file.open(**profile, crs=system, transform=place) as image:
            image.write(np.full((4, 6, 3), color, np.uint8).transpose(2, 0, 1))
        return file.read()


def test_footprints_of_three_coordinate_systems(tmp_path: Path, softmax_model: Path) -> None:
    chips = {f"{system[5:]}/{n}": geotif(system, n) for system in SYSTEMS for n in range(4)}
    members = [(f"chips/{name}.tif", data) for name, data in chips.items()]
    members += [("chips/jpeg.jpg", uniform_png(*RED)), ("chips/cut.tif", chips["4326/0"][:200])]
    work_dir = make_work_dir(tmp_path / "w", make_tar(members), softmax_model, PORTS)
    run = run_task(work_dir)
    assert run.code == 0
    assert set(run.classified) == {*chips, "jpeg"}
    assert "Classified chips with a place on the ground: 12, without: 1" in run.log
    features = written_features(run)
    assert [one["properties"]["name"] for one in features] == list(chips)
    for one in features:
        name = one["properties"].pop("name")
        assert one["properties"] == run.classified[name]
        with rasterio.MemoryFile(chips[name]) as file, file.open() as image:
            left, bottom, right, top = image.bounds
            x, y = [left, left, right, right], [top, bottom, bottom, top]
            expected = np.column_stack(transform(image.crs, "EPSG:4326", x, y))
        found = np.array(one["geometry"]["coordinates"][0])
        assert np.array_equal(found[0], found[4])
        # A centimetre is 9e-8 degrees of latitude, and 1.2e-7 of longitude here.
        assert np.abs(found[:4] - expected).max() < 9e-8


def test_a_resumed_run_knows_all_places(tmp_path: Path, softmax_model: Path) -> None:
    members = [(f"chips/{n}.tif", geotif("EPSG:32633", n)) for n in range(300)]
    # Decoding noise takes long enough for the run to be interrupted.
    noise = np.random.default_rng(0).integers(0, 256, (3000, 3000, 3), np.uint8)
    members += [(f"chips/noise{n}.png", png(noise)) for n in range(8)]
    ports = {**PORTS, "deploy_batch": "4"}
    work_dir = make_work_dir(tmp_path / "w", make_tar(members), softmax_model, ports)
    journal = work_dir / "output" / "results" / "resume.jsonl"
    process = subprocess.Popen(command(work_dir), stdout=subprocess.DEVNULL)
    until = time.monotonic() + 120
    while not journal.exists() or journal.read_bytes().count(b"\n") < 5:
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    run = assert_succeeded(run_task(work_dir))
    assert "Resuming an earlier run of the same task after" in run.log
    names = [one["properties"]["name"] for one in written_features(run)]
    assert names == [str(n) for n in range(300)]


def test_confident_mistakes_are_on_the_page(tmp_path: Path, softmax_model: Path) -> None:
    """All of them, whether they are in the sample or decoded again."""
    colors = [(50 + n // 10, 0, 0) for n in range(1300)]
    chips = {f"chips/{n}.png": color for n, color in enumerate(colors)}
    reference = [
        feature(str(n), n / 1e4, class_name="Blue" if 600 <= n < 620 else "Red")
        for n in range(1300)
    ]
    run = assert_succeeded(run_task(make_run(tmp_path / "w", softmax_model, chips, reference)))
    page = (run.work_dir / "output" / "logs" / "preview.html").read_text()
    group = page.partition("<h4>Wrong, the most certain first</h4>")[2].partition("</ul>")[0]
    assert group.count("<img") == 20
    assert group.count("<em>is <bdi>Blue</bdi></em>") == 20
    names = set(re.findall(r"</b> <bdi>(\d+)</bdi>", group))
    assert names == {str(n) for n in range(600, 620)}
    images = re.findall(r"base64,([^\"]+)", group)
    for name, image in zip(re.findall(r"</b> <bdi>(\d+)</bdi>", group), images, strict=True):
        pixels = cv2.imdecode(np.frombuffer(base64.b64decode(image), np.uint8), cv2.IMREAD_COLOR)
        assert np.abs(pixels.reshape(-1, 3) - (0, 0, 50 + int(name) // 10)).max() == 0


@pytest.mark.parametrize(
    ("module", "function", "what"),
    [
        ("chip_classifier.report", "facts_of", "the review of the results"),
        ("chip_classifier.review.scores", "score", "the scores"),
    ],
)
def test_fault_in_the_review_loses_no_results(
    module: str, function: str, what: str, tmp_path: Path, softmax_model: Path
) -> None:
    """A function that fails, put in the place of the task's own before its script begins."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        f"import {module} as module\n"
        "def fail(*arguments):\n    raise ZeroDivisionError('of no chips')\n"
        f"module.{function} = fail\n"
    )
    paths = os.pathsep.join((str(site), str(REPOSITORY), os.environ.get("PYTHONPATH", "")))
    work_dir = make_run(tmp_path / "w", softmax_model, {"chips/a.png": RED, "chips/b.png": BLUE})
    run = assert_succeeded(run_task(work_dir, environment={"PYTHONPATH": paths}))
    assert {name: entry["class"] for name, entry in run.classified.items()} == {
        "a": "Red",
        "b": "Blue",
    }
    assert run.status["reason"].startswith(f"Warning: Could not make {what} (ZeroDivisionError: ")
