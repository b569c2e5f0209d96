"""The page's script in a real browser, used as a person would: with mouse, keys and text."""

from __future__ import annotations

import csv
import io
import json
import re
import time
from pathlib import Path

import numpy as np
import pytest

from browser import Browser
from chip_classifier.review.chip_map import draw_map
from chip_classifier.review.page import Confused
from chip_classifier.review.sample import sample_sizes
from chip_classifier.review.scores import mistakes, score
from pages import HOSTILE, LOW_CONTRAST, make_page, noise, texts

# Names of the chips in sight, in the order of the page.
IN_SIGHT = """Array.from(document.querySelectorAll("#chips li")).filter(e => e.checkVisibility())
  .map(e => e.querySelector("figcaption > bdi").textContent)"""
# Of these chips: index of the class, of the true class, and certainty.
FACTS = """Array.from(document.querySelectorAll("#sheets li")).filter(e => e.checkVisibility())
  .map(e => [Number(e.closest(".sheet").id.slice(1)), Number(e.dataset.t), Number(e.dataset.v)])"""


class Chips:
    """A run's chips with their truth and place, drawn from a seed, and the page that shows them."""

    def __init__(self, path: Path, classes: int, chips: int) -> None:
        rng = np.random.default_rng(classes)
        self.names = [f"class {index}" for index in range(classes)]
        self.truths = rng.integers(0, classes, chips)
        self.given = np.where(rng.random(chips) < 0.7, self.truths, rng.integers(0, classes, chips))
        self.certainties = rng.random(chips).round(4)
        centres = np.column_stack([rng.uniform(10, 11, chips), rng.uniform(50, 51, chips)])
        self.scores = score(self.truths, self.given, classes)
        wrong = [
            Confused(*found[:3], [self.name(row) for row in found.rows])
            for found in mistakes(self.scores, self.truths, self.given, self.certainties)
        ]
        self.page = make_page(
            path,
            self.given,
            self.certainties,
            classes=self.names,
            chips=noise(100, 24, 24),
            names=self.name,
            truths=self.truths,
            centres=centres,
            values=lambda number: [(number % 3 % 2, 0.75), (1, 0.2)],
            scores=self.scores,
            source="ref.geojson",
            confusions=wrong,
            map=draw_map(centres, self.given),
        )

    def name(self, number: int) -> str:
        """Return the name of a chip."""
        return f"{'north' if number % 2 else 'south'}/tile_{number}"

    def number(self, name: str) -> int:
        """Return the number of a chip by its name."""
        return int(name.rpartition("_")[2])


def choose(browser: Browser, field: str, value: str) -> None:
    """Choose an option of a field, by keyboard as far as a headless browser opens lists."""
    browser.evaluate(
        f"(() => {{ const field = document.getElementById({field!r}); field.value = {value!r};"
        "for (const kind of ['input', 'change'])"
        "field.dispatchEvent(new Event(kind, {bubbles: true})); })()"
    )


@pytest.mark.parametrize(("classes", "chips"), [(2, 600), (12, 2000), (1000, 9000)])
def test_filters(tmp_path: Path, browser: Browser, classes: int, chips: int) -> None:
    run = Chips(tmp_path / "p.html", classes, chips)
    browser.open(tmp_path / "p.html", width=1280)
    everything = browser.evaluate("document.querySelectorAll('#sheets li').length")
    assert texts(browser, "#shown") == [f"{everything:,} of {chips:,} chips shown, 0 ticked"]

    # A class.
    browser.click("#class")
    browser.press("Escape")
    choose(browser, "class", "1")
    facts = browser.evaluate(FACTS)
    assert facts
    assert {given for given, _, _ in facts} == {1}
    assert texts(browser, "#shown")[0].startswith(f"{len(facts)} of ")
    dim = browser.evaluate("Array.from(document.querySelectorAll('.map .dim'), e => e.dataset.c)")
    assert "1" not in dim
    assert len(dim) == browser.evaluate("document.querySelectorAll('.map [data-c]').length") - 1

    # Its certainty, with the slider.
    browser.click("#from")  # in the middle
    assert browser.evaluate("document.activeElement.id") == "from"
    browser.press("ArrowRight")
    least = float(texts(browser, "#from-value")[0])
    assert 0.45 < least < 0.56
    assert browser.evaluate(FACTS) == [fact for fact in facts if fact[2] >= least]
    browser.press("Home")
    assert browser.evaluate(FACTS) == facts

    # All again, then a part of a name, in whatever case.
    browser.click("button[type=reset]")
    time.sleep(0.1)
    assert len(browser.evaluate(FACTS)) == everything
    browser.click("#name")
    browser.write("NORTH/tile_1")
    names = browser.evaluate(IN_SIGHT)
    assert names
    assert all(name.startswith("north/tile_1") for name in names)
    browser.write("no such chip")
    assert browser.evaluate(IN_SIGHT) == []
    browser.click("button[type=reset]")
    time.sleep(0.1)

    # Right and wrong answers.
    for value, is_right in (("right", True), ("wrong", False)):
        choose(browser, "true", value)
        facts = browser.evaluate(FACTS)
        assert facts
        assert all((given == truth) == is_right for given, truth, _ in facts)
        for name in browser.evaluate(IN_SIGHT)[:20]:
            number = run.number(name)
            assert (run.truths[number] == run.given[number]) == is_right


