"""The task without a work directory: --chips, --model, --out and a flag for each string port."""

import json
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from chip_classifier.ports_json import STRING_PORTS
from chip_files import SCRIPT, TIMEOUT_SECONDS, make_tar, uniform_png

WAYS = ("folder", "zip", "tar")
CHIPS = 600


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Run the task in a folder."""
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        cwd=folder,
        capture_output=True,
        check=False,
        encoding="utf-8",
        stdin=subprocess.DEVNULL,
        timeout=TIMEOUT_SECONDS,
    )


@pytest.fixture(scope="module")
def chips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the same chips three times: in chips/, chips.zip and chips.tar."""
    folder = tmp_path_factory.mktemp("chips")
    rng = np.random.default_rng(5)
    files = {f"chips/{n:03}.png": uniform_png(*rng.integers(0, 256, 3)) for n in range(CHIPS)}
    files |= {
        "chips/east/far/a.PNG": uniform_png(1, 2, 3),
        "chips/east/b.jpg": b"no picture",
        "chips/east/b.png": uniform_png(3, 2, 1),
        "chips/picture": uniform_png(9, 9, 9),
        "chips/notes.txt": b"a note",
        "chips/.hidden.png": b"hidden",
    }
    files = dict(sorted(files.items()))
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    (folder / "chips.tar").write_bytes(make_tar(list(files.items())))
    with zipfile.ZipFile(folder / "chips.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return folder


def arguments(chips: Path, way: str, model: Path, out: Path, *ports: str) -> list[str]:
    """Return the command line for one of the WAYS."""
    path = chips / {"folder": "chips", "zip": "chips.zip", "tar": "chips.tar"}.get(way, way)
    return ["--chips", str(path), "--model", str(model), "--out", str(out), *ports]


@pytest.fixture(scope="module")
def undisturbed(chips: Path, bands_model: Path) -> dict[str, Path]:
    """The directories of a run of each way."""
    found = {}
    for way in WAYS:
        found[way] = chips / f"of {way}"  # a blank in the path is nothing special
        done = run(chips, *arguments(chips, way, bands_model, found[way], "--deploy-batch", "1"))
        assert done.returncode == 0, done.stderr
        assert f"Results: {found[way]}" in done.stdout
    return found


def test_three_ways_give_the_same_results(undisturbed: dict[str, Path]) -> None:
    texts = {way: (out / "classified.json").read_bytes() for way, out in undisturbed.items()}
    assert texts["folder"] == texts["zip"] == texts["tar"]
    classified = json.loads(texts["folder"])
    assert len(classified) == CHIPS + 2
    assert {"000", "east/far/a", "east/b.png"} <= classified.keys()
    for out in undisturbed.values():
        unclassified = json.loads((out / "unclassified.json").read_text())
        assert set(unclassified) == {"east/b.jpg", "picture"}
        status = json.loads((out / "status.json").read_text())
        assert status["status"] == "success"
        assert "chips/notes.txt" in (out / "out.log").read_text()
        assert sorted(path.name for path in out.iterdir()) == [
            "classified.csv",
            "classified.json",
            "out.log",
            "preview.html",
            "status.json",
            "unclassified.json",
        ]


@pytest.fixture
def referenced(chips: Path, tmp_path: Path) -> Path:
    """The chips in three ways and, beside them, features for 000 and east/b.png."""
    for way in ("chips", "chips.zip", "chips.tar"):
        (tmp_path / way).symlink_to(chips / way)
    ring = [[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]
    features = [
        {
            "type": "Feature",
            "properties": {"feature_id": name, "class_name": truth},
            "geometry": {"type": "Polygon", "coordinates": [ring]},
        }
        for name, truth in (("000", "2"), ("east/b.png", "1"))
    ]
    text = json.dumps({"type": "FeatureCollection", "features": features})
    (tmp_path / "ref.geojson").write_text(text)
    return tmp_path


@pytest.mark.parametrize("way", WAYS)
def test_features_beside_the_chips_get_the_answers(
    way: str, referenced: Path, bands_model: Path, undisturbed: dict[str, Path]
) -> None:
    out = referenced / "out"
    done = run(referenced, *arguments(Path(), way, bands_model, out))
    assert done.returncode == 0, done.stderr
    check_features(out, undisturbed[way])


def test_features_in_the_folder_get_the_answers(
    referenced: Path, chips: Path, bands_model: Path, undisturbed: dict[str, Path]
) -> None:
    shutil.copytree(chips / "chips", referenced / "copy" / "chips")
    (referenced / "ref.geojson").rename(referenced / "copy" / "chips" / "truth.geojson")
    out = referenced / "out"
    done = run(referenced / "copy" / "chips", *arguments(Path(), ".", bands_model, out))
    assert done.returncode == 0, done.stderr
    check_features(out, undisturbed["folder"])
    assert "1 file(s) of the archive are no chips" in done.stderr  # the note, not the features


def check_features(out: Path, undisturbed: Path) -> None:
    """Check the map and the accuracy of a run with the features of `referenced`."""
    classified = json.loads((out / "classified.json").read_text())
    assert classified == json.loads((undisturbed / "classified.json").read_text())
    features = json.loads((out / "classified.geojson").read_text())["features"]
    written = [feature["properties"] for feature in features]
    assert [one["feature_id"] for one in written] == ["000", "east/b.png"]
    assert all(one.items() >= classified[one["feature_id"]].items() for one in written)
    right = sum(one["class"] == one["class_name"] for one in written)
    assert f"{right} of 2 chips are right" in (out / "out.log").read_text()


@pytest.mark.parametrize("way", ["folder", "zip"])
def test_killed_run_is_resumed(
    way: str, chips: Path, bands_model: Path, undisturbed: dict[str, Path], tmp_path: Path
) -> None:
    command = arguments(chips, way, bands_model, tmp_path / "out", "--deploy_batch", "1")
    process = subprocess.Popen([sys.executable, str(SCRIPT), *command], stdout=subprocess.DEVNULL)
    journal = tmp_path / "out" / "resume.jsonl"
    give_up = time.monotonic() + TIMEOUT_SECONDS
    while not journal.exists() or journal.read_bytes().count(b"\n") < 30:
        assert process.poll() is None
        assert time.monotonic() < give_up
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = run(chips, *command)
    assert done.returncode == 0
    assert "Resuming" in done.stdout
    expected = (undisturbed[way] / "classified.json").read_bytes()
    assert (tmp_path / "out" / "classified.json").read_bytes() == expected


def test_every_port_has_a_flag_and_help_begins_with_examples(
    chips: Path, checksum_model: Path, tmp_path: Path
) -> None:
    text = run(tmp_path, "--help").stdout
    assert all(f"--{port}" in text for port in STRING_PORTS)
    assert text.index("--chips chips.tar --model") < text.index("input/ports.json")
    ports = ["--classes", "No,Yes", "--probabilities", "True", "--preprocessing", "none"]
    out = tmp_path / "out"
    assert run(chips, *arguments(chips, "tar", checksum_model, out, *ports)).returncode == 0
    answer = json.loads((out / "classified.json").read_text())["000"]
    assert answer["class"] in ("No", "Yes")
    assert set(answer["probabilities"]) == {"No", "Yes"}
    assert "Port preprocessing: none" in (out / "out.log").read_text()


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("--chips chips.tar --model m.h5", "give --chips, --model and --out together"),
        ("--chips chips.tar --model m.h5 --out o --work-dir .", "or --work-dir alone"),
        ("--work-dir . --size 64", "--size goes with --chips"),
        ("--chips chips --model m.h5 --out chips/out", "--out lies in the folder of the chips"),
        ("--chips nothing --model m.h5 --out o", "The chips in nothing cannot be read"),
        ("--chips chips.tar --model nothing --out o", "The model nothing is no file"),
        ("--chips chips.tar --model m.h5 --out m.h5", "m.h5 does not exist or is no directory"),
        ("--chips m.h5 --model m.h5 --out o", "m.h5 is not a tar archive"),
        ("--chips empty --model m.h5 --out o", "empty holds no"),
        ("--chips cut.zip --model m.h5 --out o", "cut.zip is a zip that is cut off or damaged"),
        ("--chips two/chips --model m.h5 --out o", "two/ref.geojson: leave one of them there"),
        ("--chips bad/chips.tar --model m.h5 --out o", "ref.geojson is no GeoJSON"),
        ("--chips chips.tar --model m.h5 --out o --size big", "positive whole number, not 'big'"),
    ],
)
def test_nonsense_is_refused_in_a_sentence(
    line: str, part: str, chips: Path, bands_model: Path, tmp_path: Path
) -> None:
    for name in ("chips", "chips.tar"):
        (tmp_path / name).symlink_to(chips / name)
    shutil.copy(bands_model, tmp_path / "m.h5")
    for name in ("empty", "two/chips", "bad"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("two/ref.geojson", "two/chips/a.geojson"):
        (tmp_path / name).write_text('{"type": "FeatureCollection", "features": []}')
    (tmp_path / "bad" / "chips.tar").symlink_to(chips / "chips.tar")
    (tmp_path / "bad" / "ref.geojson").write_text("{}")
    (tmp_path / "cut.zip").write_bytes((chips / "chips.zip").read_bytes()[:5000])
    done = run(tmp_path, *line.split())
    assert done.returncode != 0
    assert part in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    if (tmp_path / "o" / "status.json").exists():
        status = json.loads((tmp_path / "o" / "status.json").read_text())
        assert status["status"] == "failed"
        assert part in status["reason"]
