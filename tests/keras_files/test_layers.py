"""Every layer of Keras has a row, or is refused by name; every row has a formula."""

from __future__ import annotations

import functools
import inspect
from types import ModuleType

import pytest

from keras_files import activations, keras1, layers, operations
from keras_files.configuration import MODELS, READ_APART
from keras_files.convert_layer import read_plain_layer
from keras_files.model_file import ModelError
from keras_files.network import Era, Layer, words

# The classes of the package's modules that are layers, without second names of the same class.
OF_KERAS1 = words(
    "Activation ActivityRegularization AtrousConvolution1D AtrousConvolution2D AveragePooling1D "
    "AveragePooling2D AveragePooling3D BatchNormalization Bidirectional Container ConvLSTM2D "
    "ConvRecurrent2D Convolution1D Convolution2D Convolution3D Cropping1D Cropping2D Cropping3D "
    "Deconvolution2D Dense Dropout ELU Embedding Flatten GRU GaussianDropout GaussianNoise "
    "GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D GlobalMaxPooling1D "
    "GlobalMaxPooling2D GlobalMaxPooling3D Highway InputLayer LSTM Lambda Layer LeakyReLU "
    "LocallyConnected1D LocallyConnected2D Masking MaxPooling1D MaxPooling2D MaxPooling3D "
    "MaxoutDense Merge Model PReLU ParametricSoftplus Permute Recurrent RepeatVector Reshape SReLU "
    "SeparableConvolution2D Sequential SimpleRNN SpatialDropout1D SpatialDropout2D "
    "SpatialDropout3D ThresholdedReLU TimeDistributed TimeDistributedDense UpSampling1D "
    "UpSampling2D UpSampling3D Wrapper ZeroPadding1D ZeroPadding2D ZeroPadding3D"
)
OF_KERAS224 = words(
    "Activation ActivityRegularization Add AlphaDropout Average AveragePooling1D AveragePooling2D "
    "AveragePooling3D BatchNormalization Bidirectional Concatenate Conv1D Conv2D Conv2DTranspose "
    "Conv3D Conv3DTranspose ConvLSTM2D ConvLSTM2DCell ConvRNN2D ConvRecurrent2D Cropping1D "
    "Cropping2D Cropping3D CuDNNGRU CuDNNLSTM Dense DepthwiseConv2D Dot Dropout ELU Embedding "
    "Flatten GRU GRUCell GaussianDropout GaussianNoise GlobalAveragePooling1D "
    "GlobalAveragePooling2D GlobalAveragePooling3D GlobalMaxPooling1D GlobalMaxPooling2D "
    "GlobalMaxPooling3D Highway InputLayer LSTM LSTMCell Lambda Layer LeakyReLU LocallyConnected1D "
    "LocallyConnected2D Masking MaxPooling1D MaxPooling2D MaxPooling3D Maximum MaxoutDense Minimum "
    "Model Multiply Network PReLU Permute RNN ReLU Recurrent RepeatVector Reshape SeparableConv1D "
    "SeparableConv2D Sequential SimpleRNN SimpleRNNCell Softmax SpatialDropout1D SpatialDropout2D "
    "SpatialDropout3D StackedRNNCells Subtract ThresholdedReLU TimeDistributed UpSampling1D "
    "UpSampling2D UpSampling3D Wrapper ZeroPadding1D ZeroPadding2D ZeroPadding3D"
)


def layers_of(library: ModuleType) -> set[str]:
    """Return the names that the layers of a library have in a file."""
    found = vars(library.layers).values()
    return {
        item.__name__
        for item in found
        if inspect.isclass(item) and issubclass(item, library.layers.Layer)
    }


@pytest.mark.parametrize("version", ["1.2.2", "2.2.4", "tf_keras", "keras"])
def test_every_layer_has_a_row_or_is_refused_by_name(version: str) -> None:
    listed = {"1.2.2": OF_KERAS1, "2.2.4": OF_KERAS224}.get(version)
    listed = listed or layers_of(pytest.importorskip(version))
    assert len(listed) > 70
    known = {*layers.LAYERS, *layers.RANDOM_LAYERS, *layers.NOT_COMPUTED}
    known |= {*keras1.LAYERS, *MODELS, *READ_APART, "Lambda", "Merge"}
    assert listed - known == set()
    assert layers.NOT_COMPUTED.isdisjoint(layers.LAYERS | layers.RANDOM_LAYERS)


def test_every_row_has_a_formula() -> None:
    from keras_files import formulas, model

    assert {*model.FORMULAS, "TimeDistributed"} == set(layers.LAYERS)
    assert set(formulas.ACTIVATIONS) == {*activations.ACTIVATIONS, "hard_sigmoid_keras3"}


