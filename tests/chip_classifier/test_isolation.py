"""Chips that kill their decoder, and jpegs of which a decoder makes up a part."""

import io
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import chip_files
from chip_classifier.decode import Decoder
from chip_classifier.errors import UndecodableChip
from chip_classifier.listing import Listing
from chip_classifier.pipeline import Earlier, Pipeline
from chip_classifier.sources.open_source import open_source
from chip_files import make_tar, make_work_dir, run_task, scene

KILLER = b"this one kills"

# Loaded by each Python that starts with it on its path: OpenCV aborts at chips that end so.
ABORTING_OPENCV = f"""
import importlib.machinery, os, sys

class Finder:
    def find_spec(self, name, path, target=None):
        if name != "cv2":
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        load = spec.loader.exec_module

        def exec_module(module):
            load(module)
            decode = module.imdecode

            def imdecode(data, flags):
                if data[-{len(KILLER)}:].tobytes() == {KILLER!r}:
                    os.abort()
                return decode(data, flags)

            module.imdecode = imdecode

        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, Finder())
"""


@pytest.fixture
def aborting_opencv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let OpenCV abort at some chips, in each Python that is started from now on."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(ABORTING_OPENCV)
    path = os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))
    monkeypatch.setenv("PYTHONPATH", path)


def chips(number: int, killers: tuple[int, ...]) -> dict[str, bytes]:
    """Make pngs, some of which kill their decoder."""
    return {
        f"c/{n:02}.png": chip_files.png(scene(n, 16, 16, 3)) + KILLER * (n in killers)
        for n in range(number)
    }


@pytest.mark.usefixtures("aborting_opencv")
@pytest.mark.parametrize("way", ["tar", "tar.gz", "zip", "folder"])
def test_chip_that_kills_its_decoder_costs_itself_alone(way: str, tmp_path: Path) -> None:
    files, path = chips(12, (3, 4, 9)), tmp_path / way
    if way == "folder":
        for name, data in files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(data)
    elif way == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
    else:
        path.write_bytes(make_tar(list(files.items()), "w:gz" if way == "tar.gz" else "w"))
    earlier = Earlier(answered=2, has_crashed=True)
    decoder = Decoder()
    batches = [*Pipeline(Listing(open_source(path)), decoder, (2, 16, 16), earlier)]
    problems = {n: reason for batch in batches for n, reason in batch.problems.items()}
    assert problems == dict.fromkeys((3, 4, 9), "its decoder crashes")
    for batch in batches[1:]:
        for row in batch.decoded_rows():
            expected = chip_files.bgr(scene(batch.first + row, 16, 16, 3))
            np.testing.assert_array_equal(batch.pixels[row], expected)
    # What the chips are like is known of those that were decoded in another process, too.
    assert decoder.facts.sizes == [(16, 16)] * 7 and decoder.facts.colored == 7


@pytest.mark.usefixtures("aborting_opencv")
def test_run_after_a_crash_names_the_chip_and_goes_on(tmp_path: Path, checksum_model: Path) -> None:
    archive = make_tar(list(chips(30, (17, 25)).items()))
    ports = {"deploy_batch": "4", "normalization_vector": "0,0,0"}
    work_dir = make_work_dir(tmp_path / "w", archive, checksum_model, ports)
    first = run_task(work_dir)
    assert first.code < 0, "nobody else's signal ended it"
    second = run_task(work_dir)
    assert second.code == 0
    assert second.unclassified == dict.fromkeys(("17", "25"), "its decoder crashes")
    assert len(second.classified) == 28
    assert "A library crashed in it (Aborted)" in second.log


# ------------------------------------------------------------------------------ damaged jpegs


def jpeg(**options: object) -> bytes:
    """Write a jpeg of 120 x 160 pixels."""
    data = io.BytesIO()
    Image.fromarray(scene(3, 120, 160, 3)).save(data, "jpeg", **options)
    return data.getvalue()


