"""Networks of an old version of Keras, saved by it with its predictions; see old_versions.py.

    python old_networks.py FOLDER --library keras --count 40 --seed 1 --names names.json

Runs in an environment of that version, Python 3.7 on, and needs nothing of this repository.
Written are, for each network, its file, NAME.npz (`x` chips, `y` predictions, `change` what a
millionth of the chips makes) and a line of JSON on stdout. What the version cannot make is left
out. The groups: "layers" (random networks of the layers that the version has), "operations"
(functions of TensorFlow, or keras.ops, and Lambda layers within a model), "common activation"
(the user's own swish and its like, as all wrote them), "custom activation" and "custom layer" (some
other code under each name that a later version of Keras has), "mixing" (what mixes chips).
"""

from __future__ import annotations

import argparse
import json
import random
import warnings
from pathlib import Path

import numpy as np

warnings.simplefilter("ignore")


class Version:
    """What the library of this environment calls things.

    Args:
        name: "keras", or "tf.keras".
    """

    def __init__(self, name):
        if name == "keras":
            import keras
        else:
            from tensorflow import keras
        self.keras, self.layers, self.K = keras, keras.layers, keras.backend
        self.number = getattr(keras, "__version__", "2.1-tf")
        self.generation = int(self.number[0])
        self.ending = ".keras" if self.generation == 3 else ".h5"
        try:
            import tensorflow

            self.tf = tensorflow
        except ImportError:
            self.tf = None
        models = keras.models
        self.Model = getattr(models, "Model", None) or keras.Model

    def shape(self, x):
        """Return the shape of a tensor without the chips."""
        return tuple(x.shape if self.generation == 3 else self.K.int_shape(x))[1:]

    def tanh(self, x):
        """Return tanh of a tensor."""
        return self.keras.ops.tanh(x) if self.generation == 3 else self.K.tanh(x)

    def model(self, start, end):
        """Return a model of one input and one output."""
        if self.generation == 1:
            return self.Model(input=start, output=end)
        return self.Model(start, end)


# Random layers: what each takes by the rank of a chip, 1 a vector, 2 a line, 3 an image.

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


class Builder:
    """Makes random networks of the layers that a version has."""

    def __init__(self, version, r):
        self.version, self.r = version, r
        self.table = KERAS1_LAYERS if version.generation == 1 else LAYERS

    def layer(self, kind, shape):
        """Return a layer with random arguments for a shape."""
        layers, r = self.version.layers, self.r
        if kind == "Bidirectional":
            inner = getattr(layers, r.choice(["GRU", "LSTM"]))(3, return_sequences=True)
            return layers.Bidirectional(inner, merge_mode=r.choice(["concat", "sum", "ave"]))
        if kind == "TimeDistributed":
            return layers.TimeDistributed(layers.Dense(3, activation="tanh"))
        if kind == "MultiHeadAttention":
            attention = layers.MultiHeadAttention(2, 3)
            return lambda x: attention(x, x)
        drawn = self.table[kind][1](r, shape)
        cls = getattr(layers, kind)
        return cls(**drawn) if isinstance(drawn, dict) else cls(*drawn)

    def grow(self, x, count):
        """Return a tensor after so many more layers, some of them merged again."""
        before = [x]
        for _ in range(count):
            shape = self.version.shape(x)
            fitting = [k for k, (ranks, _) in sorted(self.table.items()) if len(shape) in ranks]
            fitting = [k for k in fitting if hasattr(self.version.layers, k)]
            try:
                y = self.layer(self.r.choice(fitting), shape)(x)
                same = [z for z in before if self.version.shape(z) == self.version.shape(y)]
                if same and self.r.random() < 0.5:
                    y = self.merge([self.r.choice(same), y])
            except Exception:  # noqa: BLE001, S112 the library's way to say that it is not legal
                continue
            if 0 < np.prod(self.version.shape(y)) < 4000:
                x = y
                before.append(x)
        return x

    def merge(self, parts):
        """Return two tensors of one shape as one."""
        if self.version.generation == 1:
            return self.version.layers.merge(parts, mode=self.r.choice(KERAS1_MERGES))
        kinds = [kind for kind in MERGES if hasattr(self.version.layers, kind)]
        return getattr(self.version.layers, self.r.choice(kinds))()(parts)

    def end(self, x):
        """Return a classifier of three classes."""
        layers = self.version.layers
        x = layers.Flatten()(x) if len(self.version.shape(x)) > 1 else x
        return layers.Dense(3, activation=self.r.choice(["softmax", "softmax", "sigmoid"]))(x)

    def begin(self):
        """Return the input."""
        size = (self.r.randint(8, 14), self.r.randint(8, 14), 3)
        return self.version.layers.Input(shape=size)

    def random_model(self):
        """Return a model of random layers, some of them within another model."""
        start = x = self.begin()
        if self.r.random() < 0.3:
            inner = self.version.layers.Input(shape=self.version.shape(x))
            x = self.version.model(inner, self.grow(inner, 3))(x)
        return self.version.model(start, self.end(self.grow(x, self.r.randint(2, 8))))

    def model_with(self, apply):
        """Return a model with a convolution, something between, and an end."""
        layers, start = self.version.layers, self.begin()
        if self.version.generation == 1:
            x = layers.Convolution2D(4, 3, 3, border_mode="same")(start)
        else:
            x = layers.Conv2D(4, 3, padding="same")(start)
        return self.version.model(start, self.end(apply(x)))