@pytest.mark.parametrize("name", ["keras", "tf_keras"])
def test_every_row_has_the_arguments_of_todays_libraries(name: str) -> None:
    """Those of `__init__`, but for what is used in training alone or has no place in a file."""
    gone = words(
        "activity_regularizer args kwargs self input_tensor shape "
        "gptq_unpacked_column_size batch_size"
    )
    endings = ("_initializer", "_regularizer", "_constraint")
    library = pytest.importorskip(name).layers
    rows = layers.LAYERS | layers.RANDOM_LAYERS
    kinds = [kind for kind in rows if hasattr(library, kind)]
    assert len(kinds) > 70
    for kind in kinds:
        found = inspect.signature(getattr(library, kind).__init__).parameters
        found = {name for name in found if not name.endswith(endings)} - gone
        assert found <= words(rows[kind].arguments) | layers.COMMON, kind
        random = kind in layers.RANDOM_LAYERS
        assert name == "keras" or random or not found & layers.OF_KERAS3, kind


@pytest.mark.parametrize(("keras", "version"), [(1, "1.2.2"), (2, "2.2.4"), (2, "2.15.0")])
def test_argument_of_a_later_keras_is_refused(keras: int, version: str) -> None:
    layer = Layer("Dense", "dense", {"units": 2, "lora_rank": 4})
    layers.check_arguments(layer, Era(3, "3.15.1", "tensorflow", "channels_last"))
    with pytest.raises(ModelError, match=f"has 'lora_rank', which this layer of Keras {version}"):
        layers.check_arguments(layer, Era(keras, version, "tensorflow", "channels_last"))


@pytest.mark.parametrize(
    ("kind", "version"),
    [
        ("LayerNormalization", "2.2.4"),
        ("LayerNormalization", "2.1.6-tf"),
        ("Rescaling", "2.3.0-tf"),
        ("GroupNormalization", "2.10.0"),
        ("RandomBrightness", "2.3.1"),
        ("StochasticDepth", "2.8.0"),
        ("RMSNormalization", "3.8.0"),
        ("SReLU", "2.0.0"),
        ("Add", "1.2.2"),
        ("SampleNormalization", "2.15.0"),
    ],
)
def test_layer_of_a_name_that_came_later_is_refused(kind: str, version: str) -> None:
    layer = Layer(kind, "odd", {})
    with pytest.raises(ModelError, match=f"for Keras {version} has none of that name"):
        layers.check_since(layer, Era(int(version[0]), version, "tensorflow", "channels_last"))


@pytest.mark.parametrize(
    ("kind", "version"),
    [
        ("LayerNormalization", "2.2.4-tf"),
        ("Rescaling", "2.4.0"),
        ("GroupNormalization", "2.11.0"),
        ("RMSNormalization", "3.15.1"),
        ("SReLU", "1.2.2"),
        ("Merge", "1"),
        ("Dense", "1"),
        ("Rescaling", "3"),
    ],
)
def test_layer_that_its_version_has_is_taken(kind: str, version: str) -> None:
    layers.check_since(
        Layer(kind, "own", {}), Era(int(version[0]), version, "tensorflow", "channels_last")
    )


@pytest.mark.parametrize(
    ("kind", "config", "more", "words"),
    [
        (
            "LayerNormalization",
            {"epsilon": 0.1},
            {"axis": [3], "center": True, "scale": True},
            "lacks 'axis', 'center', 'scale'",
        ),
        ("ReLU", {}, {"max_value": None}, "lacks 'max_value'"),
        ("RandomFlip", {"seed": 1}, {"mode": "horizontal"}, "lacks 'mode'"),
    ],
)
def test_layer_without_an_argument_that_its_version_always_writes_is_refused(
    kind: str, config: dict[str, object], more: dict[str, object], words: str
) -> None:
    layer, era = Layer(kind, "n", config), Era(2, "2.15.0", "", "")
    with pytest.raises(ModelError, match=words):
        layers.check_arguments(layer, era)
    layer.config |= more
    layers.check_arguments(layer, era)


def test_every_operation_exists() -> None:
    import tensorflow as tf

    for name in operations.OPERATIONS - {"getitem"}:
        assert callable(functools.reduce(getattr, name.split("."), tf)), name


@pytest.mark.parametrize(
    ("kind", "version"),
    # TensorFlow 1.13 has none, but writes the same version as 1.14.
    [("LayerNormalization", "2.2.4-tf"), ("GroupNormalization", "3.6.0")],
)
def test_normalization_without_initializers_is_custom_code(kind: str, version: str) -> None:
    era = Era(int(version[0]), version, "tensorflow", "channels_last")
    config = {"axis": -1, "center": True, "epsilon": 0.001, "scale": True}
    config |= {"groups": 2} if kind == "GroupNormalization" else {}
    with pytest.raises(ModelError, match="custom layer, for it lacks 'gamma_initializer'"):
        read_plain_layer(kind, {"config": config}, era)
    own = config | {"gamma_initializer": "ones", "beta_initializer": "zeros"}
    assert read_plain_layer(kind, {"config": own}, era).config["axis"] == -1


def test_layer_scale_of_convnext_has_no_initializers() -> None:
    config = {"init_values": 1e-6, "projection_dim": 96}
    for version in ("2.15.0", "3.15.1"):
        era = Era(int(version[0]), version, "tensorflow", "channels_last")
        assert read_plain_layer("LayerScale", {"config": dict(config)}, era).kind == "LayerScale"
