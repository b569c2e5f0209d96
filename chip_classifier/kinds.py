"""What a file is, by its first bytes: whatever its name says."""

# Sources: ISO/IEC 10918-1, annex B (jpeg); PNG, third edition, 5.2; TIFF 6.0, section 2, and
# BigTIFF; RFC 9649 (WebP); BITMAPFILEHEADER of Windows (bmp); ISO/IEC 15444-1, annexes A and I.
JPEG, PNG, TIF, WEBP, BMP, JP2 = "jpeg", "png", "tif", "webp", "bmp", "jp2"
READ_KINDS = (JPEG, PNG, TIF, WEBP, BMP, JP2)
_BEGINNINGS = {
    b"\xff\xd8\xff": JPEG,
    b"\x89PNG\r\n\x1a\n": PNG,
    b"II*\0": TIF,
    b"MM\0*": TIF,
    b"II+\0": TIF,
    b"MM\0+": TIF,
    b"\0\0\0\x0cjP  \r\n\x87\n": JP2,
    b"\xff\x4f\xff\x51": JP2,
    # Pictures that are not read.
    b"GIF87a": "gif",
    b"GIF89a": "gif",
    b"NITF0": "nitf",
    b"\0\0\0\x0cJXL \r\n\x87\n": "jpeg xl",
    b"8BPS\0": "photoshop",
}
HEAD_BYTES = 32  # as much of a file as is looked at


def kind_of(head: bytes) -> str | None:
    """Tell the kind of a picture by its first HEAD_BYTES bytes; None if it is no picture."""
    for beginning, kind in _BEGINNINGS.items():
        if head.startswith(beginning):
            return kind
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return WEBP
    # Two letters may begin a text: the second header, of 12 to 124 bytes, tells.
    if head[:2] == b"BM" and 12 <= int.from_bytes(head[14:18], "little") < 128:
        return BMP
    return None
