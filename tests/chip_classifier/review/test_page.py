"""Tests of preview.py: the choice of chips, the page's content, and the page in a real browser."""

from __future__ import annotations

import base64
import itertools
import math
import os
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from browser import Browser
from chip_classifier.review import page as rendering
from chip_classifier.review import sample
from chip_classifier.review.chip_map import draw_map
from chip_classifier.review.page import (
    Confused,
    Findings,
    KnownChip,
    MistakenChip,
    Preview,
    RunFacts,
)
from chip_classifier.review.scores import NO_TRUTH, score

RUN = RunFacts(
    archive="chips.tar",
    model="model.h5",
    model_description="96 x 96 chips, softmax",
    classes=[],
    ports={"size": "96", "normalization_vector": "123.68,116.779,103.939"},
    device="CPU",
    seconds=75.2,
    chips_per_second=4812.3,
    started="2026-01-31 10:00:00 UTC",
    version="2.0.0",
)
NOTHING = Findings()
HOSTILE = [
    "<script>window.pwned = 1</script>",
    '"><img src=x onerror="window.pwned = 1">',
    "' onload='window.pwned = 1",
    "</bdi></figcaption></figure></ul></section><h1>taken over</h1>",
    "--> ]]> &amp;&lt;b&gt;",
    "a\nb\tc\x00d\x1b[31m",
    "not \udcff UTF-8 \ud800",
    "\u202egpj.exe\u2066\u200b",
    "$archive ${sheets} $$ $1",
    "{{ run }} {% if 1 %} {# x #}",
    "x" * 5000,
    "\u65e5\u672c\u8a9e" * 1667,
    "\u0627\u0644\u0633\u0644\u0627\u0645/Z\u00fcrich \U0001f6f0\ufe0f",
    "",
]


def noise(count: int, height: int, width: int) -> np.ndarray:
    """The chips that compress worst, (count, height, width, 3) uint8."""
    return np.random.default_rng(1).integers(0, 256, (count, height, width, 3), np.uint8)


def write_page(
    path: Path,
    class_indices: np.ndarray,
    certainties: np.ndarray,
    *,
    classes: list[str],
    chips: np.ndarray | None = None,
    names: Callable[[int], str | None] = "chip {}".format,
    unclassified: dict[str, int] | None = None,
    skip: int = 0,
    run: RunFacts = RUN,
    truths: np.ndarray | None = None,
    centres: np.ndarray | None = None,
    findings: Findings = NOTHING,
) -> str:
    """Runs chips through a Preview in batches of 100 and returns the page.

    The same chips come in each batch, (100, H, W, 3). The first `skip` chips of the run do not
    pass through it, as in a resumed run.
    """
    sample = Preview(len(classes))
    chips = noise(100, 16, 16) if chips is None else chips
    for start in range(skip, len(class_indices), 100):
        batch = slice(start, min(start + 100, len(class_indices)))
        chip_ids = list(range(batch.start, batch.stop))
        sample.add(chip_ids, chips[: len(chip_ids)], class_indices[batch], certainties[batch])
    facts = RunFacts(**{**vars(run), "classes": classes})
    known = {
        chip: KnownChip(
            names(chip),
            NO_TRUTH if truths is None else int(truths[chip]),
            (np.nan, np.nan) if centres is None else tuple(centres[chip].tolist()),
        )
        for chip in sample.chip_ids()
        if names(chip) is not None
    }
    sample.write(path, facts, known, class_indices, certainties, unclassified or {}, findings)
    return path.read_bytes().decode()


def contact_sheets(page: str) -> dict[str, dict[str, list[tuple[str, str]]]]:
    """Class name -> group's title -> (certainty, name) of its chips, as a page shows them."""
    return {
        re.search("<h3><bdi>(.*?)</bdi>", section)[1]: {
            title: re.findall("<b>(.*?)</b> <bdi>(.*?)</bdi>", group)
            for title, group in re.findall("<h4>(.*?)</h4>(.*?)</ul>", section, re.DOTALL)
        }
        for section in re.findall('<section class="sheet".*?</section>', page, re.DOTALL)
    }


