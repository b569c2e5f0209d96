"""Places of chips -> footprints: polygons in WGS 84, as RFC 7946 wants them.

GDAL says, through rasterio, which coordinate system a set of geo keys means, once for each set;
PROJ transforms all corners of the chips that have the set.
"""

import itertools
import struct
from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeAlias

import numpy as np

from chip_classifier.answers import encode_json
from chip_classifier.gdal import OPTIONS, load_rasterio
from chip_classifier.review import numerals
from chip_classifier.review.geotiff import GeoKeys, PlacedChips

WGS84 = "OGC:CRS84"  # WGS 84 with longitude first
CHIPS_AT_ONCE = 20_000  # enough to be quick, few enough to take little memory
WIDE = 1e6  # metres: of chips that are longer or wider, the edges are followed
STEPS = 64  # along an edge
MOST_BAD = 1000  # chips outside of their map projection, after which no others are looked for

Ring: TypeAlias = list[tuple[float, float]]


def corners_in_wgs84(chips: PlacedChips) -> np.ndarray:
    """Return the corners of chips: float64 (M, 4, 2), longitudes and latitudes in degrees.

    They are in the order first pixel, end of the first column, last pixel, end of the first row.
    Longitudes go on beyond 180 or -180 where a chip crosses the antimeridian. NaN for a chip whose
    coordinate system is unknown or does not reach there.
    """
    origin, along, down = (chips.places[:, n] for n in range(3))
    corners = np.stack([origin, origin + down, origin + along + down, origin + along], axis=1)
    found = np.full_like(corners, np.nan)
    for index, keys in enumerate(chips.key_sets):
        (rows,) = (chips.key_indices == index).nonzero()
        found[rows] = _transform(corners[rows], keys)
    is_sound = np.isfinite(found).all(axis=(1, 2)) & (abs(found[..., 1]) <= 90).all(axis=1)
    found[~is_sound] = np.nan
    return found


def _transform(corners: np.ndarray, keys: GeoKeys) -> np.ndarray:
    """Transform corners (K, 4, 2) from the coordinate system of geo keys to WGS 84.

    NaN or infinite where that cannot be done.
    """
    rasterio = load_rasterio()
    from rasterio.warp import transform

    unknown = np.full_like(corners, np.nan)
    try:
        with rasterio.Env(**OPTIONS):
            with rasterio.MemoryFile(smallest_tif(keys)) as file, file.open(driver="GTiff") as tif:
                crs = tif.crs
            if not crs or not (crs.is_geographic or crs.is_projected):
                return unknown
            unit = crs.units_factor[1]  # radians, or metres
            transform_to = partial(_transform_all, transform=partial(transform, crs, WGS84))
            if crs.is_geographic:
                return _follow_degrees(transform_to(corners), corners * np.degrees(unit))
            found = _go_on(transform_to(corners))
            is_wide = np.ptp(corners, axis=1).max(axis=1) * unit > WIDE
            if is_wide.any():
                found[is_wide] = _follow_edges(corners[is_wide], transform_to)
            return found
    except Exception:  # noqa: BLE001, whatever strange keys make GDAL come upon
        return unknown


def _transform_all(corners: np.ndarray, transform: Callable) -> np.ndarray:
    """Transform corners (K, n, 2), where a single bad one makes the transformation fail.

    The chips are halved until the bad ones are alone; after MOST_BAD of these the rest is given up.
    """
    found, bad = np.full_like(corners, np.nan), 0
    starts = range(0, len(corners), CHIPS_AT_ONCE)
    waiting = [slice(start, min(start + CHIPS_AT_ONCE, len(corners))) for start in starts]
    while waiting and bad < MOST_BAD:
        part = waiting.pop()
        x, y = corners[part].reshape(-1, 2).T
        try:
            found[part] = np.stack(transform(x, y), axis=-1).reshape(-1, *corners.shape[1:])
        except Exception:  # noqa: BLE001, rasterio raises GDAL's own errors here
            middle = (part.start + part.stop) // 2
            if middle == part.start:
                bad += 1
            else:
                waiting += [slice(middle, part.stop), slice(part.start, middle)]
    found[~np.isfinite(found)] = np.nan
    return found


