"""The names of chips, of which there may be millions: in few bytes, and made for the user."""

import itertools
import operator
import pickle
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

# Names that are packed together: enough that what they share is little, few enough to unpack some.
_OF_A_PACK = 1024


class Names(Sequence[str]):
    """Strings in their order, each in fewer bytes than its own where they are alike."""

    def __init__(self) -> None:
        self._packs: list[bytes] = []
        self._last: list[str] = []
        self._unpacked: tuple[int, list[str]] = -1, []  # the pack that was asked for last

    def extend(self, names: Iterable[str]) -> None:
        """Append strings."""
        self._last += names
        while len(self._last) >= _OF_A_PACK:
            self._packs.append(zlib.compress(pickle.dumps(self._last[:_OF_A_PACK]), 1))
            del self._last[:_OF_A_PACK]

    def __len__(self) -> int:
        return len(self._packs) * _OF_A_PACK + len(self._last)

    def __iter__(self) -> Iterator[str]:
        for pack in self._packs:
            yield from pickle.loads(zlib.decompress(pack))
        yield from self._last

    def __getitem__(self, number: int) -> str:
        pack, place = divmod(range(len(self))[number], _OF_A_PACK)
        if pack == len(self._packs):
            return self._last[place]
        unpacked = self._unpacked  # another thread may ask for another pack meanwhile
        if pack != unpacked[0]:
            unpacked = pack, pickle.loads(zlib.decompress(self._packs[pack]))
            self._unpacked = unpacked
        return unpacked[1][place]


class ChipNames:
    """The names of chips for the user: without the archive's top directory and the extension.

    The top directory is the first part of the paths, where all of them share it. Names that would
    be equal without their extensions keep them. Of several members of the same path the last one
    counts, as it does for tar.

    replaced: numbers of the chips whose path a later one has too.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        """Find what must be known of all paths in the archive to name each of them.

        Args:
            paths: of the chips, by number.
        """
        self._paths = paths
        self.replaced: set[int] = set()
        first = next(iter(paths), "")
        top = first[: first.find("/") + 1]
        self._top = len(top) if all(map(str.startswith, paths, itertools.repeat(top))) else 0
        self._whole: set[int] = set()
        suspects = self._suspects()  # those of the same path have the same name, too
        if not suspects:
            return
        latest = {path: number for number, path in enumerate(paths) if number in suspects}
        self.replaced = suspects - set(latest.values())
        # Again and again, because a name that got its extension back may meet another one.
        while clashing := self._clashing() - self._whole:
            self._whole |= clashing

    def __iter__(self) -> Iterator[tuple[int, str]]:
        """Yield the number and the name of each chip that no other one replaces, in order."""
        return self._named(enumerate(self._paths))

    def __getitem__(self, number: int) -> str:
        """Return the name of a chip that no other one replaces."""
        return next(self.of([number]))

    def of(self, numbers: Iterable[int]) -> Iterator[str]:
        """Yield the names of chips that no other one replaces; quickest in their order."""
        return (name for _, name in self._named((n, self._paths[n]) for n in numbers))

    def _named(self, paths: Iterable[tuple[int, str]]) -> Iterator[tuple[int, str]]:
        top, replaced, whole = self._top, self.replaced, self._whole
        for number, path in paths:
            if number not in replaced:
                dot = path.rfind(".")
                if number in whole or dot <= path.rfind("/") + 1:
                    dot = None
                yield number, path[top:dot]

    def _clashing(self) -> set[int]:
        """Return the numbers of the chips whose names, as they are so far, are not their own."""
        suspects = self._suspects()
        found = [chip for position, chip in enumerate(self) if position in suspects]
        taken = Counter(name for _, name in found)
        return {number for number, name in found if taken[name] > 1}

    def _suspects(self) -> set[int]:
        """Return the positions, in this order, of the names that are not unique, and of few others.

        Only their hashes are kept, 8 bytes each: a dict would take more than ten times as much.
        """
        names = map(operator.itemgetter(1), self)
        hashes = np.fromiter(map(hash, names), np.int64, len(self._paths) - len(self.replaced))
        order = hashes.argsort()
        hashes = hashes[order]
        (firsts,) = np.nonzero(hashes[1:] == hashes[:-1])
        return set(order[firsts].tolist()) | set(order[firsts + 1].tolist())