# Operations within a model: of images (N, rows, columns, 4).

TENSORFLOW = {
    "scaled": lambda tf, x: x / 127.5 - 1.0,
    "integer": lambda tf, x: 2 * x - 1,
    "reversed bands": lambda tf, x: x[..., ::-1],
    "crop": lambda tf, x: x[:, 1:-1, 2:],
    "strides": lambda tf, x: x[:, ::2, 1::3, :3],
    "one band": lambda tf, x: x[..., 1][..., None] * x,
    "split": lambda tf, x: tf.concat(tf.split(x, 2, axis=-1)[::-1], -1),
    "split sizes": lambda tf, x: tf.split(x, [1, 3], axis=-1)[1],
    "unstack": lambda tf, x: tf.stack(tf.unstack(x, axis=-1)[:3], axis=2),
    "resize": lambda tf, x: tf.image.resize(x, (9, 17)),
    "nearest": lambda tf, x: tf.image.resize(x, (5, 17), method="nearest"),
    "bicubic": lambda tf, x: tf.image.resize(x, (9, 5), method="bicubic"),
    "area": lambda tf, x: tf.image.resize(x, (4, 5), method="area"),
    "antialias": lambda tf, x: tf.image.resize(x, (4, 5), antialias=True),
    "pad": lambda tf, x: tf.pad(x, [[0, 0], [1, 2], [0, 1], [0, 0]]),
    "mirror": lambda tf, x: tf.pad(x, [[0, 0], [1, 2], [0, 1], [0, 0]], "REFLECT"),
    "pad with": lambda tf, x: tf.pad(x, [[0, 0], [1, 2], [0, 1], [0, 0]], constant_values=3.0),
    "slice": lambda tf, x: tf.slice(x, [0, 1, 1, 0], [-1, 4, 5, 2]),
    "tile": lambda tf, x: tf.tile(x, [1, 1, 2, 1]),
    "matmul": lambda tf, x: tf.matmul(x, x, transpose_b=True),
    "abs and greater": lambda tf, x: tf.where(tf.greater(tf.abs(x), 0.5), x, 0.1 * x),
    "leaky": lambda tf, x: tf.nn.leaky_relu(x, 0.3),
    "identity": lambda tf, x: tf.identity(x) + tf.stop_gradient(x),
    "shape": lambda tf, x: tf.reshape(x, [-1, tf.shape(x)[1] * x.shape[2], 4]),
    "space to depth": lambda tf, x: tf.nn.space_to_depth(x[:, :8, :8], 2),
    "depth to space": lambda tf, x: tf.nn.depth_to_space(x, 2),
    "mean": lambda tf, x: x - tf.reduce_mean(x, axis=[1, 2], keepdims=True),
    "max": lambda tf, x: tf.reduce_max(x, axis=-1),
    "reductions": lambda tf, x: tf.reduce_sum(x, 1) + tf.reduce_prod(x, 1) - tf.reduce_min(x, 1),
    "power": lambda tf, x: tf.pow(tf.abs(x) + 0.1, 0.7) + x**2,
    "roots": lambda tf, x: tf.sqrt(tf.abs(x)) + tf.math.rsqrt(tf.square(x) + 1.0),
    "clip": lambda tf, x: tf.clip_by_value(x, -0.2, 0.9),
    "exp": lambda tf, x: tf.exp(-x) + tf.math.log(tf.square(x) + 1.0) + tf.math.log1p(tf.abs(x)),
    "max pool": lambda tf, x: tf.nn.max_pool2d(x, 2, 2, "SAME"),
    "average pool": lambda tf, x: tf.nn.avg_pool2d(x, 3, 1, "VALID"),
    "lrn": lambda tf, x: tf.nn.local_response_normalization(x, 2, alpha=0.1),
    "l2": lambda tf, x: tf.nn.l2_normalize(x, -1),
    "moments": lambda tf, x: tf.nn.moments(x, [1, 2], keepdims=True)[1] * x,
    "flips": lambda tf, x: tf.image.flip_left_right(x) - tf.image.flip_up_down(x),
    "gray": lambda tf, x: tf.image.rgb_to_grayscale(x[..., :3]),
    "standardized": lambda tf, x: tf.image.per_image_standardization(x),
    "conv": lambda tf, x: tf.nn.conv2d(x, np.ones((3, 3, 4, 2), "float32") / 9, 1, "SAME"),
    "blur": lambda tf, x: tf.nn.depthwise_conv2d(
        x, np.ones((3, 3, 4, 1), "float32") / 9, [1, 1, 1, 1], "SAME"
    ),
    "einsum": lambda tf, x: tf.einsum("nijc,njkc->nikc", x, x),
    "gather": lambda tf, x: tf.gather(x, [2, 1, 0], axis=-1),
    "reverse": lambda tf, x: tf.reverse(x, [1]),
    "cast": lambda tf, x: tf.cast(x > 0, tf.float32) * x,
    "activations": lambda tf, x: tf.nn.relu6(x) + tf.sigmoid(x) + tf.nn.elu(x) + tf.nn.selu(x),
    "softmax": lambda tf, x: tf.nn.softmax(x) + tf.nn.log_softmax(x) + tf.nn.softplus(x),
    "squeeze": lambda tf, x: tf.squeeze(tf.expand_dims(x, 1), [1]) + tf.transpose(x, [0, 1, 2, 3]),
    "bias": lambda tf, x: tf.nn.bias_add(x, [1.0, 2.0, 3.0, 4.0]),
    "floor": lambda tf, x: tf.floor(x * 3) + tf.math.ceil(x) + tf.round(x) + tf.sign(x),
    "logic": lambda tf, x: tf.cast(tf.logical_and(x > 0, tf.logical_not(x > 1)), "float32") + x,
    "differences": lambda tf, x: tf.math.squared_difference(x, 1.5) - tf.math.divide_no_nan(x, x),
    "sine": lambda tf, x: tf.sin(x) + tf.cos(x) + tf.math.erf(x) + tf.math.floormod(x, 2.0),
    "roll": lambda tf, x: tf.roll(x, 1, 1),
    "cumsum": lambda tf, x: tf.cumsum(x, 1),
    "repeat": lambda tf, x: tf.repeat(x, 2, axis=1),
    "batch mean": lambda tf, x: x - tf.reduce_mean(x, axis=0, keepdims=True),
    "batch reversed": lambda tf, x: tf.reverse(x, [0]) + x,
    "first chip": lambda tf, x: x - x[:1],
}
MIXING = {"batch mean", "batch reversed", "first chip"}

