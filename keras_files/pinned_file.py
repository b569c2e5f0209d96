"""A file that stays the same one, whatever comes to lie at its path while it is in use."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import stat
import weakref
from pathlib import Path
from typing import BinaryIO

BLOCK_BYTES = 2**20


class PinnedFile:
    """A file that is opened once: what was checked and fingerprinted is what is read later.

    Any number of threads, and of processes made by fork, may read at a time.

    path: where it lay when it was opened.
    descriptor: the open file.
    size: its bytes then.
    """

    def __init__(self, path: Path) -> None:
        """Open the file. Raises OSError if it cannot be read, or is a directory, FIFO or device."""
        self.path = path
        # Without O_NONBLOCK a FIFO would keep its reader waiting until somebody writes to it.
        self.descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        weakref.finalize(self, os.close, self.descriptor)
        if not stat.S_ISREG(os.fstat(self.descriptor).st_mode):
            raise OSError(f"{path.name} is no file")
        self.state = self._state_now()
        self.size = self.state[0]

    def _state_now(self) -> tuple[int, int]:
        """Return the size and the time of the last change, in ns, of the file."""
        found = os.fstat(self.descriptor)
        return found.st_size, found.st_mtime_ns

    def is_unchanged(self) -> bool:
        """Return whether nobody has written to the file since it was opened."""
        return self._state_now() == self.state

    def read(self, offset: int, size: int) -> bytes:
        """Read `size` bytes, or as many as there are behind `offset`."""
        data = os.pread(self.descriptor, size, offset)
        while len(data) < size and (
            part := os.pread(self.descriptor, size - len(data), offset + len(data))
        ):
            data += part
        return data

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Fill a buffer of bytes from `offset` on; give how many there were."""
        done = 0
        while done < len(buffer) and (
            count := os.preadv(self.descriptor, [buffer[done:]], offset + done)
        ):
            done += count
        return done

    def stream(self, start: int = 0, size: int | None = None) -> BinaryIO:
        """Return the file, or `size` bytes of it, as a stream with a position of its own."""
        end = self.size if size is None else min(self.size, start + size)
        return io.BufferedReader(_Stream(self, start, end))

    def fingerprint(self) -> str:
        """Return a short text that changes when the file does: size, time, first and last MiB."""
        size, changed = self.state
        return f"{size}-{changed}-{self.digest(whole=False)}"

    def digest(self, whole: bool) -> str:
        """Hash the content, hexadecimal: all of it, or its first and last MiB.

        The second is quick for a file of any size.
        """
        digest = hashlib.blake2b(digest_size=16)
        if whole:
            with self.stream() as stream:
                while block := stream.read(BLOCK_BYTES):
                    digest.update(block)
        else:
            digest.update(self.read(0, BLOCK_BYTES))
            digest.update(self.read(max(self.size - BLOCK_BYTES, 0), BLOCK_BYTES))
        return digest.hexdigest()


class _Stream(io.RawIOBase):
    """Bytes `start` to `end` of a PinnedFile, as an unbuffered stream."""

    def __init__(self, file: PinnedFile, start: int, end: int) -> None:
        self._file, self._start, self._end = file, start, end
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        place = self._start + self._position
        with memoryview(buffer) as whole:
            part = whole[: max(0, self._end - place)]
            count = os.preadv(self._file.descriptor, [part], place) if len(part) else 0
        self._position += count
        return count

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = (0, self._position, self._end - self._start)[whence]
        if base + offset < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))  # as of any file
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position
