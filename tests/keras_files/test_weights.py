"""Tests of weights.py: which array of a file belongs to which layer."""

from pathlib import Path
from typing import Any

import pytest
import tf_keras

from keras_files.model_file import ModelError
from keras_files.open_model import open_model


class FixedDropout(tf_keras.layers.Layer):
    """Somebody's own layer, by the name of one that computes nothing when it predicts."""

    def __init__(self, rate: float = 0.5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rate = rate

    def build(self, shape: tuple[int, ...]) -> None:
        self.factor = self.add_weight(name="factor", shape=(shape[-1],))

    def call(self, x: Any) -> Any:
        return x * self.factor

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rate": self.rate, "noise_shape": None, "seed": None}


def saved_model(layer: tf_keras.layers.Layer, path: Path) -> Path:
    layers = tf_keras.layers
    tf_keras.Sequential(
        [layers.Input((4, 4, 3)), layer, layers.Flatten(), layers.Dense(2, activation="softmax")]
    ).save(path)
    return path


def test_a_layer_without_weights_that_has_some_in_the_file_is_custom_code(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="'fixed_dropout'.*has weights in the file.*custom code"):
        open_model(saved_model(FixedDropout(), tmp_path / "custom.h5"), "tensorflow")
    plain = saved_model(tf_keras.layers.RandomFlip(), tmp_path / "plain.h5")
    assert open_model(plain, "tensorflow").outputs == 2
