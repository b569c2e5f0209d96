"""The names of chips: short, unique, and in few bytes."""

import itertools
import posixpath
import tracemalloc

import numpy as np
import pytest

from chip_classifier.names import ChipNames, Names


def chip_names(paths: list[str]) -> list[str]:
    """Name the chips of an archive."""
    names = ChipNames(paths)
    assert all(names[number] == name for number, name in names)
    return [name for _, name in names]


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        ([], []),
        (["a.jpg"], ["a"]),
        (["chips/a.jpg"], ["a"]),
        (["chips/a.jpg", "chips/east/b.png"], ["a", "east/b"]),
        (["chips/east/a.jpg", "chips/east/b.jpg"], ["east/a", "east/b"]),
        (["east/a.jpg", "west/a.jpg"], ["east/a", "west/a"]),
        (["a.jpg", "chips/b.jpg"], ["a", "chips/b"]),
        (["chips/a.jpg", "chips/a.png", "chips/b.png"], ["a.jpg", "a.png", "b"]),
        (["chips/a.jpg", "chips/a.JPG"], ["a.jpg", "a.JPG"]),
        (["a.jpg", "a.png", "a.jpg.png"], ["a.jpg", "a.png", "a.jpg.png"]),
        (["chips/a.jpg", "chips/east/a.png"], ["a", "east/a"]),
        (["chips/2017.06.01.tif"], ["2017.06.01"]),
        (["chips/a.jpg", "chips2/b.jpg"], ["chips/a", "chips2/b"]),
    ],
)
def test_chips_are_named_below_the_top_directory(paths: list[str], names: list[str]) -> None:
    assert chip_names(paths) == names


def test_names_are_unique_and_short_where_they_can_be() -> None:
    parts = ("a", "b", "a.jpg", "b.png", "east")
    suffixes = (".jpg", ".png", ".JPG", ".tif")
    rng = np.random.default_rng(1)
    pool = [
        "/".join((*folders, stem + suffix))
        for depth in range(3)
        for folders in itertools.product(parts, repeat=depth)
        for stem in parts
        for suffix in suffixes
    ]
    for size in [*range(1, 30)] * 20:
        chosen = [str(path) for path in rng.choice(pool, size, replace=False)]
        if rng.random() < 0.5:
            chosen = [f"chips/{path}" for path in chosen]
        names = chip_names(chosen)
        assert len(set(names)) == len(chosen)
        tops = {path.split("/")[0] for path in chosen}
        shared = len(tops) == 1 and all("/" in path for path in chosen)
        below = [path.partition("/")[2] if shared else path for path in chosen]
        short = [posixpath.splitext(path)[0] for path in below]
        for path, stem, name in zip(below, short, names, strict=True):
            assert name in (path, stem)
            # An extension stays only where the short name is another chip's, short or whole.
            if name == path:
                assert short.count(stem) > 1 or stem in below


def test_of_members_of_one_path_the_last_one_counts() -> None:
    paths = ["t/a.jpg", "t/b.jpg", "t/a.jpg", "t/a.png", "t/c.jpg", "t/b.jpg"]
    names = ChipNames(paths)
    assert list(names) == [(2, "a.jpg"), (3, "a.png"), (4, "c"), (5, "b")]
    assert [names[n] for n in (2, 3, 4, 5)] == ["a.jpg", "a.png", "c", "b"]
    assert names.replaced == {0, 1}


def test_names_that_share_a_hash_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    paths = ["t/a.jpg", "t/b.jpg", "t/c.jpg", "t/c.png", "t/a.jpg"]
    expected = list(ChipNames(paths))
    monkeypatch.setattr("chip_classifier.names.hash", lambda text: len(text) % 2, raising=False)
    assert list(ChipNames(paths)) == expected
    assert expected == [(1, "b"), (2, "c.jpg"), (3, "c.png"), (4, "a")]


def test_a_name_has_no_extension_where_only_its_folder_has_a_dot() -> None:
    assert chip_names(["t/v1.2/a", "t/v1.2/b.jpg"]) == ["v1.2/a", "v1.2/b"]


@pytest.mark.parametrize("count", [0, 1, 1023, 1024, 1025, 5000])
def test_names_come_back_as_they_are(count: int) -> None:
    expected = [f"{n}-\n\0-ä\U0001f6f0.jpg" for n in range(count)]
    names = Names()
    for first in range(0, count, 100):
        names.extend(expected[first : first + 100])
    assert list(names) == list(names) == expected
    assert len(names) == count
    assert [names[n] for n in (*range(count), *range(-count, 0))] == 2 * expected
    for beyond in (count, -count - 1):
        with pytest.raises(IndexError):
            names[beyond]
    assert all(name in names for name in expected[:1000:100])
    assert "other" not in names


def test_names_that_are_alike_take_few_bytes() -> None:
    """Else ten million of them take gigabytes."""
    count, length = 100_000, 40
    tracemalloc.start()
    names = Names()
    for first in range(0, count, 100):
        names.extend([f"{n:0{length}}" for n in range(first, first + 100)])
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size / count < length / 4
