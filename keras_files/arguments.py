"""Which arguments each layer has: Keras refuses a configuration with any other, and so must we.

A layer with an argument that its class never had is a layer of the user's own, whatever its name.
The union of Keras 1.2.2, 2.2.4, tf_keras 2.21 and Keras 3.15 (their `__init__` and `get_config`),
in the names of Keras 2; initializers, regularizers and constraints are gone already.
"""

from __future__ import annotations

from keras_files.model_file import ModelError
from keras_files.network import Era, Layer, words

# Of every layer.
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
_ARGUMENTS = {
    "Activation": "activation",
    "ActivityRegularization": "l1 l2",
    "AdditiveAttention Attention": "causal dropout score_mode seed use_scale",
    "AveragePooling1D AveragePooling2D AveragePooling3D MaxPooling1D MaxPooling2D MaxPooling3D": (
        "data_format padding pool_size strides"
    ),
    "BatchNormalization SampleNormalization SyncBatchNormalization": (
        "adjustment axis center epsilon fused momentum renorm renorm_clipping renorm_momentum "
        "scale synchronized virtual_batch_size"
    ),
    "CenterCrop": "bounding_box_format data_format factor height width",
    "Concatenate UnitNormalization": "axis",
    "Conv1D Conv2D Conv3D": _CONVOLUTION,
    "Conv1DTranspose Conv2DTranspose Conv3DTranspose": f"{_CONVOLUTION} output_padding",
    "ConvLSTM1D ConvLSTM2D ConvLSTM3D": f"{_CONVOLUTION} {_RECURRENT}",
    "Cropping1D Cropping2D Cropping3D": "cropping data_format",
    "CustomScaleLayer": "scale",
    "Dense": "activation lora_alpha lora_rank quantization_config units use_bias",
    "DepthwiseConv1D DepthwiseConv2D SeparableConv1D SeparableConv2D": (
        f"{_CONVOLUTION} depth_multiplier"
    ),
    "Dot": "axes normalize",
    "ELU": "alpha",
    "EinsumDense": (
        "activation bias_axes equation lora_alpha lora_rank output_shape quantization_config"
    ),
    "Flatten": "data_format",
    "GRU GateGRU GateLSTM LSTM SimpleRNN": f"{_RECURRENT} units",
    "GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D GlobalMaxPooling1D "
    "GlobalMaxPooling2D GlobalMaxPooling3D": "data_format keepdims",
    "GroupNormalization": "axis center epsilon groups scale",
    "Highway": "activation use_bias",
    "InputLayer": "optional ragged sparse type_spec",
    "LayerNormalization": "axis center epsilon rms_scaling scale",
    "LayerScale": "init_values projection_dim",
    "LeakyReLU": "alpha negative_slope",
    "LocallyConnected1D LocallyConnected2D": f"{_CONVOLUTION} implementation",
    "MaxoutDense": "nb_feature units use_bias",
    "MultiHeadAttention": (
        "attention_axes dropout flash_attention key_dim key_shape num_heads output_shape "
        "query_shape seed sliding_window softmax_robust_masking use_bias use_gate value_dim "
        "value_shape"
    ),
    "Normalization": "axis invert mean variance",
    "PReLU ParametricSoftplus SReLU": "shared_axes",
    "Permute": "dims",
    "RMSNormalization": "axis epsilon",
    "ReLU": "max_value negative_slope threshold",
    "RepeatVector": "n",
    "Rescaling": "offset scale",
    "Reshape": "target_shape",
    "Resizing": (
        "antialias bounding_box_format crop_to_aspect_ratio data_format factor fill_mode "
        "fill_value height interpolation pad_to_aspect_ratio width"
    ),
    "Softmax": "axis robust_masking",
    "ThresholdedReLU": "theta",
    "TimeDistributed": "layer",
    "UpSampling1D UpSampling2D UpSampling3D": "data_format interpolation size",
    "ZeroPadding1D ZeroPadding2D ZeroPadding3D": "data_format padding",
}
KNOWN = {kind: words(known) for kinds, known in _ARGUMENTS.items() for kind in kinds.split()}


def check_arguments(layer: Layer, era: Era) -> None:
    """Refuse a layer with an argument that it does not have in its era.

    Args:
        layer: of a kind that can be computed, with the names of Keras 2.

    Raises:
        ModelError: names the layer and the arguments.
    """
    known = COMMON | KNOWN.get(layer.kind, set())
    if era.keras == 1:
        known |= _KERAS1
    if era.keras < 3:
        known -= OF_KERAS3
    if era.is_package:
        known -= _NOT_OF_THE_PACKAGE
    if unknown := layer.config.keys() - known:
        raise ModelError(
            f"{layer} has {', '.join(map(repr, sorted(unknown)))}, which this layer of Keras "
            f"{era.version} does not have: replace it by a standard layer and save the model again"
        )
