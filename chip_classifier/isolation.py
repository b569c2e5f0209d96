"""Chips decoded each in a process of its own: no decoder is sound for ever.

A server, a fresh Python without TensorFlow, makes a copy of itself (fork) for each chip. One that
crashes there costs that chip alone, and what a decoder says on stderr there is about that chip.
"""

import os
import re
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NoReturn

import numpy as np

from chip_classifier.errors import UndecodableChip
from chip_classifier.image_header import END_OF_IMAGE, MARKER, START_OF_SCAN

CRASHES = "its decoder crashes"

# What a chip comes with: its bytes, and the rows and columns to warp it to. What is returned: the
# kind of an answer, the bytes that a decoder said, and those of the answer.
_REQUEST, _REPLY = struct.Struct("<III"), struct.Struct("<BII")
_PIXELS, _PIXELS_OF_16_BITS, _REASON, _SHORTAGE, _CRASH = range(5)

MOST_SAID = 2**12  # bytes of what decoders say

_ROOT = Path(__file__).resolve().parents[1]
_START = (
    f"import sys; sys.path.insert(0, {str(_ROOT)!r})\n"
    "from chip_classifier.isolation import serve\n"
    "serve(*map(eval, sys.argv[1:]))"
)

# What libjpeg says of data that it made up pixels for (libjpeg-turbo, jerror.h), and of bytes that
# it passed over. Programs fill up in front of a marker, but not with what looks like packed data,
# and not within a scan (markers D0 to D7).
_MADE_UP = re.compile(
    rb"Corrupt JPEG data: (?!\d+ extra)|Premature end of JPEG|Inconsistent progression"
)
_PASSED_OVER = re.compile(rb"(\d+) extraneous bytes before marker 0x([0-9a-f]{2})")
_IN_A_SCAN = range(0xD0, 0xD8)
_LEAST_PACKED_BYTES = 17
_SHARE_OF_RANDOM = 0.7
MOST_FILLINGS = 4  # of one jpeg that are looked behind

DAMAGED = "the file is damaged: its decoder had to make up a part of the picture"


