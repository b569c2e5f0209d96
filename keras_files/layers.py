"""What is known of each layer: its arguments, its weights and their shapes, its axes, its meaning.

One row for one layer; its formula stands in `formulas`, `normalization`, `attention` or
`recurrent`. Arguments are the union of Keras 1.2.2, 2.2.4, tf_keras 2.21 and Keras 3.15 (their
`__init__` and `get_config`), in the names of Keras 2; initializers, regularizers and constraints
are gone already. Weights are those of the `build` methods of the same versions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

from keras_files import weight_shapes as shapes
from keras_files.advice import STANDARD, TWO_MODELS
from keras_files.model_file import ModelError
from keras_files.network import Era, Layer, words
from keras_files.weight_shapes import Declared, Shape


class Axes(Enum):
    """How a layer may be computed channels last in a model of channels first."""

    OWN = "its arguments count the axes of the model"
    SPATIAL = "it follows its own data_format"
    POINTWISE = "it computes each value from those at its place"
    AXIAL = "it has an axis that may be the one of the channels"


class End(Enum):
    """What the outputs of a model are if this is its last layer."""

    UNKNOWN = "anything"
    PASSES = "what the layer before makes, moved at most"
    AVERAGES = "averages of what the layer before makes"
    LINEAR = "any numbers"
    ACTIVATED = "what its argument `activation` makes"
    ACTIVATION = "what the activation of its name makes"


class Whole(Enum):
    """What a layer makes of an image of whole numbers, of a model whose input is uint8, say."""

    CAST = "what it makes of the same numbers as float32"
    KEPT = "numbers of the same type"
    OTHERWISE = "sums that wrap at 256, means without fractions, by the version of Keras"


ALWAYS = "1.0 2.0 3.0"


# Weights of the training alone.
IDLE = words(
    "count moving_stddev renorm_mean renorm_mean_weight renorm_stddev renorm_stddev_weight"
)


@dataclass(frozen=True)
class Row:
    """What is known of one layer.

    Attributes:
        arguments: those that it has beside COMMON, in words.
        weights: in the order in which Keras creates them; "bias?use_bias" is there if the argument
            `use_bias` is true; those after "|" are never trainable.
        declared: gives the shapes of its weights, see weight_shapes; None: any will do.
        axes: see Axes.
        end: see End.
        whole: see Whole.
        always: arguments that each version writes, for names that people gave to layers of theirs.
        since: when it came, see Era.has; the class names of Keras 1 that are others now count as
            these.
    """

    arguments: str = ""
    weights: str = ""
    declared: Callable[[Layer, int | None, list[Shape]], Declared] | None = None
    axes: Axes = Axes.OWN
    end: End = End.UNKNOWN
    since: str = ALWAYS
    whole: Whole = Whole.CAST
    always: str = ""


# Arguments of every layer.
COMMON = words(
    "autocast batch_input_shape batch_shape class_name dtype dynamic input_dim input_dtype "
    "input_length input_shape name trainable"
)

# Of layers of Keras 1, beside those whose names are those of Keras 2 by now.
_KERAS1 = words(
    "a_left_init a_right_init alpha_init arguments axis beta_init bias concat_axis consume_less "
    "dot_axes dropout_U dropout_W filter_length forget_bias_init init inner_init kernel_dim1 "
    "kernel_dim2 kernel_dim3 mode mode_type nb_col nb_row output_mask output_mask_type "
    "output_shape output_shape_type t_left_init t_right_init transform_bias weights"
)

# What no layer had before Keras 3.
OF_KERAS3 = words(
    "antialias autocast batch_shape bounding_box_format factor fill_mode fill_value "
    "flash_attention lora_alpha lora_rank pad_to_aspect_ratio quantization_config sliding_window "
    "use_cudnn use_gate"
)

# What the keras package had not yet when tf.keras took its place.
_NOT_OF_THE_PACKAGE = words("groups keepdims")

_CONVOLUTION = (
    "activation data_format dilation_rate filters groups kernel_size lora_alpha lora_rank padding "
    "strides use_bias"
)
_RECURRENT = (
    "activation cell dropout go_backwards implementation recurrent_activation recurrent_dropout "
    "reset_after return_sequences return_state seed stateful time_major unit_forget_bias unroll "
    "use_bias use_cudnn zero_output_for_mask"
)
_POOLING = "data_format padding pool_size strides"
_ATTENTION = "causal dropout score_mode seed use_scale"
_BATCH_NORMALIZATION = (
    "adjustment axis center epsilon fused momentum renorm renorm_clipping renorm_momentum scale "
    "synchronized virtual_batch_size"
)

_KERNEL = "kernel bias?use_bias"
_RECURRENT_KERNEL = "kernel recurrent_kernel bias?use_bias"
_SCALE = "gamma?scale beta?center"
_STATISTICS = f"{_SCALE} | moving_mean moving_variance"
# Of the training alone; TensorFlow 1.13 and 1.14 had no moving_stddev, but weights.
_RENORM = (
    "moving_stddev?renorm_stddev renorm_mean?renorm renorm_mean_weight?renorm_weight "
    "renorm_stddev?renorm renorm_stddev_weight?renorm_weight"
)

_ROWS = {
    "Activation": Row("activation", axes=Axes.POINTWISE, end=End.ACTIVATED, whole=Whole.KEPT),
    "ActivityRegularization": Row("l1 l2", axes=Axes.POINTWISE, end=End.PASSES, whole=Whole.KEPT),
    "Add Average Multiply": Row(axes=Axes.POINTWISE, since="2.0 2.0 3.0", whole=Whole.OTHERWISE),
    "Maximum": Row(axes=Axes.POINTWISE, since="2.0 2.0 3.0", whole=Whole.KEPT),
    "Minimum": Row(axes=Axes.POINTWISE, since="2.0.9 2.0 3.0", whole=Whole.KEPT),
    "Subtract": Row(axes=Axes.POINTWISE, since="2.0.7 2.0 3.0", whole=Whole.OTHERWISE),
    "AdditiveAttention": Row(
        _ATTENTION,
        "scale?use_scale",
        shapes.last_axis,
        since="- 2.2.4 3.0",
        whole=Whole.OTHERWISE,
        always="use_scale",
    ),
    "Attention": Row(
        _ATTENTION,
        "scale?use_scale concat_score_weight?concat",
        lambda layer, channels, inputs: (),
        since="- 2.2.4 3.0",
        whole=Whole.OTHERWISE,
        always="use_scale",
    ),
    "AveragePooling1D AveragePooling2D AveragePooling3D": Row(
        _POOLING, axes=Axes.SPATIAL, whole=Whole.OTHERWISE
    ),
    "BatchNormalization": Row(
        _BATCH_NORMALIZATION,
        f"{_STATISTICS} {_RENORM}",
        shapes.batch_normalization,
        Axes.AXIAL,
        End.LINEAR,
    ),
    "CastToFloat32": Row(end=End.PASSES),
    "CenterCrop": Row(
        "bounding_box_format data_format factor height width", axes=Axes.SPATIAL, since="- 2.4 3.0"
    ),
    "Concatenate": Row("axis", axes=Axes.AXIAL, since="2.0 2.0 3.0", whole=Whole.KEPT),
    "Conv1D Conv2D Conv3D": Row(
        _CONVOLUTION, _KERNEL, shapes.convolution, Axes.SPATIAL, End.ACTIVATED
    ),
    **{
        kind: Row(
            f"{_CONVOLUTION} output_padding",
            _KERNEL,
            shapes.transposed,
            Axes.SPATIAL,
            since=since,
        )
        for kind, since in (
            ("Conv1DTranspose", "- 2.4 3.0"),
            ("Conv2DTranspose", "2.0 2.0 3.0"),
            ("Conv3DTranspose", "2.0.6 2.0 3.0"),
        )
    },
    **{
        kind: Row(f"{_CONVOLUTION} {_RECURRENT}", _RECURRENT_KERNEL, shapes.conv_lstm, since=since)
        for kind, since in (
            ("ConvLSTM1D", "- 2.6 3.0"),
            ("ConvLSTM2D", "1.2 2.0 3.0"),
            ("ConvLSTM3D", "- 2.6 3.0"),
        )
    },
    "Cropping1D Cropping2D Cropping3D": Row(
        "cropping data_format", axes=Axes.SPATIAL, whole=Whole.KEPT
    ),
    "CustomScaleLayer": Row("scale", since="- 2.0 3.0", whole=Whole.OTHERWISE),
    "Dense": Row(
        "activation lora_alpha lora_rank quantization_config units use_bias",
        _KERNEL,
        shapes.dense,
        end=End.ACTIVATED,
    ),
    **{
        kind: Row(
            f"{_CONVOLUTION} depth_multiplier",
            "depthwise_kernel bias?use_bias",
            shapes.depthwise,
            Axes.SPATIAL,
            since=since,
        )
        for kind, since in (
            ("DepthwiseConv1D", "- 2.7 3.0"),
            ("DepthwiseConv2D", "2.0.6 2.0 3.0"),
        )
    },
    "Dot": Row("axes normalize", since="2.0 2.0 3.0", whole=Whole.OTHERWISE),
    "EinsumDense": Row(
        "activation bias_axes equation lora_alpha lora_rank output_shape quantization_config",
        "kernel bias?bias_axes",
        end=End.ACTIVATED,
        since="- 2.4 3.0",
    ),
    "ELU": Row("alpha", axes=Axes.POINTWISE, end=End.ACTIVATION),
    "Flatten": Row("data_format", end=End.PASSES, whole=Whole.KEPT),
    "GRU LSTM SimpleRNN": Row(f"{_RECURRENT} units", _RECURRENT_KERNEL, shapes.recurrent),
    "GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D": Row(
        "data_format keepdims", axes=Axes.SPATIAL, end=End.AVERAGES, whole=Whole.OTHERWISE
    ),
    "GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D": Row(
        "data_format keepdims", axes=Axes.SPATIAL, whole=Whole.KEPT
    ),
    "GroupNormalization": Row(
        "axis center epsilon groups scale",
        _SCALE,
        shapes.normalization,
        since="- 2.11 3.0",
        whole=Whole.OTHERWISE,
        always="axis center epsilon groups scale",
    ),
    "Highway": Row(
        "activation use_bias",
        "kernel carry_kernel bias?use_bias carry_bias?use_bias",
        shapes.highway,
        since="1.0 - -",
    ),
    "Identity": Row(since="- 2.12 3.0", whole=Whole.KEPT),
    "InputLayer": Row("optional ragged sparse type_spec", end=End.PASSES, whole=Whole.KEPT),
    "LayerNormalization": Row(
        "axis center epsilon rms_scaling scale",
        _SCALE,
        shapes.normalization,
        since="- 2.2.4 3.0",
        whole=Whole.OTHERWISE,
        always="axis center epsilon scale",
    ),
    "LayerScale": Row(
        "init_values projection_dim",
        "gamma",
        lambda layer, channels, inputs: (layer.config["projection_dim"],),
        since="- 2.10 3.0",
        always="init_values projection_dim",
    ),
    "LeakyReLU": Row("alpha negative_slope", axes=Axes.POINTWISE, end=End.ACTIVATION),
    "LocallyConnected1D LocallyConnected2D": Row(
        f"{_CONVOLUTION} implementation",
        _KERNEL,
        shapes.locally_connected,
        Axes.SPATIAL,
        End.ACTIVATED,
    ),
    "MaxPooling1D MaxPooling2D MaxPooling3D": Row(_POOLING, axes=Axes.SPATIAL, whole=Whole.KEPT),
    "MaxoutDense": Row(
        "nb_feature units use_bias", _KERNEL, shapes.maxout_dense, end=End.LINEAR, since="1.0 - -"
    ),
    "MultiHeadAttention": Row(
        "attention_axes dropout flash_attention key_dim key_shape num_heads output_shape "
        "query_shape seed sliding_window softmax_robust_masking use_bias use_gate value_dim "
        "value_shape",
        "query/kernel query/bias?use_bias key/kernel key/bias?use_bias "
        "value/kernel value/bias?use_bias attention_output/kernel attention_output/bias?use_bias",
        shapes.attention,
        since="- 2.4 3.0",
        whole=Whole.OTHERWISE,
        always="key_dim num_heads use_bias",
    ),
    "Normalization": Row(
        "axis invert mean variance",
        "| mean?adapted variance?adapted count?adapted",
        shapes.normalization,
        since="- 2.4 3.0",
    ),
    "PReLU": Row("shared_axes", "alpha", shapes.for_each_value),
    "ParametricSoftplus": Row(
        "shared_axes", "alpha beta", shapes.for_each_value, since="1.0..1.2 - -"
    ),
    "Permute": Row("dims", end=End.PASSES, whole=Whole.KEPT),
    "RMSNormalization": Row(
        "axis epsilon",
        "scale",
        shapes.normalization,
        since="- - 3.9",
        whole=Whole.OTHERWISE,
        always="axis epsilon",
    ),
    "ReLU": Row(
        "max_value negative_slope threshold",
        axes=Axes.POINTWISE,
        end=End.ACTIVATION,
        since="2.2 2.0 3.0",
        whole=Whole.KEPT,
        always="max_value",
    ),
    "RepeatVector": Row("n", whole=Whole.KEPT),
    "Rescaling": Row("offset scale", axes=Axes.POINTWISE, since="- 2.4 3.0", always="offset scale"),
    "Reshape": Row("target_shape", end=End.PASSES, whole=Whole.KEPT),
    "Resizing": Row(
        "antialias bounding_box_format crop_to_aspect_ratio data_format factor fill_mode "
        "fill_value height interpolation pad_to_aspect_ratio width",
        axes=Axes.SPATIAL,
        since="- 2.4 3.0",
        always="height interpolation width",
    ),
    "SReLU": Row(
        "shared_axes", "t_left a_left t_right a_right", shapes.for_each_value, since="1.0..1.2 - -"
    ),
    **{
        kind: Row(
            f"{_CONVOLUTION} depth_multiplier",
            "depthwise_kernel pointwise_kernel bias?use_bias",
            shapes.separable,
            Axes.SPATIAL,
            End.ACTIVATED,
            since=since,
        )
        for kind, since in (
            ("SeparableConv1D", "2.1.3 2.0 3.0"),
            ("SeparableConv2D", "1.0 2.0 3.0"),
        )
    },
    "Softmax": Row("axis robust_masking", end=End.ACTIVATION, since="2.1.3 2.0 3.0", always="axis"),
    "SyncBatchNormalization": Row(
        _BATCH_NORMALIZATION,
        _STATISTICS,
        shapes.batch_normalization,
        end=End.LINEAR,
        since="- 2.3 -",
    ),
    "ThresholdedReLU": Row("theta", axes=Axes.POINTWISE, end=End.ACTIVATION),
    "TimeDistributed": Row("layer"),
    "UnitNormalization": Row("axis", since="- 2.9 3.0", whole=Whole.OTHERWISE, always="axis"),
    "UpSampling1D UpSampling2D UpSampling3D": Row(
        "data_format interpolation size", axes=Axes.SPATIAL, whole=Whole.KEPT
    ),
    "ZeroPadding1D ZeroPadding2D ZeroPadding3D": Row(
        "data_format padding", axes=Axes.SPATIAL, whole=Whole.KEPT
    ),
    # Our own, for what a layer of another name is turned into.
    **{
        kind: Row(
            f"{_RECURRENT} units",
            " ".join(f"{gate}/kernel {gate}/recurrent_kernel {gate}/bias" for gate in gates),
            shapes.gated,
            since="- - -",
        )
        for kind, gates in (("GateGRU", "zrh"), ("GateLSTM", "icfo"))
    },
    "Cosine": Row("axes normalize", since="- - -"),
    "GateConvLSTM2D": Row(
        f"{_CONVOLUTION} {_RECURRENT}",
        " ".join(f"{gate}/kernel {gate}/recurrent_kernel {gate}/bias" for gate in "icfo"),
        shapes.gated,
        since="- - -",
    ),
    "Operation": Row(since="- - -"),
    "SampleNormalization": Row(_BATCH_NORMALIZATION, _STATISTICS, shapes.last_axis, since="- - -"),
}
LAYERS = {kind: row for kinds, row in _ROWS.items() for kind in kinds.split()}

_IMAGE = "data_format factor seed value_range"
_WARPED = "data_format fill_mode fill_value interpolation rng_type seed"
_OF_TF = "- 2.4 3.0"
# Active in training alone, where they draw random numbers. FixedDropout: the efficientnet package.
_RANDOM_ROWS = {
    "AlphaDropout": Row("noise_shape rate seed", since="2.0.6 2.0 3.0"),
    "AugMix": Row(f"{_IMAGE} all_ops alpha chain_depth interpolation num_chains", since="- - 3.9"),
    "CutMix": Row("data_format factor seed", since="- - 3.9"),
    "Dropout": Row("noise_shape p rate seed"),
    "FixedDropout": Row("noise_shape rate seed"),
    "GaussianDropout": Row("p rate seed"),
    "GaussianNoise": Row("seed sigma stddev"),
    "MixUp": Row("alpha data_format seed", since="- - 3.8"),
    "RandAugment": Row(f"{_IMAGE} interpolation num_ops", since="- - 3.8"),
    "RandomBrightness": Row(f"{_IMAGE} rng_type", since="- 2.9 3.0", always="factor seed"),
    "RandomColorDegeneration RandomGrayscale RandomHue RandomPosterization RandomSaturation "
    "RandomSharpness": Row(_IMAGE, since="- - 3.8"),
    "RandomColorJitter": Row(
        "brightness_factor contrast_factor data_format hue_factor saturation_factor seed "
        "value_range",
        since="- - 3.8",
    ),
    "RandomContrast": Row(f"{_IMAGE} rng_type", since=_OF_TF, always="factor seed"),
    "RandomElasticTransform": Row(f"{_WARPED} factor scale value_range", since="- - 3.10"),
    "RandomErasing": Row(f"{_IMAGE} fill_value scale", since="- - 3.9"),
    "RandomFlip": Row("data_format mode rng_type seed", since=_OF_TF, always="mode seed"),
    "RandomGaussianBlur": Row(f"{_IMAGE} kernel_size sigma", since="- - 3.9"),
    "RandomHeight RandomWidth": Row(
        "factor interpolation rng_type seed", since=_OF_TF, always="factor interpolation seed"
    ),
    "RandomInvert": Row(_IMAGE, since="- - 3.9"),
    "RandomPerspective": Row(
        "data_format factor fill_value interpolation scale seed", since="- - 3.9"
    ),
    "RandomRotation": Row(
        f"{_WARPED} factor value_range", since=_OF_TF, always="factor fill_mode interpolation seed"
    ),
    "RandomShear": Row(f"{_WARPED} x_factor y_factor", since="- - 3.8"),
    "RandomTranslation": Row(
        f"{_WARPED} height_factor width_factor",
        since=_OF_TF,
        always="height_factor interpolation seed width_factor",
    ),
    "RandomZoom": Row(
        f"{_WARPED} height_factor width_factor",
        since=_OF_TF,
        always="height_factor interpolation seed width_factor",
    ),
    "SpatialDropout1D": Row("p rate seed noise_shape", since="1.2 2.0 3.0"),
    "SpatialDropout2D SpatialDropout3D": Row("data_format p rate seed noise_shape"),
    "StochasticDepth": Row("drop_path_rate", since="- 2.10 3.0"),
}
RANDOM_LAYERS = {kind: row for kinds, row in _RANDOM_ROWS.items() for kind in kinds.split()}

# Custom objects of well-known packages, stored under their own name but with a fixed meaning:
# LayerScale and StochasticDepth of keras.applications.convnext, CustomScaleLayer of its
# inception_resnet_v2, CastToFloat32 of AutoKeras.
KNOWN_CUSTOM = {
    "CastToFloat32",
    "CustomScaleLayer",
    "FixedDropout",
    "LayerScale",
    "StochasticDepth",
}

# Standard layers without a formula here.
NOT_COMPUTED = words(
    "AbstractRNNCell AdaptiveAveragePooling1D AdaptiveAveragePooling2D AdaptiveAveragePooling3D "
    "AdaptiveMaxPooling1D AdaptiveMaxPooling2D AdaptiveMaxPooling3D AutoContrast CategoryEncoding "
    "Container ContrastLimitedAdaptiveHistogramEqualization ConvLSTM2DCell ConvRNN2D "
    "ConvRecurrent2D CuDNNGRU CuDNNLSTM DenseFeatures Discretization Embedding Equalization "
    "FeatureSpace FlaxLayer GRUCell GroupQueryAttention GroupedQueryAttention HashedCrossing "
    "Hashing IntegerLookup JaxLayer LSTMCell Layer Masking MaxNumBoundingBoxes MelSpectrogram "
    "Network Pipeline RandomCrop Recurrent ReversibleEmbedding STFTSpectrogram SimpleRNNCell "
    "Solarization SpectralNormalization StackedRNNCells StringLookup TFSMLayer TextVectorization "
    "TorchModuleWrapper Wrapper"
)

# Arguments that change what a layer computes in a way that has no formula here.
UNSUPPORTED = {
    "causal": False,
    "lora_rank": None,
    "pad_to_aspect_ratio": False,
    "quantization_config": None,
    "rms_scaling": False,
    "sliding_window": None,
    "stateful": False,
    "time_major": False,
    "use_gate": False,
}


def check_since(layer: Layer, era: Era) -> None:
    """Refuse a layer whose name came later than its version of Keras: somebody's own code.

    Args:
        layer: as the file has it.

    Raises:
        ModelError: names the layer and the version.
    """
    row = LAYERS.get(layer.kind) or RANDOM_LAYERS.get(layer.kind)
    if row and not era.has(row.since):
        raise ModelError(
            f"{layer} is a custom layer, for Keras {era.version} has none of that name, so the "
            f"file does not hold what it computes: {STANDARD}"
        )


def check_arguments(layer: Layer, era: Era) -> None:
    """Refuse a layer with an argument that it does not have in its era.

    Keras refuses such a configuration, so it is one of a layer of the user's own.

    Args:
        layer: of a kind that can be computed, with the names of Keras 2.

    Raises:
        ModelError: names the layer and the arguments.
    """
    row = LAYERS.get(layer.kind) or RANDOM_LAYERS[layer.kind]
    known = COMMON | words(row.arguments)
    if era.keras == 1:
        known |= _KERAS1
    if era.keras < 3 and layer.kind in LAYERS:
        known -= OF_KERAS3
    if era.is_package:
        known -= _NOT_OF_THE_PACKAGE
    if unknown := layer.config.keys() - known:
        raise ModelError(
            f"{layer} has {', '.join(map(repr, sorted(unknown)))}, which this layer of Keras "
            f"{era.version} does not have, so it is a custom layer: {STANDARD}"
        )
    if missing := words(row.always) - layer.config.keys():
        raise ModelError(
            f"{layer} is a custom layer, for it lacks {', '.join(map(repr, sorted(missing)))}, "
            f"which this layer of Keras {era.version} always has: {STANDARD}"
        )


def check_shapes(layer: Layer, stored: Mapping[str, Shape], inputs: list[Shape]) -> None:
    """Compare the weights of a layer with what it declares.

    Args:
        layer: as `open_model` settles it; where its row declares no shapes, any will do.
        stored: the shapes of its weights by role.
        inputs: the shapes of its inputs, batch axis included. None are given before the network is
            computed: then the first weight tells how many channels the input has.

    Raises:
        ModelError: names the weight and both shapes.
    """
    if not stored or (declared := LAYERS[layer.kind].declared) is None:
        return
    channels = inputs[0][-1] if inputs else _channels_of(layer, stored)
    wanted_shapes = declared(layer, channels, inputs)
    if isinstance(wanted_shapes, tuple):
        wanted_shapes = {role: wanted_shapes for role in stored if role not in IDLE}
    for role, wanted in wanted_shapes.items():
        found = stored.get(role, wanted)
        fits = len(wanted) == len(found) and all(
            size in (None, length) for size, length in zip(wanted, found, strict=True)
        )
        if not fits:
            sizes = ", ".join("any" if size is None else str(size) for size in wanted)
            comma = "," if len(wanted) == 1 else ""
            raise ModelError(
                f"its {role} has the shape {found} in the file, but its configuration declares "
                f"({sizes}{comma}): {TWO_MODELS}"
            )


def _channels_of(layer: Layer, stored: Mapping[str, Shape]) -> int | None:
    """Return the channels of a layer's input, as its first weight has them."""
    role, shape = next(iter(stored.items()))
    if layer.kind.startswith("LocallyConnected") or not shape:
        return None
    if layer.kind.endswith("Transpose"):
        return shape[-1]
    if role.endswith("kernel") and len(shape) > 1:
        gate = "/" in role and len(shape) < 4
        return shape[0] if gate else shapes.times(shape[-2], layer.config.get("groups", 1))
    return shape[0] if len(shape) == 1 else None
