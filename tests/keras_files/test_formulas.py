"""Every formula against today's libraries: a model of one layer, saved by them, opened here."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from keras_files import activations
from keras_files.network import words
from keras_files.open_model import ModelError, open_model

Build = Callable[[Any, Any], Any]  # (keras.layers, input (None, 16, 20, 3)) -> output


def cases() -> dict[str, Build]:
    """Models of one layer of interest each, by name."""
    found: dict[str, Build] = {}
    for kernel, stride, padding in [
        (1, 2, "same"),
        (2, 1, "same"),
        (3, 2, "same"),
        (2, 3, "valid"),
    ]:
        size = {"strides": stride, "padding": padding}
        for kind in ("Conv2D", "SeparableConv2D", "Conv2DTranspose"):
            found[f"{kind} {kernel} {stride} {padding}"] = (
                lambda L, x, kind=kind, k=kernel, size=size: getattr(L, kind)(4, k, **size)(x)
            )
        for kind in ("MaxPooling2D", "AveragePooling2D", "DepthwiseConv2D"):
            found[f"{kind} {kernel} {stride} {padding}"] = (
                lambda L, x, kind=kind, k=kernel, size=size: getattr(L, kind)(k, **size)(x)
            )
    for name in words(
        "elu exponential gelu hard_sigmoid leaky_relu linear log_softmax mish relu relu6 selu "
        "sigmoid softmax softplus softsign swish tanh"
    ):
        found[f"activation {name}"] = lambda L, x, name=name: L.Conv2D(4, 3, activation=name)(x)
    for how in ("nearest", "bilinear", "bicubic", "area", "lanczos3"):
        found[f"UpSampling2D {how}"] = lambda L, x, how=how: L.UpSampling2D(
            (2, 3), interpolation=how
        )(x)
        found[f"Resizing {how}"] = lambda L, x, how=how: L.Resizing(11, 31, how)(x)
    for kind in ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum"):
        found[kind] = lambda L, x, kind=kind: getattr(L, kind)()([L.Conv2D(3, 1)(x), x])
    for kind in ("Dropout", "SpatialDropout2D", "GaussianDropout", "GaussianNoise", "AlphaDropout"):
        found[kind] = lambda L, x, kind=kind: getattr(L, kind)(0.3)(x)
    for axis in (-1, 1, (1, 3), None):
        found[f"Normalization {axis}"] = lambda L, x, axis=axis: normalization(L, x, axis=axis)
    return found | {
        "activation layer": lambda L, x: L.Dense(4, activation=L.LeakyReLU(0.1))(x),
        "BatchNormalization": lambda L, x: L.BatchNormalization()(x),
        "BatchNormalization of rows": lambda L, x: L.BatchNormalization(axis=1)(x),
        "BatchNormalization without scale": lambda L, x: L.BatchNormalization(scale=False)(x),
        "CenterCrop": lambda L, x: L.CenterCrop(8, 13)(x),
        "CenterCrop above the size": lambda L, x: L.CenterCrop(20, 10)(x),
        "Concatenate": lambda L, x: L.Concatenate(axis=1)([x, L.Conv2D(3, 1)(x)]),
        "Conv1D causal": lambda L, x: L.Conv1D(4, 3, padding="causal", dilation_rate=2)(line(L, x)),
        "Conv1DTranspose": lambda L, x: L.Conv1DTranspose(4, 3, strides=2)(line(L, x)),
        "Conv2D dilated": lambda L, x: L.Conv2D(4, 3, dilation_rate=(2, 3), padding="same")(x),
        "Conv2D in groups": lambda L, x: L.Conv2D(6, 3, groups=3)(x),
        "Conv2DTranspose dilated": lambda L, x: L.Conv2DTranspose(4, 3, dilation_rate=2)(x),
        "Conv2DTranspose padded": lambda L, x: L.Conv2DTranspose(4, 3, strides=2, output_padding=1)(
            x
        ),
        "Conv3D": lambda L, x: L.Conv3D(4, 3, padding="same")(L.Reshape((16, 4, 5, 3))(x)),
        "Cropping2D": lambda L, x: L.Cropping2D(((1, 2), (0, 3)))(x),
        "DepthwiseConv1D": lambda L, x: L.DepthwiseConv1D(3, strides=2, padding="same")(line(L, x)),
        "DepthwiseConv2D dilated": lambda L, x: L.DepthwiseConv2D(3, dilation_rate=2)(x),
        "ELU": lambda L, x: L.ELU(0.7)(x),
        "GlobalMaxPooling2D": lambda L, x: L.GlobalMaxPooling2D(keepdims=True)(x),
        "GroupNormalization": lambda L, x: L.GroupNormalization(2)(L.Conv2D(4, 3)(x)),
        "GroupNormalization of rows": lambda L, x: L.GroupNormalization(4, axis=1)(x),
        "LayerNormalization of bands": lambda L, x: L.LayerNormalization()(x),
        "LayerNormalization of all": lambda L, x: L.LayerNormalization(axis=[1, 2, 3])(x),
        "LayerNormalization of ends": lambda L, x: L.LayerNormalization(axis=[3, 1])(x),
        "LayerNormalization of rows": lambda L, x: L.LayerNormalization(axis=1)(x),
        "LayerNormalization of a line": lambda L, x: L.LayerNormalization()(L.Flatten()(x)),
        "LayerNormalization plain": lambda L, x: L.LayerNormalization(scale=False, center=False)(x),
        "LayerNormalization small": lambda L, x: L.LayerNormalization(epsilon=1e-6)(x),
        "LayerNormalization of zeros": lambda L, x: L.LayerNormalization()(L.ZeroPadding2D(2)(x)),
        "LayerNormalization": lambda L, x: L.LayerNormalization(axis=[1, 2])(x),
        "LeakyReLU": lambda L, x: L.LeakyReLU()(x),
        "MultiHeadAttention": lambda L, x: attention(L, L.MaxPooling2D(4)(x)),
        "MultiHeadAttention of columns": lambda L, x: L.MultiHeadAttention(
            2, 4, attention_axes=[2]
        )(x, L.Cropping2D((0, 3))(x)),
        "Normalization given": lambda L, x: L.Normalization(
            mean=[1.0, 2.0, 3.0], variance=[1, 4, 2]
        )(x),
        "Normalization inverted": lambda L, x: normalization(L, x, invert=True),
        "Permute": lambda L, x: L.Permute((3, 1, 2))(x),
        "PReLU": lambda L, x: L.PReLU(shared_axes=[1, 2])(x),
        "RandomFlip": lambda L, x: L.RandomFlip()(x),
        "RandomRotation": lambda L, x: L.RandomRotation(0.1)(x),
        "ReLU": lambda L, x: L.ReLU(max_value=1.0, negative_slope=0.2, threshold=0.3)(x),
        "RepeatVector": lambda L, x: L.RepeatVector(3)(L.Flatten()(x)),
        "Rescaling": lambda L, x: L.Rescaling([0.1, 0.2, 0.3], [1, 2, 3])(x),
        "Reshape": lambda L, x: L.Reshape((8, -1))(x),
        "Resizing cut": lambda L, x: L.Resizing(11, 30, crop_to_aspect_ratio=True)(x),
        "SeparableConv1D": lambda L, x: L.SeparableConv1D(4, 3, strides=2)(line(L, x)),
        "Softmax": lambda L, x: L.Softmax(axis=1)(x),
        "Softmax over two axes": lambda L, x: L.Softmax(axis=[1, 2])(x),
        "TimeDistributed": lambda L, x: L.TimeDistributed(L.Conv2D(2, 3))(
            L.Reshape((2, 8, 20, 3))(x)
        ),
        "UnitNormalization": lambda L, x: L.UnitNormalization()(x),
        "ZeroPadding2D": lambda L, x: L.ZeroPadding2D(((1, 2), (0, 3)))(x),
        "broadcast": lambda L, x: L.Multiply()(
            [x, L.Reshape((1, 1, 3))(L.GlobalAveragePooling2D()(x))]
        ),
    }


def channels_first() -> dict[str, dict[str, Build]]:
    """Layers with a data_format of their own, on what is channels first to them, by library.

    TensorFlow has no kernels for most of them on the CPU; Keras 3 transposes what it computes.
    """
    first = {"data_format": "channels_first"}
    both: dict[str, Build] = {
        "Cropping3D": lambda L, x: L.Cropping3D(((0, 1), (1, 0), (2, 1)), **first)(volume(L, x)),
        "GlobalAveragePooling3D": lambda L, x: L.GlobalAveragePooling3D(**first)(volume(L, x)),
        "GlobalMaxPooling1D": lambda L, x: L.GlobalMaxPooling1D(**first)(L.Reshape((3, -1))(x)),
        "TimeDistributed": lambda L, x: L.TimeDistributed(L.GlobalMaxPooling1D(**first))(x),
        "ZeroPadding3D": lambda L, x: L.ZeroPadding3D((1, 2, 0), **first)(volume(L, x)),
        "merge of ranks": lambda L, x: L.Add()(
            [
                L.ZeroPadding2D(0, **first)(x),
                L.ZeroPadding3D(0, **first)(L.Reshape((1, 16, 20, 3))(x)),
            ]
        ),
    }
    keras3: dict[str, Build] = {
        "AveragePooling1D": lambda L, x: L.AveragePooling1D(3, 2, **first)(L.Reshape((3, -1))(x)),
        "CenterCrop": lambda L, x: L.CenterCrop(8, 2, **first)(x),
        "CenterCrop to one column": lambda L, x: L.CenterCrop(25, 1, **first)(x),
        "Conv1D": lambda L, x: L.Conv1D(4, 3, **first)(L.Reshape((3, -1))(x)),
        "Conv2D softmax": lambda L, x: L.Conv2D(5, 3, activation="softmax", **first)(x),
        "Conv3D": lambda L, x: L.Conv3D(3, 2, **first)(volume(L, x)),
        "Conv3DTranspose": lambda L, x: L.Conv3DTranspose(3, 2, **first)(volume(L, x)),
        "Dense beside": lambda L, x: L.Dense(20)(L.Conv2D(4, 1, use_bias=False, **first)(x)),
        "DepthwiseConv1D": lambda L, x: L.DepthwiseConv1D(3, **first)(L.Reshape((3, -1))(x)),
        "MaxPooling3D": lambda L, x: L.MaxPooling3D(2, **first)(volume(L, x)),
        "Rescaling of columns": lambda L, x: L.Rescaling([1, 2, 3], [0, 1, 0])(
            L.MaxPooling2D(1, **first)(x)
        ),
        "Resizing": lambda L, x: L.Resizing(11, 5, **first)(x),
    }
    tf_keras: dict[str, Build] = {
        "LocallyConnected1D": lambda L, x: L.LocallyConnected1D(4, 3, strides=2, **first)(
            L.Reshape((3, 320))(x)
        ),
        "LocallyConnected2D": lambda L, x: L.LocallyConnected2D(2, (2, 3), **first)(x),
    }
    return {"keras": both | keras3, "tf_keras": both | tf_keras}


def volume(L: Any, x: Any) -> Any:
    return L.Reshape((3, 4, 8, 10))(x)


def line(L: Any, x: Any) -> Any:
    return L.Reshape((-1, 3))(x)


def normalization(L: Any, x: Any, **arguments: Any) -> Any:
    layer = L.Normalization(**arguments)
    layer.build((None, 16, 20, 3))
    return layer(x)


def attention(L: Any, x: Any) -> Any:
    return L.MultiHeadAttention(2, 4, value_dim=5, output_shape=7)(x, L.Dense(3)(x), key=x)


def normalizations() -> dict[str, tuple[int, Build]]:
    """Batch normalizations behind something: how many of them stay computed on their own."""
    both = {"padding": "same", "strides": 2}

    def norm(L: Any, **arguments: Any) -> Any:
        return L.BatchNormalization(epsilon=0.05, **arguments)

    def used_twice(L: Any, x: Any) -> Any:
        y = L.Conv2D(4, 3)(x)
        return L.Add()([y, norm(L)(y)])

    def convolution_twice(L: Any, x: Any) -> Any:
        layer = L.Conv2D(3, 1)
        return norm(L)(layer(layer(x)))

    def normalization_twice(L: Any, x: Any) -> Any:
        layer = norm(L)
        return L.Add()([layer(L.Conv2D(4, 1)(x)), layer(L.Conv2D(4, 1)(x))])

    def block(L: Any, x: Any) -> Any:
        y = L.ReLU()(norm(L)(L.Conv2D(4, 1, use_bias=False)(x)))
        y = L.ReLU(6)(norm(L)(L.DepthwiseConv2D(3, padding="same")(y)))
        return L.ReLU()(L.Add()([norm(L)(L.Conv2D(4, 1)(y)), norm(L)(L.Conv2D(4, 1)(x))]))

    return {
        "Conv2D": (0, lambda L, x: norm(L)(L.Conv2D(4, 3, **both)(x))),
        "Conv2D without bias": (0, lambda L, x: norm(L)(L.Conv2D(4, 3, use_bias=False)(x))),
        "Conv2D in groups": (0, lambda L, x: norm(L)(L.Conv2D(6, 3, groups=3)(x))),
        "DepthwiseConv2D": (0, lambda L, x: norm(L)(L.DepthwiseConv2D(3, **both)(x))),
        "DepthwiseConv2D by 2": (
            0,
            lambda L, x: norm(L)(L.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False)(x)),
        ),
        "SeparableConv2D": (0, lambda L, x: norm(L)(L.SeparableConv2D(4, 3, **both)(x))),
        "without scale": (0, lambda L, x: norm(L, scale=False)(L.Conv2D(4, 3)(x))),
        "without center": (0, lambda L, x: norm(L, center=False)(L.Conv2D(4, 3)(x))),
        "block": (0, block),
        "twice in a row": (1, lambda L, x: norm(L)(norm(L)(L.Conv2D(4, 3)(x)))),
        "of an activation": (1, lambda L, x: norm(L)(L.Conv2D(4, 3, activation="relu")(x))),
        "of the input": (1, lambda L, x: L.Conv2D(4, 3)(norm(L)(x))),
        "of rows": (1, lambda L, x: norm(L, axis=1)(L.Conv2D(16, (1, 5))(x))),
        "of a Dense layer": (1, lambda L, x: norm(L)(L.Dense(4)(x))),
        "of a result used twice": (1, used_twice),
        "of a convolution called twice": (1, convolution_twice),
        "called twice": (2, normalization_twice),
    }


def recurrent() -> dict[str, Build]:
    """Recurrent layers and attention, on the rows of the image or on strips of it."""
    found: dict[str, Build] = {}
    for kind in ("SimpleRNN", "LSTM", "GRU"):
        for name, arguments in {
            "": {},
            "sequences": {"return_sequences": True},
            "backwards": {"return_sequences": True, "go_backwards": True},
            "other": {"use_bias": False, "activation": "relu"},
        }.items():
            found[f"{kind} {name}"] = lambda L, x, kind=kind, arguments=arguments: getattr(L, kind)(
                4, **arguments
            )(rows(L, x))
        found[f"{kind} cell"] = lambda L, x, kind=kind: L.RNN(getattr(L, f"{kind}Cell")(4))(
            rows(L, x)
        )
        found[f"{kind} states"] = lambda L, x, kind=kind: states(L, x, kind)
    for how in ("concat", "sum", "mul", "ave"):
        for sequences in (False, True):
            found[f"Bidirectional {how} {sequences}"] = lambda L, x, how=how, sequences=sequences: (
                L.Bidirectional(L.LSTM(4, return_sequences=sequences), merge_mode=how)(rows(L, x))
            )
    for axes in (1, 2, (1, 2), (2, 1)):
        for normalize in (False, True):
            found[f"Dot {axes} {normalize}"] = lambda L, x, axes=axes, normalize=normalize: L.Dot(
                axes, normalize=normalize
            )([L.Dense(5)(L.Reshape((5, 192))(x)), L.Dense(5)(L.Reshape((5, 192))(x))])
    return found | {
        "AdditiveAttention": lambda L, x: L.AdditiveAttention()([rows(L, x), rows(L, x)]),
        "AdditiveAttention plain": lambda L, x: L.AdditiveAttention(use_scale=False)(
            [rows(L, x), rows(L, x), L.ReLU()(rows(L, x))]
        ),
        "Attention": lambda L, x: L.Attention()([rows(L, x), L.ReLU()(rows(L, x))]),
        "Attention by sums": lambda L, x: L.Attention(score_mode="concat", use_scale=True)(
            [rows(L, x), L.ReLU()(rows(L, x)), rows(L, x)]
        ),
        "Attention scaled": lambda L, x: L.Attention(use_scale=True)([rows(L, x), rows(L, x)]),
        "Bidirectional GRU": lambda L, x: L.Bidirectional(L.GRU(4))(rows(L, x)),
        "Bidirectional parts": lambda L, x: L.Concatenate()(
            L.Bidirectional(L.GRU(4, return_sequences=True), merge_mode=None)(rows(L, x))
        ),
        "Bidirectional states": lambda L, x: L.Concatenate()(
            L.Bidirectional(L.LSTM(4, return_state=True))(rows(L, x))
        ),
        "Bidirectional two": lambda L, x: L.Bidirectional(
            L.LSTM(4), backward_layer=L.LSTM(4, go_backwards=True, activation="relu")
        )(rows(L, x)),
        "ConvLSTM1D": lambda L, x: L.ConvLSTM1D(4, 3)(L.Reshape((4, 20, 12))(x)),
        "ConvLSTM2D": lambda L, x: L.ConvLSTM2D(4, 3, padding="same", strides=2)(strips(L, x)),
        "ConvLSTM2D dilated": lambda L, x: L.ConvLSTM2D(
            2, (2, 1), dilation_rate=2, return_sequences=True, go_backwards=True, use_bias=False
        )(strips(L, x)),
        "ConvLSTM3D": lambda L, x: L.ConvLSTM3D(2, 2)(L.Reshape((2, 4, 10, 4, 3))(x)),
        "Dot of vectors": lambda L, x: L.Dot(1)([L.Flatten()(x), L.ReLU()(L.Flatten()(x))]),
        "EinsumDense": lambda L, x: L.EinsumDense("abc,cd->abd", (None, 4), bias_axes="d")(
            rows(L, x)
        ),
        "EinsumDense of both": lambda L, x: L.EinsumDense(
            "abcd,cde->abe", (16, 4), activation="relu", bias_axes="be"
        )(x),
        "EinsumDense open": lambda L, x: L.EinsumDense("...x,xy->...y", 4, bias_axes="y")(x),
        "GRU resets before": lambda L, x: L.GRU(4, reset_after=False)(rows(L, x)),
        "Identity": lambda L, x: L.Identity()(x),
        "LSTM hard": lambda L, x: L.LSTM(4, recurrent_activation="hard_sigmoid")(rows(L, x)),
        "TimeDistributed of a model": lambda L, x: L.LSTM(3)(
            L.TimeDistributed(L.GlobalAveragePooling2D())(strips(L, x))
        ),
    }


def rows(L: Any, x: Any) -> Any:
    """The rows of the image, small enough that no gate is all open or shut."""
    return L.Rescaling(0.05)(L.Reshape((16, 60))(x))


def strips(L: Any, x: Any) -> Any:
    return L.Rescaling(0.05)(L.Reshape((4, 4, 20, 3))(x))


def states(L: Any, x: Any, kind: str) -> Any:
    """A layer that begins with the last states of another one."""
    _, *last = getattr(L, kind)(4, return_state=True)(rows(L, x))
    return getattr(L, kind)(4)(rows(L, x), initial_state=last)


CASES = cases() | recurrent()
NORMALIZATIONS = normalizations()


def compare(keras: Any, build: Build, path: Path) -> None:
    """Save a model with random weights, and compare its predictions with those computed here."""
    keras.backend.clear_session()
    x = keras.layers.Input((16, 20, 3))
    model = keras.Model(x, keras.layers.Flatten()(build(keras.layers, x)))
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if layer.weights and "random" not in layer.name:
            layer.set_weights([rng.uniform(0.2, 0.9, w.shape) for w in layer.get_weights()])
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()
    model.save(path)
    chips = rng.normal(0, 2, (3, 16, 20, 3)).astype(np.float32)
    expected = np.asarray(model(chips, training=False))
    y = np.asarray(open_model(path).build()(chips))
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5 * max(1, np.abs(expected).max()))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("library", ["keras", "tf_keras"])
def test_layer(library: str, name: str, tmp_path: Path) -> None:
    compare(pytest.importorskip(library), CASES[name], tmp_path / "model.h5")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("library", "name"), [(lib, name) for lib, found in channels_first().items() for name in found]
)
def test_layer_on_channels_first(library: str, name: str, tmp_path: Path) -> None:
    build = channels_first()[library][name]
    compare(pytest.importorskip(library), build, tmp_path / "model.h5")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", sorted(activations.ACTIVATIONS))
def test_activation_of_keras_3(name: str, tmp_path: Path) -> None:
    compare(
        pytest.importorskip("keras"),
        lambda L, x: L.Activation(name)(L.Rescaling(0.7)(x)),
        tmp_path / "model.h5",
    )


@pytest.mark.parametrize("name", sorted(activations.NOT_COMPUTED))
def test_activation_of_keras_3_that_is_not_computed(name: str, tmp_path: Path) -> None:
    keras, path = pytest.importorskip("keras"), tmp_path / "model.h5"
    compare(keras, lambda L, x: L.Activation("tanh")(x), path)
    with h5py.File(path, "r+") as file:
        text = file.attrs["model_config"]
        file.attrs["model_config"] = text.replace('"tanh"', f'"{name}"')
    with pytest.raises(ModelError, match=f"'{name}', which is one of Keras, but"):
        open_model(path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("ending", [".h5", ".keras"])
@pytest.mark.parametrize("library", ["keras", "tf_keras"])
def test_layer_of_inception_resnet(library: str, ending: str, tmp_path: Path) -> None:
    keras = pytest.importorskip(library)
    module = importlib.import_module(f"{library}.src.applications.inception_resnet_v2")
    path = tmp_path / f"model{ending}"
    compare(keras, lambda L, x: module.CustomScaleLayer(0.17)([x, L.ReLU()(x)]), path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("library", "axes"), [("keras", "bc"), ("tf_keras", "c"), ("keras", "b")])
def test_bias_of_an_einsum(library: str, axes: str, tmp_path: Path) -> None:
    build: Build = lambda L, x: L.EinsumDense("abcd,de->abce", (16, 20, 20), bias_axes=axes)(x)
    compare(pytest.importorskip(library), build, tmp_path / "model.h5")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["EinsumDense", "MultiHeadAttention", "Conv2D"])
def test_bias_that_keras_3_adds_along_another_axis_is_refused(kind: str, tmp_path: Path) -> None:
    """Keras 3.15 on TensorFlow takes columns or rows for channels, where there are as many."""
    keras = pytest.importorskip("keras")
    builds: dict[str, Build] = {
        "Conv2D": lambda L, x: L.Conv2D(3, 1, data_format="channels_first")(x),
        "EinsumDense": lambda L, x: L.EinsumDense("abcd,de->abce", (16, 20, 20), bias_axes="c")(x),
        "MultiHeadAttention": lambda L, x: L.MultiHeadAttention(16, 1)(x, x),
    }
    with pytest.raises(ModelError, match=rf"{kind}.*another axis than that of the channels"):
        compare(keras, builds[kind], tmp_path / "model.h5")
    right = open_model_of("torch", tmp_path / "model.h5")
    assert np.isfinite(right).all()


def open_model_of(backend: str, path: Path) -> np.ndarray:
    """The predictions for a file, as if it had been saved on another backend."""
    with h5py.File(path, "r+") as file:
        file.attrs["backend"] = backend
    return np.asarray(open_model(path).build()(np.ones((1, 16, 20, 3), np.float32)))


def test_another_layer_of_that_name_is_refused(tmp_path: Path) -> None:
    keras, path = pytest.importorskip("keras"), tmp_path / "model.h5"
    compare(keras, lambda L, x: L.Rescaling(0.17)(x), path)
    with h5py.File(path, "r+") as file:
        document = json.loads(file.attrs["model_config"])
        layer = document["config"]["layers"][1]
        layer["class_name"] = "CustomScaleLayer"
        del layer["config"]["offset"]
        file.attrs["model_config"] = json.dumps(document)
    with pytest.raises(ModelError, match="has two inputs"):
        open_model(path).build()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", recurrent())
@pytest.mark.parametrize("library", ["keras", "tf_keras"])
def test_layer_in_an_archive(library: str, name: str, tmp_path: Path) -> None:
    compare(pytest.importorskip(library), CASES[name], tmp_path / "model.keras")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NORMALIZATIONS)
@pytest.mark.parametrize("library", ["keras", "tf_keras"])
def test_normalization_joins_the_convolution_before_it(
    library: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from keras_files import model, normalization

    left, build = NORMALIZATIONS[name]
    formula, computed = normalization.NORMALIZATIONS["BatchNormalization"], []

    def noting(config: dict[str, Any], weights: dict[str, Any], x: Any) -> Any:
        computed.append(bool(weights))
        return formula(config, weights, x)

    monkeypatch.setitem(model.FORMULAS, "BatchNormalization", noting)
    compare(pytest.importorskip(library), build, tmp_path / "model.h5")
    # counted twice: traced for the shape of the output, and computed
    assert sum(computed) == 2 * left


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("library", ["keras", "tf_keras"])
def test_normalization_of_what_is_an_output_too_is_computed(library: str, tmp_path: Path) -> None:
    keras = pytest.importorskip(library)

    def build(L: Any, x: Any) -> Any:
        start = L.Input((16, 20, 3))
        y = L.Conv2D(4, 3)(start)
        return L.Add()(keras.Model(start, [y, L.BatchNormalization()(y)])(x))

    compare(keras, build, tmp_path / "model.h5")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("library", ["keras", "tf_keras"])
def test_nested_model_with_inputs_and_outputs_in_dicts(library: str, tmp_path: Path) -> None:
    keras = pytest.importorskip(library)

    def build(L: Any, x: Any) -> Any:
        a, b = L.Input((16, 20, 3), name="z"), L.Input((16, 20, 3), name="a")
        ends = {"y": L.Conv2D(2, 1)(a), "c": L.Conv2D(3, 1)(b)}
        inner = keras.Model({"z": a, "a": b}, ends)
        results = inner({"z": x, "a": L.ReLU()(x)})
        again = inner({"a": x, "z": x})
        return L.Concatenate()([results["y"], results["c"], again["c"]])

    compare(keras, build, tmp_path / "model.h5")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", ["int32", "float16", "float64"])
@pytest.mark.parametrize("library", ["keras", "tf_keras"])
def test_input_is_cast_to_the_type_of_a_nested_model(
    library: str, dtype: str, tmp_path: Path
) -> None:
    keras = pytest.importorskip(library)

    def build(L: Any, x: Any) -> Any:
        start = L.Input((16, 20, 3), dtype=dtype)
        return keras.Model(start, L.Rescaling(0.3)(start))(x)

    compare(keras, build, tmp_path / "model.h5")


@pytest.mark.filterwarnings("ignore")
def test_operations_of_keras3(tmp_path: Path) -> None:
    ops = pytest.importorskip("keras").ops
    operations = [
        lambda x: ops.take(x, [2, 0], axis=-1),
        lambda x: ops.take(x, [-1, 0, -3], axis=-1),
        lambda x: ops.flip(x, axis=-1),
        lambda x: ops.max_pool(x, 2),
        lambda x: ops.average_pool(x, 2, 1, padding="same"),
        lambda x: ops.split(x, [1], axis=-1)[1],
        lambda x: ops.concatenate(ops.split(x, [1, 2], axis=-1)[1:], axis=-1),
        lambda x: ops.pad(x, [[0, 0], [1, 2], [0, 1], [0, 0]], mode="reflect"),
        lambda x: ops.pad(x, [[0, 0], [1, 2], [0, 1], [0, 0]], constant_values=3.0),
        lambda x: ops.where(ops.isfinite(x), x, 0.0) + ops.conj(x),
        lambda x: ops.elu(x - 100.0, 0.5),
    ]

    def build(L: Any, x: Any) -> Any:
        parts = [L.Flatten()(operation(x)) for operation in operations]
        return L.Concatenate()([L.Dense(2)(part) for part in parts])

    compare(pytest.importorskip("keras"), build, tmp_path / "model.h5")


@pytest.mark.filterwarnings("ignore")
def test_batch_normalization_over_two_axes(tmp_path: Path) -> None:
    build: Build = lambda L, x: L.BatchNormalization(axis=[3, 1])(x)
    compare(pytest.importorskip("tf_keras"), build, tmp_path / "model.h5")


@pytest.mark.parametrize("epsilon", [[0.1, 0.2, 0.3, 0.4], [[0.1], [0.2]], "small", None, 10**400])
def test_normalization_that_is_described_wrongly_is_refused(epsilon: Any, tmp_path: Path) -> None:
    keras, path = pytest.importorskip("keras"), tmp_path / "model.h5"
    compare(keras, lambda L, x: L.BatchNormalization()(L.Conv2D(4, 3)(x)), path)
    with h5py.File(path, "r+") as file:
        document = json.loads(file.attrs["model_config"])
        for entry in document["config"]["layers"]:
            if entry["class_name"] == "BatchNormalization":
                entry["config"]["epsilon"] = epsilon
        file.attrs["model_config"] = json.dumps(document)
    with pytest.raises(ModelError, match=r"layer 'batch_normalization\S*' \(BatchNormalization\)"):
        open_model(path).build()


@pytest.mark.filterwarnings("ignore")
def test_normalization_along_another_axis_of_many_is_refused(tmp_path: Path) -> None:
    """A Conv2D of tf.keras takes arrays of 5 axes; axis 3 is then not that of the channels."""
    keras = pytest.importorskip("tf_keras")

    def build(L: Any, x: Any) -> Any:
        return L.BatchNormalization(axis=3)(L.Conv2D(20, 1)(L.Reshape((2, 8, 20, 3))(x)))

    with pytest.raises(ModelError, match="makes no images"):
        compare(keras, build, tmp_path / "model.h5")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("inner", [(), ("c1",), ("b1", "c2")])
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("library", ["keras", "tf_keras"])
def test_frozen_layers_in_nested_models(
    library: str, frozen: bool, inner: tuple[str, ...], tmp_path: Path
) -> None:
    """The order of the weights in the file follows each layer's `trainable`."""
    keras = pytest.importorskip(library)

    def build(L: Any, x: Any) -> Any:
        layers = [L.Conv2D(3, 1, name="c1"), L.BatchNormalization(name="b1")]
        layers += [L.Conv2D(3, 1, name="c2"), L.BatchNormalization(name="b2")]
        base = keras.Sequential([L.Input((16, 20, 3)), *layers])
        base.trainable = not frozen
        for name in inner:
            base.get_layer(name).trainable = frozen
        return L.GlobalAveragePooling2D()(base(x))

    compare(keras, build, tmp_path / "model.h5")


