"""Small classifiers, trained on textures as satellites see them, and the chips to try them with.

What a second look needs are models whose training is known: by which preprocessing, for how many
epochs, with a base that was trained on other pictures or not. Each takes seconds to train.
"""

from __future__ import annotations

import json
import os
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from trained import preprocess

SIZE = 32
CHIPS = 1200  # to train with
MODES = ("caffe", "tf", "torch", "zero_to_one", "none")
FEW, MANY = 2, 20  # epochs

# Reflectance of land covers as R,G,B from 0 to 255, how much a chip differs from it, and the grain
# of its texture in pixels; invented, in the order that aerial pictures have.
COVERS = {
    "water": ((38, 58, 82), 10, 8),
    "forest": ((48, 72, 42), 22, 1),
    "field": ((128, 132, 74), 16, 4),
    "soil": ((158, 124, 92), 18, 6),
    "buildings": ((142, 138, 136), 52, 3),
}
# Other pictures, for bases that were trained before: brighter and more colorful.
OBJECTS = {
    "sky": ((120, 170, 235), 16, 12),
    "leaf": ((80, 165, 60), 60, 2),
    "wall": ((205, 190, 170), 30, 5),
    "flower": ((220, 70, 120), 70, 3),
    "cloth": ((90, 60, 160), 45, 1),
}


class Recipe(NamedTuple):
    """How a model is made.

    kind: its architecture, a function of this module.
    mode: the preprocessing of its training.
    epochs: of its training.
    ending: of its file.
    """

    kind: str
    mode: str
    epochs: int
    ending: str

    @property
    def name(self) -> str:
        """The name of its file."""
        return f"{self.kind}_{self.mode}_{self.epochs}{self.ending}"

    @property
    def remembers(self) -> bool:
        """Whether it has a normalization with statistics."""
        return "plain" not in self.kind


def recipes() -> Iterator[Recipe]:
    """Yield all recipes."""
    endings = (".h5", ".keras")
    number = 0
    for kind, epochs in (
        ("plain", MANY),
        ("plain_flat", MANY),
        ("plain_binary", MANY),
        ("plain_frozen", MANY),
        ("plain", FEW),
        ("normalized", FEW),
        ("normalized", MANY),
        ("normalized_late", MANY),
        ("separable", MANY),
        ("nested", MANY),
        ("frozen", MANY),
        ("tuned", MANY),
    ):
        for mode in MODES:
            yield Recipe(kind, mode, epochs, endings[number % 2])
            number += 1
    for mode in ("none", "zero_to_one", "tf"):
        yield Recipe("adapted", mode, MANY, ".keras")
        yield Recipe("normalized_binary", mode, MANY, ".h5")
    for kind in ("inside", "plain_inside"):
        yield Recipe(kind, "none", MANY, ".h5")


