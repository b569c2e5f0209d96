"""The other settings of a run: each once, with what to set, and computed as the run computes."""

import numpy as np
import pytest

from chip_classifier.ports import Ports
from chip_classifier.preprocessing import settle_preprocessing
from chip_classifier.second_look.alternatives import alternatives, name_in_force, prepare


def advice(ports: Ports, bands: int = 3) -> list[str]:
    return [other.advice for other in alternatives(settle_preprocessing(ports, bands))]


def test_every_other_mode_and_the_bands_reversed() -> None:
    others = [f"set the port preprocessing to {mode}" for mode in ("tf", "torch", "zero_to_one")]
    assert advice(Ports()) == [
        *others,
        "set the port preprocessing to none",
        "set the port bands to 3,2,1",
    ]
    assert advice(Ports(bands=(5, 3, 2)))[-1] == "set the port bands to 2,3,5"


def test_numbers_of_the_ports_are_to_be_left_out() -> None:
    ports = Ports(preprocessing="tf", normalization_vector=(1, 2, 3))
    found = advice(ports)
    assert "leave the ports normalization_vector and normalization_value out" in found
    ending = ", and leave normalization_vector and normalization_value out"
    assert f"set the port preprocessing to none{ending}" in found
    assert name_in_force(settle_preprocessing(ports, 3)).endswith("tf and numbers of the ports")


def test_modes_without_numbers_for_so_many_bands_are_none() -> None:
    assert advice(Ports(preprocessing="none"), bands=4) == [
        "set the port preprocessing to tf",
        "set the port preprocessing to zero_to_one",
    ]
    native = settle_preprocessing(Ports(preprocessing="none", values="native"), 3)
    assert [other.reverses for other in alternatives(native, is_native=True)] == [True]


@pytest.mark.parametrize("mode", ["caffe", "tf", "torch"])
def test_chips_are_prepared_as_keras_does(mode: str) -> None:
    import keras

    rgb = np.random.default_rng(1).integers(0, 256, (2, 3, 4, 3), np.uint8)
    ours = prepare(rgb[..., ::-1], settle_preprocessing(Ports(preprocessing=mode), 3))
    preprocess = keras.applications.imagenet_utils.preprocess_input
    # float32: Keras divides by 255 first
    np.testing.assert_allclose(ours, preprocess(rgb.astype(np.float32), mode=mode), atol=1e-5)
    reversed_bands = list(alternatives(settle_preprocessing(Ports(preprocessing=mode), 3)))[-1]
    ours = prepare(rgb[..., ::-1], reversed_bands.preprocessing)
    theirs = preprocess(rgb[..., ::-1].astype(np.float32), mode=mode)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