def _go_on(corners: np.ndarray) -> np.ndarray:
    """Let the longitudes of corners (K, n, 2) go on beyond 180, by less than 180 at each step."""
    corners[..., 0] = np.unwrap(corners[..., 0], axis=1, period=360)
    return corners


def _follow_degrees(corners: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Let the longitudes of corners (K, 4, 2) go on as those before the shift of the datum do.

    A shift by some metres makes -180 of 180; and a chip may be wider than half the earth.

    Args:
        corners: longitudes and latitudes in WGS 84.
        own: those in the system of the chips, which may be of another prime meridian.
    """
    there, here = (one[..., 0] - one[:, :1, 0] for one in (own, corners))
    corners[..., 0] += 360 * np.round((there - here) / 360)
    return corners


def _follow_edges(corners: np.ndarray, transform: Callable) -> np.ndarray:
    """Transform corners (K, 4, 2) of wide chips, by steps along their edges.

    The longitudes then go on by less than 180 at each step, however wide a chip is.
    """
    shares = np.linspace(0, 1, STEPS, endpoint=False)[:, None]
    ends = np.roll(corners, -1, axis=1)
    points = corners[:, :, None] + (ends - corners)[:, :, None] * shares
    found = _go_on(transform(points.reshape(len(corners), -1, 2)))
    return found[:, ::STEPS]


def smallest_tif(keys: GeoKeys) -> bytes:
    """Make a tif file of one pixel with these geo keys."""
    shorts = {256: 1, 257: 1, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 1, 279: 1}
    entries = [struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in shorts.items()]
    extra = {
        33550: (12, 8, struct.pack("<3d", 1, 1, 0)),  # a place, so that GDAL misses none
        33922: (12, 8, bytes(48)),
        34735: (3, 2, keys.directory),
        34736: (12, 8, keys.doubles),
        34737: (2, 1, keys.text),
    }
    extra = {tag: value for tag, value in extra.items() if value[2]}
    start = 10  # behind the header, and the pixel, which is at 8
    end = start + 2 + 12 * (len(entries) + len(extra)) + 4
    values = b""
    for tag, (kind, size, value) in extra.items():
        count = len(value) // size
        inline = len(value) <= 4
        place = value.ljust(4, b"\0") if inline else struct.pack("<I", end + len(values))
        entries.append(struct.pack("<HHI", tag, kind, count) + place)
        values += b"" if inline else value
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + struct.pack("<I", 0)
    return struct.pack("<2sHI2s", b"II", 42, start, b"\0\0") + directory + values


def centres_of(corners: np.ndarray) -> np.ndarray:
    """Return the middles of chips, float64 (M, 2), longitudes from -180 to 180."""
    centres = corners.mean(axis=1)
    centres[:, 0] = (centres[:, 0] + 180) % 360 - 180
    return centres


def footprints(corners: np.ndarray) -> Iterator[str]:
    """Yield a geometry, in JSON, for each of (M, 4, 2) corners, all finite.

    It is a Polygon or, where the antimeridian cuts it, a MultiPolygon; rings run counterclockwise
    (RFC 7946, 3.1.6 and 3.1.9).
    """
    for start in range(0, len(corners), CHIPS_AT_ONCE):
        part = corners[start : start + CHIPS_AT_ONCE]
        longitudes = part[..., 0]
        # The others may cross the antimeridian, or lie over a pole.
        is_simple = (abs(longitudes) <= 180).all(axis=1) & (np.ptp(longitudes, axis=1) < 180)
        rings = _rings(part)
        rings[~is_simple] = np.nan
        for ring, corner, simple in zip(_texts(rings), part, is_simple.tolist(), strict=True):
            if simple:
                yield f'{{"type": "Polygon", "coordinates": [[{ring}]]}}'
            else:
                yield encode_json(_cut_footprint(corner))


def _texts(rings: np.ndarray) -> list[str]:
    """Write the positions of each of the rings (K, n, 2), in JSON, without the ring's brackets."""
    numbers = numerals.degrees(rings)
    blank = np.frombuffer(
        b"[" + bytes(numerals.WIDTH) + b", " + bytes(numerals.WIDTH) + b"], ", "u1"
    )
    text = np.broadcast_to(blank, (*rings.shape[:2], len(blank))).copy()
    text[..., 1 : numerals.WIDTH + 1] = numbers[..., 0, :]
    text[..., -3 - numerals.WIDTH : -3] = numbers[..., 1, :]
    text[:, -1, -2:] = list(b"\n\0")
    return numerals.plain(text).split("\n")[:-1]


def _rings(corners: np.ndarray) -> np.ndarray:
    """Round and close rings (K, n, 2), and let them run counterclockwise: (K, n + 1, 2)."""
    offsets = corners - corners[:, :1]  # because areas of metres vanish beside 180 degrees
    x, y = offsets[..., 0], offsets[..., 1]
    areas = (x * np.roll(y, -1, axis=1) - np.roll(x, -1, axis=1) * y).sum(axis=1)
    rings = np.where((areas < 0)[:, None, None], corners[:, ::-1], corners).round(numerals.DECIMALS)
    return np.concatenate([rings, rings[:, :1]], axis=1)


def _cut_footprint(corner: np.ndarray) -> dict[str, object]:
    """Return the geometry of corners (4, 2) that may lie across the antimeridian or over a pole."""
    parts = [
        _rings(np.array([part]))[0].tolist()
        for part in cut(_over_pole(list(map(tuple, corner.tolist()))))
    ]
    if len(parts) == 1:
        return {"type": "Polygon", "coordinates": parts}
    return {"type": "MultiPolygon", "coordinates": [[part] for part in parts]}


def _over_pole(ring: Ring) -> Ring:
    """Lead a ring that runs once around the earth along the pole that lies in it."""
    steps = itertools.pairwise([*ring, ring[0]])
    turns = [(b[0] - a[0] + 180) % 360 - 180 for a, b in steps]
    is_narrow = max(p[0] for p in ring) - min(p[0] for p in ring) < 180
    if is_narrow or abs(sum(turns)) < 180:
        return ring
    pole = 90.0 if sum(p[1] for p in ring) > 0 else -90.0
    around = [ring[0]]
    for turn, (_, latitude) in zip(turns, [*ring[1:], ring[0]], strict=True):
        around.append((around[-1][0] + turn, latitude))
    return [*around, (around[-1][0], pole), (around[0][0], pole)]


def cut(ring: Ring) -> list[Ring]:
    """Cut an open ring at the antimeridian; each part has longitudes from -180 to 180."""
    longitudes = [longitude for longitude, _ in ring]
    shift = (min(longitudes) + 180) // 360 * 360
    parts = []
    while max(longitudes) > shift - 180:
        part = _clip(_clip(ring, shift - 180, 1), shift + 180, -1)
        if len(part) > 2:
            parts.append([(longitude - shift, latitude) for longitude, latitude in part])
        shift += 360
    return parts or [ring]


def _clip(ring: Ring, meridian: float, side: int) -> Ring:
    """Keep what of an open ring lies east (side 1) or west (-1) of a meridian.

    The algorithm of Sutherland and Hodgman (1974).
    """
    if all(side * (longitude - meridian) >= 0 for longitude, _ in ring):
        return ring
    kept = []
    for (x0, y0), (x1, y1) in itertools.pairwise([ring[-1], *ring]):
        if (side * (x0 - meridian) > 0) != (side * (x1 - meridian) > 0):
            kept.append((meridian, y0 + (y1 - y0) * (meridian - x0) / (x1 - x0)))
        if side * (x1 - meridian) > 0:
            kept.append((x1, y1))
    return kept
