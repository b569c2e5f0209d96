"""Numbers as text, many at a time: degrees and certainties, as Python writes each of them."""

import math

import numpy as np

from chip_classifier.answers import rounded

DECIMALS = 8  # of a degree: a millimetre
LIMIT = 999  # what is written is not farther from 0
WIDTH = 13  # characters of the longest: a sign, three digits, the point, DECIMALS digits

# Four characters each, as one number: 0000 to 9999, and, on the right, 0 to 999 and -0 to -999.
_DIGITS = np.array([b"%04d" % number for number in range(10_000)]).view(np.uint32)
_WHOLE = [sign + b"%d" % number for sign in (b"", b"-") for number in range(LIMIT + 1)]
_WHOLE = np.array([text.rjust(4, b"\0") for text in _WHOLE]).view(np.uint32)


def degrees(values: np.ndarray) -> np.ndarray:
    """Write degrees as f"{value:.8f}" does; nothing for NaN.

    Args:
        values: float64 (...), from -LIMIT to LIMIT, or NaN.
    Returns:
        ASCII, uint8 (..., WIDTH), with 0 where there is no character.
    """
    is_number = np.isfinite(values)
    values = np.where(is_number, values, 0)
    scaled = values * 10.0**DECIMALS
    units = np.rint(scaled)
    # The product is rounded, too: next to a half, Python has the last word.
    for at in np.argwhere(abs(abs(scaled - units) - 0.5) < 1e-4):
        units[tuple(at)] = float(f"{values[tuple(at)]:.{DECIMALS}f}".replace(".", ""))
    units = abs(units)  # whole numbers, of which float64 holds each up to 2**53
    whole = np.floor(units / 10**DECIMALS)
    units -= whole * 10**DECIMALS
    upper = np.floor(units / 10_000)
    whole += np.where(np.signbit(values), LIMIT + 1, 0)
    text = np.empty((*values.shape, WIDTH), np.uint8)
    text[..., :4] = _four(_WHOLE, whole)
    text[..., 4] = ord(".")
    text[..., 5:9] = _four(_DIGITS, upper)
    text[..., 9:] = _four(_DIGITS, units - upper * 10_000)
    text[~is_number] = 0
    return text


def _four(table: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return the four characters at each of the places (...) of a table, uint8 (..., 4)."""
    return table.take(places.astype(np.intp))[..., None].view(np.uint8)


def degree_texts(values: np.ndarray) -> list[str]:
    """Write degrees, float64 (N,), as f"{value:.8f}" does; "" for NaN."""
    if not (abs(values[~np.isnan(values)]) <= LIMIT).all():
        return ["" if math.isnan(one) else f"{one:.{DECIMALS}f}" for one in values.tolist()]
    lines = np.empty((len(values), WIDTH + 1), np.uint8)
    lines[:, :WIDTH], lines[:, WIDTH] = degrees(values), ord("\n")
    return plain(lines).split("\n")[:-1]


def rounded_texts(values: np.ndarray) -> list[str]:
    """Write numbers, float64 (N,), as answers.rounded does."""
    is_usual = (values >= 1e-4) & (values < 9)
    scaled = np.where(is_usual, values, 1) * 10.0**10
    units = np.rint(scaled)
    is_usual &= abs(abs(scaled - units) - 0.5) > 1e-4
    text = np.empty((len(values), 13), np.uint8)
    whole = np.floor(units / 10**10)
    units -= whole * 10**10
    upper = np.floor(units / 10**8)
    units -= upper * 10**8
    middle = np.floor(units / 10_000)
    text[:, 0], text[:, 1], text[:, 12] = whole + ord("0"), ord("."), ord("\n")
    text[:, 2:4] = _four(_DIGITS, upper)[:, 2:]
    text[:, 4:8] = _four(_DIGITS, middle)
    text[:, 8:12] = _four(_DIGITS, units - middle * 10_000)
    is_zero = np.logical_and.accumulate(text[:, 11:2:-1] == ord("0"), axis=1)
    text[:, 11:2:-1][is_zero] = 0  # all but the first decimal
    found = plain(text).split("\n")[:-1]
    for at in np.flatnonzero(~is_usual).tolist():
        found[at] = rounded(float(values[at]))
    return found


def plain(text: np.ndarray) -> str:
    """Return the characters that an array has, without those that are 0."""
    return text.tobytes().translate(None, b"\0").decode("ascii")