# An image of uint8: what each version makes of it, or a refusal.
WHOLE: dict[str, tuple[bool, Build]] = {
    "rescaling": (True, lambda L, x: L.Rescaling(0.1)(x)),
    "moved": (True, lambda L, x: L.Rescaling(0.1)(L.ZeroPadding2D()(L.MaxPooling2D()(x)))),
    "joined": (True, lambda L, x: L.Rescaling(0.1)(L.Concatenate()([x, L.Maximum()([x, x])]))),
    "dropout": (True, lambda L, x: L.Rescaling(0.1)(L.Dropout(0.5)(x))),
    "sum": (False, lambda L, x: L.Rescaling(0.1)(L.Add()([x, x]))),
    "sum of moved ones": (False, lambda L, x: L.Rescaling(0.1)(L.Add()([L.Cropping2D()(x)] * 2))),
    "product": (False, lambda L, x: L.Rescaling(0.1)(L.Multiply()([x, x]))),
    "bilinear": (
        False,
        lambda L, x: L.Rescaling(0.1)(L.UpSampling2D(2, interpolation="bilinear")(x)),
    ),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("library", ["keras", "tf_keras"])
def test_image_of_whole_numbers(library: str, name: str, tmp_path: Path) -> None:
    keras, path = pytest.importorskip(library), tmp_path / "model.h5"
    agrees, build = WHOLE[name]
    start = keras.layers.Input((16, 20, 3), dtype="uint8")
    y = keras.layers.Dense(3)(keras.layers.Flatten()(build(keras.layers, start)))
    model = keras.Model(start, y)
    model.save(path)
    chips = np.random.default_rng(0).integers(0, 256, (2, 16, 20, 3))
    if agrees:
        y = model.predict(chips.astype(np.uint8), verbose=0)
        np.testing.assert_allclose(
            open_model(path).build()(np.float32(chips)), y, atol=1e-4 * np.abs(y).max()
        )
    else:
        with pytest.raises(ModelError, match="whole numbers"):
            open_model(path).build()


@pytest.mark.filterwarnings("ignore")
def test_operations_of_keras_3_on_whole_numbers(tmp_path: Path) -> None:
    keras, path = pytest.importorskip("keras"), tmp_path / "model.h5"
    chips = np.random.default_rng(0).integers(0, 256, (2, 16, 20, 3))
    for agrees, operation in (
        (True, lambda x: x / 255.0),
        (True, lambda x: keras.ops.max(x, axis=[1, 2])),
        (False, lambda x: keras.ops.mean(x, axis=[1, 2])),
        (False, lambda x: keras.layers.Rescaling(0.1)(x * 2)),
    ):
        start = keras.layers.Input((16, 20, 3), dtype="uint8")
        y = keras.layers.Flatten()(keras.ops.cast(operation(start), "float32"))
        model = keras.Model(start, keras.layers.Dense(3)(y))
        model.save(path)
        if agrees:
            y = model.predict(chips.astype(np.uint8), verbose=0)
            np.testing.assert_allclose(
                open_model(path).build()(np.float32(chips)), y, atol=1e-4 * np.abs(y).max()
            )
        else:
            with pytest.raises(ModelError, match="whole numbers"):
                open_model(path).build()
