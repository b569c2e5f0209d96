"""Configurations of Keras 1, with the names and arguments of Keras 2."""

from __future__ import annotations

from keras_files.advice import STANDARD
from keras_files.model_file import ModelError
from keras_files.network import Era, Layer

LAYERS = {
    "AtrousConvolution1D": "Conv1D",
    "AtrousConvolution2D": "Conv2D",
    "Convolution1D": "Conv1D",
    "Convolution2D": "Conv2D",
    "Convolution3D": "Conv3D",
    "Deconvolution2D": "Conv2DTranspose",
    "SeparableConvolution2D": "SeparableConv2D",
    "TimeDistributedDense": "Dense",
}

ARGUMENTS = {
    "atrous_rate": "dilation_rate",
    "bias": "use_bias",
    "border_mode": "padding",
    "concat_axis": "axis",
    "dim_ordering": "data_format",
    "inner_activation": "recurrent_activation",
    "length": "size",
    "nb_filter": "filters",
    "output_dim": "units",
    "pool_length": "pool_size",
    "stride": "strides",
    "subsample": "strides",
    "subsample_length": "strides",
}

KERNELS = (
    ("filter_length",),
    ("nb_row", "nb_col"),
    ("kernel_dim1", "kernel_dim2", "kernel_dim3"),
)

MERGES = {
    "ave": "Average",
    "concat": "Concatenate",
    "cos": "Cosine",
    "dot": "Dot",
    "max": "Maximum",
    "mul": "Multiply",
    "sum": "Add",
}


def _convert_merge(layer: Layer) -> None:
    """Convert a Merge to a layer of its mode, or to a Lambda layer."""
    config = layer.config
    if config["mode_type"] == "lambda":
        layer.kind = "Lambda"
        arguments = config.get("arguments")
        layer.config = {"function": config["mode"], "arguments": arguments}
    elif config["mode_type"] == "raw" and config["mode"] in MERGES:
        layer.kind = MERGES[config["mode"]]
        if layer.kind in ("Dot", "Cosine"):
            config["axes"] = config["dot_axes"]
    else:
        raise ModelError(f"{layer} merges by '{config['mode']}', not computed here: {STANDARD}")


def convert_keras1(layer: Layer, era: Era) -> None:
    """Convert names and arguments of Keras 1 to those of Keras 2, in place."""
    config = layer.config
    for old, new in ARGUMENTS.items():
        if old in config:
            config[new] = config.pop(old)
    if config.get("data_format") in ("th", "tf"):
        config["data_format"] = "channels_" + {"th": "first", "tf": "last"}[config["data_format"]]
    for sizes in KERNELS:
        if sizes[0] in config:
            config["kernel_size"] = [config[key] for key in sizes]
    if layer.kind == "Merge":
        _convert_merge(layer)
    if layer.kind == "ConvLSTM2D":
        layer.warnings.append(
            f"{layer} is computed with subsample=(1, 1): Keras 1 does not write that down."
        )
    if layer.kind == "ConvLSTM2D" or (
        layer.kind in ("GRU", "LSTM") and config["consume_less"] != "gpu"
    ):
        layer.kind = f"Gate{layer.kind}"
    if layer.kind == "BatchNormalization" and config.get("mode", 0) != 0:
        if config["mode"] == 2:
            raise ModelError(
                f"{layer} has mode=2, statistics over the batch, so a result would depend on "
                "the other chips: train the model with mode=0"
            )
        layer.kind = "SampleNormalization"
    layer.kind = LAYERS.get(layer.kind, layer.kind)