def make_chips(
    number: int, seed: int, covers: dict[str, Any] = COVERS, shares: list[float] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Draw chips: noise of the grain of a land cover around its color, lit more or less.

    Args:
        number, seed: how many, and what they are drawn from.
        covers: the classes.
        shares: of each class; all the same by default.
    Returns:
        Chips uint8 (number, SIZE, SIZE, 3) R,G,B, and their classes, int (number,).
    """
    random = np.random.default_rng(seed)
    classes = random.choice(len(covers), number, p=shares)
    chips = np.empty((number, SIZE, SIZE, 3), np.uint8)
    for row, cover in enumerate(classes):
        color, spread, grain = list(covers.values())[cover]
        edge = -(-SIZE // grain) + 1
        noise = random.normal(0, 1, (edge, edge)).astype(np.float32)
        coarse = cv2.resize(noise, None, fx=grain, fy=grain, interpolation=cv2.INTER_CUBIC)
        texture = coarse[:SIZE, :SIZE, None] * spread * random.uniform(0.7, 1.3)
        fine = random.normal(0, 4, (SIZE, SIZE, 3))
        tint = np.array(color) * random.uniform(0.8, 1.2) + random.normal(0, 8, 3)
        chips[row] = np.clip(tint + texture + fine, 0, 255).astype(np.uint8)
    return chips, classes


def build(recipe: Recipe, x: np.ndarray, y: np.ndarray) -> Any:
    """Build and train a model of a recipe; x and y as `make_chips` gives them."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(zlib.crc32(recipe.name.encode()))

    def block(x: Any, filters: int, **how: Any) -> Any:
        kind = layers.SeparableConv2D if recipe.kind == "separable" else layers.Conv2D
        late = recipe.kind == "normalized_late"
        x = kind(filters, 3, padding="same", activation="relu" if late else None, **how)(x)
        if recipe.remembers and recipe.kind != "adapted":
            x = layers.BatchNormalization()(x)
        x = x if late else layers.Activation("relu")(x)
        return layers.MaxPooling2D()(x)

    def base() -> Any:
        start = keras.Input((SIZE, SIZE, 3))
        return keras.Model(start, block(block(start, 12), 24))

    fed = preprocess(x, recipe.mode)
    binary = recipe.kind.endswith("_binary")
    start = keras.Input((SIZE, SIZE, 3))
    inner = start
    if recipe.kind.endswith("inside"):
        inner = layers.Rescaling(1 / 255)(start)
    if recipe.kind == "adapted":
        normalization = layers.Normalization()
        normalization.adapt(fed)
        inner = normalization(start)
    if recipe.kind in ("nested", "frozen", "tuned", "plain_frozen"):
        nested = base()
        if recipe.kind != "nested":
            before, truth = make_chips(CHIPS, 7, OBJECTS)
            _fit(
                nested,
                _head(nested.output, layers, False),
                preprocess(before, recipe.mode),
                truth,
                8,
            )
            nested.trainable = recipe.kind == "tuned"
        inner = nested(inner, training=False if recipe.kind.endswith("frozen") else None)
    else:
        inner = block(block(inner, 12), 24)
    if recipe.kind == "plain_flat":
        inner = layers.Dense(32, activation="relu")(layers.Flatten()(inner))
    end = _head(inner, layers, binary)
    return _fit(start, end, fed, (y == 4) if binary else y, recipe.epochs)


def _head(x: Any, layers: Any, binary: bool) -> Any:
    if len(x.shape) == 4:
        x = layers.GlobalAveragePooling2D()(x)
    return (
        layers.Dense(1, activation="sigmoid")(x)
        if binary
        else layers.Dense(5, activation="softmax")(x)
    )


def _fit(start: Any, end: Any, x: np.ndarray, y: np.ndarray, epochs: int) -> Any:
    import keras

    model = keras.Model(getattr(start, "input", start), end)
    loss = "binary_crossentropy" if end.shape[-1] == 1 else "sparse_categorical_crossentropy"
    model.compile(keras.optimizers.Adam(3e-3), loss, metrics=["accuracy"], jit_compile=False)
    model.fit(x, y.astype(np.float32), batch_size=40, epochs=epochs, verbose=0)
    return model


def train_all(folder: Path) -> None:
    """Train what is not in a folder yet."""
    folder.mkdir(parents=True, exist_ok=True)
    x, y = make_chips(CHIPS, 1)
    test, truth = make_chips(400, 2)
    for recipe in recipes():
        path = folder / recipe.name
        if path.exists():
            continue
        started = time.monotonic()
        import keras

        model = build(recipe, x, y)
        given = model.predict(preprocess(test, recipe.mode), verbose=0)
        found = given[:, 0] > 0.5 if given.shape[1] == 1 else given.argmax(1)
        right = float((found == (truth == 4 if given.shape[1] == 1 else truth)).mean())
        model.save(path)
        seconds = time.monotonic() - started
        print(json.dumps({"model": recipe.name, "right": right, "seconds": round(seconds, 1)}))
        sys.stdout.flush()
        keras.backend.clear_session()


if __name__ == "__main__":
    train_all(Path(sys.argv[1]))