def ids(group: list[tuple[str, str]]) -> list[int]:
    """The chip numbers of a group of chips that are named by number."""
    return [int(name.split()[1]) for _, name in group]


def test_the_sample_is_exact(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    class_indices = rng.integers(0, 3, 5000)
    certainties = rng.random(5000).astype(np.float32)
    sheets = contact_sheets(
        write_page(tmp_path / "p.html", class_indices, certainties, classes=["a", "b", "c"])
    )
    for class_index, name in enumerate("abc"):
        members = np.flatnonzero(class_indices == class_index)
        ordered = members[np.argsort(certainties[members])].tolist()
        groups = sheets[name]
        assert list(groups) == ["Least certain", "Most certain", "Random sample"]
        assert ids(groups["Least certain"]) == ordered[:16]
        assert ids(groups["Most certain"]) == ordered[:-9:-1]
        rest = ids(groups["Random sample"])
        assert len(set(rest)) == 8
        assert set(rest) <= set(ordered[16:-8])
        shown = [f"{certainties[chip]:.4f}" for chip in ordered[:16]]
        assert [certainty for certainty, _ in groups["Least certain"]] == shown


def test_the_rest_is_a_uniform_sample(tmp_path: Path) -> None:
    certainties = np.random.default_rng(7).random(40_000)  # not the keys' seed
    page = write_page(tmp_path / "p.html", np.arange(40_000) % 4, certainties, classes=list("abcd"))
    groups = contact_sheets(page).values()
    rest = [chip for group in groups for chip in ids(group["Random sample"])]
    assert len(rest) == 32
    # The mean of 32 uniform draws has a standard deviation of 5% of their range.
    assert 0.35 < np.mean(rest) / 40_000 < 0.65
    assert 0.35 < certainties[rest].mean() < 0.65
    assert sum(chip > 5000 and 0.1 < certainties[chip] < 0.9 for chip in rest) > 16


def test_chance_chooses_among_equally_certain_chips(tmp_path: Path) -> None:
    page = write_page(tmp_path / "p.html", np.zeros(4000, int), np.ones(4000), classes=["a"])
    for title in ("Least certain", "Random sample"):
        assert 0.2 < np.mean(ids(contact_sheets(page)["a"][title])) / 4000 < 0.8


@pytest.mark.parametrize(("chips", "least", "most"), [(1, 1, 0), (2, 1, 1), (3, 2, 1), (20, 12, 8)])
def test_classes_with_few_chips(tmp_path: Path, chips: int, least: int, most: int) -> None:
    certainties = np.linspace(0.5, 0.9, chips)
    page = write_page(tmp_path / "p.html", np.zeros(chips, int), certainties, classes=["a", "b"])
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
    page = write_page(
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
        groups = contact_sheets(page)["0"]
        assert min(ids(groups[extreme])) > 0.9 * chips


@pytest.mark.parametrize(
    ("chips", "expected", "tolerance"),
    [
        (noise(1, 9, 8), noise(1, 9, 8)[0], 0),
        (np.full((1, 200, 100, 3), (0, 0, 255), np.uint8), np.full((128, 64, 3), (0, 0, 255)), 3),
    ],
    ids=["tiny", "red"],
)
def test_the_sample_keeps_copies_in_true_colours(
    tmp_path: Path, chips: np.ndarray, expected: np.ndarray, tolerance: int
) -> None:
    path = tmp_path / "p.html"
    batch = chips.copy()
    sample = Preview(1)
    sample.add([7], batch, np.array([0]), np.array([0.5]))
    batch[:] = 99
    run = RunFacts(**{**vars(RUN), "classes": ["a"]})
    sample.write(path, run, {7: KnownChip("7")}, np.array([0]), np.array([0.5]), {}, NOTHING)
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
    for limit, sizes in sample.SAMPLE_SIZES:
        assert limit * sizes.total * sizes.edge**2 * 3 < 24e6


def test_superseded_chips_are_left_out(tmp_path: Path) -> None:
    page = write_page(
        tmp_path / "p.html",
        np.zeros(30, int),
        np.linspace(0, 1, 30),
        classes=["a"],
        names=lambda chip_id: None if chip_id % 2 else f"chip {chip_id}",
    )
    groups = contact_sheets(page)["a"]
    assert ids(groups["Least certain"]) == list(range(0, 16, 2))


def test_statistics() -> None:
    rng = np.random.default_rng(0)
    class_indices = rng.integers(0, 4, 1001) * (np.arange(1001) % 7 > 0)
    certainties = rng.random(1001).astype(np.float32)
    found = rendering.statistics(6, class_indices, certainties)
    assert found.counts.tolist() == np.bincount(class_indices, minlength=6).tolist()
    assert found.by_count()[0] == 0
    assert found.probabilities
    assert found.axis == (0, 1)
    for index in range(4):
        of_class = certainties[class_indices == index].astype(float)
        assert found.median[index] == pytest.approx(np.median(of_class))
        assert found.lowest[index] == of_class.min()
        assert found.highest[index] == of_class.max()
        expected, _ = np.histogram(of_class, bins=rendering.BINS, range=(0, 1))
        assert found.histograms[index].tolist() == expected.tolist()
    assert np.isnan(found.median[4:]).all()


@pytest.mark.parametrize(
    ("certainties", "axis", "first", "last"),
    [
        ([], (0, 1), 0, 0),
        ([0, 1, 1.0000001], (0, 1), 1, 2),
        ([-4, 12, 12], (-4, 12), 1, 2),
        ([-1.7e308, 1.7e308], (-1.7e308, 1.7e308), 1, 1),
        ([7, 7], (7, 7), 2, 0),
        ([1e300, 1e300], (1e300, 1e300), 2, 0),
    ],
)
def test_the_axis_follows_the_data(
    certainties: list[float], axis: tuple[float, float], first: int, last: int
) -> None:
    found = rendering.statistics(1, np.zeros(len(certainties), int), np.array(certainties, float))
    assert found.axis == pytest.approx(axis)
    assert found.histograms.sum() == len(certainties)
    assert found.histograms[0, 0] == first
    assert found.histograms[0, -1] == last
    assert found.probabilities == (axis == (0, 1))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("a\n\x00\x7f", "a\\n\\x00\\x7f"),
        ("\udcff\ud800", "\\udcff\\ud800"),
        ("\u202etxt", "\\u202etxt"),
        (
            "Z\u00fcrich \u65e5\u672c \u0645\u06cc\u200c\u062e",
            "Z\u00fcrich \u65e5\u672c \u0645\u06cc\u200c\u062e",
        ),
        ("x" * 60, "x" * 60),
        ("a" * 40 + "b" * 40, "a" * 30 + "\u2026" + "b" * 29),
    ],
)
def test_text(value: str, shown: str) -> None:
    assert rendering.text(value) == shown


