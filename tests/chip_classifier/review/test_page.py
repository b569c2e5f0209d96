"""The page: its content, its bounds, and how it looks in a real browser."""

import itertools
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from browser import Browser
from chip_classifier.review.chip_map import draw_map
from chip_classifier.review.page import Confused, MistakenChip, RunFacts, page_template
from chip_classifier.review.sample import MAX_CLASSES, sample_sizes
from chip_classifier.review.scores import score
from pages import HOSTILE, IMAGES, LOW_CONTRAST, RUN, make_page, noise, texts


def test_whatever_the_template_puts_in_is_visible_and_escaped() -> None:
    template = page_template().environment.from_string('{{ value }}<i title="{{ value }}">')
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
        page = make_page(
            tmp_path / "p.html",
            np.zeros(2, int),
            np.ones(2),
            classes=[text],
            names=lambda chip_id: text,
            reasons={text: 1},
            truths=np.zeros(2, int),
            centres=np.ones((2, 2)),
            scores=score(np.zeros(2, int), np.zeros(2, int), 1),
            source=text,
            confusions=[Confused(0, 0, 9, [text, text])],
            mistaken=[MistakenChip(0, 1, 0.5, noise(1, 8, 8)[0])],
            map=draw_map(np.ones((2, 2)), np.zeros(2, int)),
            unclassified=[(text, text)],
            run=RunFacts(**{**vars(RUN), **dict.fromkeys(texts, text), "ports": {text: text}}),
        )
        return Tags(page).found

    assert len(tags(name)) > 100
    assert tags(name) == tags("harmless")


def test_reasons_are_bounded(tmp_path: Path) -> None:
    unclassified = {f"reason {number}": number for number in range(1, 5001)}
    page = make_page(
        tmp_path / "p.html", np.zeros(0, int), np.zeros(0), classes=["a"], reasons=unclassified
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
    page = make_page(
        tmp_path / "p.html",
        class_indices,
        rng.normal(0, 1e-300, len(class_indices)) * 1e8 - 1e9 * rng.random(len(class_indices)),
        classes=[names[index % 7] for index in range(classes)],
        chips=noise(100, 130, 130),
        names=lambda chip_id: names[chip_id % 7],
        reasons={f"{names[index % 7]}{index}": 1 for index in range(2000)},
        run=RunFacts(**{**vars(RUN), **dict.fromkeys(("archive", "model", "device"), names[0])}),
    )
    assert len(page.encode()) < 3_000_000
    shown = page.count('<section class="sheet"')
    assert shown == classes if classes <= 20 else shown >= 80
    if classes <= MAX_CLASSES:
        assert ("shown without chips" in page) == (shown < classes)
    assert ("4,000 further classes have" in page) == (classes == 5000)


def test_thumbnails_of_ordinary_chips_all_fit(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    blurred = np.stack([cv2.GaussianBlur(chip, (0, 0), 2) for chip in noise(100, 96, 96)])
    page = make_page(
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
        make_page(path, np.zeros(1, int), np.ones(1), classes=["a"])
    assert [file.name for file in tmp_path.iterdir()] == ["preview.html"]
    assert path.read_text() == "old"


def test_the_page_needs_a_folder(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="none"):
        make_page(tmp_path / "none" / "p.html", np.zeros(1, int), np.ones(1), classes=["a"])


def test_a_small_run_in_the_browser(tmp_path: Path, browser: Browser) -> None:
    class_indices = np.repeat([1, 0, 2], [700, 300, 1])
    no_buildings = np.append(np.linspace(0.5, 0.94, 300), np.linspace(0.951, 0.999, 400))
    certainties = np.concatenate([no_buildings, np.linspace(0.9, 0.99, 300), [0.25]])
    path = tmp_path / "p.html"
    make_page(
        path,
        class_indices,
        certainties,
        classes=["Buildings", "No Buildings", "Water", "Clouds"],
        chips=noise(100, 32, 48),
        reasons={"truncated": 4, "not an image": 2},
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
    kept = sample_sizes(4).total
    assert len(images) == kept + kept + 1
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
    make_page(
        path,
        np.arange(count) % len(HOSTILE),
        np.linspace(0, 1, count),
        classes=HOSTILE,
        names=lambda chip_id: HOSTILE[chip_id // 3 % len(HOSTILE)],
        reasons={name: 1 for name in HOSTILE},
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
    make_page(
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
    make_page(
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
    make_page(path, np.zeros(1000, int), np.linspace(0, 1, 1000), classes=["a", "b"], skip=skip)
    browser.open(path)
    (note,) = texts(browser, ".note")
    assert f"the {1000 - skip:,} that were classified since then, not from all 1,000" in note
    assert texts(browser, ".classes tbody td:nth-child(2)")[0] == "1,000 100.0%"
    assert len(browser.evaluate(IMAGES)) == min(1000 - skip, sample_sizes(2).total)


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
