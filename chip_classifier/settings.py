"""The ports, settled for the model of a run: once, before TensorFlow is loaded."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from chip_classifier.class_names import write_classes
from chip_classifier.errors import TaskError
from chip_classifier.loading import loading_of
from chip_classifier.ports import LOADINGS, Ports
from chip_classifier.preprocessing import (
    Preprocessing,
    contradictions,
    numbers_for_fractions,
    numbers_outside,
    settle_preprocessing,
)
from keras_files.open_model import OpenedModel

DEFAULT_SIZE = 224  # where neither the port nor the model says it (the task's documentation)


@dataclass(frozen=True)
class Settings:
    """What is in force for a run.

    ports: the string ports.
    size: rows and columns that chips are warped to.
    preprocessing: what the model gets of the chips' pixels.
    warnings: sentences on what may be wrong with the ports or the model.
    """

    ports: Ports
    size: tuple[int, int]
    preprocessing: Preprocessing
    warnings: tuple[str, ...] = ()

    @property
    def in_force(self) -> dict[str, str]:
        """The ports in force as text, as the log, the page and the journal write them."""
        ports, preprocessing = self.ports, self.preprocessing
        value = set(preprocessing.value)
        numbers = preprocessing.value if len(value) > 1 else tuple(value)
        grey = preprocessing.bands is None
        return {
            "classes": write_classes(ports.classes) if ports.classes else "numbers",
            "size": f"{self.size[0]} x {self.size[1]}",
            "deploy_batch": str(ports.deploy_batch),
            "preprocessing": ports.preprocessing,
            "normalization_vector": _of_rgb(preprocessing.vector, preprocessing),
            "normalization_value": _of_rgb(numbers, preprocessing) or "None",
            "bands": "grey value" if grey else ",".join(map(str, preprocessing.named_bands)),
            "bit_depth": str(ports.bit_depth or "that of the file"),
            "probabilities": str(ports.probabilities),
            "loading": ports.loading,
            "values": ports.values,
        }

    @property
    def is_native(self) -> bool:
        """Whether the model gets the numbers of the files instead of 0 to 255."""
        return self.ports.values == "native"

    @property
    def pixel_type(self) -> type[np.generic]:
        """The type of the model's input as it comes to the device, to which others are cast."""
        if self.is_native:
            return np.float32
        bands = self.preprocessing.bands or (1,)
        return loading_of(self.ports.loading).widest_type(len(bands))

    def class_names(self, outputs: int) -> tuple[str, ...]:
        """Name the classes of a model with that many outputs; a single one means two classes.

        Raises TaskError if the port classes has another number of names.
        """
        classes, names = max(outputs, 2), self.ports.classes
        if names is None:
            return tuple(str(number) for number in range(classes))
        if len(names) != classes:
            hint = ", separated by commas" if ";" in "".join(names) else ""
            raise TaskError(
                f"The port classes has {len(names)} name(s), but the model has {outputs} "
                f"output(s), for {classes} classes: give {classes} names in the order of "
                f"training{hint}."
            )
        return names


def settle(ports: Ports, model: OpenedModel) -> Settings:
    """Settle the ports for a model. Raises TaskError if they do not fit it, or each other."""
    if ports.values == "native":
        _require_native(ports)
    preprocessing = settle_preprocessing(ports, model.bands)
    settings = Settings(
        ports,
        chip_size(ports, model),
        preprocessing,
        (
            *ports.warnings,
            *numbers_for_fractions(ports),
            *numbers_outside(ports),
            *model.warnings,
            *contradictions(model, ports, preprocessing),
        ),
    )
    if model.outputs is not None:
        settings.class_names(model.outputs)
    return settings


def _require_native(ports: Ports) -> None:
    """Raise TaskError if a port is made for values from 0 to 255, where these are the files'."""
    if ports.preprocessing != "none":
        raise TaskError(
            "The port values is native, but the numbers of the preprocessing "
            f"{ports.preprocessing} are for values from 0 to 255: set the port preprocessing to "
            "none, and normalization_vector and normalization_value to what the training "
            "subtracted and divided by."
        )
    if ports.bit_depth is not None:
        raise TaskError(
            "The port values is native, but bit_depth makes 8 bits of the chips' values: leave one "
            "of the two out."
        )
    if ports.loading != LOADINGS[0]:
        raise TaskError(
            f"The port values is native, but {ports.loading} makes 8 bits of the chips' values: "
            "leave one of the two ports out."
        )


def chip_size(ports: Ports, model: OpenedModel) -> tuple[int, int]:
    """Decide on the rows and columns that chips are warped to.

    The port's size, else the model's own, else 224. Raises TaskError if the model is of another
    size than the port.
    """
    rows, columns = model.input_size
    if ports.size is None:
        return rows or DEFAULT_SIZE, columns or DEFAULT_SIZE
    if (rows or ports.size, columns or ports.size) != (ports.size, ports.size):
        raise TaskError(
            f"The port size is {ports.size}, but {model.file.path.name} takes chips of "
            f"{rows or 'any'} x {columns or 'any'} (rows x columns): set size to that, or "
            "leave it out."
        )
    return ports.size, ports.size


def _of_rgb(numbers: Sequence[float], preprocessing: Preprocessing) -> str:
    """Write numbers of the model's bands in the order in which the ports give them: R,G,B."""
    is_bgr = len(preprocessing.vector) == 3 and not preprocessing.flips
    return ",".join(map(str, numbers[::-1] if is_bgr else numbers))