class Isolation:
    """Decodes chips as a Decoder does, each in a process of its own; for any number of threads."""

    def __init__(self, bands: tuple[int, ...] | None, bit_depth: int | None) -> None:
        """Start nothing yet; arguments as of Decoder."""
        self._arguments = [repr(bands), repr(bit_depth)]
        self._servers = threading.local()

    def decode_into(self, out: np.ndarray, data: bytes) -> bool:
        """Decode an image file and warp it to the size of `out`; as Decoder.decode_into.

        Raises:
            UndecodableChip: as Decoder does, or its decoder crashes, or says that it is damaged.
            MemoryError, OSError: there is no memory or no process to be had.
        """
        server = getattr(self._servers, "process", None)
        if server is None:
            # A group of its own: who stops the task with Ctrl-C does so to all of its processes.
            server = self._servers.process = subprocess.Popen(
                [sys.executable, "-c", _START, *self._arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                process_group=0,
            )
        has_16_bits, said = _ask(server, out, data)
        for _ in range(MOST_FILLINGS):
            if told_of_damage(said):
                raise UndecodableChip(DAMAGED)
            data = without_filling(said, data)
            if data is None:
                break
            _, said = _ask(server, np.empty_like(out), data)
        return has_16_bits


def _ask(server: subprocess.Popen, out: np.ndarray, data: bytes) -> tuple[bool, bytes]:
    """Have a server decode a chip into `out`; return whether it has 16 bits, and what was said."""
    server.stdin.write(_REQUEST.pack(len(data), *out.shape[:2]))
    server.stdin.write(data)
    server.stdin.flush()
    kind, said_bytes, size = _REPLY.unpack(_read(server.stdout, _REPLY.size))
    said, answer = _read(server.stdout, said_bytes), _read(server.stdout, size)
    if kind == _SHORTAGE:
        raise MemoryError
    if kind == _CRASH:
        raise UndecodableChip(CRASHES)
    if kind == _REASON:
        raise UndecodableChip(answer.decode())
    out[...] = np.frombuffer(answer, out.dtype).reshape(out.shape)
    return kind == _PIXELS_OF_16_BITS, said


def _read(stream: BinaryIO, size: int) -> bytes:
    """Read so many bytes; raises OSError if the server has ended."""
    data = stream.read(size)
    if len(data) < size:
        raise OSError("the process that decodes chips has ended")
    return data


def told_of_damage(said: bytes) -> bool:
    """Return whether what libjpeg says on stderr means that it made up a part of the picture."""
    found = _PASSED_OVER.search(said)
    return bool(_MADE_UP.search(said)) or (found and int(found[2], 16) in _IN_A_SCAN)


def without_filling(said: bytes, data: bytes) -> bytes | None:
    """Return a jpeg without the bytes that libjpeg says it passed over; None if it says nothing.

    libjpeg speaks only once: what it says of the rest tells whether these bytes stand in the place
    of others. Raises UndecodableChip where they look like the picture's own.
    """
    found = _PASSED_OVER.search(said)
    if not found:
        return None
    number, kind = int(found[1]), int(found[2], 16)
    for start, end, is_scan in gaps(data, kind):
        if not is_scan and end - start == number:
            return data[:start] + data[end:]
        start = max(end - number, start)
        if is_scan and not looks_packed(data[start:end]):
            while start > 0 and data[start - 1] == data[end - 1]:
                start -= 1  # what fills up may have been taken for data: two bytes of it are left
            return data[: min(start + 2, end)] + data[end:]
    raise UndecodableChip(DAMAGED)


def gaps(data: bytes, kind: int) -> Iterator[tuple[int, int, bool]]:
    """Yield what lies in front of the markers of a kind in a jpeg: start, end, whether a scan."""
    at, is_scan = 2, False
    while found := MARKER.search(data, at):
        if found[1][0] == kind:
            yield at, found.start(), is_scan
        if found[1][0] == END_OF_IMAGE:
            return
        is_scan = found[1][0] == START_OF_SCAN
        at = found.end() + int.from_bytes(data[found.end() : found.end() + 2])


def looks_packed(data: bytes) -> bool:
    """Return whether bytes are as varied as random ones, as packed data are."""
    expected = 256 * (1 - (255 / 256) ** len(data))
    return len(data) >= _LEAST_PACKED_BYTES and len({*data}) > _SHARE_OF_RANDOM * expected


# ------------------------------------------------------------------------------ the server


def serve(bands: tuple[int, ...] | None, bit_depth: int | None) -> None:
    """Decode chips from stdin to stdout, each in a copy of this process, until there are no more.

    Arguments as of Decoder.
    """
    from chip_classifier.environment import prepare_environment

    prepare_environment()
    from chip_classifier.decode import Decoder  # which has a use for this module, too

    decoder = Decoder(bands, bit_depth, hears=False)
    while header := sys.stdin.buffer.read(_REQUEST.size):
        length, *shape = _REQUEST.unpack(header)
        data = sys.stdin.buffer.read(length)
        out = np.empty((*shape, decoder.channels), np.uint8)
        answer = _in_a_copy(lambda d=data, o=out: _answer(decoder, o, d))
        sys.stdout.buffer.write(answer)
        sys.stdout.buffer.flush()


def _in_a_copy(work: Callable[[], bytes]) -> bytes:
    """Call a function in a copy of this process; return what it does, or how it ended."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _hand_over(work, writing)
    os.close(writing)
    with open(reading, "rb") as pipe:
        answer = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code == 0:
        return answer
    # Linux kills where memory is short.
    return _REPLY.pack(_SHORTAGE if code == -signal.SIGKILL else _CRASH, 0, 0)


def _hand_over(work: Callable[[], bytes], writing: int) -> NoReturn:
    """Work, write what comes of it to a pipe, and end at once."""
    try:
        with open(writing, "wb") as pipe:
            pipe.write(work())
    finally:
        code = 1 if sys.exc_info()[0] else 0
        os._exit(code)


def _answer(decoder: "Decoder", out: np.ndarray, data: bytes) -> bytes:  # noqa: F821
    """Decode a chip; return the reply."""
    hearing, speaking = os.pipe()
    os.set_blocking(hearing, False)
    os.set_blocking(speaking, False)
    os.dup2(speaking, 2)
    try:
        has_16_bits = decoder.decode_into(out, data)
        kind, answer = (_PIXELS_OF_16_BITS if has_16_bits else _PIXELS), out.tobytes()
    except UndecodableChip as error:
        kind, answer = _REASON, str(error).encode()
    except MemoryError:
        kind, answer = _SHORTAGE, b""
    try:
        said = os.read(hearing, MOST_SAID)
    except BlockingIOError:
        said = b""
    return _REPLY.pack(kind, len(said), len(answer)) + said + answer
