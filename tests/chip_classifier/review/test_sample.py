"""The sample of chips: which are kept, in how much memory, and their thumbnails."""

import base64
import math
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from chip_classifier.review import sample
from chip_classifier.review.contact_sheets import KnownChip
from chip_classifier.review.page import Findings, RunFacts, write_page
from chip_classifier.review.sample import Sample
from pages import RUN, contact_sheets, ids, make_page, noise


def test_the_sample_is_exact(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    class_indices = rng.integers(0, 3, 5000)
    certainties = rng.random(5000).astype(np.float32)
    sheets = contact_sheets(
        make_page(tmp_path / "p.html", class_indices, certainties, classes=["a", "b", "c"])
    )
    for class_index, name in enumerate("abc"):
        members = np.flatnonzero(class_indices == class_index)
        ordered = members[np.argsort(certainties[members])].tolist()
        groups = sheets[name]
        assert list(groups) == ["Least certain", "Most certain", "Random sample"]
        least, most, rest, _ = sample.sample_sizes(3)
        assert ids(groups["Least certain"]) == ordered[:least]
        assert ids(groups["Most certain"]) == ordered[: -most - 1 : -1]
        drawn = ids(groups["Random sample"])
        assert len(set(drawn)) == rest
        assert set(drawn) <= set(ordered[least:-most])
        shown = [f"{certainties[chip]:.4f}" for chip in ordered[:least]]
        assert [certainty for certainty, _ in groups["Least certain"]] == shown


def test_the_rest_is_a_uniform_sample(tmp_path: Path) -> None:
    certainties = np.random.default_rng(7).random(40_000)  # not the keys' seed
    page = make_page(tmp_path / "p.html", np.arange(40_000) % 4, certainties, classes=list("abcd"))
    groups = contact_sheets(page).values()
    rest = [chip for group in groups for chip in ids(group["Random sample"])]
    assert len(rest) == 4 * sample.sample_sizes(4).rest > 32
    # The mean of 32 uniform draws has a standard deviation of 5% of their range.
    assert 0.35 < np.mean(rest) / 40_000 < 0.65
    assert 0.35 < certainties[rest].mean() < 0.65
    assert sum(chip > 5000 and 0.1 < certainties[chip] < 0.9 for chip in rest) > 16


def test_chance_chooses_among_equally_certain_chips(tmp_path: Path) -> None:
    page = make_page(tmp_path / "p.html", np.zeros(4000, int), np.ones(4000), classes=["a"])
    for title in ("Least certain", "Random sample"):
        assert 0.2 < np.mean(ids(contact_sheets(page)["a"][title])) / 4000 < 0.8


@pytest.mark.parametrize(
    ("chips", "least", "most"), [(1, 1, 0), (2, 1, 1), (3, 2, 1), (20, 12, 8), (100, 92, 8)]
)
def test_classes_with_few_chips(tmp_path: Path, chips: int, least: int, most: int) -> None:
    certainties = np.linspace(0.5, 0.9, chips)
    page = make_page(tmp_path / "p.html", np.zeros(chips, int), certainties, classes=["a", "b"])
    (groups,) = contact_sheets(page).values()
    assert ids(groups["Least certain"]) == list(range(least))
    assert ids(groups.get("Most certain", [])) == list(range(chips - 1, least - 1, -1))
    assert len(groups.get("Most certain", [])) == most
    assert "Random sample" not in groups


@pytest.mark.parametrize("classes", [2, 100])
@pytest.mark.parametrize("order", ["random", "always 1", "rising", "falling"])
def test_few_chips_become_thumbnails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, classes: int, order: str
) -> None:
    made = 0
    make = sample.thumbnail

    def counted(chip: np.ndarray, edge: int) -> np.ndarray:
        nonlocal made
        made += 1
        return make(chip, edge)

    monkeypatch.setattr(sample, "thumbnail", counted)
    rng = np.random.default_rng(0)
    chips = 50_000
    certainties = rng.random(chips)
    if order == "always 1":
        certainties[:] = 1
    if order == "rising":
        certainties.sort()
    if order == "falling":
        certainties[::-1].sort()
    page = make_page(
        tmp_path / "p.html",
        rng.integers(0, classes, chips),
        certainties,
        classes=[str(i) for i in range(classes)],
    )
    size = classes * sample.sample_sizes(classes).total
    if order in ("random", "always 1"):
        assert made < 1.2 * size * (1 + math.log(chips / size))
        assert "passed over" not in page
    else:
        assert made <= 3 * size + chips / 16
        assert "passed over" in page
        extreme = "Most certain" if order == "rising" else "Least certain"
        first = ids(contact_sheets(page)["0"][extreme])[: sample.least_sizes(classes).least]
        assert min(first) > 0.9 * chips


@pytest.mark.parametrize(
    ("chips", "expected", "tolerance"),
    [
        (noise(1, 9, 8), noise(1, 9, 8)[0], 0),
        (np.full((1, 200, 100, 3), (0, 0, 255), np.uint8), np.full((128, 64, 3), (0, 0, 255)), 3),
    ],
    ids=["tiny", "red"],
)
def test_the_sample_keeps_copies_in_true_colors(
    tmp_path: Path, chips: np.ndarray, expected: np.ndarray, tolerance: int
) -> None:
    path = tmp_path / "p.html"
    batch = chips.copy()
    sample = Sample(1)
    sample.add([7], batch, np.array([0]), np.array([0.5]))
    batch[:] = 99
    run = RunFacts(**{**vars(RUN), "classes": ["a"]})
    found = Findings(np.array([0]), np.array([0.5]), {7: KnownChip("7")}, {})
    write_page(path, run, sample, found)
    (content,) = re.findall('base64,(.*?)"', path.read_text())
    image = cv2.imdecode(np.frombuffer(base64.b64decode(content), np.uint8), cv2.IMREAD_COLOR)
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected).max() <= tolerance


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((8, 8), (8, 8)),
        ((96, 96), (96, 96)),
        ((224, 224), (96, 96)),
        ((97, 1000), (9, 96)),
        ((1000, 8), (96, 1)),
        ((300, 191), (96, 61)),
    ],
)
def test_thumbnail_shapes(shape: tuple[int, int], expected: tuple[int, int]) -> None:
    chip = np.full((*shape, 3), (10, 100, 200), np.uint8)
    image = sample.thumbnail(chip, 96)
    assert image.shape == (*expected, 3)
    assert (image == (10, 100, 200)).all()
    assert not np.shares_memory(image, chip)


def test_a_thumbnail_takes_every_pixel_in() -> None:
    stripes = np.zeros((512, 512, 3), np.uint8)
    stripes[:, ::2] = 200
    assert np.abs(sample.thumbnail(stripes, 96).astype(int) - 100).max() <= 2


def test_memory_is_bounded() -> None:
    for classes in (*range(1, 1001), 5000):
        sizes = sample.sample_sizes(classes)
        assert min(classes, sample.MAX_CLASSES) * sizes.total * sizes.edge**2 * 3 < 32e6
        assert all(kept >= shown for kept, shown in zip(sizes, sample.least_sizes(classes)))


def test_superseded_chips_are_left_out(tmp_path: Path) -> None:
    page = make_page(
        tmp_path / "p.html",
        np.zeros(30, int),
        np.linspace(0, 1, 30),
        classes=["a"],
        names=lambda chip_id: None if chip_id % 2 else f"chip {chip_id}",
    )
    groups = contact_sheets(page)["a"]
    assert ids(groups["Least certain"]) == list(range(0, 22, 2))
