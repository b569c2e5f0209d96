"""What a configuration tells of how its model was trained: which values it takes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from keras_files.layers import LAYERS
from keras_files.network import Call, Layer, Network, Tensor, tensors_in

# Functions that scale or shift the values of an image, where one of their arguments is a number.
_SCALINGS = {
    "math.add",
    "math.divide",
    "math.multiply",
    "math.subtract",
    "math.truediv",
    "nn.bias_add",
}

# Architectures of keras.applications by names of layers that they have, and names that they do not
# have (of Keras 1.2 to 3.15: the modules of keras/applications and keras_applications). Those that
# scale their input themselves need no line: see find_scaling.
_ARCHITECTURES: tuple[tuple[str, set[str], set[str]], ...] = (
    ("VGG", {"block1_conv2", "block3_conv3", "block5_conv3", "block5_pool"}, {"block2_sepconv1"}),
    ("ResNet", {"bn_conv1", "res2a_branch2a", "res5c_branch2c"}, set()),
    ("ResNet", {"conv1_conv", "conv1_bn", "conv2_block1_0_conv", "conv5_block3_out"}, {"post_bn"}),
    ("ResNetV2", {"conv1_conv", "conv2_block1_preact_bn", "post_bn"}, set()),
    ("DenseNet", {"conv2_block1_concat", "pool2_conv", "conv5_block1_concat"}, set()),
    ("InceptionV3", {"mixed0", "mixed9_1", "mixed10"}, set()),
    ("InceptionResNetV2", {"mixed_5b", "mixed_6a", "mixed_7a", "conv_7b"}, set()),
    ("Xception", {"block1_conv1", "block2_sepconv1", "block14_sepconv2"}, set()),
    ("MobileNet", {"conv1", "conv_dw_1", "conv_pw_1", "conv_dw_13", "conv_pw_13"}, set()),
    ("MobileNetV2", {"expanded_conv_depthwise", "block_1_expand", "Conv_1", "out_relu"}, set()),
    ("NASNet", {"stem_conv1", "stem_bn1", "normal_conv_1_1", "reduction_conv_1_stem_1"}, set()),
)


def find_scaling(network: Network) -> str | None:
    """Return what scales or shifts the input before the first weights; None if nothing does.

    A Rescaling or Normalization layer, or an operation with numbers, whether written by
    `preprocess_input` or by hand. What leaves the values as they are does not count.

    Returns:
        A few words for a sentence: "layer 'rescaling' (Rescaling)".
    """
    call = _scan(network, set(network.inputs))[0]
    if call is None:
        return None
    is_operation = call.layer.kind == "Operation"
    return f"the operation '{call.layer.name}'" if is_operation else str(call.layer)


def find_divisor(network: Network) -> float | None:
    """Return the number by which the input is divided before anything else is done to its values.

    None if that is no division, or one by several numbers.
    """
    call = _scan(network, set(network.inputs))[0]
    if call is None:
        return None
    config = call.layer.config
    if call.layer.kind == "Rescaling":
        factors = set(_numbers(config["scale"]))
    elif config.get("function") in ("math.divide", "math.multiply", "math.truediv"):
        factors = set(_numbers([call.args, call.kwargs, config["arguments"], config["constants"]]))
        if config["function"] != "math.multiply":
            return factors.pop() if len(factors) == 1 else None
    else:
        return None
    return 1 / factors.pop() if len(factors) == 1 and 0 not in factors else None


def _scan(network: Network, raw: set[Tensor]) -> tuple[Call | None, set[Tensor]]:
    """Find what scales one of the `raw` tensors; they grow by those that are no more than moved."""
    for call in network.calls:
        layer = call.layer
        if not raw & set(tensors_in([call.args, call.kwargs])):
            continue
        if layer.kind == "Network":
            found, inner = _scan(layer.network, set(layer.network.inputs))
            if found:
                return found, raw
            passes = bool(inner & set(layer.network.outputs))
        elif _scales(layer, call):
            return call, raw
        else:
            passes = not LAYERS[layer.kind].weights and layer.kind != "TimeDistributed"
        if passes:
            raw = raw | {Tensor(call.name, call.number, 0)}
    return None, raw


def _scales(layer: Layer, call: Call) -> bool:
    config = layer.config
    if layer.kind == "Rescaling":
        return any(n != 1 for n in _numbers(config["scale"])) or any(_numbers(config["offset"]))
    if layer.kind == "Normalization":
        return True
    if layer.kind != "Operation":
        return False
    if config["function"] == "image.per_image_standardization":
        return True
    values = [call.args, call.kwargs, config["arguments"], config["constants"] or {}]
    neutral = 0 if config["function"] in ("math.add", "math.subtract", "nn.bias_add") else 1
    return config["function"] in _SCALINGS and any(n != neutral for n in _numbers(values))


def _numbers(value: Any) -> Iterator[float]:
    """Yield all numbers among plain values."""
    if isinstance(value, list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _numbers(item)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


def find_architecture(network: Network) -> str | None:
    """Return the family of keras.applications whose layers' names the model or its base has."""
    names = set(_layer_names(network))
    for family, present, absent in _ARCHITECTURES:
        if present <= names and not absent & names:
            return family
    return None


def _layer_names(network: Network) -> Iterator[str]:
    for layer in network.layers:
        yield layer.name
        if layer.network:
            yield from _layer_names(layer.network)