@pytest.mark.parametrize(("classes", "chips"), [(2, 600), (12, 2000), (1000, 9000)])
def test_order(tmp_path: Path, browser: Browser, classes: int, chips: int) -> None:
    run = Chips(tmp_path / "p.html", classes, chips)
    browser.open(tmp_path / "p.html")
    by_class = browser.evaluate(
        "Array.from(document.querySelectorAll('#chips li'), e => e.dataset.v)"
    )
    for order, key in (
        ("least", lambda name: run.certainties[run.number(name)]),
        ("most", lambda name: -run.certainties[run.number(name)]),
        ("name", str),
    ):
        choose(browser, "order", order)
        names = browser.evaluate(IN_SIGHT)
        assert len(names) == len(by_class)
        assert names == sorted(names, key=key)
    choose(browser, "order", "")
    assert by_class == browser.evaluate(
        "Array.from(document.querySelectorAll('#chips li'), e => e.dataset.v)"
    )


def test_a_cell_of_the_confusion_matrix_chooses_its_chips(tmp_path: Path, browser: Browser) -> None:
    run = Chips(tmp_path / "p.html", 3, 900)
    browser.open(tmp_path / "p.html")
    shown = browser.evaluate(
        "Array.from(document.querySelectorAll('.matrix td a'), "
        "a => [Number(a.dataset.t), Number(a.dataset.c), Number(a.textContent.replace(',', ''))])"
    )
    counted = {(t, g): int(((run.truths == t) & (run.given == g)).sum()) for t, g, _ in shown}
    assert len(counted) == 9
    assert all(counted[truth, given] == chips for truth, given, chips in shown)
    browser.click(".matrix a[data-t='0'][data-c='2']")
    facts = browser.evaluate(FACTS)
    assert facts
    assert {(truth, given) for given, truth, _ in facts} == {(0, 2)}
    # The chips are in the window: the page is too short for them to begin at its top.
    assert browser.evaluate("document.querySelector('#chips').getBoundingClientRect().top") < 450
    # A class in the table shows all of its sheet again.
    browser.click(".classes a[href='#c1']")
    time.sleep(0.1)
    assert len(browser.evaluate(FACTS)) == 3 * sample_sizes(3).total


def test_of_many_classes_the_confusions_are_listed(tmp_path: Path, browser: Browser) -> None:
    run = Chips(tmp_path / "p.html", 40, 4000)
    browser.open(tmp_path / "p.html")
    assert browser.evaluate("document.querySelector('.matrix')") is None
    listed = texts(browser, ".pairs a")
    assert len(listed) == 50
    chips, truth, given = re.match(r"(\d+) of class (\d+) given as class (\d+)", listed[0]).groups()
    is_one = (run.truths == int(truth)) & (run.given == int(given))
    assert is_one.sum() == int(chips)
    names = texts(browser, ".pairs p")[0].removesuffix(", \u2026").split(", ")
    order = is_one.nonzero()[0][np.argsort(-run.certainties[is_one])][:12]
    assert names == [run.name(number) for number in order]
    assert texts(browser, "#truth details:not([open]) summary") == ["20 more classes"]


