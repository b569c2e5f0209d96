"""Chips decoded each in a process of its own: no decoder is sound for ever.

A server, a fresh Python without TensorFlow, makes a copy of itself (fork) for each chip. One that
crashes there costs that chip alone, and what a decoder says on stderr there is about that chip.
"""

import functools
import json
import os
import re
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np

from chip_classifier.answers import Noticed
from chip_classifier.errors import UndecodableChip
from chip_classifier.image_header import END_OF_IMAGE, MARKER, START_OF_SCAN
from chip_classifier.second_look.chips import ChipFacts

CRASHES = "its decoder crashes"

# What a chip comes with: the length of its bytes, and the shape to resize it to. What is returned:
# the lengths of a Reply in JSON and of the pixels.
_REQUEST, _REPLY = struct.Struct("<IIII"), struct.Struct("<II")

MOST_SAID = 2**12  # bytes of what decoders say

_ROOT = Path(__file__).resolve().parents[1]
_START = (
    f"import sys; sys.path.insert(0, {str(_ROOT)!r})\n"
    "from chip_classifier.environment import prepare_environment\n"
    "prepare_environment()\n"
    "from chip_classifier.decode import Decoder\n"
    "from chip_classifier.isolation import serve\n"
    "serve(Decoder)"
)

# What libjpeg says of data that it made up pixels for (libjpeg-turbo, jerror.h), and of bytes that
# it passed over. Programs fill up in front of a marker, but not with what looks like packed data,
# and not within a scan (markers D0 to D7).
_MADE_UP = re.compile(
    r"Corrupt JPEG data: (?!\d+ extra)|Premature end of JPEG|Inconsistent progression"
)
_PASSED_OVER = re.compile(r"(\d+) extraneous bytes before marker 0x([0-9a-f]{2})")
_IN_A_SCAN = range(0xD0, 0xD8)
_LEAST_PACKED_BYTES = 17
_SHARE_OF_RANDOM = 0.7
MOST_FILLINGS = 4  # of one jpeg that are looked behind

DAMAGED = "the file is damaged: its decoder had to make up a part of the picture"


class _Reply(NamedTuple):
    """What became of a chip.

    type: of its pixels, for numpy; noticed: what may be wrong with its values.
    said: what its decoder said on stderr.
    problem: why there are no pixels; is_shortage: whether it is memory.
    facts: what the chip is like, as ChipFacts takes it.
    """

    type: str = "u1"
    noticed: str | None = None
    said: str = ""
    problem: str | None = None
    is_shortage: bool = False
    facts: list[int] | None = None


class Isolation:
    """Decodes chips as a Decoder does, each in a process of its own; for any number of threads."""

    def __init__(self, *settings: object) -> None:
        """Start nothing yet. settings: those of Decoder, in their order."""
        self._settings = json.dumps(settings)
        self._servers = threading.local()

    def decode(
        self, data: bytes, shape: tuple[int, ...], facts: ChipFacts | None = None
    ) -> tuple[np.ndarray, Noticed | None]:
        """Decode an image file and resize it to a shape; as Decoder.decode_into.

        Args:
            data: the file.
            shape: rows, columns, channels.
            facts: receives what the chip is like.

        Raises:
            UndecodableChip: as Decoder does, or its decoder crashes, or says that it is damaged.
            MemoryError, OSError: there is no memory or no process to be had.
        """
        server = getattr(self._servers, "process", None)
        if server is None:
            # A group of its own: who stops the task with Ctrl-C does so to all of its processes.
            server = self._servers.process = subprocess.Popen(
                [sys.executable, "-c", _START, self._settings],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"},  # TensorFlow decodes on the CPU
                process_group=0,
            )
        pixels, reply = _ask(server, data, shape)
        if facts and reply.facts:
            facts.add(reply.facts)
        said = reply.said
        for _ in range(MOST_FILLINGS):
            if told_of_damage(said):
                raise UndecodableChip(DAMAGED)
            data = without_filling(said, data)
            if data is None:
                break
            said = _ask(server, data, shape)[1].said
        return pixels, Noticed(reply.noticed) if reply.noticed else None


def _ask(
    server: subprocess.Popen, data: bytes, shape: tuple[int, ...]
) -> tuple[np.ndarray, _Reply]:
    """Have a server decode a chip; errors as of Isolation.decode."""
    try:
        server.stdin.write(_REQUEST.pack(len(data), *shape))
        server.stdin.write(data)
        server.stdin.flush()
        lengths = _REPLY.unpack(server.stdout.read(_REPLY.size))
        text, pixels = map(server.stdout.read, lengths)
    except (BrokenPipeError, struct.error) as error:
        raise OSError("the process that decodes chips has ended") from error
    reply = _Reply(*json.loads(text))
    if reply.is_shortage:
        raise MemoryError
    if reply.problem:
        raise UndecodableChip(reply.problem)
    return np.frombuffer(pixels, reply.type).reshape(shape), reply


def told_of_damage(said: str) -> bool:
    """Return whether what libjpeg says on stderr means that it made up a part of the picture."""
    found = _PASSED_OVER.search(said)
    return bool(_MADE_UP.search(said)) or (found and int(found[2], 16) in _IN_A_SCAN)


def without_filling(said: str, data: bytes) -> bytes | None:
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


def serve(make_decoder: type) -> None:
    """Decode chips from stdin to stdout, each in a copy of this process, until there are no more.

    Args:
        make_decoder: Decoder, which has a use for this module, too. Its settings, in JSON, are the
            last argument of the command line.
    """
    bands, *others = json.loads(sys.argv[-1])
    decoder = make_decoder(bands and tuple(bands), *others, hears=False)
    decoder.loading.load()
    while header := sys.stdin.buffer.read(_REQUEST.size):
        length, *shape = _REQUEST.unpack(header)
        data = sys.stdin.buffer.read(length)
        sys.stdout.buffer.write(_in_a_copy(functools.partial(_answer, decoder, data, shape)))
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
    return _pack(_Reply(problem=CRASHES, is_shortage=code == -signal.SIGKILL))


def _hand_over(work: Callable[[], bytes], writing: int) -> NoReturn:
    """Work, write what comes of it to a pipe, and end at once."""
    code = 1
    try:
        with open(writing, "wb") as pipe:
            pipe.write(work())
        code = 0
    finally:
        os._exit(code)


def _answer(decoder: Any, data: bytes, shape: Sequence[int]) -> bytes:
    """Decode a chip with a Decoder; return the reply."""
    hearing, speaking = os.pipe()
    os.set_blocking(hearing, False)
    os.set_blocking(speaking, False)
    os.dup2(speaking, 2)
    try:
        pixels, noticed = decoder.decode_into(np.empty(shape, np.uint8), data)
    except UndecodableChip as error:
        return _pack(_Reply(problem=str(error)))
    except MemoryError:
        return _pack(_Reply(is_shortage=True))
    try:
        said = os.read(hearing, MOST_SAID).decode(errors="replace")
    except BlockingIOError:
        said = ""
    reply = _Reply(pixels.dtype.str, noticed, said, facts=decoder.facts.last)
    return _pack(reply, pixels.tobytes())


def _pack(reply: _Reply, pixels: bytes = b"") -> bytes:
    """Return a reply as it is sent."""
    text = json.dumps(reply).encode()
    return _REPLY.pack(len(text), len(pixels)) + text + pixels
