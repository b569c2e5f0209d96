"""Which files are archives that a task can be made of, and what lies beside them."""

import os
from collections.abc import Iterable
from pathlib import Path

from chip_classifier.layout import ARCHIVE_SUFFIXES, REFERENCE_SUFFIX, is_reference
from chip_classifier.log import printable

WILD = "{}\n"  # Snakemake takes a name with braces for a pattern


def choose_archives(
    names: Iterable[str], folder: Path | None = None
) -> tuple[list[str], dict[str, str]]:
    """Choose the archives among files.

    An archive is known by the whole name of its file: a.tar and a.tar.gz are two.

    Args:
        names: those of the files.
        folder: where they are; None in a store.
    Returns:
        The names of those that a task can be made of, and name -> a sentence that says why not of
        the others. Bytes of a name that are not UTF-8 are written as \\xNN there.
    """
    chosen, refused, names = [], {}, set(names)
    for name in sorted(names):
        if name.startswith(".") or "/" in name or not name.lower().endswith(ARCHIVE_SUFFIXES):
            continue
        if folder and (folder / name).is_dir():
            continue
        beside = reference_of(name)
        if reason := why_refused(name, folder) or (beside in names and why_refused(beside, folder)):
            refused[os.fsencode(name).decode("utf-8", "backslashreplace")] = reason
        else:
            chosen.append(name)
    return chosen, refused


def reference_of(archive: str) -> str:
    """Name the file that has the features of an archive's chips: a.geojson lies beside a.tar.gz."""
    suffix = next(suffix for suffix in ARCHIVE_SUFFIXES if archive.lower().endswith(suffix))
    return archive[: -len(suffix)] + REFERENCE_SUFFIX


def lonely_references(names: Iterable[str], archives: Iterable[str]) -> list[str]:
    """Return the names of the files that look like features, but lie beside no archive."""
    wanted = set(map(reference_of, archives))
    return sorted(
        printable(name) for name in set(names) - wanted if is_reference(name) and "/" not in name
    )


def why_refused(name: str, folder: Path | None) -> str | None:
    """Say why no task can be made of an archive, or of what lies beside it; None if one can."""
    try:
        name.encode()
        if folder:
            (folder / name).stat()
    except UnicodeEncodeError:
        return "The name of the archive is not UTF-8: rename it."
    except OSError as error:
        return f"{name} cannot be read ({error.strerror}): mend or remove the link."
    if any(character in name for character in WILD):
        return (
            "The name of the archive has a brace or a line break, which Snakemake takes for a "
            "pattern: rename it."
        )
    return None