def test_the_scores(tmp_path: Path, browser: Browser) -> None:
    run = Chips(tmp_path / "p.html", 2, 500)
    browser.open(tmp_path / "p.html")
    right = int((run.truths == run.given).sum())
    assert (
        f"{right / 500:.1%} of the answers are right: {right} of the 500"
        in texts(browser, ".score")[0]
    )
    rows = [row.split() for row in texts(browser, ".scores tbody tr")]
    for _, label, chips, precision, recall, _ in rows:
        hits = ((run.truths == int(label)) & (run.given == int(label))).sum()
        assert int(chips) == (run.truths == int(label)).sum()
        assert precision == f"{hits / (run.given == int(label)).sum():.1%}"
        assert recall == f"{hits / (run.truths == int(label)).sum():.1%}"


def test_enlarging(tmp_path: Path, browser: Browser) -> None:
    run = Chips(tmp_path / "p.html", 2, 300)
    browser.open(tmp_path / "p.html")
    names = browser.evaluate(IN_SIGHT)
    browser.click("#chips li img")
    assert browser.evaluate("document.querySelector('#view').open")
    assert browser.evaluate("document.querySelector('#view img').width") > 300
    number = run.number(names[0])
    right = "right" if run.truths[number] == run.given[number] else f"class {run.truths[number]}"
    certainty = f"certainty {run.certainties[number]:.4f}"
    told = f"{names[0]}: class {run.given[number]}, {certainty}. It is {right}."
    assert texts(browser, "#view p") == [told, f"class {number % 3 % 2} 0.75, class 1 0.2"]
    place = "['cx', 'cy'].map(name => document.querySelector('.map circle').getAttribute(name))"
    assert browser.evaluate(f"{place}.join(' ')") == browser.evaluate(
        "document.querySelector('#chips li').dataset.m"
    )
    browser.press("ArrowRight")
    assert texts(browser, "#view p")[0].startswith(f"{names[1]}:")
    browser.click("#view button[value='-1']")
    assert texts(browser, "#view p")[0].startswith(f"{names[0]}:")
    browser.click("#view input")
    assert texts(browser, "#shown")[0].endswith(", 1 ticked")
    browser.press("Escape")
    time.sleep(0.1)
    assert not browser.evaluate("document.querySelector('#view').open")
    # By keyboard: the focus is where it was, and seen.
    assert browser.evaluate("document.activeElement.matches('#chips li img')")
    browser.press("Enter")
    assert browser.evaluate("document.querySelector('#view').open")


def exported(browser: Browser, folder: Path, name: str, button: str) -> str:
    """Click on a button that exports a file, and return that."""
    browser.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
    browser.click(button)
    until = time.monotonic() + 20
    while not (folder / name).exists():
        assert time.monotonic() < until
        time.sleep(0.05)
    return (folder / name).read_bytes().decode()


@pytest.mark.parametrize("classes", [3, 1000])
def test_corrections_by_keyboard(tmp_path: Path, browser: Browser, classes: int) -> None:
    run = Chips(tmp_path / "p.html", classes, 900)
    browser.open(tmp_path / "p.html")
    assert browser.evaluate("document.querySelector('#export-corrections').disabled")
    names = browser.evaluate(IN_SIGHT)[:3]
    browser.evaluate("document.querySelector('#chips li img').focus()")
    browser.press("Enter")
    assert browser.evaluate("document.activeElement.value") == "1"  # the button Next
    for choice in ("2", "", "1"):  # the second one is not corrected
        choose(browser, "corrected", choice)
        browser.press("Escape")
        time.sleep(0.1)
        browser.press("Enter")
        browser.click("#view button[value='1']")
    browser.press("Escape")
    assert texts(browser, "#shown")[0].endswith(", 2 corrected")
    assert sorted(texts(browser, "figcaption strong")) == [
        "corrected: class 1",
        "corrected: class 2",
    ]
    table = exported(browser, tmp_path, "corrections.csv", "#export-corrections")
    assert list(csv.reader(io.StringIO(table, newline=""))) == [
        ["chip", "class_given", "class_corrected"],
        [names[0], run.names[run.given[run.number(names[0])]], "class 2"],
        [names[2], run.names[run.given[run.number(names[2])]], "class 1"],
    ]
    assert table.count("\r\n") == 3


