"""Networks of an old version of Keras, saved by it with its predictions; see old_versions.py.

    python old_networks.py FOLDER --library keras --count 40 --seed 1 --names names.json

Runs in an environment of that version, Python 3.7 on, and needs nothing of this repository.
Written are, for each network, its file, NAME.npz (`x` chips, `y` predictions, `change` what a
millionth of the chips makes) and a line of JSON on stdout. What the version cannot make is left
out. The groups: "layers" (random networks of the layers that the version has), "forms" (networks
written by hand, see old_forms.py), "special" (half precision, whole numbers, masks, quantized
layers), "operations" (functions of TensorFlow, or keras.ops, and Lambda layers within a model),
"mixing" (what mixes the chips of a batch), "common activation" (the user's own swish and its like,
as all wrote them), "custom activation" and "custom layer" (some other code under each name that
Keras has today).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import warnings
from pathlib import Path

import numpy as np
import old_forms
from old_layers import KERAS1_LAYERS, KERAS1_MERGES, LAYERS, MERGES
from old_operations import (
    COMMON_FORMS,
    KERAS_OPS,
    KERAS_OPS_MIXING,
    LAMBDAS,
    LAMBDAS_MIXING,
    TENSORFLOW,
    TENSORFLOW_MIXING,
)

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
        try:
            import tensorflow

            self.tf = tensorflow
        except ImportError:
            self.tf = None
        self.number = getattr(keras, "__version__", None) or self.tf.__version__
        self.generation = int(self.number[0])
        archives = self.generation == 3 or int(self.number.split(".")[1]) > 11
        self.endings = (".h5", ".keras", ".json") if archives else (".h5", ".h5", ".json")
        models = keras.models
        self.Model = getattr(models, "Model", None) or keras.Model

    def shape(self, x):
        """Return the shape of a tensor without the chips."""
        return tuple(x.shape if self.generation == 3 else self.K.int_shape(x))[1:]

    def tanh(self, x):
        """Return tanh of a tensor."""
        return self.keras.ops.tanh(x) if self.generation == 3 else self.K.tanh(x)

    def predict(self, model, x):
        """Return what a model makes of chips: without a graph, which takes time, where it can."""
        eager = self.tf is not None and self.tf.__version__ > "2" and self.number != "2.3.1"
        y = model(x, training=False) if eager else model.predict(x)
        return np.asarray(y).astype("float32")

    def model(self, start, end):
        """Return a model of one input and one output."""
        if self.generation == 1:
            return self.Model(input=start, output=end)
        return self.Model(start, end)


class Builder:
    """Makes random networks of the layers that a version has."""

    def __init__(self, version, r):
        self.version, self.r = version, r
        self.keras, self.layers, self.K = version.keras, version.layers, version.K
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

    def images(self, channels):
        """Return the input, and a convolution of it."""
        start = self.begin()
        return start, self.layers.Conv2D(channels, 3, padding="same")(start)

    def rows(self):
        """Return the input, and its rows as steps of time."""
        start = self.layers.Input(shape=(8, 9, 3))
        return start, self.layers.Reshape((8, 27))(start)

    def finish(self, start, x):
        """Return a model with a classifier at its end."""
        return self.version.model(start, self.end(x))

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


def networks(version, r, arguments, names):
    """Yield group, name and a function that makes a network."""
    builder = Builder(version, r)
    for number in range(arguments.count):
        yield "layers", f"random {number}", builder.random_model
    tables = (("forms", old_forms.FORMS), ("special", old_forms.SPECIAL))
    if version.generation == 1:
        tables = (("forms", old_forms.KERAS1_FORMS),)
    for group, table in tables:
        for name, form in table.items():
            yield group, name, lambda form=form: form(builder)
    yield from operations(version, builder)
    yield from custom_code(version, builder, names)


def operations(version, builder):
    """Yield group, name and a function that makes a network with an operation in it."""
    layers, tf = version.layers, version.tf

    def with_lambda(apply):
        return lambda: builder.model_with(lambda x: layers.Lambda(apply)(x))

    def with_operation(module, apply):
        return lambda: builder.model_with(lambda x: apply(module, x))

    for group, table in (("operations", LAMBDAS), ("mixing", LAMBDAS_MIXING)):
        for name, apply in table.items():
            yield group, "Lambda " + name, with_lambda(apply)
    tables = (TENSORFLOW, TENSORFLOW_MIXING)
    if version.generation == 3:
        tf, tables = version.keras.ops, (KERAS_OPS, KERAS_OPS_MIXING)
    if tf is not None:
        for group, table in zip(("operations", "mixing"), tables):
            for name, apply in table.items():
                yield group, name, with_operation(tf, apply)
    if version.generation > 1:
        concatenate = layers.Concatenate
        yield "mixing", "axis 0", lambda: builder.model_with(lambda x: concatenate(axis=0)([x, x]))
        for kind in ("BatchNormalization", "GaussianDropout"):

            def in_training(kind=kind):
                arguments = [0.5] if kind == "GaussianDropout" else []
                layer = getattr(layers, kind)(*arguments)
                return builder.model_with(lambda x: layer(x, training=True))

            # Keras 3 predicts as if they were not
            yield (
                "forms" if version.generation == 3 else "mixing",
                kind + " in training",
                in_training,
            )


def custom_code(version, builder, names):
    """Yield group, name and a function that makes a network with code of the user's own."""

    def activated(function):
        return lambda: builder.model_with(lambda x: version.layers.Activation(function)(x))

    def common(name):
        return named(lambda x: COMMON_FORMS[name](version.tf, x), name)

    for name in COMMON_FORMS:
        if not hasattr(version.keras.activations, name) and version.tf is not None:
            yield "common activation", name, activated(common(name))
    for name in names["activations"]:
        if not hasattr(version.keras.activations, name):
            yield "custom activation", name, activated(odd(version, name))
    for kind, known in sorted(names["layers"].items()):
        if not hasattr(version.layers, kind) or version.generation == 3:

            def with_layer(kind=kind, known=known):
                return builder.model_with(lambda x: custom_layer(version, kind, known)()(x))

            yield "custom layer", kind, with_layer


