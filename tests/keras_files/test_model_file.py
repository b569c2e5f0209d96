"""Files that are damaged, foreign or malign are refused, and do no harm."""

from __future__ import annotations

import json
import os
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from keras_files import inspect_hdf5, model_file
from keras_files.open_model import ModelError, open_model
from model_files import (
    REFERENCES,
    predict,
    refusal,
    save,
    sequential,
)


def test_archive_whose_weights_inflate_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("metadata.json", '{"keras_version": "3.0.0"}')
        archive.writestr("config.json", json.dumps(sequential()))
        archive.writestr("model.weights.h5", bytes(2**28))
    tracemalloc.start()
    assert "far more" in refusal(path)
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()


def test_weights_only(tmp_path: Path) -> None:
    path = save(tmp_path / "m.h5", sequential())
    with h5py.File(path, "a") as file:
        del file.attrs["model_config"]
    assert "only weights" in refusal(path) and "model.save()" in refusal(path)


def test_hdf5_of_another_kind(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["layers/roads"] = np.arange(3)
    message = refusal(tmp_path / "data.h5")
    assert "no Keras model" in message and "layers" in message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no HDF5 file"),
        (b"\n<!DOCTYPE html><html>not found</html>", "a web page"),
        (b"<html>not found</html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 9\n", "Git LFS"),
        (b"\x89HDF\r\n\x1a\n" + b"x" * 99, "truncated or damaged"),
    ],
)
def test_file_of_another_kind(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "m.h5").write_bytes(content)
    assert words in refusal(tmp_path / "m.h5")


