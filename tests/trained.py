"""Models that are trained by a formula, and the chips that they tell apart by their color.

A chip of a class has that class's color, each pixel off by some noise, and all of them lit more or
less. A model gives each class what a linear discriminant gives it, from the means of the bands as
they are after the preprocessing: right about nearly all chips, and neither too sure nor unsure.
"""

from pathlib import Path

import numpy as np

from chip_files import make_tar, png, save_model

SIZE = 8
NAMES = ("water", "forest", "field", "soil", "roof")
COLORS = np.array([(38, 58, 82), (48, 72, 42), (128, 132, 74), (158, 124, 92), (150, 60, 50)])


def make_chips(number: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Draw chips of all classes in turn, uint8 (number, SIZE, SIZE, 3) R,G,B, and their classes."""
    random = np.random.default_rng(seed)
    classes = np.arange(number) % len(COLORS)
    light = random.uniform(0.85, 1.15, (number, 1, 1, 1))
    noise = random.normal(0, 12, (number, SIZE, SIZE, 3))
    chips = COLORS[classes][:, None, None] * light + noise
    return np.clip(chips, 0, 255).astype(np.uint8), classes


def archive(number: int, with_truth: bool = False, seed: int = 1) -> bytes:
    """Make a tar of such chips; `with_truth`: in folders of their classes."""
    chips, classes = make_chips(number, seed)
    folders = [f"{NAMES[c]}/" if with_truth else "" for c in classes]
    return make_tar([(f"chips/{folders[i]}{i}.png", png(chips[i])) for i in range(number)])


def preprocess(chips: np.ndarray, mode: str) -> np.ndarray:
    """Preprocess R,G,B chips by the formulas of Keras, float32."""
    x = chips.astype(np.float32)
    if mode == "caffe":
        return x[..., ::-1] - np.float32([103.939, 116.779, 123.68])
    if mode == "torch":
        return (x / 255 - np.float32([0.485, 0.456, 0.406])) / np.float32([0.229, 0.224, 0.225])
    return {"tf": x / 127.5 - 1, "zero_to_one": x / 255, "none": x}[mode]


def save_trained(path: Path, mode: str, remembers: bool = False) -> Path:
    """Save a model that was trained with a preprocessing.

    Args:
        path: where to.
        mode: the preprocessing.
        remembers: whether it has a batch normalization, behind a convolution.
    """
    import keras

    chips, classes = make_chips(400, seed=0)
    x = preprocess(chips, mode)
    means = x.mean(axis=(1, 2))
    centers = np.array([means[classes == c].mean(axis=0) for c in range(len(COLORS))])
    spread = np.cov((means - centers[classes]).T) + 1e-4 * np.cov(means.T)
    kernel = np.linalg.solve(spread, centers.T)
    bias = -0.5 * (centers.T * kernel).sum(axis=0)
    factor = 8 / np.median(np.ptp(np.sort(means @ kernel + bias, axis=1)[:, -2:], axis=1))
    layers = [keras.Input((SIZE, SIZE, 3))]
    weights: list[list[np.ndarray]] = []
    if remembers:  # the bands turned, and turned back by the normalization's scale
        turn = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))[0].astype(np.float32)
        turned = x @ turn
        mean, variance = turned.mean(axis=(0, 1, 2)), turned.var(axis=(0, 1, 2))
        layers.append(keras.layers.Conv2D(3, 1, use_bias=False))
        layers.append(keras.layers.BatchNormalization(epsilon=1e-6))
        weights.append([turn[None, None]])
        weights.append([np.sqrt(variance + 1e-6), mean, mean, variance])
        kernel = turn.T @ kernel
    layers += [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(5, activation="softmax")]
    model = keras.Sequential(layers)
    weights += [[], [factor * kernel, factor * bias]]
    for layer, values in zip(model.layers, weights, strict=True):
        layer.set_weights([np.asarray(value, np.float32) for value in values])
    return save_model(path, model)
