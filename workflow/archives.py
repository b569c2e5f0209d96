"""Which entries of a folder are archives that a task can be made of, and what lies beside them."""

import hashlib
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from chip_classifier.layout import ARCHIVE_SUFFIXES, REFERENCE, REFERENCE_SUFFIX, is_reference
from chip_classifier.log import printable

# What the task reads besides, by the flag --chips; so it does a folder.
OTHER_SUFFIXES = (".zip", ".tbz2", ".tbz", ".txz")
SUFFIXES = ARCHIVE_SUFFIXES + OTHER_SUFFIXES
# Archives, and files compressed by themselves, that the task does not read.
UNREAD = re.compile(r"\.(7z|rar|zipx|t(ar\.)?(zst|lz4|lz|lzma|lzo|z|br)|taz|zst|lz4|lz|gz|bz2|xz)$")
CHIP_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".tif", ".tiff", ".webp", ".bmp", ".jp2")
WILD = "{}\n"  # Snakemake takes a name with braces for a pattern


@dataclass(frozen=True)
class Entries:
    """What a folder of archives holds.

    archives: the names of those that a task can be made of.
    refused: name -> a sentence that says why none can be made of the others. Bytes of a name that
        are not UTF-8 are written as \\xNN there.
    passed_over: name -> a sentence, of what may hold chips and is no archive.
    others: the names of all else that is not hidden.
    """

    archives: list[str]
    refused: dict[str, str]
    passed_over: dict[str, str]
    others: list[str]


def choose_archives(
    names: Iterable[str], folder: Path | None = None, known: Collection[str] = ()
) -> Entries:
    """Choose the archives in a folder.

    An archive is known by the whole name of its file or folder: a.tar and a.tar.gz are two.

    Args:
        names: those of what is in it; in a store, also of what lies deeper.
        folder: where it is; None in a store.
        known: names that the workflow has other uses for, such as the folder of its results.
    """
    entries, names = Entries([], {}, {}, []), set(names)
    for name in sorted(names):
        if name.startswith(".") or name in known:
            continue
        if "/" in name:
            if name.lower().endswith(CHIP_SUFFIXES) and "/." not in name:
                entries.passed_over.setdefault(f"{name.partition('/')[0]}/", IN_A_STORE)
        elif folder and (folder / name).is_dir() and not has_chips(folder / name):
            entries.others.append(name)
        elif name.lower().endswith(SUFFIXES) or (folder and (folder / name).is_dir()):
            reference = reference_of(name)
            if reason := why_refused(name, folder) or (
                reference in names and why_refused(reference, folder)
            ):
                entries.refused[os.fsencode(name).decode("utf-8", "backslashreplace")] = reason
            else:
                entries.archives.append(name)
        elif UNREAD.search(name.lower()):
            entries.passed_over[name] = UNKNOWN_KIND
        elif name.lower().endswith(CHIP_SUFFIXES):
            entries.passed_over[name] = LOOSE
        elif not is_reference(name):
            entries.others.append(name)
    return entries


IN_A_STORE = "No folder of chips is taken from a store: make a tar or a zip of it."
UNKNOWN_KIND = (
    "No archive of this kind is read: make a tar, a tar.gz or a zip of it, or unpack it into a "
    "folder of its own."
)
LOOSE = "It lies among the archives by itself: put such chips into a folder of their own."


def has_chips(folder: Path) -> bool:
    """Return whether a folder, or one within it, holds a file that has the name of a chip."""
    return any(name.lower().endswith(CHIP_SUFFIXES) for name, _ in _files_below(folder))


def contents_of(path: Path) -> str:
    """Describe what a folder holds, so that any change changes it; "" for what is no folder."""
    if not path.is_dir():
        return ""
    facts = sorted((name, stat.st_size, stat.st_mtime_ns) for name, stat in _files_below(path))
    return hashlib.blake2b(
        repr(facts).encode("utf-8", "backslashreplace"), digest_size=16
    ).hexdigest()


def _files_below(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Yield all files below a folder that are not hidden, also by links, each folder once."""
    seen = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        about = os.stat(place)
        folders[:] = [name for name in folders if not name.startswith(".")]
        if (about.st_dev, about.st_ino) in seen:
            folders.clear()
            continue
        seen.add((about.st_dev, about.st_ino))
        for name in files:
            file = Path(place, name)
            if not name.startswith(".") and file.exists():
                yield str(file.relative_to(folder)), file.stat()


def is_tar(archive: Path) -> bool:
    """Return whether the task takes an archive in a work directory, as GBDX lays it."""
    return archive.name.lower().endswith(ARCHIVE_SUFFIXES) and not archive.is_dir()


def reference_of(archive: str) -> str:
    """Name the file that has the features of an archive's chips: a.geojson lies beside a.tar.gz."""
    suffix = next((suffix for suffix in SUFFIXES if archive.lower().endswith(suffix)), "")
    return archive.removesuffix(archive[len(archive) - len(suffix) :]) + REFERENCE_SUFFIX


def lonely_references(names: Iterable[str], archives: Iterable[str]) -> list[str]:
    """Return the names of the files that look like features, but lie beside no archive."""
    wanted = {REFERENCE, *map(reference_of, archives)}
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


def describe_passed_over(passed_over: Mapping[str, str], others: Collection[str]) -> list[str]:
    """Return sentences on what no task is made of: one for each reason, and one for all else."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in passed_over.items():
        by_reason.setdefault(reason, []).append(name)
    sentences = [f"Passed over: {_some(names)}. {reason}" for reason, names in by_reason.items()]
    if others:
        sentences.append(f"Passed over, since no archive: {_some(others)}.")
    return sentences


def _some(names: Collection[str]) -> str:
    """Name the first ten of some files, and how many there are."""
    shown = ", ".join(printable(name) for name in list(names)[:10])
    return shown if len(names) <= 10 else f"{shown}, ... ({len(names):,} in all)"
