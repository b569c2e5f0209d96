"""What the layers of each era mean: kinds and arguments that all eras share."""

from __future__ import annotations

import json
import re
from typing import Any

from keras_files.activations import settle_activation
from keras_files.advice import CARRY_OVER, CHANGED, STANDARD
from keras_files.keras1 import convert_keras1
from keras_files.layers import (
    KNOWN_CUSTOM,
    LAYERS,
    NOT_COMPUTED,
    RANDOM_LAYERS,
    UNSUPPORTED,
    End,
    check_arguments,
    check_since,
)
from keras_files.model_file import ModelError
from keras_files.network import Era, Layer, plain, words
from keras_files.operations import (
    KERAS3_ACTIVATIONS,
    KERAS3_OPERATIONS,
    convert_operation,
)

NOT_YET = f"is a standard layer of Keras, but is not computed here yet: {STANDARD}"

OPERATION_LAYERS = {"SlicingOpLambda", "TFOpLambda", "TensorFlowOpLayer"}
ACTIVATION_KEYS = {"activation", "recurrent_activation"}

# Arguments that are whole numbers, or lists of them.
SIZES = words(
    "cropping depth_multiplier dilation_rate dims filters groups height kernel_size key_dim n "
    "nb_feature num_heads padding pool_size size strides target_shape units value_dim width"
)


def read_plain_layer(kind: str, entry: dict[str, Any], era: Era) -> Layer:
    """Return the layer of an entry, which holds no other layers and is no Lambda.

    Args:
        kind: its class, as `layers` names it.

    Raises:
        ModelError: it cannot be computed.
    """
    config = entry["config"]
    name = entry.get("name") or config.get("name", "")
    layer = Layer(kind, name, dict(config), config.get("trainable", True))
    _convert_layer(layer, era, is_of_keras(kind, entry))
    return layer


def is_of_keras(kind: str, entry: dict[str, Any]) -> bool:
    """Return whether a class is one of Keras, as far as the entry tells.

    Since tf.keras 2.12 and in Keras 3 it names the module, which is none for a user's own class.
    """
    if "module" in entry:
        return str(entry["module"]).split(".")[0] in ("keras", "tf_keras", "tensorflow")
    return (entry.get("registered_name") or kind) in (kind, f"keras>{kind}", f"Keras>{kind}")


def _convert_layer(layer: Layer, era: Era, known: bool) -> None:
    """Settle what kind and arguments of a layer meant in its era.

    Other than in Keras 2, then: `padding` may be "theano_same", `interpolation` "bilinear_corner",
    `activation` "hard_sigmoid_keras3"; every layer has `data_format`, except for Flatten, where it
    is missing if Keras did not move the channels; `random` marks what acts in training alone.
    """
    if known or layer.kind in KNOWN_CUSTOM:
        check_since(layer, era)
    if era.keras == 1:
        convert_keras1(layer, era)
    if layer.kind == "Lambda" and known:
        return  # what it computes depends on its calls: see configuration
    config = layer.config
    layer.kind = re.sub(r"(?<=Normalization)V[12]$", "", layer.kind)  # tf.keras on TensorFlow 1
    if layer.kind in RANDOM_LAYERS and (known or layer.kind in KNOWN_CUSTOM):
        if layer.kind == "StochasticDepth" and "drop_path_rate" not in config:
            raise ModelError(
                f"{layer} is a custom layer, not that of keras.applications: {STANDARD}"
            )
        _drop_training_arguments(config)
        check_arguments(layer, era)
        # its class still names its place in an archive
        layer.config = {"activation": "linear", "random": True, "class_name": layer.kind}
        layer.kind = "Activation"
        return
    if layer.kind in OPERATION_LAYERS or (
        era.keras == 3
        and layer.kind in {*KERAS3_OPERATIONS, *KERAS3_ACTIVATIONS}
        and "trainable" not in config
    ):
        convert_operation(layer)
        if era.keras == 3 and layer.kind == "Operation":
            layer.config["promotes"] = True  # whole numbers, see model.MOVING
            # what Take makes of places below 0; an architecture alone does not name the version
            layer.config["clips"] = not era.has("- - 3.3") or "." not in era.version
        return
    if known and layer.kind in NOT_COMPUTED:
        raise ModelError(f"{layer} {NOT_YET}")
    if layer.kind not in LAYERS or not (known or layer.kind in KNOWN_CUSTOM):
        raise ModelError(
            f"{layer} is a custom layer, or none that can be computed here: {STANDARD}"
        )
    _convert_arguments(layer, era)


