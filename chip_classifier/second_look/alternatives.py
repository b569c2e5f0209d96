"""The settings that a run could have had instead, and what the model would have got with them."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from chip_classifier.errors import TaskError
from chip_classifier.ports import MODES, Ports
from chip_classifier.preprocessing import Preprocessing, settle_preprocessing


@dataclass(frozen=True)
class Alternative:
    """Another setting.

    name: in words, "the preprocessing tf".
    advice: what to set, "set the port preprocessing to tf".
    preprocessing: what the model gets with it.
    reverses: whether it is the other order of the bands.
    """

    name: str
    advice: str
    preprocessing: Preprocessing
    reverses: bool = False


def alternatives(in_force: Preprocessing, is_native: bool = False) -> Iterator[Alternative]:
    """Yield the other modes that a model of so many bands can have, then the bands reversed.

    What gives the model the same numbers as what is in force is none. The modes are for values from
    0 to 255: where the pixels are the numbers of the files (`is_native`), there are no others.
    """
    for mode in () if is_native else MODES:
        other = _settled(mode, in_force)
        if other is None or _numbers(other) == _numbers(in_force):
            continue
        advice = f"set the port preprocessing to {mode}"
        if mode == in_force.mode:
            advice = "leave the ports normalization_vector and normalization_value out"
        elif _has_own_numbers(in_force):
            advice += ", and leave normalization_vector and normalization_value out"
        yield Alternative(f"the preprocessing {mode}", advice, other)
    if in_force.bands is not None and len(in_force.bands) == 3:
        order = ",".join(map(str, in_force.named_bands[::-1]))
        other = replace(in_force, flips=not in_force.flips)
        yield Alternative(f"the bands {order}", f"set the port bands to {order}", other, True)


def name_in_force(in_force: Preprocessing) -> str:
    """Name the preprocessing in force, "the preprocessing caffe"."""
    own = " and numbers of the ports" if _has_own_numbers(in_force) else ""
    return f"the preprocessing {in_force.mode}{own}"


def spread(preprocessing: Preprocessing) -> float:
    """Return how far apart the model gets two pixels that differ by 1."""
    return 1 / max(map(abs, preprocessing.value or (1.0,)))


def prepare(pixels: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """Prepare chips for the model as the run does.

    Args:
        pixels: uint8 (N, rows, columns, bands), the bands as in `preprocessing`.
        preprocessing: what is done to them.
    Returns:
        float32 of the same shape.
    """
    x = pixels[..., :: -1 if preprocessing.flips else 1].astype(np.float32)
    x -= np.float32(preprocessing.vector)
    return x / np.float32(preprocessing.value) if preprocessing.value else x


def _settled(mode: str, in_force: Preprocessing) -> Preprocessing | None:
    """Settle a mode for the bands in force; None where it has no numbers for so many."""
    bands = in_force.named_bands or None
    try:
        return settle_preprocessing(Ports(preprocessing=mode, bands=bands), len(in_force.vector))
    except TaskError:
        return None


def _has_own_numbers(preprocessing: Preprocessing) -> bool:
    """Return whether the ports replace numbers of the mode."""
    own = _settled(preprocessing.mode, preprocessing)
    return own is None or _numbers(own) != _numbers(preprocessing)


def _numbers(preprocessing: Preprocessing) -> tuple:
    """Return what tells one preprocessing from another."""
    return preprocessing.flips, preprocessing.vector, preprocessing.value
