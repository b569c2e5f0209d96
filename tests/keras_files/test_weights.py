"""Tests of weights.py: which array of a file belongs to which layer."""

import zipfile
from pathlib import Path
from typing import Any

import keras
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
    with pytest.raises(ModelError, match="'fixed_dropout_1'.*custom"):
        open_model(saved_model(FixedDropout(), tmp_path / "custom.keras"), "tensorflow")
    for ending in (".h5", ".keras"):
        plain = saved_model(tf_keras.layers.RandomFlip(), tmp_path / f"plain{ending}")
        assert open_model(plain, "tensorflow").outputs == 2


@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_quantized_layers_are_refused(ending: str, tmp_path: Path) -> None:
    layers = keras.layers
    model = keras.Sequential([layers.Input((4, 4, 3)), layers.Flatten(), layers.Dense(2)])
    model.quantize("int8")
    model.save(tmp_path / f"int8{ending}")
    with pytest.raises(ModelError, match="'dense.*quantized"):
        open_model(tmp_path / f"int8{ending}")
    dense = keras.Sequential([layers.Input((4, 4, 3)), layers.Flatten(), layers.Dense(2)])
    dense.save(tmp_path / f"plain{ending}")
    assert open_model(tmp_path / f"plain{ending}").outputs == 2


def test_an_array_too_many_in_an_archive_is_refused(tmp_path: Path) -> None:
    layers = tf_keras.layers
    path = saved_model(layers.Dense(3, use_bias=True), tmp_path / "plain.keras")
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["config.json"] = members["config.json"].replace(
        b'"use_bias": true', b'"use_bias": false', 1
    )
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(ModelError, match="needs 1 arrays of weights, the file has more"):
        open_model(path)
