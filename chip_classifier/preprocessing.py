"""What the model gets of a chip's pixels: which bands, in which order, minus what, divided by what.

The modes are those of keras.applications.imagenet_utils.preprocess_input, and two more, for R,G,B
values x from 0 to 255 (each in one form, so that the ports can replace its numbers):

    caffe         B,G,R     x - mean of ImageNet
    tf            R,G,B     (x - 127.5) / 127.5             from -1 to 1
    torch         R,G,B     (x - 255 mean) / (255 std)      mean and deviation of ImageNet
    zero_to_one   R,G,B     x / 255
    none          R,G,B     x
"""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from chip_classifier.errors import TaskError
from chip_classifier.ports import MODES, Ports
from keras_files.hints import find_divisor
from keras_files.open_model import OpenedModel

RGB = (1, 2, 3)
LARGEST_VALUE = 255  # of a pixel

# By these divides a model whose input is 10, 11, 12, 14 or 16 bits, or reflectance x 10,000.
LARGEST_OF_OTHERS = (1023, 2047, 4095, 10000, 16383, 65535)

# Of the R, G and B band: keras.applications.imagenet_utils, _preprocess_numpy_input.
CAFFE_MEAN = (123.68, 116.779, 103.939)
TORCH_MEAN = tuple(255 * mean for mean in (0.485, 0.456, 0.406))
TORCH_DEVIATION = tuple(255 * deviation for deviation in (0.229, 0.224, 0.225))

# Mode -> vector and value, each one number for any band or three for R,G,B; () divides by nothing.
_NUMBERS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "caffe": (CAFFE_MEAN, ()),
    "tf": ((127.5,), (127.5,)),
    "torch": (TORCH_MEAN, TORCH_DEVIATION),
    "zero_to_one": ((0.0,), (255.0,)),
    "none": ((0.0,), ()),
}

# Families of keras.applications -> the mode of their own preprocess_input (a test compares them).
FAMILY_MODES = {
    "DenseNet": "torch",
    "InceptionResNetV2": "tf",
    "InceptionV3": "tf",
    "MobileNet": "tf",
    "MobileNetV2": "tf",
    "NASNet": "tf",
    "ResNet": "caffe",
    "ResNetV2": "tf",
    "VGG": "caffe",
    "Xception": "tf",
}


@dataclass(frozen=True)
class Preprocessing:
    """What the model gets, settled for its number of bands N.

    mode: one of MODES.
    bands: the bands of a chip file in the order of the pixels, which is B,G,R for three bands;
        None for the grey value of one that has colors.
    flips: whether the model wants the pixels' bands the other way round: R,G,B.
    vector: what is subtracted from each band, in the model's order, N numbers.
    value: what each band is divided by after that, N numbers, or () for no division.
    """

    mode: str
    bands: tuple[int, ...] | None
    flips: bool
    vector: tuple[float, ...]
    value: tuple[float, ...]

    @property
    def changes_values(self) -> bool:
        """Whether more is done than to put the bands in order."""
        return any(self.vector) or any(number != 1 for number in self.value)

    @property
    def named_bands(self) -> tuple[int, ...]:
        """The bands of a chip file in the order of the port `bands`; () for the grey value."""
        bands = self.bands or ()
        return bands[::-1] if len(bands) == 3 else bands

    @property
    def description(self) -> str:
        """The order of the bands, what is subtracted and what it is divided by, in words."""
        text = self.order
        if any(self.vector):
            text += f", minus {', '.join(f'{number:.6g}' for number in self.vector)}"
        if self.value:
            same = len(set(self.value)) == 1
            numbers = self.value[:1] if same else self.value
            text += f", divided by {', '.join(f'{number:.6g}' for number in numbers)}"
        return text if self.changes_values else f"{text}, values as they are"

    @property
    def order(self) -> str:
        """The bands in the order in which the model gets them, in words."""
        if self.bands is None:
            return "grey value"
        numbers = self.bands[::-1] if self.flips else self.bands
        text = ",".join(map(str, numbers))
        if len(numbers) != 3:
            return f"band {text}" if len(numbers) == 1 else f"bands {text}"
        return f"{'R,G,B' if self.flips else 'B,G,R'} (bands {text} of a chip)"

    def fed(self, pixels: np.ndarray) -> list[tuple[float, float, float]]:
        """Return the least, mean and largest value of each band as the model gets it.

        Args:
            pixels: (M, rows, columns, N), one chip or more, uint8, uint16 or float32.
        Returns:
            (least, mean, largest) of each band, in the model's order.
        """
        bands = np.moveaxis(pixels, 3, 0)[:: -1 if self.flips else 1]
        facts = np.array([_least_mean_largest(band) for band in bands]).T
        facts = (facts - self.vector) / (self.value or 1)
        return [(min(a, c), b, max(a, c)) for a, b, c in facts.T.tolist()]