def test_whatever_the_template_puts_in_is_visible_and_escaped() -> None:
    template = rendering.page_template().environment.from_string(
        '{{ value }}<i title="{{ value }}">'
    )
    escaped = "&lt;a href=&#39;x&#39;&gt;&#34;&amp;\\n\\u202e\\udcff"
    page = template.render(value="<a href='x'>\"&\n\u202e\udcff")
    assert page == f'{escaped}<i title="{escaped}">'


class Tags(HTMLParser):
    """The page's tags, each with the names of its attributes.

    Possible line breaks are left out, and names in JSON, of which there is one where the page shows
    a name otherwise than it is.
    """

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, ...]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "wbr":
            self.found.append((tag, *(name for name, _ in attrs if name != "data-n")))

    def handle_endtag(self, tag: str) -> None:
        self.found.append((f"/{tag}",))


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_adds_a_tag(tmp_path: Path, name: str) -> None:
    def tags(text: str) -> list[tuple[str, ...]]:
        texts = ("archive", "model", "model_description", "device", "started", "version")
        page = write_page(
            tmp_path / "p.html",
            np.zeros(2, int),
            np.ones(2),
            classes=[text],
            names=lambda chip_id: text,
            unclassified={text: 1},
            truths=np.zeros(2, int),
            centres=np.ones((2, 2)),
            findings=Findings(
                score(np.zeros(2, int), np.zeros(2, int), 1),
                text,
                [Confused(0, 0, 9, [text, text])],
                [MistakenChip(0, 1, 0.5, noise(1, 8, 8)[0])],
                draw_map(np.ones((2, 2)), np.zeros(2, int)),
                [(text, text)],
            ),
            run=RunFacts(**{**vars(RUN), **dict.fromkeys(texts, text), "ports": {text: text}}),
        )
        return Tags(page).found

    assert len(tags(name)) > 100
    assert tags(name) == tags("harmless")


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.04, "0.0 s"),
        (59.94, "59.9 s"),
        (60, "1 min 0 s"),
        (3599.6, "1 h 0 min"),
        (7500, "2 h 5 min"),
    ],
)
def test_duration(seconds: float, shown: str) -> None:
    assert rendering.duration(seconds) == shown


