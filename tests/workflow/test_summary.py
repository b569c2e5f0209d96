"""The page of many archives, and their map as one."""

import csv
import json
from pathlib import Path

import pytest

from browser import Browser
from workflow.summary import SharedFeatures, write_map, write_page, write_table

HOSTILE = "<script>x</script>\"'&.tar"


def make_task(
    out: Path, name: str, features: list[dict] | None, warning: str | None = None
) -> None:
    """Make what a task leaves behind, as far as the summary reads it."""
    output = out / "tasks" / name / "output"
    (output / "results").mkdir(parents=True)
    (output / "logs").mkdir()
    (output / "logs" / "preview.html").write_text("a page")
    line = "2026-01-01 00:00:00,000 INFO Total classification time: 2.00 s, 1234.5 chips/s\n"
    (output / "logs" / "out.log").write_text(line)
    mark = {"reason": None, "warning": warning, "chips": 1}
    (out / "tasks" / name / "done").write_text(json.dumps(mark))
    if features is not None:
        lines = ",\n".join(map(json.dumps, features))
        text = f'{{"type": "FeatureCollection", "features": [\n{lines}\n]}}\n'
        (output / "results" / "classified.geojson").write_text(text)


def feature(name: str, **properties: object) -> dict:
    """Make a feature."""
    geometry = {"type": "Point", "coordinates": [1.5, 2]}
    return {"type": "Feature", "properties": {"name": name, **properties}, "geometry": geometry}


def test_maps_become_one(tmp_path: Path) -> None:
    path = tmp_path / "map.geojson"
    make_task(tmp_path, "a.tar", [feature("1", **{"class": "x"}), feature("2")])
    make_task(tmp_path, "b.tar", None)
    make_task(tmp_path, HOSTILE, [feature("1")])
    write_map(path, tmp_path, ["a.tar", "b.tar", HOSTILE], SharedFeatures())
    merged = json.loads(path.read_text())
    found = [one["properties"] for one in merged["features"]]
    assert found == [
        {"archive": "a.tar", "name": "1", "class": "x"},
        {"archive": "a.tar", "name": "2"},
        {"archive": HOSTILE, "name": "1"},
    ]
    assert merged["features"][0]["geometry"] == feature("1")["geometry"]


def test_without_maps_there_is_none(tmp_path: Path) -> None:
    make_task(tmp_path, "a.tar", None)
    write_map(tmp_path / "map.geojson", tmp_path, ["a.tar"], SharedFeatures())
    assert list(tmp_path.glob("*.geojson")) == []


def test_tables_become_one(tmp_path: Path) -> None:
    for name in ("a.tar", "b.tar", HOSTILE):
        make_task(tmp_path, name, None)
    for name in ("a.tar", HOSTILE):
        table = tmp_path / "tasks" / name / "output" / "results" / "classified.csv"
        long = b"l" * 200_000
        table.write_bytes(
            b'chip,class,reason\r\n"1, ""x""\ny",A,\r\n2,,"cut, off"\r\n%s,A,\r\n' % long
        )
    assert write_table(tmp_path / "all.csv", tmp_path, ["a.tar", "b.tar", HOSTILE]) == ["b.tar"]
    with (tmp_path / "all.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["chip", "class", "reason"]
    assert rows == [
        [f"{name}/{chip}", *values]
        for name in ("a.tar", HOSTILE)
        for chip, *values in (
            ['1, "x"\ny', "A", ""],
            ["2", "", "cut, off"],
            [long.decode(), "A", ""],
        )
    ]


def test_the_page_has_every_archive(tmp_path: Path) -> None:
    make_task(tmp_path, "a.tar", None, "Warning: the chips are almost black.")
    make_task(tmp_path, HOSTILE, None)
    done = {"status": "done", "chips": 12_345, "unclassified": 6, "classes": {"x": 12_339}}
    summary = {
        "complete": False,
        "archives": 4,
        "done": 2,
        "chips": 24_690,
        "unclassified": 12,
        "classes": {"Z\u00fcrich\n": 24_678},
        "warnings": [{"warning": "No <b>.", "archives": 2, "first": HOSTILE}],
        "tasks": {
            "a.tar": done,
            HOSTILE: done,
            "broken.tar": {"status": "failed", "reason": "It is cut off."},
            "new.tar": {"status": "not run yet", "reason": "not run yet"},
        },
    }
    logs = tmp_path / "tasks" / "broken.tar" / "output" / "logs"
    logs.mkdir(parents=True)
    (logs / "preview.html").touch()  # as in a store, where a task has left none
    write_page(tmp_path / "summary.html", tmp_path, summary)
    page = (tmp_path / "summary.html").read_text()
    assert page.isascii()
    assert "Z&#252;rich\\n" in page
    assert "2 of 4 archives are classified" in page
    assert "24,690 chips, 12 of them not classified" in page
    rows = page.partition("<tbody>")[2].split("<tr>")[1:]
    assert len(rows) == 4
    assert '<a href="tasks/a.tar/output/logs/preview.html"><bdi>a.tar</bdi></a>' in rows[0]
    for text in ("12,345", ">6<", "1,234", "Warning: the chips are almost black."):
        assert text in rows[0]
    assert "<script>" not in page
    assert "&lt;script&gt;x&lt;/script&gt;" in rows[1]
    assert 'href="tasks/%3Cscript%3Ex%3C/script%3E%22%27%26.tar/output' in rows[1]
    assert "It is cut off." in rows[2]
    assert "<a " not in rows[2]
    assert rows[3].count("not run yet") == 1


@pytest.mark.parametrize("width", [400, 1280])
def test_no_word_is_broken_where_there_is_room(
    width: int, chromium: Browser, tmp_path: Path
) -> None:
    """A word in two lines has two boxes; one that is longer than the page may have."""
    names = ["north-east_2019_summer.tar.gz", "a.tar", "x" * 200 + ".tar"]
    sentence = "unclassified.json has a reason for each of them. " * 8
    for name in names:
        make_task(tmp_path, name, None, sentence)
    done = {"status": "done", "chips": 1_234_567, "unclassified": 0, "classes": {}}
    summary = {"archives": 3, "done": 3, "chips": 3, "unclassified": 0, "classes": {}}
    warnings = [{"warning": sentence, "archives": 3, "first": names[0]}]
    summary |= {"tasks": dict.fromkeys(names, done), "warnings": warnings}
    write_page(tmp_path / "summary.html", tmp_path, summary)
    chromium.open(tmp_path / "summary.html", width=width)
    broken = chromium.evaluate("""(() => {
        const broken = [], texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
        for (let text; (text = texts.nextNode());) {
            for (const word of text.data.matchAll(/[^\\s-]+/g)) {
                const range = document.createRange();
                range.setStart(text, word.index);
                range.setEnd(text, word.index + word[0].length);
                if (range.getClientRects().length > 1) broken.push(word[0]);
            }
        }
        return broken;
    })()""")
    assert broken == [f"{'x' * 200}.tar"]
    assert chromium.evaluate("document.documentElement.scrollWidth") <= width
