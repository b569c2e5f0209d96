"""A file of another program is called what it is, with how to go on."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from keras_files.foreign_file import recognize
from keras_files.pinned_file import PinnedFile


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (bytes.fromhex("80028a0a6cfc9c46f9206aa850192e"), "PyTorch"),
        (b"\x1c\x00\x00\x00TFL3\x14\x00", "TensorFlow Lite"),
        (b"\x08\x01\x12\xb5\x9a", "SavedModel"),
        (b"\x08\x08\x12\x07pytorch\x1a\x05", "ONNX"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (b"\n<!DOCTYPE html><html>", "web page"),
    ],
)
def test_kind_of_file(start: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "model.h5").write_bytes(start + bytes(100))
    assert words in recognize(PinnedFile(tmp_path / "model.h5"))


def test_archive_of_pytorch(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.pt", "w") as archive:
        archive.writestr("archive/data.pkl", b"")
    assert "PyTorch" in recognize(PinnedFile(tmp_path / "model.pt"))


@pytest.mark.parametrize("content", [b"", b"\x89HDF\r\n\x1a\n", b"some text", b"{}", bytes(99)])
def test_file_of_no_known_kind(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.h5").write_bytes(content)
    assert recognize(PinnedFile(tmp_path / "model.h5")) is None
