"""The headers of regular files as nearly all tar programs write them, read at a glance.

tarfile reads any header, and takes its time: an archive may have millions. Whatever is not exactly
of this form is left to it.
"""

import re
import zlib

BLOCK = 512  # bytes of a header, and what the data behind it is padded to

# Behind the name, by the fields of POSIX.1-1988's ustar and of GNU tar: mode, uid, gid, size, time,
# checksum, "0" for a regular file, no link, the magic of either, two names, two numbers of a
# device, and the beginning of a long name, which GNU tar has elsewhere.
_BEHIND_NAME = re.compile(
    rb"(?:[0-7]{7}\0){3}([0-7]{11})\0[0-7]{11}\0([0-7]{6})\0 0\0{100}"
    rb"(?:ustar\x0000.{64}(?:\0{8}|[0-7]{7}\0){2}(.{155})|ustar  \0.{64}\0{16}\0{155})\0{12}",
    re.DOTALL,
)
_NAME, _CHECKSUM = slice(0, 100), slice(148, 156)


def read_usual_header(block: bytes) -> tuple[str, int] | None:
    """Read a header that is as usual, in ASCII; None for any other one, and for no header at all.

    Args:
        block: BLOCK bytes.
    Returns:
        The name and the size of the file, as tarfile reads them.
    """
    if not block.isascii() or not (found := _BEHIND_NAME.fullmatch(block, 100)):
        return None
    size, checksum, prefix = found.groups()
    # 1 more than the sum of the bytes, below its modulus of 65521 since these are at most 127. The
    # checksum itself counts as eight spaces.
    total = (zlib.adler32(block) & 0xFFFF) - 1 - sum(block[_CHECKSUM]) + 8 * ord(" ")
    if total != int(checksum, 8):
        return None
    name = block[_NAME].partition(b"\0")[0]
    if prefix and (beginning := prefix.partition(b"\0")[0]):
        name = beginning + b"/" + name
    return name.decode("ascii"), int(size, 8)