def test_zip_archive_of_another_kind(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
        archive.writestr("data.bin", b"")
    assert "no .keras file" in refusal(tmp_path / "m.keras")


@pytest.mark.parametrize("part", [0.1, 0.5, 0.99])
def test_truncated_file(part: float, tmp_path: Path) -> None:
    whole = REFERENCES["keras3151_misc.h5"][0].read_bytes()
    (tmp_path / "m.h5").write_bytes(whole[: int(len(whole) * part)])
    assert "truncated" in refusal(tmp_path / "m.h5")


def test_missing_file(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "m.h5")


def test_damaged_bytes_never_end_in_another_exception(tmp_path: Path) -> None:
    whole = bytearray(save(tmp_path / "m.h5", sequential()).read_bytes())
    rng = np.random.default_rng(0)
    for number in range(150):
        damaged = bytearray(whole)
        for place in rng.integers(0, len(whole), 8):
            damaged[place] = rng.integers(256)
        path = tmp_path / f"{number}.h5"
        path.write_bytes(damaged)
        try:
            open_model(path)
        except ModelError as error:
            assert "\n" not in str(error)


def steal(path: Path, secret: Path, link: Any) -> Path:
    """Replace the weights of a model by a link."""
    with h5py.File(path, "a") as file:
        del file["model_weights/dense/dense/kernel:0"]
        file["model_weights/dense/dense/kernel:0"] = link
    return path


def test_external_link(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["kernel"] = np.ones((48, 2), np.float32)
    link = h5py.ExternalLink(str(tmp_path / "secret.h5"), "kernel")
    path = steal(save(tmp_path / "m.h5", sequential()), tmp_path / "secret.h5", link)
    assert "kernel:0" in refusal(path, build=False)


def test_external_link_that_nothing_uses(tmp_path: Path) -> None:
    path = save(tmp_path / "m.h5", sequential())
    with h5py.File(path, "a") as file:
        file["optimizer_weights/x"] = h5py.ExternalLink("/etc/passwd", "x")
    assert "ExternalLink" in refusal(path, build=False)


def test_soft_link(tmp_path: Path) -> None:
    path = save(tmp_path / "m.h5", sequential())
    with h5py.File(path, "a") as file:
        file["elsewhere"] = np.ones((48, 2), np.float32)
    path = steal(path, path, h5py.SoftLink("/elsewhere"))
    assert "SoftLink" in refusal(path, build=False)


def test_virtual_dataset(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["kernel"] = np.ones((48, 2), np.float32)
    layout = h5py.VirtualLayout((48, 2), np.float32)
    layout[:] = h5py.VirtualSource(str(tmp_path / "secret.h5"), "kernel", shape=(48, 2))
    path = save(tmp_path / "m.h5", sequential())
    with h5py.File(path, "a") as file:
        del file["model_weights/dense/dense/kernel:0"]
        file.create_virtual_dataset("model_weights/dense/dense/kernel:0", layout)
    assert "another file" in refusal(path, build=False)


def test_external_storage(tmp_path: Path) -> None:
    (tmp_path / "secret.raw").write_bytes(bytes(48 * 2 * 4))
    path = save(tmp_path / "m.h5", sequential())
    with h5py.File(path, "a") as file:
        del file["model_weights/dense/dense/kernel:0"]
        file.create_dataset(
            "model_weights/dense/dense/kernel:0",
            (48, 2),
            np.float32,
            external=[(str(tmp_path / "secret.raw"), 0, h5py.h5f.UNLIMITED)],
        )
    assert "another file" in refusal(path, build=False)


@pytest.mark.parametrize("written", [True, False])
def test_array_that_inflates(written: bool, tmp_path: Path) -> None:
    path = save(tmp_path / "m.h5", sequential())
    with h5py.File(path, "a") as file:
        array = file.create_dataset(
            "optimizer_weights/x",
            (2**13, 2**8),
            np.float32,
            chunks=(2**13, 2**8),
            compression="gzip",
        )
        if written:
            array[:] = np.zeros(array.shape, np.float32)
    assert "far more" in refusal(path, build=False)


def test_array_packed_by_a_plug_in(tmp_path: Path) -> None:
    path = save(tmp_path / "m.h5", sequential())
    with h5py.File(path, "a") as file:
        file.create_dataset("optimizer_weights/x", data=np.ones((9, 9)), compression="lzf")
    assert "gzip" in refusal(path, build=False)


def test_array_packed_by_gzip_is_opened(tmp_path: Path) -> None:
    path = save(tmp_path / "m.h5", sequential())
    with h5py.File(path, "a") as file:
        kernel = file["model_weights/dense/dense/kernel:0"][()]
        del file["model_weights/dense/dense/kernel:0"]
        file.create_dataset(
            "model_weights/dense/dense/kernel:0", data=kernel, compression="gzip", shuffle=True
        )
    assert predict(path).shape == (2, 2)


def test_many_arrays_that_inflate_a_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspect_hdf5, "SMALL_FILE_BYTES", 2**20)
    path = save(tmp_path / "m.h5", sequential())
    with h5py.File(path, "a") as file:
        for number in range(40):
            file.create_dataset(
                f"model_weights/zeros/{number}", data=np.zeros(2**14, "f4"), compression="gzip"
            )
    assert "far more" in refusal(path, build=False)


def test_numbers_are_those_of_the_file_wherever_it_keeps_them(tmp_path: Path) -> None:
    kernel = np.random.default_rng(1).normal(size=(48, 2))
    expected = None
    for number, options in enumerate(
        (
            {},
            {"dtype": ">f4"},
            {"dtype": "<f8"},
            {"chunks": (7, 1)},
            {"compression": "gzip", "fletcher32": True},
            {"dcpl": h5py.h5p.create(h5py.h5p.DATASET_CREATE)},
        )
    ):
        path = tmp_path / f"{number}.h5"
        with h5py.File(path, "w", userblock_size=512 * (number % 2)):
            pass
        with (
            h5py.File(save(tmp_path / "m.h5", sequential())) as whole,
            h5py.File(path, "a") as file,
        ):
            for name, value in whole.attrs.items():
                file.attrs[name] = value
            whole.copy("model_weights", file)
            del file["model_weights/dense/dense/kernel:0"]
            if "dcpl" in options:
                options["dcpl"].set_layout(h5py.h5d.COMPACT)
            data = kernel.astype(np.float32).astype(options.pop("dtype", "<f4"))
            file.create_dataset("model_weights/dense/dense/kernel:0", data=data, **options)
        y = predict(path)
        expected = y if expected is None else expected
        np.testing.assert_array_equal(y, expected)


def save_archive(path: Path) -> Path:
    """Write a small .keras archive."""
    import keras

    layers = [keras.layers.Input((4, 4, 3)), keras.layers.Flatten(), keras.layers.Dense(2)]
    keras.Sequential(layers).save(path)
    return path


def test_archive_that_was_packed_again_gives_the_same_numbers(tmp_path: Path) -> None:
    path, packed = save_archive(tmp_path / "m.keras"), tmp_path / "packed.keras"
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(packed, "w") as other:
        for info in archive.infolist():
            other.writestr(info.filename, archive.read(info), zipfile.ZIP_DEFLATED)
    np.testing.assert_array_equal(predict(packed), predict(path))


def test_archive_with_a_damaged_byte_among_its_weights(tmp_path: Path) -> None:
    path = save_archive(tmp_path / "m.keras")
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("model.weights.h5")
    data = bytearray(path.read_bytes())
    data[info.header_offset + info.file_size - 100] ^= 1
    path.write_bytes(data)
    assert "CRC" in refusal(path, build=False)


def test_file_that_makes_libhdf5_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_file, "CPU_SECONDS", 1)
    data = bytearray(REFERENCES["tf284_mixed.h5"][0].read_bytes())
    data[5594 : 5594 + 160] = bytes(160)  # in a heap of texts
    (tmp_path / "m.h5").write_bytes(data)
    assert "processor time" in refusal(tmp_path / "m.h5", build=False)


@pytest.mark.parametrize("place", ["/", "model_weights", "model_weights/dense/dense/bias:0"])
def test_thousands_of_attributes(place: str, tmp_path: Path) -> None:
    path = save(tmp_path / "m.h5", sequential())
    with h5py.File(path, "a") as file:
        for number in range(1001):
            file[place].attrs[f"a{number}"] = number
    assert "attributes" in refusal(path, build=False)


def test_hundreds_of_attributes_are_passed_over(tmp_path: Path) -> None:
    path = save(tmp_path / "m.h5", sequential())
    with h5py.File(path, "a") as file:
        file["model_weights"].attrs[b"\xff\xfe"] = b"\xff\xfe"
        for number in range(900):
            file["model_weights"].attrs[f"a{number}"] = number
    assert predict(path).shape == (2, 2)


def test_thousands_of_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspect_hdf5, "MAX_ITEMS", 500)
    path = save(tmp_path / "m.h5", sequential())
    with h5py.File(path, "a") as file:
        for number in range(500):
            file.create_group(f"odd/{number}")
    assert "more than 500 entries" in refusal(path, build=False)


