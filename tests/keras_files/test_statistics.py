"""What a model remembers, against Keras' layers up to the normalization, and what it forgets."""

from pathlib import Path

import numpy as np
import pytest

from keras_files.open_model import open_model
from keras_files.statistics import MOST_KERNELS, Memory, recall

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:keras")

CHIPS = np.random.default_rng(1).normal(0, 2, (5, 8, 8, 3)).astype(np.float32)
KINDS = ["plain", "nested", "separable", "depthwise", "residual", "dense", "adapted", "late"]


def build(kind: str) -> tuple[object, object]:
    """Return a model whose first normalization is in a place of that kind, and what leads there."""
    import keras
    from keras import layers

    start = keras.Input((8, 8, 3))
    x, norm = start, layers.BatchNormalization(name="first")
    if kind == "adapted":
        norm = layers.Normalization(name="first")
        norm.adapt(CHIPS)
    elif kind == "separable":
        x = layers.SeparableConv2D(4, 3)(layers.ZeroPadding2D()(x))
    elif kind == "depthwise":
        x = layers.DepthwiseConv2D(3, activation="relu")(x)
    elif kind == "residual":
        x = layers.Add()([layers.Conv2D(3, 3, padding="same")(x), layers.Rescaling(2.0)(x)])
    elif kind == "dense":
        x = layers.Dense(4)(layers.GlobalAveragePooling2D()(x))
    elif kind == "late":
        x = layers.Conv2D(4, 3, activation="tanh")(layers.Conv2D(4, 3, activation="relu")(x))
    else:
        x = layers.Conv2D(4, 3, use_bias=False)(x)
    before, y = keras.Model(start, x), norm(x)
    if kind == "nested":
        base = keras.Model(start, y)
        outer = keras.Input((8, 8, 3))
        start, y = outer, base(layers.Rescaling(0.5)(outer))
        inner = keras.Input((8, 8, 3))
        before = keras.Model(inner, before(layers.Rescaling(0.5)(inner)))
    later = layers.BatchNormalization()
    y = later(y)
    y = layers.GlobalAveragePooling2D()(y) if len(y.shape) == 4 else y
    model = keras.Model(start, layers.Dense(2, activation="softmax")(y))
    # The least variance of a model tells how much is left of what all began with, which was 1.
    later.set_weights([*later.get_weights()[:3], np.full(later.gamma.shape, 0.01)])
    if kind != "adapted":
        random = np.random.default_rng(2)
        values = [random.uniform(0.5, 2, weight.shape) for weight in norm.get_weights()]
        values[-1][0] = 0.1  # a variance that is none to begin with
        norm.set_weights(values)
    return model, before


def statistics(model: object) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and the variance of the layer 'first'."""
    for layer in model._flatten_layers():
        if layer.name == "first" and hasattr(layer, "moving_mean"):
            return layer.moving_mean.numpy(), layer.moving_variance.numpy() + layer.epsilon
        if layer.name == "first":
            return np.ravel(layer.mean), np.ravel(layer.variance)
    raise LookupError


def remembered(path: Path, model: object) -> Memory | None:
    model.save(path)
    return recall(open_model(path))


@pytest.mark.parametrize("ending", [".h5", ".keras"])
@pytest.mark.parametrize("kind", KINDS)
def test_moments_are_those_of_what_reaches_the_first_normalization(
    kind: str, ending: str, tmp_path: Path
) -> None:
    model, before = build(kind)
    found = remembered(tmp_path / f"m{ending}", model)
    mean, variance = statistics(model)
    z = (before.predict(CHIPS, verbose=0) - mean) / np.sqrt(variance)
    z = z.reshape(len(CHIPS), -1, z.shape[-1])
    expected = np.stack([z.mean(axis=1), (z**2).mean(axis=1)], axis=1)
    # float32, added up over a chip
    np.testing.assert_allclose(found.compute(CHIPS), expected, rtol=1e-3, atol=1e-4)
    assert "first" in found.layer and found.channels == z.shape[-1]


def test_nothing_is_remembered_without_statistics_or_too_far_from_the_chips(tmp_path: Path) -> None:
    import keras
    from keras import layers

    model, _ = build("plain")
    model.get_layer("first").set_weights([np.ones(4), np.zeros(4), np.zeros(4), np.ones(4)])
    model.layers[-3].set_weights([np.ones(4), np.zeros(4), np.ones(4), np.ones(4)])
    assert remembered(tmp_path / "begun.keras", model) is None
    deep = [layers.Conv2D(3, 1) for _ in range(MOST_KERNELS + 1)]
    end = [layers.BatchNormalization(), layers.Flatten(), layers.Dense(2)]
    far = keras.Sequential([keras.Input((8, 8, 3)), *deep, *end])
    far.layers[-3].set_weights([np.full(3, 2.0)] * 4)
    assert remembered(tmp_path / "far.keras", far) is None


@pytest.mark.parametrize("ending", [".h5", ".keras"])
def test_what_statistics_began_with_is_taken_out_of_those_of_few_steps(
    ending: str, tmp_path: Path
) -> None:
    import keras

    start = keras.Input((8, 8, 3))
    x = keras.layers.BatchNormalization(name="first", epsilon=1e-6)(start)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(start, keras.layers.Dense(2, activation="softmax")(x))
    model.compile("adam", "sparse_categorical_crossentropy", jit_compile=False)
    model.fit(CHIPS, np.zeros(len(CHIPS)), batch_size=len(CHIPS), epochs=20, verbose=0)
    found = remembered(tmp_path / f"few{ending}", model)
    assert found.is_sure
    _, rest = found.seen
    mean, square = found.compute(CHIPS).mean(axis=0)
    # All steps saw the same chips: what is left is their mean and variance, in float32.
    np.testing.assert_allclose(rest.mean, mean, atol=1e-3)
    np.testing.assert_allclose(rest.variance, square - mean**2, rtol=1e-3)
    model.get_layer("first").trainable = False  # its steps were those of another training
    assert remembered(tmp_path / f"frozen{ending}", model) is None


def test_few_steps_of_a_model_that_was_trained_before_are_not_taken_for_all(tmp_path: Path) -> None:
    model, _ = build("plain")
    model.get_layer("first").set_weights([np.ones(4), np.zeros(4), np.ones(4), np.full(4, 0.001)])
    model.compile("adam", "sparse_categorical_crossentropy", jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    model.optimizer.iterations.assign(60)
    found = remembered(tmp_path / "m.keras", model)
    assert len(found.seen) == 1 and found.is_sure


def test_statistics_that_may_be_what_they_began_with_tell_nothing(tmp_path: Path) -> None:
    import keras

    layers = [keras.layers.BatchNormalization(name="first"), keras.layers.GlobalMaxPooling2D()]
    model = keras.Sequential([keras.Input((8, 8, 3)), *layers, keras.layers.Dense(2)])

    def recalled(variance: float) -> Memory | None:
        values = [np.ones(3), np.zeros(3), np.ones(3), np.full(3, variance)]
        model.get_layer("first").set_weights(values)
        return remembered(tmp_path / "m.keras", model)

    assert recalled(0.8) is None
    assert len(recalled(0.3).seen) == 2 and not recalled(0.3).is_sure
    assert len(recalled(50).seen) == 1 and not recalled(50).is_sure
    assert len(recalled(0.001).seen) == 1 and recalled(0.001).is_sure
    model.compile("adam", "sparse_categorical_crossentropy", jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    model.optimizer.iterations.assign(5)
    assert recalled(50) is None  # 0.95 of what it began with, and 0.05 of 981 that it saw
