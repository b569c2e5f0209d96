"""Files of other kinds that are given for a Keras model: what they are, and how to go on."""

from __future__ import annotations

import zipfile

from keras_files.pinned_file import PinnedFile

# Of files of torch.save before PyTorch 1.6, see torch/serialization.py.
_TORCH = bytes.fromhex("80028a0a6cfc9c46f9206aa850")

_FROM_KERAS = "take the Keras model that it was converted from, as model.save('model.h5') writes it"


def recognize(file: PinnedFile) -> str | None:
    """Return what a file is and what to do, None if it is of no kind that is known here.

    By the first bytes: the schemas of TFLite, of ONNX (field 1 is ir_version, 3 and more) and of
    SavedModel (field 1 is its version, 1).
    """
    start = file.read(0, 1024)
    text = start.lstrip().lower()
    if text.startswith(b"version https://git-lfs"):
        return (
            "this is a pointer of Git LFS, not the model: fetch the file itself with git lfs pull"
        )
    if text.startswith((b"<!doctype html", b"<html", b"<?xml")):
        return "this is a web page, not the model: download the file itself (on GitHub: Raw)"
    if start.startswith(_TORCH) or _is_torch_archive(file):
        return (
            "this is a file of PyTorch, no Keras model: build the network in Keras, give its "
            "layers these weights, and save it with model.save('model.h5')"
        )
    if start[4:8] == b"TFL3":
        return f"this is a TensorFlow Lite model: {_FROM_KERAS}"
    if start[:1] == b"\x08" and start[2:3] in (b"\x12", b"\x1a", b"\x3a"):
        if start[1] == 1:
            return (
                "this is a part of a SavedModel: open its folder with "
                "tf.keras.models.load_model, in the version of TensorFlow that saved it, and save "
                "it with model.save('model.h5')"
            )
        return f"this is an ONNX model: {_FROM_KERAS}"
    return None


def _is_torch_archive(file: PinnedFile) -> bool:
    if not zipfile.is_zipfile(file.stream()):
        return False
    with zipfile.ZipFile(file.stream()) as archive:
        return any(name.rpartition("/")[2] == "data.pkl" for name in archive.namelist())
