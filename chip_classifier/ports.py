"""The task's string ports, parsed one by one; what they mean for a model is settled in settings."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from chip_classifier import MAX_CHIP_PIXELS
from chip_classifier.class_names import parse_classes
from chip_classifier.errors import TaskError
from chip_classifier.layout import PORTS
from chip_classifier.ports_json import PortError, read_texts

# Ports that are absent mean these values (the task's documentation).
DEFAULT_BATCH = 100

# The modes of keras.applications.imagenet_utils.preprocess_input, and two for which Keras has no
# word; see `preprocessing`.
MODES = ("caffe", "tf", "torch", "zero_to_one", "none")
# The functions by which trainings load chips; see `loading`.
LOADINGS = ("cv2", "image_dataset_from_directory", "flow_from_directory", "teachable_machine")
# What the model gets: values from 0 to 255, or the numbers of the files.
EIGHT_BITS, NATIVE = VALUES = ("8bit", "native")
# libtiff and libpng have no wider whole numbers than 32 bits.
MAX_BIT_DEPTH = 32


@dataclass(frozen=True)
class Ports:
    """The string ports, checked as far as they can be without the model.

    classes: names in the order of the model's outputs, or None for '0', '1', ...
    size: rows and columns to warp chips to, or None for the model's own.
    deploy_batch: chips per batch.
    preprocessing: one of MODES, which says how the model was trained.
    normalization_vector: what to subtract from each band, R,G,B, or None for the mode's numbers.
    normalization_value: what to divide each band by after that: one number for all, or one for
        each; () for no division; None for the mode's numbers.
    bands: the bands of a chip file that the model takes, counted from 1; None for the first ones.
    bit_depth: how many bits of the chips' values count, or None where the file's own do.
    probabilities: whether the results have the value of each class.
    loading: one of LOADINGS, by which the chips are decoded and resized.
    values: one of VALUES, what the model gets of the chips' values.
    origins: of each port that is set, where that was done.
    warnings: on names in ports.json that are no string port of this task.
    """

    classes: tuple[str, ...] | None = None
    size: int | None = None
    deploy_batch: int = DEFAULT_BATCH
    preprocessing: str = MODES[0]
    normalization_vector: tuple[float, ...] | None = None
    normalization_value: tuple[float, ...] | None = None
    bands: tuple[int, ...] | None = None
    bit_depth: int | None = None
    probabilities: bool = False
    loading: str = LOADINGS[0]
    values: str = EIGHT_BITS
    origins: Mapping[str, str] = field(default_factory=dict, compare=False)
    warnings: tuple[str, ...] = ()


class PortTexts(NamedTuple):
    """String ports as they are given in one place.

    origin: that place, for messages.
    texts: port -> text; a blank one means the same as none.
    warnings: on what else stands there.
    """

    origin: str
    texts: Mapping[str, str]
    warnings: tuple[str, ...] = ()


def gather_ports(flags: Mapping[str, str], file: Path | None, beside: Path) -> Ports:
    """Read the string ports of a run, of which those of the run go before the model's own.

    Args:
        flags: port -> text, of the command line.
        file: ports.json of the run, if there may be one.
        beside: that of the model, if there is one.
    Raises:
        TaskError: a file is no object of ports, or a port has a value that it cannot take.
    """
    places = [PortTexts("the command line", flags)]
    if file:
        places.append(read_ports(file, file.name))
    if not (file and file.exists() and beside.exists() and file.samefile(beside)):
        places.append(read_ports(beside, f"{PORTS} beside the model"))
    return parse_ports(*places)


def read_ports(path: Path, origin: str = PORTS) -> PortTexts:
    """Read a file of ports, a flat JSON object of strings; nothing is set if there is none.

    Raises TaskError if the file is no such object.
    """
    try:
        texts, warnings = read_texts(path)
    except PortError as error:
        raise TaskError(str(error).replace(PORTS, origin)) from error
    return PortTexts(origin, texts, tuple(text.replace(PORTS, origin) for text in warnings))


def parse_ports(*places: PortTexts) -> Ports:
    """Check the string ports of several places, of which the earlier ones go before.

    Raises TaskError if a port has a value that it cannot take.
    """
    origins: dict[str, str] = {}
    parsed: dict[str, object] = {}
    for place in places:
        for port, text in place.texts.items():
            if not text.strip() or port in parsed:
                continue
            try:
                parsed[port] = PARSERS[port](text.strip())
            except TaskError as error:
                where = f" (It is set in {place.origin}.)" if place is places[-1] else ""
                raise TaskError(f"{error}{where}") from error
            origins[port] = place.origin
    warnings = tuple(warning for place in places for warning in place.warnings)
    return Ports(**parsed, origins=origins, warnings=warnings)


def parse_size(text: str) -> int:
    """Parse the port size, in pixels. Raises TaskError if it is no size of a chip."""
    size = parse_whole_number("size", text)
    if size * size > MAX_CHIP_PIXELS:
        raise TaskError(
            f"The port size must be at most {math.isqrt(MAX_CHIP_PIXELS)} pixels, not {text}."
        )
    return size


def parse_batch(text: str) -> int:
    """Parse the port deploy_batch, in chips. Raises TaskError if it is not positive."""
    return parse_whole_number("deploy_batch", text)


def parse_whole_number(port: str, text: str) -> int:
    """Parse a positive whole number, "16" or "16.0". Raises TaskError if it is none."""
    if not re.fullmatch(r"[0-9]{1,9}(\.0*)?", text) or int(text.partition(".")[0]) == 0:
        raise TaskError(f"The port {port} must be a positive whole number, not '{text[:100]}'.")
    return int(text.partition(".")[0])


def parse_choice(port: str, choices: Sequence[str], text: str) -> str:
    """Parse a port of few values, in any case. Raises TaskError if it is none of them."""
    if text.lower() not in choices:
        raise TaskError(f"The port {port} must be one of {', '.join(choices)}, not '{text[:100]}'.")
    return text.lower()


def parse_vector(text: str) -> tuple[float, ...]:
    """Parse the port normalization_vector: "R,G,B". Raises TaskError if it is not numbers."""
    numbers = tuple(parse_number(part) for part in text.split(","))
    if None in numbers:
        raise TaskError(
            "The port normalization_vector must be three numbers for R,G,B, such as "
            f"'123.68,116.779,103.939', not '{text[:100]}'."
        )
    return numbers


def parse_value(text: str) -> tuple[float, ...]:
    """Parse the port normalization_value: a number, one for each band, or None: ().

    Raises TaskError unless each can divide.
    """
    if text.lower() == "none":
        return ()
    values = tuple(parse_number(part) for part in text.split(","))
    if any(value is None or abs(value) < np.finfo(np.float32).tiny for value in values):
        raise TaskError(
            "The port normalization_value must be a number other than 0, or three for R,G,B, or "
            f"'None', not '{text[:100]}'."
        )
    return values


def parse_number(text: str) -> float | None:
    """Parse a number that float32 can hold; None if it is none."""
    if not re.fullmatch(r"\s*[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?\s*", text):
        return None
    with np.errstate(over="ignore"):
        return float(text) if np.isfinite(np.float32(text)) else None


def parse_bands(text: str) -> tuple[int, ...]:
    """Parse the port bands: "5,3,2". Raises TaskError if they are no numbers of bands."""
    if not re.fullmatch(r"\s*[0-9]{1,5}\s*(,\s*[0-9]{1,5}\s*)*", text) or 0 in (
        bands := tuple(int(part) for part in text.split(","))
    ):
        raise TaskError(
            "The port bands must be the numbers of bands, counted from 1, such as '5,3,2', not "
            f"'{text[:100]}'."
        )
    return bands


def parse_bit_depth(text: str) -> int:
    """Parse the port bit_depth. Raises TaskError if it is no number of bits from 1 to 32."""
    bits = parse_whole_number("bit_depth", text)
    if bits > MAX_BIT_DEPTH:
        raise TaskError(
            f"The port bit_depth must be a number of bits such as '11', at most {MAX_BIT_DEPTH}, "
            f"not {text}."
        )
    return bits


def parse_probabilities(text: str) -> bool:
    """Parse the port probabilities. Raises TaskError if it is neither True nor False."""
    if text.lower() not in ("true", "false"):
        raise TaskError(f"The port probabilities must be 'True' or 'False', not '{text[:100]}'.")
    return text.lower() == "true"


PARSERS = {
    "classes": parse_classes,
    "size": parse_size,
    "deploy_batch": parse_batch,
    "preprocessing": partial(parse_choice, "preprocessing", MODES),
    "normalization_vector": parse_vector,
    "normalization_value": parse_value,
    "bands": parse_bands,
    "bit_depth": parse_bit_depth,
    "probabilities": parse_probabilities,
    "loading": partial(parse_choice, "loading", LOADINGS),
    "values": partial(parse_choice, "values", VALUES),
}