LAMBDAS = {
    "scaled": lambda x: x / 127.5 - 1.0,
    "with default": lambda x, scale=0.5, mode="tf": x * scale if mode == "tf" else x,
    "bands": lambda x: x[..., ::-1] * 2,
    "half": lambda x: x[:, 1:-1] / 3 + 1 / 2,
}


def custom_layer(version, kind, arguments):
    """Return a class of the user's own by the name of one of Keras, and the arguments it has."""
    base = version.keras.engine.topology.Layer if version.generation == 1 else version.layers.Layer
    guesses = {"axis": -1, "center": True, "epsilon": 0.001, "rate": 0.3, "scale": True}
    guesses.update({"factor": 0.2, "groups": 2, "activation": "linear", "data_format": None})
    given = {key: guesses[key] for key in arguments if key in guesses}
    kinds = {"gamma": "one", "beta": "zero"}
    if version.generation > 1:
        kinds = {"gamma": "ones", "beta": "zeros"}

    def build(self, shape):
        for role, how in kinds.items():
            made = self.add_weight(shape=(int(shape[-1]),), initializer=how, name=role)
            setattr(self, role + "_", made)
        self.built = True

    def call(self, x, mask=None):
        return version.tanh(x * self.gamma_) * 0.7 + self.beta_

    def get_config(self):
        return dict(base.get_config(self), **given)

    names = {"build": build, "get_config": get_config, "call": call}
    if version.generation == 1:
        names["get_output_shape_for"] = lambda self, shape: shape
    else:
        names["compute_output_shape"] = lambda self, shape: shape
    return type(str(kind), (base,), names)