def test_brightness_and_the_place_of_a_tick(tmp_path: Path, browser: Browser) -> None:
    Chips(tmp_path / "p.html", 2, 300)
    browser.open(tmp_path / "p.html", width=400)
    shown = "getComputedStyle(document.querySelector('#chips li img')).filter"
    assert browser.evaluate(shown) == "brightness(1)"
    choose(browser, "brightness", "4")
    assert browser.evaluate(shown) == "brightness(4)"
    inside = """Array.from(document.querySelectorAll("#chips li")).every(li => {
      const card = li.getBoundingClientRect();
      const box = li.querySelector(".tick input").getBoundingClientRect();
      return box.left >= card.left && box.right <= card.right && box.bottom <= card.bottom; })"""
    assert browser.evaluate(inside)
    browser.open(tmp_path / "p.html", width=1280)
    assert browser.evaluate(inside)


@pytest.mark.parametrize("chips", [600, 25_000])
def test_the_map_leads_to_chips(tmp_path: Path, browser: Browser, chips: int) -> None:
    Chips(tmp_path / "p.html", 3, chips)
    browser.open(tmp_path / "p.html")
    titles = browser.evaluate(
        "Array.from(document.querySelectorAll('.map path title'), e => e.textContent)"
    )
    assert sorted(titles) == ["class 0", "class 1", "class 2"]
    told = browser.evaluate(
        "Array.from(document.querySelectorAll('.map a'), e => e.querySelector('title').textContent)"
    )
    one = next(n for n, text in enumerate(told) if "," not in text)
    several = next(n for n, text in enumerate(told) if "," in text)
    assert re.fullmatch(r"(north|south)/tile_\d+: class \d", told[one])
    # By keyboard: one of them has the Tab key, the arrows go on from there.
    browser.evaluate("document.querySelector(\".map a[tabindex='0']\").focus()")
    for _ in range(one):
        browser.press("ArrowRight")
    browser.press("Enter")
    assert browser.evaluate("document.querySelector('#view').open")
    assert texts(browser, "#view p")[0].startswith(told[one])
    browser.press("Escape")
    browser.evaluate(
        f"document.querySelectorAll('.map a')[{several}]"
        ".dispatchEvent(new MouseEvent('click', {bubbles: true}))"
    )
    time.sleep(0.1)
    here = browser.evaluate(IN_SIGHT)
    assert len(here) > 1
    assert all(f"{name}:" in told[several] for name in here[:5] if len(here) <= 5)
    browser.click("#here")
    assert len(browser.evaluate(IN_SIGHT)) > len(here)


def test_long_class_names_are_exported_whole(tmp_path: Path, browser: Browser) -> None:
    names = [f"Residential building with {what} of the main street" for what in ("a", '\u202e"b')]
    names.append("x, " * 400)
    make_page(
        tmp_path / "p.html",
        np.arange(3),
        np.ones(3),
        classes=names,
        truths=np.array([1, 2, 0]),
    )
    browser.open(tmp_path / "p.html")
    browser.evaluate("document.querySelectorAll('.tick input').forEach(box => box.click())")
    found = json.loads(exported(browser, tmp_path, "ticked.json", "#export"))["chips"]
    assert sorted(chip["class"] for chip in found) == sorted(names)
    assert sorted(chip["true_class"] for chip in found) == sorted(names)