def test_reasons_are_bounded(tmp_path: Path) -> None:
    unclassified = {f"reason {number}": number for number in range(1, 5001)}
    page = write_page(
        tmp_path / "p.html", np.zeros(0, int), np.zeros(0), classes=["a"], unclassified=unclassified
    )
    assert "reason 5000<" in page
    assert "reason 4991<" in page
    assert "reason 4990<" not in page
    others = sum(range(1, 4991))
    assert f"4,990 other reasons</th><td>{others:,}<" in page
    assert "No chip was classified." in page
    assert "There is no chip to show." in page


@pytest.mark.parametrize("classes", [1, 4, 20, 100, 300, 1000, 5000])
def test_the_worst_page_stays_below_3_mb(tmp_path: Path, classes: int) -> None:
    rng = np.random.default_rng(0)
    chips = max(5000, 5 * classes)
    class_indices = np.concatenate([np.arange(classes), rng.integers(0, classes, chips)])
    names = ["".join(rng.choice(list("\u202e\"'<\udcff/_"), 5000)) for _ in range(7)]
    page = write_page(
        tmp_path / "p.html",
        class_indices,
        rng.normal(0, 1e-300, len(class_indices)) * 1e8 - 1e9 * rng.random(len(class_indices)),
        classes=[names[index % 7] for index in range(classes)],
        chips=noise(100, 130, 130),
        names=lambda chip_id: names[chip_id % 7],
        unclassified={f"{names[index % 7]}{index}": 1 for index in range(2000)},
        run=RunFacts(**{**vars(RUN), **dict.fromkeys(("archive", "model", "device"), names[0])}),
    )
    assert len(page.encode()) < 3_000_000
    shown = page.count('<section class="sheet"')
    assert shown == classes if classes <= 20 else shown >= 80
    if classes <= rendering.MAX_CLASSES:
        assert ("shown without chips" in page) == (shown < classes)
    assert ("4,000 further classes have" in page) == (classes == 5000)


