"""Degrees as text, with a fixed number of decimals: many at a time, as Python formats each."""

import math

import numpy as np

DECIMALS = 8  # of a degree: a millimetre
LIMIT = 999  # what is written is not farther from 0
WIDTH = 13  # characters of the longest: a sign, three digits, the point, DECIMALS digits

# Four characters each, as one number: 0000 to 9999, and, on the right, 0 to 999 and -0 to -999.
_DIGITS = np.array([b"%04d" % number for number in range(10_000)]).view(np.uint32)
_WHOLE = [sign + b"%d" % number for sign in (b"", b"-") for number in range(LIMIT + 1)]
_WHOLE = np.array([text.rjust(4, b"\0") for text in _WHOLE]).view(np.uint32)


def write(values: np.ndarray) -> np.ndarray:
    """Write numbers as f"{value:.8f}" does; nothing for NaN.

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
    degrees = np.floor(units / 10**DECIMALS)
    units -= degrees * 10**DECIMALS
    upper = np.floor(units / 10_000)
    degrees += np.where(np.signbit(values), LIMIT + 1, 0)
    text = np.empty((*values.shape, WIDTH), np.uint8)
    text[..., :4] = _four(_WHOLE, degrees)
    text[..., 4] = ord(".")
    text[..., 5:9] = _four(_DIGITS, upper)
    text[..., 9:] = _four(_DIGITS, units - upper * 10_000)
    text[~is_number] = 0
    return text


def _four(table: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return the four characters at each of the places (...) of a table, uint8 (..., 4)."""
    return table.take(places.astype(np.intp))[..., None].view(np.uint8)


def texts(values: np.ndarray) -> list[str]:
    """Write numbers, float64 (N,), as f"{value:.8f}" does; "" for NaN."""
    if not (abs(values[~np.isnan(values)]) <= LIMIT).all():
        return ["" if math.isnan(one) else f"{one:.{DECIMALS}f}" for one in values.tolist()]
    lines = np.empty((len(values), WIDTH + 1), np.uint8)
    lines[:, :WIDTH], lines[:, WIDTH] = write(values), ord("\n")
    return plain(lines).split("\n")[:-1]


def plain(text: np.ndarray) -> str:
    """Return the characters that an array has, without those that are 0."""
    return text.tobytes().translate(None, b"\0").decode("ascii")
