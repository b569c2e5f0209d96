"""Untrusted texts and numbers, as the page shows them.

Every text on the page (chip names, class names, ports, reasons) counts as hostile.
"""

# Persian and the Indic scripts spell with these invisible characters; they are harmless.
JOINERS = "\u200c\u200d"


def visible(value: object) -> object:
    """Make all of an untrusted text visible; leave what is no text as it is.

    What cannot be seen (control and direction characters, lone surrogates of undecodable file
    names) becomes its Python escape, as \\n or \\udcff; so the result is valid Unicode.
    """
    if not isinstance(value, str) or hasattr(value, "__html__") or value.isprintable():
        return value
    return "".join(
        char if char.isprintable() or char in JOINERS else ascii(char)[1:-1] for char in value
    )


def text(value: str, limit: int = 60) -> str:
    """Make an untrusted text visible and not too long; it is still to be escaped.

    Args:
        value: any str.
        limit: characters; a longer text loses its middle.
    """
    if len(value) > limit:
        value = f"{value[: limit // 2]}…{value[-(limit // 2 - 1) :]}"
    return visible(value)


def time_in_words(seconds: float) -> str:
    """Write a time in the two units that matter."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
