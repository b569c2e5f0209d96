"""Open a Keras model of any era as a function of chips, whatever version and backend wrote it.

A file of `model.save` holds a configuration (which layers, connected how) and weights. What the
same words mean changed over the years:

- Keras 1 (to 2017, on TensorFlow or Theano) has other names for layers and arguments, keeps
  kernels in the order of their `dim_ordering`, and records no backend.
- Keras 2 (2017 to 2024, the package on TensorFlow 1 or Theano, and tf.keras) has today's names and
  records the backend. Theano flips its kernels, and pads 'same' in a way of its own.
- Keras 3 (since 2023) stores operations beside layers, and has another hard_sigmoid.

No version of Keras reads all of them, and each reads some of them wrongly. So none is used: this
module turns the configuration of each era into one plain form, a `Network` of `Call`s to `Layer`s,
in which all differences are settled; `formulas` has the formula of each layer, and `model` computes
that form with TensorFlow. What has no formula there is refused: no file can name code to be run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from keras_files.advice import NOT_OF_KERAS
from keras_files.configuration import count_calls, raise_refusal, read_layer
from keras_files.head import Head, check_ends, check_head, count_outputs, read_head
from keras_files.hints import find_architecture, find_scaling
from keras_files.inspect_hdf5 import most_declared
from keras_files.model_file import (
    Document,
    Group,
    ModelError,
    names,
    naming,
    open_checked,
    read_document,
    read_loss,
)
from keras_files.network import (
    Era,
    Layer,
    Network,
    words,
)
from keras_files.outputs import loss_of_output, take_output
from keras_files.pinned_file import PinnedFile
from keras_files.weights import (
    check_weights,
    place_archived,
    place_weights,
    read_weight,
)

__all__ = ["ModelError", "OpenedModel", "open_model"]

BACKENDS = words("cntk jax mxnet numpy openvino plaidml tensorflow theano torch")


@dataclass(frozen=True)
class OpenedModel:
    """A model file that was checked and understood, not yet computed.

    Attributes:
        file: the file of the weights, open, and root: its arrays.
        architecture_file: the .json file, open, where that is another one.
        input_size: (rows, columns) that the model fixes, None where it takes any.
        outputs: the number of outputs where the configuration tells it, else None.
        bands: the number of bands of the images.
        head: what the outputs are.
        scaling: what scales the images within the model, before its first weights, or None.
        architecture: which one of keras.applications the model looks like, or None.
        warnings: sentences for the log.
        description: for the log, such as "Keras 1.2.2, theano, channels_first".
    """

    file: PinnedFile
    root: Group
    architecture_file: PinnedFile | None
    input_size: tuple[int | None, int | None]
    outputs: int | None
    bands: int
    head: Head
    scaling: str | None
    architecture: str | None
    warnings: tuple[str, ...]
    description: str
    network: Network
    era: Era
    channels_first: bool

    @property
    def files(self) -> list[PinnedFile]:
        """The file, and that of the architecture if it is another one."""
        return [self.file, *([self.architecture_file] if self.architecture_file else [])]

    def build(self) -> Callable[..., Any]:
        """Import TensorFlow, read the weights, and give the model as a function.

        Returns:
            `model(x, training=False)` with x (N, rows, columns, bands) float32, channels last, the
            bands in the order of the training: a tensor (N, outputs) float32; `training` is idle.
            The function may be called in a tf.function. It has `output_shape`, (None, outputs),
            and `input_shape`, (None, rows, columns, bands).

        Raises:
            ModelError: the weights do not fit the layers, or the output is not (N, classes).
        """
        from keras_files.model import Model

        room = most_declared(self.file.size)

        def read(layer: Layer, role: str) -> np.ndarray:
            nonlocal room
            array = read_weight(self.root, self.era, layer, role)
            room -= array.nbytes
            if room < 0:
                raise ModelError(f"its layers have far more weights than the file: {NOT_OF_KERAS}")
            return array

        with naming(self.file.path):
            model = Model(
                self.network,
                (*self.input_size, self.bands),
                self.channels_first,
                read,
            )
            check_head(self.head, model.output_shape[1])
            if not all(file.is_unchanged() for file in self.files):
                raise ModelError("the file was changed while it was read: run the task again")
            return model


def open_model(
    path: Path,
    trained_with: str = "tensorflow",
    beside: Sequence[Path] = (),
    classes: int | None = None,
) -> OpenedModel:
    """Check a model file and read its configuration. Needs neither TensorFlow nor Keras.

    Args:
        path: an HDF5 file of Keras 1 to 3, or a .keras archive, whatever its name ends with.
        trained_with: "tensorflow" or "theano". It counts for files of Keras 1 alone; later ones
            record what they were trained with.
        beside: .json files. Where `path` holds weights alone, one of them must be the architecture
            that model.to_json() gave; else they are not read.
        classes: how many there are, to tell which output of several gives them; None: not known.

    Raises:
        ModelError: the file is damaged, unsafe or no whole model, or cannot be computed.
        OSError: the file cannot be opened.
    """
    with naming(path):
        if not path.exists():
            raise ModelError("there is no such file")
    file = PinnedFile(path)
    with naming(path):
        contents = open_checked(file)
        document = read_document(contents, beside)
        era = _era_of(document, trained_with)
        whole = _read_network(document, era)
        input_size, bands, channels_first = check_ends(whole, era)
        network, warnings = take_output(whole, classes)
        raise_refusal(network)
        network = _place(document, network, era, contents.root)
        loss = read_loss(document.model, contents.root)
        head = read_head(network, loss_of_output(loss, whole, network))
        outputs = count_outputs(network)
        check_head(head, outputs)
        return OpenedModel(
            file=file,
            root=contents.root,
            architecture_file=document.architecture,
            input_size=input_size,
            outputs=outputs,
            bands=bands,
            head=head,
            scaling=find_scaling(network),
            architecture=find_architecture(network),
            warnings=(*warnings, *_compare_backend(document.weights, era), *_warnings_of(network)),
            description=_describe(document, era, channels_first),
            network=network,
            era=era,
            channels_first=channels_first,
        )


def _era_of(document: Document, trained_with: str) -> Era:
    """Return what wrote a file; only Keras 1 does not record with which backend."""
    version, backend = document.version, document.backend
    if backend and backend.split(".")[0] not in BACKENDS:
        raise ModelError(f"it records the backend '{backend[:100]}', which Keras never had")
    generation = int(version[0]) if version[0] in "23" else 1
    data_format = _data_format(document.model)
    efficient = '"FixedDropout"' in json.dumps(document.model)
    stored = " ".join(
        name for group in document.weights.values() for name in names(group, "weight_names")
    )
    return Era(
        generation,
        version,
        backend or trained_with,
        data_format,
        has_efficientnet=efficient,
        has_renorm_weight="renorm_mean_weight" in stored,
    )


def _read_network(document: Document, era: Era) -> Network:
    """Return the model of a document, whose layers may still hold refusals."""
    top = read_layer(document.model, era)
    if top.refusal:
        raise top.refusal
    if top.network is None:
        raise ModelError(
            f"it holds a single {top}, no model: save the whole model with model.save()"
        )
    count_calls(top.network, 0)
    return top.network


def _place(document: Document, network: Network, era: Era, file: Group) -> Network:
    """Find the weights of all layers in the file; return the model with those that it calls."""
    try:
        if document.is_archive:
            place_archived(network.layers, document.weights.name, file)
        else:
            place_weights(network, era, document.weights, file)
        check_weights(network, era, file)
    except ModelError as error:
        if document.architecture is None:
            raise
        name = document.architecture.path.name
        raise ModelError(f"the weights do not fit the architecture {name}: {error}") from error
    called = {id(call.layer): call.layer for call in network.calls}
    return replace(network, layers=list(called.values()))


def _data_format(document: Any) -> str:
    """Return the data format that the first layer names that has one."""
    pattern = r'"(?:dim_ordering|data_format)": "(th|tf|channels_first|channels_last)"'
    found = re.search(pattern, json.dumps(document))
    return "channels_first" if found and found[1] in ("th", "channels_first") else "channels_last"


def _warnings_of(network: Network) -> Iterator[str]:
    """Yield what may be wrong with the layers of a model, those within others too."""
    for layer in network.layers:
        yield from layer.warnings
        if layer.network:
            yield from _warnings_of(layer.network)


def _describe(document: Document, era: Era, channels_first: bool) -> str:
    """Return a model's era in words, such as "Keras 1.2.2, theano, channels_first"."""
    data_format = "channels_first" if channels_first else "channels_last"
    words = f"Keras {era.version}, {era.backend}, {data_format}"
    architecture = document.architecture
    return f"{words}, architecture of {architecture.path.name}" if architecture else words


def _compare_backend(weights: Group, era: Era) -> tuple[str, ...]:
    """Return a warning if weights have names of the other backend: "conv_W:0" or "conv_W"."""
    found = [name for group in weights.values() for name in names(group, "weight_names")]
    looks = "tensorflow" if any(name.endswith(":0") for name in found) else "theano"
    if not found or looks == era.backend or era.keras > 1:
        return ()
    warning = (
        f"This Keras {era.version} model is taken as trained with {era.backend}, as the task says, "
        f"but the names of its weights look like {looks}: if so, use the task for {looks}."
    )
    return (warning,)