def test_thumbnails_of_ordinary_chips_all_fit(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    blurred = np.stack([cv2.GaussianBlur(chip, (0, 0), 2) for chip in noise(100, 96, 96)])
    page = write_page(
        tmp_path / "p.html",
        rng.integers(0, 1000, 20_000),
        rng.random(20_000),
        classes=[f"class {index}" for index in range(1000)],
        chips=blurred,
    )
    assert len(page.encode()) < 3_000_000
    assert page.count('<section class="sheet"') == 1000


def test_an_old_page_survives_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "preview.html"
    path.write_text("old")

    def full_disk(source: Path, target: Path) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_page(path, np.zeros(1, int), np.ones(1), classes=["a"])
    assert [file.name for file in tmp_path.iterdir()] == ["preview.html"]
    assert path.read_text() == "old"


def test_the_page_needs_a_folder(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="none"):
        write_page(tmp_path / "none" / "p.html", np.zeros(1, int), np.ones(1), classes=["a"])


def texts(browser: Browser, selector: str) -> list[str]:
    """The visible texts of the elements that a CSS selector finds."""
    script = f"Array.from(document.querySelectorAll({selector!r}), e => e.innerText)"
    return [re.sub(r"\s+", " ", found).strip() for found in browser.evaluate(script)]


# Pairs of a text and its contrast with the background, below the 4.5 of WCAG 2.2, 1.4.3.
LOW_CONTRAST = """(() => {
  const parse = c => c.match(/[\\d.]+/g).map(Number);
  const luminance = c => {
    const [r, g, b] = c.map(v => v / 255).map(
      v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const background = e => {
    for (; e; e = e.parentElement) {
      const c = parse(getComputedStyle(e).backgroundColor);
      if (c.length === 3 || c[3] > 0) return c.slice(0, 3);
    }
    return [255, 255, 255];
  };
  const low = [];
  for (const e of document.body.querySelectorAll('*')) {
    if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue;
    const one = luminance(parse(getComputedStyle(e).color).slice(0, 3));
    const two = luminance(background(e));
    const contrast = (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05);
    if (contrast < 4.5) low.push([e.textContent, contrast]);
  }
  return low;
})()"""
IMAGES = """Promise.all(Array.from(document.images, image => image.decode().then(
  () => [image.naturalWidth, image.naturalHeight, image.width, image.height, image.alt],
  error => [String(error)])))"""


def test_a_small_run_in_the_browser(tmp_path: Path, browser: Browser) -> None:
    class_indices = np.repeat([1, 0, 2], [700, 300, 1])
    no_buildings = np.append(np.linspace(0.5, 0.94, 300), np.linspace(0.951, 0.999, 400))
    certainties = np.concatenate([no_buildings, np.linspace(0.9, 0.99, 300), [0.25]])
    path = tmp_path / "p.html"
    write_page(
        path,
        class_indices,
        certainties,
        classes=["Buildings", "No Buildings", "Water", "Clouds"],
        chips=noise(100, 32, 48),
        unclassified={"truncated": 4, "not an image": 2},
    )
    browser.open(path)
    assert texts(browser, "h1") == ["chips.tar"]
    figures = dict(zip(texts(browser, ".figures dt"), texts(browser, ".figures dd"), strict=True))
    assert figures == {
        "chips classified": "1,001",
        "not classified": "6",
        "classes with chips": "3 of 4",
        "chips per second": "4,812",
        "classification time": "1 min 15 s",
    }
    assert texts(browser, ".classes tbody th") == ["No Buildings", "Buildings", "Water", "Clouds"]
    counts = texts(browser, ".classes tbody td:nth-child(2)")
    assert counts == ["700 69.9%", "300 30.0%", "1 0.1%", "0"]
    assert texts(browser, ".classes tbody td:nth-child(4)")[:3] == ["0.9570", "0.9450", "0.2500"]
    assert texts(browser, ".reasons tbody tr") == ["truncated 4", "not an image 2"]
    facts = texts(browser, "#run")[0]
    for fact in ("model.h5", "96 x 96 chips, softmax", "CPU", "123.68,116.779,103.939", "2.0.0"):
        assert fact in facts
    assert "48 \u00d7 32 pixels" in texts(browser, "#chips > p")[0]
    assert texts(browser, ".note") == []

    charts = browser.evaluate(
        "Array.from(document.querySelectorAll('svg'), svg => ["
        "svg.getAttribute('aria-label'), svg.querySelector('path').getTotalLength(),"
        "svg.getBoundingClientRect().width])"
    )
    assert [label for label, _, _ in charts] == [
        "from 0.5000 to 0.9990, most between 0.95 and 1",
        "from 0.9000 to 0.9900, most between 0.9 and 0.95",
        "from 0.2500 to 0.2500",
    ]
    # The bars' heights together: 9 bars of 33 chips beside one of 400, 167 and 133 chips, 1 chip.
    assert [length for _, length, _ in charts] == pytest.approx([9 * 3 + 40, 72, 40], abs=4)
    assert min(width for _, _, width in charts) > 100

    images = browser.evaluate(IMAGES)
    assert len(images) == 32 + 32 + 1
    assert {tuple(image[:4]) for image in images} == {(48, 32, 96, 64)}
    assert images[0][4] == "Chip classified as No Buildings"
    assert texts(browser, ".sheet h3") == [
        "No Buildings 700 chips",
        "Buildings 300 chips",
        "Water 1 chip",
    ]
    assert texts(browser, "#c1 h4") == ["Least certain", "Most certain", "Random sample"]
    assert texts(browser, "#c1 figcaption")[0] == "0.5000 chip 0"

    # What a screen reader needs.
    assert browser.evaluate("document.documentElement.lang") == "en"
    levels = browser.evaluate(
        "Array.from(document.querySelectorAll('h1,h2,h3,h4,h5,h6'), h => Number(h.tagName[1]))"
    )
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert browser.evaluate("Array.from(document.querySelectorAll('table')).every(t => t.caption)")
    assert browser.evaluate("document.querySelectorAll('th:not([scope])').length") == 0
    assert browser.evaluate("document.querySelectorAll('main').length") == 1
    links = browser.evaluate("Array.from(document.links, link => link.hash.slice(1))")
    assert {"c0", "c1", "c2", "chips", "classes"} <= set(links)
    assert browser.evaluate(f"{links!r}.every(id => document.getElementById(id))")


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [320, 390, 1200])
def test_hostile_names_in_the_browser(
    tmp_path: Path, browser: Browser, width: int, dark: bool
) -> None:
    count = 40 * len(HOSTILE)
    path = tmp_path / "p.html"
    hostile_run = RunFacts(
        archive=HOSTILE[0],
        model=HOSTILE[1],
        model_description=HOSTILE[3],
        classes=[],
        ports={name or "port": name for name in HOSTILE},
        device=HOSTILE[5],
        seconds=1,
        chips_per_second=1,
        started=HOSTILE[6],
        version=HOSTILE[7],
    )
    write_page(
        path,
        np.arange(count) % len(HOSTILE),
        np.linspace(0, 1, count),
        classes=HOSTILE,
        names=lambda chip_id: HOSTILE[chip_id // 3 % len(HOSTILE)],
        unclassified={name: 1 for name in HOSTILE},
        skip=100,
        run=hostile_run,
    )
    browser.open(path, width=width, dark=dark)
    assert browser.evaluate("window.pwned === undefined")
    assert browser.evaluate("document.querySelectorAll('h1, main, footer').length") == 3
    assert browser.evaluate("document.querySelectorAll('[onerror], [onload], b b').length") == 0
    shown = set(texts(browser, "figcaption bdi"))
    for name in HOSTILE[:3]:
        assert name in shown
    assert "a\\nb\\tc\\x00d\\x1b[31m" in shown
    assert "not \\udcff UTF-8 \\ud800" in shown
    assert "$archive ${sheets} $$ $1" in shown
    assert "{{ run }} {% if 1 %} {# x #}" in shown
    assert "\\u202egpj.exe\\u2066\\u200b" in shown
    assert all(len(image) == 5 for image in browser.evaluate(IMAGES))
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.evaluate(LOW_CONTRAST) == []
    lightness = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", lightness))) < 200) == dark


def test_100_classes_in_the_browser(tmp_path: Path, browser: Browser) -> None:
    rng = np.random.default_rng(0)
    class_indices = np.repeat(np.arange(100), np.arange(1, 101))
    rng.shuffle(class_indices)
    path = tmp_path / "p.html"
    write_page(
        path,
        class_indices,
        rng.random(len(class_indices)),
        classes=[f"class {index}" for index in range(100)],
        chips=noise(100, 24, 24),
    )
    browser.open(path)
    visible = (
        "Array.from(document.querySelectorAll('{}')).filter(e => e.checkVisibility())"
        ".map(e => e.innerText.trim())"
    )
    rows, sheets = visible.format(".classes tbody th"), visible.format(".sheet h3 bdi")
    first_20 = [f"class {index}" for index in range(99, 79, -1)]
    assert browser.evaluate(rows) == first_20
    assert browser.evaluate(sheets) == first_20
    assert texts(browser, "summary") == [
        "80 more classes (3,240 chips)",
        "What was run",
        "Chips of 80 more classes",
    ]
    assert all(len(image) == 5 for image in browser.evaluate(IMAGES))

    # By keyboard: along the links to the summary, whose focus is seen, and open.
    browser.evaluate("document.querySelectorAll('.classes a')[19].focus()")
    for key in ("Tab", "Enter"):
        browser.press(key)
        if key == "Tab":
            assert browser.evaluate("document.activeElement.tagName") == "SUMMARY"
            outline = "getComputedStyle(document.activeElement).outline"
            assert "solid 3px" in browser.evaluate(outline)
    assert browser.evaluate(f"{rows}.length") == 100
    assert browser.evaluate(f"{sheets}.length") == 20

    # The link of a folded class unfolds its sheet.
    browser.evaluate("document.querySelector('a[href=\"#c5\"]').click()")
    assert browser.evaluate(f"{sheets}.length") == 100
    assert browser.evaluate("document.querySelector('#c5').getBoundingClientRect().top") < 900


def test_logits_in_the_browser(tmp_path: Path, browser: Browser) -> None:
    path = tmp_path / "p.html"
    write_page(
        path, np.zeros(101, int), np.linspace(-3, 12, 101), classes=["a"], names=lambda chip_id: "n"
    )
    browser.open(path)
    assert texts(browser, ".axis span") == ["-3.000", "12.00"]
    assert "the model's values are no probabilities" in texts(browser, "caption")[0]
    assert texts(browser, ".classes tbody td:nth-child(4)") == ["4.500"]
    assert texts(browser, "figcaption")[0] == "-3.000 n"


@pytest.mark.parametrize("skip", [600, 1000])
def test_a_resumed_run_in_the_browser(tmp_path: Path, browser: Browser, skip: int) -> None:
    path = tmp_path / "p.html"
    write_page(path, np.zeros(1000, int), np.linspace(0, 1, 1000), classes=["a", "b"], skip=skip)
    browser.open(path)
    (note,) = texts(browser, ".note")
    assert f"the {1000 - skip:,} that were classified since then, not from all 1,000" in note
    assert texts(browser, ".classes tbody td:nth-child(2)")[0] == "1,000 100.0%"
    assert len(browser.evaluate(IMAGES)) == (32 if skip == 600 else 0)


def test_the_browser_notices_trouble(tmp_path: Path, chromium: Browser) -> None:
    chromium.problems.clear()
    page = tmp_path / "p.html"
    page.write_text("<script>undefined_function()</script><img src=https://example.invalid/a.png>")
    chromium.open(page)
    assert any("undefined_function" in problem for problem in chromium.problems)
    assert "https://example.invalid/a.png" in chromium.requests
    chromium.problems.clear()
    policy = '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'">'
    page.write_text(policy + "<img src=x onerror='window.pwned = 1'>")
    chromium.open(page)
    assert any("Content Security Policy" in problem for problem in chromium.problems)