def _largest_fed(preprocessing: Preprocessing) -> float:
    """Return the largest value that the model can get of pixels from 0 to 255."""
    values = preprocessing.value or (1.0,) * len(preprocessing.vector)
    pairs = zip(preprocessing.vector, values, strict=True)
    return max(max(-vector / value, (LARGEST_VALUE - vector) / value) for vector, value in pairs)


def _least_mean_largest(band: np.ndarray) -> tuple[float, float, float]:
    """Return these of a band (M, rows, columns), as OpenCV finds them: faster than NumPy."""
    rows = np.ascontiguousarray(band).reshape(len(band), -1)
    if rows.dtype != np.uint8:
        least, largest, _, _ = cv2.minMaxLoc(rows)
        return least, cv2.mean(rows)[0], largest
    counts = cv2.calcHist([rows], [0], None, [256], [0, 256]).ravel().astype(np.float64)
    seen = np.flatnonzero(counts)
    return float(seen[0]), counts @ np.arange(256) / counts.sum(), float(seen[-1])


def settle_preprocessing(ports: Ports, model_bands: int) -> Preprocessing:
    """Settle the preprocessing for a model of so many bands.

    Raises TaskError if ports have another number of bands, or the mode has no numbers for them.
    """
    if ports.bands is not None and len(ports.bands) != model_bands:
        raise TaskError(
            f"The port bands names {len(ports.bands)} band(s), but the model takes {model_bands}: "
            f"give the numbers of {model_bands} bands, such as "
            f"'{','.join(map(str, range(1, min(model_bands, 20) + 1)))}'."
        )
    vector = _fit("normalization_vector", ports.normalization_vector, ports, model_bands)
    value = _fit("normalization_value", ports.normalization_value, ports, model_bands)
    if model_bands == 3:
        is_bgr = ports.preprocessing == "caffe"
        bands = (ports.bands or RGB)[::-1]
        if is_bgr:
            vector, value = vector[::-1], value[::-1]
        return Preprocessing(ports.preprocessing, bands, not is_bgr, vector, value)
    grey = model_bands == 1 and ports.bands is None
    bands = None if grey else ports.bands or tuple(range(1, model_bands + 1))
    return Preprocessing(ports.preprocessing, bands, False, vector, value)


def _fit(
    port: str, given: tuple[float, ...] | None, ports: Ports, model_bands: int
) -> tuple[float, ...]:
    """Return the numbers of a port, or those of the mode, one for each band of the model."""
    is_vector = port == "normalization_vector"
    numbers = _NUMBERS[ports.preprocessing][0 if is_vector else 1] if given is None else given
    repeats = len(numbers) == 1 and not (is_vector and given)
    if repeats:
        return numbers * model_bands
    if len(numbers) == model_bands or (not numbers and not is_vector):
        return numbers
    if given is None:
        raise TaskError(
            f"The model takes {model_bands} band(s), for which the preprocessing "
            f"{ports.preprocessing} has no numbers: set the port preprocessing to "
            f"{', '.join(mode for mode in MODES if len(_NUMBERS[mode][0]) == 1)} as it was "
            f"trained, or normalization_vector (and normalization_value) to {model_bands} numbers."
        )
    names = " for R,G,B, such as '123.68,116.779,103.939'" if model_bands == 3 else ""
    raise TaskError(
        f"The port {port} has {len(numbers)} number(s), but the model takes {model_bands} band(s): "
        f"give {'three' if model_bands == 3 else model_bands} numbers{names}."
    )