JPEGS = {
    "baseline": jpeg(),
    "progressive": jpeg(progressive=True),
    "restarts": jpeg(restart_marker_blocks=4),
    "grey": chip_files.pillow(scene(3, 120, 160), "jpeg"),
    "4:4:4": jpeg(subsampling=0, quality=95),
}
END = b"\xff\xd9"


@pytest.fixture
def stderr_in_a_file(tmp_path: Path) -> Iterator[None]:
    """Have stderr in a file, as in a run."""
    before = os.dup(2)
    with (tmp_path / "stderr").open("w+b") as file:
        os.dup2(file.fileno(), 2)
        yield
    os.dup2(before, 2)
    os.close(before)


def is_damaged(data: bytes) -> bool:
    """Return whether a jpeg is refused; one that is not has the pixels of OpenCV."""
    try:
        Decoder().decode(data)
    except UndecodableChip:
        return True
    return False


@pytest.mark.usefixtures("stderr_in_a_file")
@pytest.mark.parametrize("kind", JPEGS)
def test_jpeg_of_which_a_part_is_made_up_is_damaged(kind: str) -> None:
    sound = JPEGS[kind]
    half = len(sound) // 2
    assert not is_damaged(sound)
    assert is_damaged(sound[:half] + END)
    assert is_damaged(sound[:half] + bytes(len(sound) - half - 2) + END)  # a disk that was full
    assert is_damaged(sound[:half] + bytes(300) + sound[half + 300 :])
    noise = np.random.default_rng(4).bytes(300).replace(b"\xff", b"\0")
    assert is_damaged(sound[:half] + noise + sound[half + 300 :])
    assert not is_damaged(sound), "what was said of others is not about this one"


@pytest.mark.usefixtures("stderr_in_a_file")
def test_damage_is_heard_behind_a_long_log() -> None:
    sound = JPEGS["baseline"]
    os.write(2, b"Chip number 7 was not classified by the earlier run\n" * 2000)
    assert is_damaged(sound[: len(sound) // 2] + END)
    assert not is_damaged(sound)


@pytest.mark.usefixtures("stderr_in_a_file")
@pytest.mark.parametrize("kind", JPEGS)
@pytest.mark.parametrize(
    "filling",
    [b"\0\0\0", bytes(2000), b"\xff" * 30, b"junk", b" " * 64, b"made by a camera. " * 20],
    ids=repr,
)
def test_jpeg_with_bytes_in_front_of_a_marker_is_whole(kind: str, filling: bytes) -> None:
    sound = JPEGS[kind]
    whole = Decoder().decode(sound)
    table = sound.index(b"\xff\xdb")  # the first segment behind JFIF's
    for place in (len(sound) - 2, table):
        np.testing.assert_array_equal(
            Decoder().decode(sound[:place] + filling + sound[place:]), whole
        )


def test_run_tells_damaged_jpegs_from_those_beside_them(
    tmp_path: Path, checksum_model: Path
) -> None:
    members = []
    for n in range(60):
        data = io.BytesIO()
        Image.fromarray(scene(n, 64, 64, 3)).save(data, "jpeg")
        sound = data.getvalue()
        half = sound[: len(sound) // 2] + END
        members.append((f"c/{n:02}.jpg", half if n % 7 == 3 else sound))
    tif = io.BytesIO()
    Image.fromarray(scene(1, 64, 64, 3)).save(tif, "tiff", compression="jpeg", quality=95)
    data = bytearray(tif.getvalue())
    middle = len(data) // 2
    data[middle : middle + 2] = END
    members += [("c/sound.tif", tif.getvalue()), ("c/damaged.tif", bytes(data))]
    run = run_task(make_work_dir(tmp_path / "w", make_tar(members), checksum_model))
    expected = {f"{n:02}" for n in range(60) if n % 7 == 3} | {"damaged"}
    assert set(run.unclassified) == expected
    assert all("damaged" in reason for reason in run.unclassified.values())
