"""Which files of a folder are archives that a task can be made of."""

import os
from pathlib import Path

ARCHIVE_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
WILD = "{}\n"  # Snakemake takes a name with braces for a pattern


def find_archives(folder: Path) -> tuple[dict[str, Path], dict[str, str]]:
    """Find the archives in a folder, not in folders within it.

    An archive is known by the whole name of its file: a.tar and a.tar.gz are two.

    Returns:
        Name -> path of those that a task can be made of, and name -> a sentence that says why not
        of the others. Bytes of a name that are not UTF-8 are written as \\xNN there.
    """
    archives, refused = {}, {}
    for path in sorted(folder.glob("[!.]*")):
        if not path.name.lower().endswith(ARCHIVE_SUFFIXES) or path.is_dir():
            continue
        if reason := why_refused(path):
            refused[os.fsencode(path.name).decode("utf-8", "backslashreplace")] = reason
        else:
            archives[path.name] = path
    return archives, refused


def why_refused(path: Path) -> str | None:
    """Say why no task can be made of an archive; None if one can."""
    try:
        path.name.encode()
        path.stat()
    except UnicodeEncodeError:
        return "The name of the archive is not UTF-8: rename it."
    except OSError as error:
        return f"The archive cannot be read ({error.strerror}): mend or remove the link."
    if any(character in path.name for character in WILD):
        return (
            "The name of the archive has a brace or a line break, which Snakemake takes for a "
            "pattern: rename it."
        )
    return None
