"""ports.json as people write it -> the text of each string port.

GBDX writes a flat JSON object of strings in UTF-8. People write it with other programs too: in
UTF-16, with numbers, lists and null. What can mean only one thing is taken; what can mean several,
or nothing, is refused with a sentence that says what to write instead.
"""

import ast
import difflib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

STRING_PORTS = (
    "classes",
    "size",
    "deploy_batch",
    "preprocessing",
    "normalization_vector",
    "normalization_value",
    "bands",
    "bit_depth",
    "probabilities",
    "loading",
    "values",
)

MAX_BYTES = 2**24  # 100,000 class names of 100 letters, and more


class PortError(Exception):
    """A port, or ports.json as a whole, cannot be used; the message is a sentence for the user."""


def read_texts(path: Path) -> tuple[dict[str, str], tuple[str, ...]]:
    """Read ports.json; nothing is set if there is no such file.

    Returns:
        The text of each known port that is set, without blanks around it, and a warning for each
        other name.
    Raises:
        PortError: the file is no object of ports, or the value of a port has no text.
    """
    content = _read_object(path)
    texts: dict[str, str] = {}
    warnings = []
    for name, value in content.items():
        if name not in STRING_PORTS:
            _refuse_nested(name, value)
            warnings.append(_warn_unknown(name))
        elif text := _as_text(name, value):
            texts[name] = text
    return texts, tuple(warnings)


def _read_object(path: Path) -> Mapping[str, object]:
    """Read the file's JSON object. Raises PortError if there is none."""
    if path.is_symlink() and not path.exists():
        raise PortError(
            "ports.json is a link whose target is missing: put the file itself there, or mount the "
            "folder of the target too."
        )
    if path.is_dir():
        raise PortError(
            "ports.json is a directory, as docker makes one where the file to be mounted does not "
            "exist: give the path of the file, or leave it out."
        )
    if not path.exists():
        return {}
    if not path.is_file():  # a pipe would be waited for
        raise PortError("ports.json is no file that can be read: put a plain file there.")
    text = _decode(_read_bytes(path))
    if not text.strip():
        raise PortError("ports.json is empty, which is no JSON: write {} into it, or leave it out.")
    try:
        content = json.loads(text, object_pairs_hook=_refuse_repeated)
    except json.JSONDecodeError as error:
        raise PortError(_explain_json(text, error)) from error
    except (ValueError, RecursionError) as error:  # a number of too many digits; too many brackets
        raise PortError(f"ports.json is not valid JSON ({error}): correct it.") from error
    if not isinstance(content, dict):
        raise PortError('ports.json must be one JSON object, such as {"size": "224"}.')
    return content


def _read_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise PortError(f"ports.json has more than {MAX_BYTES:,} bytes: give only the ports in it.")
    return data


def _decode(data: bytes) -> str:
    """Decode the file by its byte order mark or its zero bytes; without any it is UTF-8."""
    encoding = json.detect_encoding(data)
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        before = data[: error.start].rpartition(b"\n")[2][-20:].decode("ascii", "replace")
        raise PortError(
            f"ports.json is not UTF-8 text (line {line}, behind '{before}'): save it as UTF-8."
        ) from error


def _refuse_repeated(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Make an object of its pairs, unless one name stands in it twice."""
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise PortError(f"ports.json sets '{twice[:100]}' twice: keep one of them.")
    return content


def _explain_json(text: str, error: json.JSONDecodeError) -> str:
    """Say what is wrong with the JSON, in the words of one who wrote it by hand."""
    before, behind = text[: error.pos].rstrip(), text[error.pos :].lstrip()
    if behind.startswith(","):  # since Python 3.13 the place is that of the comma itself
        before, behind = before + ",", behind[1:].lstrip()
    where = f"line {before.count(chr(10)) + 1}"
    if before.endswith(",") and behind.startswith(("}", "]")):
        return f"ports.json is not valid JSON: take away the comma at the end of {where}."
    where = f"line {error.lineno}"
    if behind.startswith(("//", "/*", "#")):
        return f"ports.json is not valid JSON: it has no comments; take away the one in {where}."
    if behind.startswith("'"):
        return f"ports.json is not valid JSON: write double quotation marks in {where}, not single."
    return f"ports.json is not valid JSON ({error}): correct it."


def _refuse_nested(name: str, value: object) -> None:
    """Raise PortError if the ports stand within the value of another name."""
    inner = value if isinstance(value, dict) else {}
    if isinstance(value, list):
        inner = {str(item.get("name")) for item in value if isinstance(item, dict)}
    if found := [port for port in inner if port in STRING_PORTS]:
        raise PortError(
            f"In ports.json the port {found[0]} stands within '{name[:100]}': move the ports to "
            f'the top, as in {{"{found[0]}": "..."}}.'
        )


def _warn_unknown(name: str) -> str:
    warning = f"ports.json sets '{name[:100]}', which is no string port of this task: ignored"
    near = difflib.get_close_matches(name.strip().casefold(), STRING_PORTS, n=1)
    return f"{warning}; did you mean {near[0]}?" if near else f"{warning}."


def _as_text(port: str, value: object) -> str:
    """Return the text of a port's value, "" for none; a list becomes its items and commas.

    A list or dict of class names stays what it is: names may have commas, and indices.

    Raises PortError for a value that cannot be meant for any port.
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        if port == "probabilities":
            return str(value)
        none = ", or write 'None'" if port == "normalization_value" else ""
        raise PortError(f"The port {port} cannot be {str(value).lower()}: leave it out{none}.")
    if isinstance(value, int | float):
        return repr(value)
    if port == "classes" and isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False) if value else ""
    if port == "classes" and isinstance(value, str):
        return "" if value.strip() in ("[]", "()", "{}") else value.strip()
    if isinstance(value, str):
        text = value.strip()
        is_list = text[:1] + text[-1:] in ("[]", "()") and not re.search(r"[][()]", text[1:-1])
        return _join(port, _split(text)) if is_list else text
    if isinstance(value, list):
        return _join(port, value)
    raise PortError(
        f"The port {port} must be a string: write it in quotation marks in ports.json, as in "
        f'"{port}": "...".'
    )


def _split(text: str) -> list[object]:
    """Return the items of a list that was written as text by Python, as JSON or by hand."""
    try:
        return list(ast.literal_eval(text))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return [item.strip() for item in text[1:-1].split(",")]


def _join(port: str, items: Sequence[object]) -> str:
    texts = [item if isinstance(item, str) else repr(item) for item in items]
    plain = all(isinstance(item, str | int | float) for item in items)
    if not plain or any("," in text for text in texts):
        raise PortError(
            f"The port {port} is a list of more than names or numbers, or of names with commas: "
            f'write it as one string, separated by commas, as in "{port}": "a,b".'
        )
    return ",".join(texts)