def numbers_for_fractions(ports: Ports) -> Iterator[str]:
    """Yield warnings on numbers that seem to be for values from 0 to 1, such as 0.485,0.456,0.406.

    In every mode the pixels have values from 0 to 255 when the numbers are used, unless they are
    those of the files. To subtract 0, or to divide by 1, changes nothing; to divide by one number
    below 1 makes the values larger, as for a model that takes them so (255 / 2047 for one that was
    trained on 11 bits).
    """
    if ports.values == "native":
        return
    for port, numbers, idle in (
        ("normalization_vector", ports.normalization_vector, 0),
        ("normalization_value", ports.normalization_value, 1),
    ):
        is_factor = port == "normalization_value" and len(set(numbers or ())) == 1
        is_idle = not numbers or set(numbers) == {idle} or is_factor
        if not is_idle and all(0 <= number <= 1 for number in numbers):
            given, larger = (",".join(f"{by * n:.6g}" for n in numbers) for by in (1, 255))
            yield (
                f"The port {port} is {given}, as for values from 0 to 1, but it is used on values "
                f"from 0 to 255: if it is for 0 to 1, set it to {larger}, or leave it out and set "
                "the port preprocessing as the model was trained."
            )


def numbers_outside(ports: Ports) -> Iterator[str]:
    """Yield a warning on a vector that is outside of the values from which it is subtracted."""
    vector = ports.normalization_vector or ()
    if ports.values != "native" and any(not 0 <= number <= LARGEST_VALUE for number in vector):
        yield (
            f"The port normalization_vector is {','.join(f'{number:g}' for number in vector)}, but "
            "the values from which it is subtracted are from 0 to 255: give the mean of the "
            "training in such values, not in those of another bit depth."
        )


def _unfit_divisor(opened: OpenedModel, in_force: Preprocessing) -> list[str] | None:
    """Return the warning on a model that divides its input by a number for other values.

    An empty list where it gets such values, None for any other model.
    """
    divisor = find_divisor(opened.network) or 1
    made_for = next((n for n in LARGEST_OF_OTHERS if abs(divisor / n - 1) < 0.01), 0)
    if not made_for:
        return None
    largest = _largest_fed(in_force)
    if largest >= made_for / 2:  # they are multiplied up on purpose
        return []
    warning = (
        f"The model divides its input by {divisor:.6g}, which is made for values up to that, but "
        f"the largest value that it can get is {largest:.4g}: if it was trained on the numbers of "
        "the files, set the port values to native and preprocessing to none."
    )
    return [warning]


def contradictions(opened: OpenedModel, ports: Ports, in_force: Preprocessing) -> Iterator[str]:
    """Yield warnings where a model's own configuration contradicts the preprocessing.

    What scales its input itself was trained on values from 0 to 255, an architecture of
    keras.applications mostly as that library says. Whoever trained it may have done otherwise.
    """
    is_native = ports.values == "native"
    unfit = None if is_native else _unfit_divisor(opened, in_force)
    if unfit is not None:
        yield from unfit
        return
    if opened.scaling and in_force.changes_values:
        advice = (
            f"scaled already (preprocessing {ports.preprocessing}): if it was trained on R,G,B "
            "values from 0 to 255, set the port preprocessing to none"
        )
        if is_native:
            advice = (
                "scaled already: if it was trained on the numbers of the files, leave out "
                "normalization_vector and normalization_value"
            )
        yield (
            f"The model scales its input itself ({opened.scaling}), but gets values that are "
            f"{advice}."
        )
    if opened.scaling or is_native:
        return
    wanted = FAMILY_MODES.get(opened.architecture or "")
    if wanted is None or opened.bands != 3:
        return
    numbers_given = ports.normalization_vector is not None or ports.normalization_value is not None
    own = settle_preprocessing(Ports(preprocessing=wanted), 3)
    differs = in_force.flips != own.flips if numbers_given else ports.preprocessing != wanted
    if differs and (in_force.flips, in_force.vector, in_force.value) != (
        own.flips,
        own.vector,
        own.value,
    ):
        yield (
            f"The model looks like {opened.architecture} of keras.applications, whose own "
            f"preprocessing is {wanted}, but {ports.preprocessing} is in force: if it was trained "
            f"that way, set the port preprocessing to {wanted}."
        )
