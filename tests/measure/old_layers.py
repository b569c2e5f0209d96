"""Layers that random networks of an old version of Keras are made of; see old_networks.py.

Each has the ranks of the chips that it takes (1 a vector, 2 a line, 3 an image), and a function of
a random.Random and a shape that gives its arguments. A layer that the version does not have is left
out.
"""

ACTIVATIONS = ("elu", "linear", "relu", "selu", "sigmoid", "softplus", "tanh", "softmax")


def windows(r):
    """Return arguments of a convolution."""
    drawn = {"padding": r.choice(["same", "valid"]), "strides": r.choice([1, 1, 2])}
    if drawn["strides"] == 1 and r.random() < 0.3:
        drawn["dilation_rate"] = 2
    return drawn


def act(r):
    return r.choice(ACTIVATIONS + ("exponential", "gelu", "hard_sigmoid", "softsign", "swish"))


LAYERS = {
    "Activation": ((1, 2, 3), lambda r, s: [act(r)]),
    "AveragePooling2D": ((3,), lambda r, s: [r.choice([2, 3]), r.choice([1, 2]), "same"]),
    "BatchNormalization": ((1, 2, 3), lambda r, s: {"scale": r.random() < 0.8}),
    "Bidirectional": ((2,), None),
    "Conv1D": ((2,), lambda r, s: {"filters": 4, "kernel_size": 3, "padding": "same"}),
    "Conv2D": (
        (3,),
        lambda r, s: dict(windows(r), filters=r.randint(1, 6), kernel_size=3, activation=act(r)),
    ),
    "Conv2DTranspose": (
        (3,),
        lambda r, s: {"filters": 3, "kernel_size": r.choice([2, 3]), "strides": 2},
    ),
    "Cropping2D": ((3,), lambda r, s: [((1, 0), (0, 2))]),
    "Dense": ((1, 2), lambda r, s: {"units": r.randint(2, 6), "activation": act(r)}),
    "DepthwiseConv2D": ((3,), lambda r, s: {"kernel_size": 3, "depth_multiplier": 2}),
    "Dropout": ((1, 2, 3), lambda r, s: [0.3]),
    "ELU": ((1, 2, 3), lambda r, s: [0.7]),
    "GRU": ((2,), lambda r, s: {"units": 3, "return_sequences": r.random() < 0.5}),
    "GaussianDropout": ((3,), lambda r, s: [0.2]),
    "GaussianNoise": ((3,), lambda r, s: [0.2]),
    "GlobalMaxPooling2D": ((3,), lambda r, s: []),
    "LSTM": ((2,), lambda r, s: {"units": 3, "return_sequences": r.random() < 0.5}),
    "LayerNormalization": ((1, 2, 3), lambda r, s: []),
    "LeakyReLU": ((1, 2, 3), lambda r, s: [r.choice([0.1, 0.3])]),
    "LocallyConnected2D": ((3,), lambda r, s: [2, 3]),
    "MaxPooling2D": ((3,), lambda r, s: [r.choice([2, 3]), 2, r.choice(["same", "valid"])]),
    "MultiHeadAttention": ((2,), None),
    "PReLU": ((3,), lambda r, s: {"shared_axes": r.choice([None, [1, 2]])}),
    "Permute": ((3,), lambda r, s: [(2, 1, 3)]),
    "ReLU": ((1, 2, 3), lambda r, s: [r.choice([None, 6.0])]),
    "Reshape": ((3,), lambda r, s: [(s[0], s[1] * s[2])]),
    "SeparableConv2D": (
        (3,),
        lambda r, s: dict(windows(r), filters=4, kernel_size=3, activation=act(r)),
    ),
    "SimpleRNN": ((2,), lambda r, s: {"units": 3, "return_sequences": True}),
    "Softmax": ((1, 2, 3), lambda r, s: []),
    "SpatialDropout2D": ((3,), lambda r, s: [0.2]),
    "ThresholdedReLU": ((1, 2, 3), lambda r, s: [0.4]),
    "TimeDistributed": ((2,), None),
    "UpSampling2D": (
        (3,),
        lambda r, s: {"size": 2, "interpolation": r.choice(["nearest", "bilinear"])},
    ),
    "ZeroPadding2D": ((3,), lambda r, s: [((1, 0), (0, 2))]),
}
MERGES = ("Add", "Average", "Concatenate", "Maximum", "Minimum", "Multiply", "Subtract")

KERAS1_LAYERS = {
    "Activation": ((1, 2, 3), lambda r, s: [r.choice(ACTIVATIONS[:-1] + ("softsign",))]),
    "AtrousConvolution2D": ((3,), lambda r, s: {"nb_filter": 3, "nb_row": 3, "nb_col": 3}),
    "AveragePooling2D": (
        (3,),
        lambda r, s: {"pool_size": (2, 2), "strides": (2, 2), "border_mode": "same"},
    ),
    "BatchNormalization": ((1, 2, 3), lambda r, s: {"mode": r.choice([0, 0, 1])}),
    "Convolution2D": (
        (3,),
        lambda r, s: {
            "nb_filter": r.randint(1, 6),
            "nb_row": r.choice([2, 3]),
            "nb_col": 3,
            "border_mode": r.choice(["same", "valid"]),
            "subsample": r.choice([(1, 1), (2, 2)]),
            "activation": r.choice(["relu", "tanh", "linear"]),
        },
    ),
    "Convolution1D": ((2,), lambda r, s: {"nb_filter": 3, "filter_length": 3}),
    "Cropping2D": ((3,), lambda r, s: [((1, 0), (0, 2))]),
    "Dense": ((1,), lambda r, s: [r.randint(2, 6)]),
    "Dropout": ((1, 2, 3), lambda r, s: [0.3]),
    "ELU": ((1, 2, 3), lambda r, s: [0.7]),
    "GRU": ((2,), lambda r, s: {"output_dim": 3, "return_sequences": r.random() < 0.5}),
    "GlobalMaxPooling2D": ((3,), lambda r, s: []),
    "Highway": ((1,), lambda r, s: []),
    "LSTM": ((2,), lambda r, s: {"output_dim": 3, "return_sequences": r.random() < 0.5}),
    "LeakyReLU": ((1, 2, 3), lambda r, s: [0.2]),
    "MaxPooling2D": ((3,), lambda r, s: {"pool_size": (2, 2), "border_mode": "same"}),
    "MaxoutDense": ((1,), lambda r, s: [3]),
    "PReLU": ((3,), lambda r, s: []),
    "ParametricSoftplus": ((3,), lambda r, s: []),
    "Permute": ((3,), lambda r, s: [(2, 1, 3)]),
    "Reshape": ((3,), lambda r, s: [(s[0], s[1] * s[2])]),
    "SReLU": ((3,), lambda r, s: []),
    "SeparableConvolution2D": ((3,), lambda r, s: {"nb_filter": 3, "nb_row": 3, "nb_col": 3}),
    "SimpleRNN": ((2,), lambda r, s: {"output_dim": 3, "return_sequences": True}),
    "ThresholdedReLU": ((1, 2, 3), lambda r, s: [0.4]),
    "TimeDistributedDense": ((2,), lambda r, s: [3]),
    "UpSampling2D": ((3,), lambda r, s: [(2, 2)]),
    "ZeroPadding2D": ((3,), lambda r, s: [(1, 2)]),
}
KERAS1_MERGES = ("ave", "concat", "max", "mul", "sum")