def set_weights(model, r):
    """Give a model random weights that keep values at about their size."""
    for layer in model.layers:
        if hasattr(layer, "layers"):
            set_weights(layer, r)
        if hasattr(layer, "layers") or hasattr(layer, "adapt"):
            continue  # what a layer learned of the chips stays
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
    size = [length or 9 for length in model.input_shape[1:]]
    x = numbers.uniform(0, 1, [4] + size) * np.reshape([1, 3, 1, 2], [4, 1, 1, 1])
    kind = str(getattr(model.inputs[0].dtype, "name", model.inputs[0].dtype))
    if "int" in kind:
        x = np.floor(x * 85)
    x = x.astype(kind if "int" in kind else "float32")
    y = version.predict(model, x)
    change = 0.0
    if "int" not in kind:
        change = np.abs(version.predict(model, x * np.float32(1 + 1e-6)) - y).max()
    if path.suffix == ".json":
        path.write_text(model.to_json())
        ending = ".weights.h5" if version.generation == 3 else ".h5"
        model.save_weights(str(path.with_suffix(ending)))
    else:
        model.save(str(path))
    np.savez(str(path.with_suffix(".npz")), x=x.astype("float32"), y=y, change=change)
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
    r, kept = random.Random(arguments.seed), os.dup(1)
    os.dup2(2, 1)  # what libraries print is none of the results
    for number, (group, name, make) in enumerate(networks(version, r, arguments, names)):
        path = arguments.folder / f"{number:03}{version.endings[number % 3]}"
        try:
            getattr(version.K, "clear_session", int)()  # Theano has none
            r.seed(f"{arguments.seed} {number}")
            numbers = np.random.RandomState([arguments.seed, number])
            fine = save(version, make(), path, numbers)
        except Exception as error:  # noqa: BLE001 what this version cannot make or save
            fine, path = False, str(error)[:200]
        line = {"group": group, "name": name, "file": str(path), "fine": fine}
        os.write(kept, (json.dumps(line) + "\n").encode())


if __name__ == "__main__":
    main()