def odd(version, name):
    """Return a function of the user's own by the name of an activation."""

    def function(x):
        return version.tanh(x) * 0.6 + 0.2 * x

    return named(function, name)


def named(function, name):
    """Return a function under a name."""
    function.__name__ = str(name)
    return function


# What all who wrote a function of this name wrote.
COMMON_FORMS = {
    "leaky_relu": lambda tf, x: tf.nn.leaky_relu(x),
    "mish": lambda tf, x: x * tf.tanh(tf.nn.softplus(x)),
    "relu6": lambda tf, x: tf.nn.relu6(x),
    "swish": lambda tf, x: x * tf.sigmoid(x),
}


def networks(version, r, arguments, names):
    """Yield group, name and a function that makes a network."""
    builder = Builder(version, r)
    layers = version.layers
    for number in range(arguments.count):
        yield "layers", f"random {number}", builder.random_model
    for name, apply in sorted(LAMBDAS.items()):

        def with_lambda(apply=apply):
            return builder.model_with(lambda x: layers.Lambda(apply)(x))

        yield "operations", "Lambda " + name, with_lambda
    if version.generation < 3 and version.tf is not None:
        for name, apply in sorted(TENSORFLOW.items()):

            def with_operation(apply=apply):
                return builder.model_with(lambda x: apply(version.tf, x))

            group = "mixing" if name in MIXING else "operations"
            yield group, name, with_operation
    for name, apply in sorted(COMMON_FORMS.items()):
        if not hasattr(version.keras.activations, name) and version.tf is not None:

            def with_form(name=name, apply=apply):
                function = named(lambda x: apply(version.tf, x), name)
                return builder.model_with(lambda x: layers.Activation(function)(x))

            yield "common activation", name, with_form
    for name in names["activations"]:
        if not hasattr(version.keras.activations, name):

            def with_activation(name=name):
                return builder.model_with(lambda x: layers.Activation(odd(version, name))(x))

            yield "custom activation", name, with_activation
    for kind, known in sorted(names["layers"].items()):
        if not hasattr(layers, kind):

            def with_layer(kind=kind, known=known):
                return builder.model_with(lambda x: custom_layer(version, kind, known)()(x))

            yield "custom layer", kind, with_layer


def set_weights(model, r):
    """Give a model random weights that keep values at about their size."""
    for layer in model.layers:
        if hasattr(layer, "layers"):
            set_weights(layer, r)
            continue
        values = []
        for weight, array in zip(layer.weights, layer.get_weights()):
            name, shape = getattr(weight, "path", None) or weight.name, array.shape
            if "var" in name.rsplit("/", 1)[-1] or "running_std" in name or "gamma" in name:
                value = r.uniform(0.5, 1.5, shape)
            elif len(shape) > 1:
                value = r.normal(size=shape) * np.sqrt(1.5 / max(1, np.prod(shape[:-1])))
            else:
                value = r.normal(0, 0.3, shape)
            values.append(value.astype("float32") if array.dtype.kind == "f" else array)
        layer.set_weights(values)


def save(version, model, path, numbers):
    """Save a model with what it predicts; returns whether its outputs are finite numbers."""
    set_weights(model, numbers)
    size = model.input_shape[1:]
    x = (numbers.uniform(0, 1, (4,) + tuple(size)) * [[[[1]]], [[[3]]], [[[1]]], [[[2]]]]).astype(
        "float32"
    )
    y = model.predict(x, verbose=0)
    change = np.abs(model.predict(x * np.float32(1 + 1e-6), verbose=0) - y).max()
    model.save(str(path))
    np.savez(str(path.with_suffix(".npz")), x=x, y=y, change=change)
    return bool(np.isfinite(y).all() and y.any())


def main():
    """Parse the command line and save the networks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--library", default="keras")
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--names", type=Path, help="JSON: the activations and layers of today")
    arguments = parser.parse_args()
    version = Version(arguments.library)
    names = json.loads(arguments.names.read_text())
    arguments.folder.mkdir(parents=True, exist_ok=True)
    r = random.Random(arguments.seed)
    for number, (group, name, make) in enumerate(networks(version, r, arguments, names)):
        path = arguments.folder / f"{number:03}{version.ending}"
        if version.generation == 3 and number % 2:
            path = path.with_suffix(".h5")
        try:
            version.K.clear_session()
            numbers = np.random.RandomState([arguments.seed, number])
            fine = save(version, make(), path, numbers)
        except Exception as error:  # noqa: BLE001 what this version cannot make or save
            fine, path = False, str(error)[:200]
        line = {"group": group, "name": name, "file": str(path), "fine": fine}
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
