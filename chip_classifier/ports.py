"""The task's ports: ports.json and the input directories -> settings that are checked."""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from chip_classifier import MAX_CHIP_PIXELS
from keras_files.open_model import OpenedModel

MODEL_SUFFIXES = (".h5", ".hdf5", ".keras")

# Ports that are absent mean these values (the task's documentation).
DEFAULT_SIZE = 224
DEFAULT_BATCH = 100

# Mean of the R, G and B bands of ImageNet, as in keras.applications.imagenet_utils, mode "caffe".
DEFAULT_VECTOR = (123.68, 116.779, 103.939)
STRING_PORTS = ("classes", "size", "deploy_batch", "normalization_vector", "normalization_value")


class TaskError(Exception):
    """The task cannot do what it was asked to; the message is one sentence for the user."""


@dataclass(frozen=True)
class Ports:
    """The string ports, checked.

    classes: names in the order of the model's outputs, or None for '0', '1', ...
    size: rows and columns to warp chips to, or None for the model's own.
    deploy_batch: chips per batch.
    normalization_vector: what to subtract from the R, G and B band.
    normalization_value: what to divide by after that, or None.
    unknown: names in ports.json that are no string port of this task.
    """

    classes: tuple[str, ...] | None = None
    size: int | None = None
    deploy_batch: int = DEFAULT_BATCH
    normalization_vector: tuple[float, float, float] = DEFAULT_VECTOR
    normalization_value: float | None = None
    unknown: tuple[str, ...] = ()


def read_ports(path: Path) -> Ports:
    """Read ports.json, a flat JSON object of strings; all defaults if there is none.

    Raises TaskError if the file is no such object or a port has a value that it cannot take.
    """
    if not path.exists():
        return Ports()
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise TaskError(f"ports.json is not valid JSON ({error}): correct it.") from error
    if not isinstance(content, dict):
        raise TaskError('ports.json must be one JSON object, such as {"size": "224"}.')
    for name, value in content.items():
        if name in STRING_PORTS and not isinstance(value, str):
            raise TaskError(
                f"The port {name} must be a string: write it in quotation marks in ports.json, "
                f'as in "{name}": "{json.dumps(value)[:100]}".'
            )
    given = {name: content[name].strip() for name in STRING_PORTS if content.get(name, "").strip()}
    parsers = {
        "classes": parse_classes,
        "size": parse_size,
        "deploy_batch": parse_batch,
        "normalization_vector": parse_vector,
        "normalization_value": parse_value,
    }
    unknown = tuple(name for name in content if name not in STRING_PORTS)
    return Ports(**{name: parsers[name](text) for name, text in given.items()}, unknown=unknown)


def parse_classes(text: str) -> tuple[str, ...]:
    """Parse the port classes: "No Buildings, Buildings" -> two names without blanks around them.

    Raises TaskError if a name is empty.
    """
    names = tuple(name.strip() for name in text.split(","))
    if "" in names:
        raise TaskError(
            f"The port classes has an empty name: '{text}'; separate the names by single commas."
        )
    return names


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
    """Parse a positive whole number. Raises TaskError if it is none."""
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) == 0:
        raise TaskError(f"The port {port} must be a positive whole number, not '{text[:100]}'.")
    return int(text)


def parse_vector(text: str) -> tuple[float, float, float]:
    """Parse the port normalization_vector: "R,G,B". Raises TaskError if it is not three numbers."""
    numbers = tuple(parse_number(part) for part in text.split(","))
    if len(numbers) != 3 or None in numbers:
        raise TaskError(
            "The port normalization_vector must be three numbers for R,G,B, such as "
            f"'123.68,116.779,103.939', not '{text[:100]}'."
        )
    return numbers


def parse_value(text: str) -> float | None:
    """Parse the port normalization_value. Raises TaskError unless it is None or not 0."""
    if text.lower() == "none":
        return None
    value = parse_number(text)
    if value is None or abs(value) < np.finfo(np.float32).tiny:
        raise TaskError(
            "The port normalization_value must be a number other than 0, or 'None', "
            f"not '{text[:100]}'."
        )
    return value


def parse_number(text: str) -> float | None:
    """Parse a number that float32 can hold; None if it is none."""
    if not re.fullmatch(r"\s*[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?\s*", text):
        return None
    with np.errstate(over="ignore"):
        return float(text) if np.isfinite(np.float32(text)) else None


def find_input(directory: Path, what: str, suffixes: Sequence[str]) -> Path:
    """Find the one file of a kind in an input directory.

    Args:
        directory: input/chips or input/model.
        what: the kind of file, for the message.
        suffixes: the endings that the file may have, lower case.
    Raises:
        TaskError: there is none, or more than one; the message names what was found.
    """
    try:
        files = sorted(f.name for f in directory.iterdir() if f.is_file() and f.name[0] != ".")
    except OSError as error:
        raise TaskError(
            f"The input directory {directory} cannot be read ({error.strerror}): put the {what} "
            "there."
        ) from error
    found = [name for name in files if name.lower().endswith(tuple(suffixes))]
    if len(found) == 1:
        return directory / found[0]
    listed = ", ".join((found or files)[:10]) + (", ..." if len(found or files) > 10 else "")
    raise TaskError(
        f"{directory} must hold exactly one {what} ({', '.join(suffixes)}), "
        + (f"but holds {len(found)}: {listed}." if found else f"but holds {listed or 'no file'}.")
    )


def chip_size(ports: Ports, model: OpenedModel, model_name: str) -> tuple[int, int]:
    """Decide on the rows and columns that chips are warped to.

    The port's size, else the model's own, else 224. Raises TaskError if the model is of another
    size than the port.
    """
    rows, columns = model.input_size
    if ports.size is not None:
        if (rows or ports.size, columns or ports.size) != (ports.size, ports.size):
            raise TaskError(
                f"The port size is {ports.size}, but {model_name} takes chips of "
                f"{rows or 'any'} x {columns or 'any'} (rows x columns): set size to that, or "
                "leave it out."
            )
        return ports.size, ports.size
    return rows or DEFAULT_SIZE, columns or DEFAULT_SIZE


def class_names(ports: Ports, outputs: int) -> tuple[str, ...]:
    """Name the classes of a model with that many outputs; one (sigmoid) output means two classes.

    Raises TaskError if the port classes has another number of names.
    """
    classes = max(outputs, 2)
    if ports.classes is None:
        return tuple(str(number) for number in range(classes))
    if len(ports.classes) != classes:
        raise TaskError(
            f"The port classes has {len(ports.classes)} name(s), but the model has {outputs} "
            f"output(s), for {classes} classes: give {classes} names in the order of training."
        )
    return ports.classes


def settings_in_force(ports: Ports, size: tuple[int, int]) -> dict[str, str]:
    """Write the ports in force as text, for the log and for the journal."""
    return {
        "classes": ", ".join(ports.classes) if ports.classes else "numbers",
        "size": f"{size[0]} x {size[1]}",
        "deploy_batch": str(ports.deploy_batch),
        "normalization_vector": ",".join(map(str, ports.normalization_vector)),
        "normalization_value": str(ports.normalization_value),
    }