@pytest.mark.parametrize("classes", [2, 12, 1000])
def test_export(tmp_path: Path, browser: Browser, classes: int) -> None:
    run = Chips(tmp_path / "p.html", classes, 3000)
    browser.open(tmp_path / "p.html")
    assert browser.evaluate("document.querySelector('#export').disabled")
    for position in (1, 2):
        browser.click(f"#sheets section:nth-child({position}) .tick input")
    names = browser.evaluate(
        "Array.from(document.querySelectorAll('.ticked figcaption > bdi'), e => e.textContent)"
    )
    browser.click("#only-ticked")
    assert browser.evaluate(IN_SIGHT) == names
    content = json.loads(exported(browser, tmp_path, "ticked.json", "#export"))
    assert content["archive"] == "chips.tar"
    assert content["chips"] == [
        {
            "name": name,
            "class": run.names[run.given[number]],
            "certainty": run.certainties[number],
            "true_class": run.names[run.truths[number]],
        }
        for name in names
        for number in [run.number(name)]
    ]
    assert len(names) == 2


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [400, 1280])
def test_hostile_names_stay_text(tmp_path: Path, browser: Browser, width: int, dark: bool) -> None:
    count = len(HOSTILE)
    indices = np.arange(count)
    truths = (indices + 1) % count
    centres = np.column_stack([indices / 1000, indices / 1000])
    make_page(
        tmp_path / "p.html",
        indices,
        np.linspace(0, 1, count),
        classes=HOSTILE,
        names=HOSTILE.__getitem__,
        truths=truths,
        centres=centres,
        scores=score(truths, indices, count),
        source=HOSTILE[0],
        confusions=[Confused(0, 1, 5, HOSTILE)],
        map=draw_map(centres, indices),
        unclassified=[(name, name) for name in HOSTILE],
        reasons=dict.fromkeys(HOSTILE, 1),
    )
    browser.open(tmp_path / "p.html", width=width, dark=dark)
    browser.evaluate("document.querySelectorAll('details').forEach(e => e.open = true)")
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.evaluate(LOW_CONTRAST) == []
    browser.evaluate("document.querySelectorAll('.tick input').forEach(box => box.click())")
    found = json.loads(exported(browser, tmp_path, "ticked.json", "#export"))["chips"]
    long = {chip["name"] for chip in found if chip.get("shortened")}
    assert len(long) == 2  # 5,000 characters each
    whole = {chip["name"] for chip in found} - long
    assert whole == {name for name in HOSTILE if len(name) < 5000}
    for position in range(1, count):
        browser.evaluate("document.querySelector('#view').close()")
        browser.evaluate(f"document.querySelectorAll('#sheets li img')[{position}].click()")
    assert browser.evaluate("window.pwned === undefined")
    assert browser.evaluate("document.querySelectorAll('h1, main, footer').length") == 3


def test_a_phone_shows_chips_side_by_side_and_folds_the_facts(
    tmp_path: Path, browser: Browser
) -> None:
    Chips(tmp_path / "p.html", 2, 300)
    tops = (
        "Array.from(document.querySelectorAll('.group:first-child li'), "
        "e => e.getBoundingClientRect().top).slice(0, 2)"
    )
    browser.open(tmp_path / "p.html", width=400)
    first, second = browser.evaluate(tops)
    assert first == second
    assert not browser.evaluate("document.querySelector('#run > details').open")
    assert browser.evaluate("document.documentElement.scrollWidth") <= 400
    browser.open(tmp_path / "p.html", width=1280)
    assert browser.evaluate("document.querySelector('#run > details').open")


def test_without_the_script_all_is_there(tmp_path: Path, browser: Browser) -> None:
    run = Chips(tmp_path / "p.html", 3, 900)
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(tmp_path / "p.html", width=400)
        assert not browser.evaluate("document.querySelector('.tools').checkVisibility()")
        assert browser.evaluate("document.querySelector('#run > details').open")
        assert len(browser.evaluate(IN_SIGHT)) == 3 * sample_sizes(3).total
        assert browser.evaluate("document.querySelectorAll('.map [data-c]').length") == 3
        assert f"{run.scores.accuracy:.1%}" in texts(browser, ".figures")[0]
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)


def test_the_policy_lets_no_other_script_run(tmp_path: Path, chromium: Browser) -> None:
    page = make_page(tmp_path / "p.html", np.zeros(1, int), np.ones(1), classes=["a"])
    changed = page.replace('"use strict";', '"use strict"; window.changed = 1;')
    assert changed != page
    (tmp_path / "p.html").write_text(changed)
    chromium.problems.clear()
    chromium.open(tmp_path / "p.html")
    assert chromium.evaluate("window.changed") is None
    assert any("Content Security Policy" in problem for problem in chromium.problems)