def _convert_arguments(layer: Layer, era: Era) -> None:
    """Settle the arguments of a layer that has a row; see _convert_layer."""
    config = layer.config
    if re.search("Quantized|[a-z0-9/-]+_from_", json.dumps(config.get("dtype"))):
        raise ModelError(
            f"{layer} is quantized, which cannot be computed here: save the model as it was "
            "before quantize()"
        )
    for key, default in UNSUPPORTED.items():
        if config.get(key, default) != default:
            raise ModelError(
                f"{layer} has '{key}', which cannot be computed here: leave it out; {CHANGED}"
            )
    if layer.kind in ("GroupNormalization", "LayerNormalization") and (
        "gamma_initializer" not in config
    ):
        # Keras writes it. But TensorFlow 1.13, without LayerNormalization, writes the same version
        # as 1.14, which has it; and Keras 3 does not write into HDF5 files whose a class is.
        raise ModelError(f"{layer} is a custom layer, for it lacks 'gamma_initializer': {STANDARD}")
    _drop_training_arguments(config)
    for key in config.keys() - ACTIVATION_KEYS:
        value = plain(config[key])
        config[key] = whole(value) if key in SIZES else value
    check_arguments(layer, era)
    for key in ACTIVATION_KEYS & config.keys():
        config[key] = _convert_activation(config[key], layer, era)
    if layer.kind != "Flatten":
        config["data_format"] = config.get("data_format") or _default_format(layer, era)
    if era.keras == 3 and era.backend not in ("jax", "torch"):
        config["adds_by_length"] = True  # see formulas.check_bias_axis
    if layer.kind == "Attention":
        config["concat"] = config.get("score_mode") == "concat"
    _settle_normalization(layer, era)
    if "ConvLSTM" in layer.kind:
        config["recurrent_padding"] = "theano_same" if era.backend == "theano" else "same"
    if layer.kind == "SReLU":
        config["limits_below"] = era.backend == "theano"
    if era.backend == "theano" and config.get("padding") == "same":
        config["padding"] = "theano_same"
    if layer.kind == "UpSampling2D" and era.version in ("2.2.4-tf", "2.3.0-tf"):
        _check_interpolation(layer)
    if config.get("interpolation") == "bilinear" and era.is_package:
        # keras.backend.resize_images used tf.image.resize_bilinear of TensorFlow 1
        config["interpolation"] = "bilinear_corner"


def _settle_normalization(layer: Layer, era: Era) -> None:
    """Tell which weights a normalization has."""
    config = layer.config
    if layer.kind == "Normalization":
        config["adapted"] = config.get("mean") is None
    if "renorm" in LAYERS[layer.kind].weights:
        renorm = config.setdefault("renorm", False)
        if config.get("virtual_batch_size"):  # its axis counts that of the parts of a batch
            config["axis"] = [axis - 1 for axis in config["axis"]]
        config["renorm_weight"] = renorm and era.has_renorm_weight
        config["renorm_stddev"] = renorm and not era.has_renorm_weight


def _check_interpolation(layer: Layer) -> None:
    """Refuse what TensorFlow 1.13 and 1.14 saved, whose get_config forgets the interpolation.

    Those versions before had only one; since 1.15 it is written down.
    """
    if "interpolation" not in layer.config:
        raise ModelError(
            f"{layer} was saved by TensorFlow 1.13 or 1.14, which do not write down whether it is "
            f"'nearest' or 'bilinear': build the model again in a later version, {CARRY_OVER}"
        )


def _drop_training_arguments(config: dict[str, Any]) -> None:
    for key in list(config):
        if key.endswith(("_initializer", "_regularizer", "_constraint")):
            del config[key]


def whole(value: Any) -> Any:
    """Return sizes that were written as 270.0 as 270."""
    if isinstance(value, list):
        return [whole(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _default_format(layer: Layer, era: Era) -> str:
    """Return the data format of a layer that names none: for some there is but one."""
    alone = layer.kind.endswith("1D") or layer.kind in ("CenterCrop", "Resizing")
    return "channels_last" if alone else era.data_format


def _convert_activation(value: Any, layer: Layer, era: Era) -> str | Layer:
    """Return the name of an activation, or the Layer that stands for it (a LeakyReLU)."""
    kind = value.get("class_name") if isinstance(value, dict) else None
    if kind in LAYERS and LAYERS[kind].end is End.ACTIVATION:
        return read_plain_layer(kind, value, era)
    name, warning = settle_activation(value, layer, era)
    layer.warnings += [warning] if warning else []
    return name
