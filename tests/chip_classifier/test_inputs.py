"""What a run is given is found, or refused with what was found in its place."""

from pathlib import Path

import pytest

from chip_classifier.errors import TaskError
from chip_classifier.inputs import find_model, references_in, the_only_one
from chip_classifier.review.reference import Reference, check_reference

HDF5 = b"\x89HDF\r\n\x1a\n"


@pytest.mark.parametrize(
    ("files", "model", "beside"),
    [
        ({"m.h5": b"", "m.json": b"", "notes.txt": b""}, "m.h5", ["m.json"]),
        ({"m.model": HDF5, "notes.txt": b""}, "m.model", []),
        ({"weights": HDF5, "a.json": b"", "b.json": b""}, "weights", ["a.json", "b.json"]),
        ({"m.h5": b"", "old.model": HDF5}, "m.h5", []),
    ],
)
def test_model_is_found_by_name_or_content(
    files: dict[str, bytes], model: str, beside: list[str], tmp_path: Path
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    assert find_model(tmp_path) == (tmp_path / model, [tmp_path / name for name in beside])


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "holds no file"),
        ({"notes.txt": b""}, "holds notes.txt"),
        ({"m.h5": b"", "n.keras": b""}, "holds 2: m.h5, n.keras"),
        ({"a.model": HDF5, "b.model": HDF5}, "a.model, b.model"),
        ({"model.json": b"{}"}, "no weights beside model.json"),
    ],
)
def test_directory_without_one_model_is_refused(
    files: dict[str, bytes], words: str, tmp_path: Path
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(TaskError, match=words):
        find_model(tmp_path)


def test_reference_beside_the_archive(tmp_path: Path) -> None:
    assert the_only_one(references_in(tmp_path)) is None
    (tmp_path / "._ref.geojson").write_bytes(b"\0")
    path = tmp_path / "ref.GeoJSON"
    path.write_bytes(b"\xef\xbb\xbf" + b'{"features": []}')
    assert the_only_one(references_in(tmp_path)) == path
    assert check_reference(path) == Reference(path)
    (tmp_path / "b.geojson").write_bytes(b'{"features": []}')
    with pytest.raises(TaskError, match=r"are 2: \S+/b\.geojson, \S+/ref\.GeoJSON: leave one"):
        the_only_one(references_in(tmp_path))
