"""A name is no proof: an activation that a version of Keras has not yet is somebody's own."""

from __future__ import annotations

from typing import Any

import pytest

from keras_files.activations import settle_activation
from keras_files.model_file import ModelError
from keras_files.network import Era, Layer


def era(version: str, has_efficientnet: bool = False) -> Era:
    keras = int(version[0])
    return Era(keras, version, "tensorflow", "channels_last", has_efficientnet)


def function(name: str) -> dict[str, str]:
    """Return what Keras 3 writes of a function that is none of its own."""
    return {"module": "builtins", "class_name": "function", "config": name}


@pytest.mark.parametrize(
    ("value", "version", "name"),
    [
        ("relu", "1.2.2", "relu"),
        ("selu", "2.0.6", "selu"),
        ("gelu", "2.5.0", "gelu"),
        ("gelu", "3.0.0", "gelu"),
        ("swish", "2.4.0", "swish"),
        ("silu", "3.3.3", "swish"),
        ("hard_silu", "3.1.0", "hard_swish"),
        ("celu", "3.15.1", "celu"),
        ("hard_sigmoid", "2.15.0", "hard_sigmoid"),
        ("hard_sigmoid", "3.0.0", "hard_sigmoid_keras3"),
        ("softmax_v2", "2.3.1", "softmax"),
        (function("softmax_v2"), "3.3.3", "softmax"),
        (function("log_softmax_v2"), "3.3.3", "log_softmax"),
        (None, "3.0.0", "linear"),
    ],
)
def test_activation_of_keras_itself(value: Any, version: str, name: str) -> None:
    assert settle_activation(value, "layer 'a'", era(version)) == (name, None)


@pytest.mark.parametrize(
    ("value", "version", "formula"),
    [
        ("swish", "2.3.0-tf", "x * sigmoid(x)"),
        ("silu", "2.8.0", "x * sigmoid(x)"),
        ("mish", "2.2.4", "x * tanh(softplus(x))"),
        ("relu6", "1.2.2", "min(max(x, 0), 6)"),
        ("relu6", "2.2.4", "min(max(x, 0), 6)"),
        ("relu6", "2.8.0", "min(max(x, 0), 6)"),
        ("leaky_relu", "2.8.0", "as tf.nn.leaky_relu"),
        (function("relu"), "3.3.3", "max(x, 0)"),
        ("gelu", "2.4.0", "TensorFlow 2.4"),
    ],
)
def test_custom_code_of_one_common_form_is_computed_with_a_warning(
    value: Any, version: str, formula: str
) -> None:
    _, warning = settle_activation(value, "layer 'a'", era(version))
    assert warning.startswith("layer 'a' has the activation") and formula in warning


@pytest.mark.parametrize(
    ("value", "version"),
    [
        ("leaky_relu", "2.2.4"),
        ("hard_swish", "2.15.0"),
        ("celu", "3.6.0"),
        ("hard_tanh", "2.8.0"),
        ("gelu", "2.3.0-tf"),
        ("gelu", "2.2.4"),
        ("swish", "2.2.4"),
        (function("hard_tanh"), "3.15.1"),
        (function("gelu"), "3.3.3"),
        (function("hard_sigmoid"), "3.3.3"),
        ({"class_name": "__lambda__", "config": {}}, "3.3.3"),
    ],
)
def test_custom_code_of_several_forms_is_refused(value: Any, version: str) -> None:
    with pytest.raises(ModelError, match="layer 'a' has the custom activation"):
        settle_activation(value, "layer 'a'", era(version))


def test_swish_of_the_efficientnet_package_is_known() -> None:
    assert settle_activation("swish", "layer 'a'", era("2.2.4", True)) == ("swish", None)


def test_relu6_of_mobilenet_is_known_by_the_name_of_its_layer() -> None:
    own, another = (Layer("Activation", name, {}) for name in ("conv_dw_1_relu", "activation_1"))
    assert settle_activation("relu6", own, era("2.2.0")) == ("relu6", None)
    assert settle_activation("relu6", another, era("2.2.0"))[1]
    assert settle_activation(function("relu6"), own, era("3.3.3"))[1]