def test_groups_in_groups(tmp_path: Path) -> None:
    path = save(tmp_path / "m.h5", sequential())
    with h5py.File(path, "a") as file:
        file.create_group("a/" * 500)
    assert "nested" in refusal(path, build=False)


def test_file_that_another_takes_the_place_of(tmp_path: Path) -> None:
    path, other = save(tmp_path / "m.h5", sequential()), tmp_path / "other.h5"
    before = predict(path)
    opened = open_model(path)
    with h5py.File(save(other, sequential()), "a") as file:
        file["model_weights/dense/dense/kernel:0"][:] *= -1
    os.replace(other, path)
    model = opened.build()
    np.testing.assert_array_equal(model(np.ones((2, 4, 4, 3), np.float32)), before)
    assert np.abs(predict(path) - before).max() > 0.1


def test_file_that_is_written_to_before_its_weights_are_read(tmp_path: Path) -> None:
    path = save(tmp_path / "m.h5", sequential())
    opened = open_model(path)
    with h5py.File(path, "a") as file:
        file["model_weights/dense/dense/kernel:0"][:] *= -1
    os.utime(path, (1, 1))
    with pytest.raises(ModelError, match=r"m\.h5: the file was changed"):
        opened.build()


def test_hard_links_in_a_circle(tmp_path: Path) -> None:
    path = save(tmp_path / "m.h5", sequential())
    with h5py.File(path, "a") as file:
        file["model_weights/again"] = file["/"]
    assert "second name" in refusal(path, build=False)


@pytest.mark.parametrize("place", ["attribute", "array"])
@pytest.mark.parametrize("kind", ["reference", "opaque", "compound"])
def test_values_of_odd_types(place: str, kind: str, tmp_path: Path) -> None:
    path = save(tmp_path / "m.h5", sequential())
    with h5py.File(path, "a") as file:
        value = {
            "reference": np.array([file["model_weights"].ref], h5py.ref_dtype),
            "opaque": np.array([np.void(b"pickled")]),
            "compound": np.zeros(1, [("a", "f4")]),
        }[kind]
        if place == "array":
            file["odd"] = value
        else:
            file["model_weights"].attrs["odd"] = value
    assert "other than numbers and text" in refusal(path, build=False)


def test_huge_attribute(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    save(path, sequential())
    with h5py.File(tmp_path / "n.h5", "w", libver="latest") as file:
        file.attrs["model_config"] = json.dumps(sequential())
        file.attrs["odd"] = np.zeros(2**26 + 1, np.uint8)
    assert "67108865 bytes" in refusal(tmp_path / "n.h5", build=False)


@pytest.mark.parametrize("depth", [150, 100_000])
def test_configuration_of_absurd_depth(depth: int, tmp_path: Path) -> None:
    nested = "[" * depth + "]" * depth
    model = json.dumps(sequential()).replace('"units": 2', f'"units": 2, "odd": {nested}')
    assert "nested" in refusal(save(tmp_path / "m.h5", model), build=False)


def test_number_of_absurd_length(tmp_path: Path) -> None:
    model = json.dumps(sequential()).replace('"units": 2', f'"units": {"9" * 10_000}')
    refusal(save(tmp_path / "m.h5", model), build=False)


def test_configuration_of_absurd_size(tmp_path: Path) -> None:
    model = json.dumps(sequential()) + " " * 2**26
    assert "larger than any" in refusal(save(tmp_path / "m.h5", model), build=False)
