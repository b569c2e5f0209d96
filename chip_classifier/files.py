"""Files that the task writes: never through a link, never into something that is no file."""

import os
import stat
from pathlib import Path
from typing import TextIO

_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISLNK, "a link"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISCHR, "a device"),
)


def odd_kind(path: Path) -> str | None:
    """Say what lies at a path where that is neither a file nor nothing, such as "a FIFO"."""
    try:
        mode = path.lstat().st_mode
    except OSError:
        return None
    return next((kind for is_kind, kind in _KINDS if is_kind(mode)), None)


def obstacle(path: Path) -> str | None:
    """Say what lies in the way of a directory, at its path or above; None if nothing does."""
    for place in (*reversed(path.parents), path):
        if place.is_symlink() and not place.is_dir():
            return f"{place} is a link that leads to no directory"
        if place.exists() and not place.is_dir():
            return f"{place} is {odd_kind(place) or 'a file'}"
    return None


def create(path: Path, encoding: str = "utf-8") -> TextIO:
    """Make a new file to write to; one that is there, or a link, is taken away before.

    Raises OSError if that cannot be done, or if a directory lies there.
    """
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
    return os.fdopen(descriptor, "w", encoding=encoding)


def overwrite(path: Path, encoding: str = "utf-8", errors: str = "strict") -> TextIO:
    """Open a file to write to it from its beginning; on a full disk that needs no new block.

    Raises OSError if that cannot be done, or if no file, but a link, a FIFO, ... lies there.
    """
    try:
        # Without O_NONBLOCK a FIFO would keep its writer waiting until somebody reads it.
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = os.open(path, flags, 0o666)
    except OSError as error:
        if kind := odd_kind(path):
            raise OSError(f"{path} is {kind}, no file") from error
        raise
    stream = os.fdopen(descriptor, "w", buffering=1, encoding=encoding, errors=errors)
    if kind := odd_kind(path):
        stream.close()
        raise OSError(f"{path} is {kind}, no file")
    os.ftruncate(descriptor, 0)
    return stream
