"""What is an archive, and what lies beside it."""

from pathlib import Path

import pytest

from workflow.archives import choose_archives, contents_of, lonely_references, reference_of


def test_what_is_in_a_folder_is_an_archive_or_is_named(tmp_path: Path) -> None:
    for folder in ("chips/.cache", "notes", ".hidden", "deployed/tasks"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("chips/a.PNG", "chips/.cache/b.png", "notes/.c.png", "deployed/tasks/d.png"):
        (tmp_path / name).write_text("")
    (tmp_path / "linked").symlink_to("chips")
    (tmp_path / "notes" / "loop").symlink_to(tmp_path / "notes")
    (tmp_path / "gone.zip").symlink_to("nowhere")
    files = (
        "a.TAR",
        "b.zip",
        "c.tbz2",
        "d.tar.zst",
        "e.7z",
        "f.csv.gz",
        "g.tiff",
        "h",
        "b.geojson",
    )
    for name in files:
        (tmp_path / name).write_text("")
    names = [path.name for path in tmp_path.iterdir()]
    found = choose_archives(names, tmp_path, {"deployed"})
    assert found.archives == ["a.TAR", "b.zip", "c.tbz2", "chips", "linked"]
    assert found.refused.keys() == {"gone.zip"}
    assert found.passed_over.keys() == {"d.tar.zst", "e.7z", "f.csv.gz", "g.tiff"}
    assert found.others == ["h", "notes"]


def test_folders_of_chips_in_a_store_are_named() -> None:
    found = choose_archives(["a.tar", "west/1.png", "west/2.png", "x/notes.txt", "y/.z/1.png"])
    assert (found.archives, list(found.passed_over)) == (["a.tar"], ["west/"])


def test_references_lie_beside_archives() -> None:
    names = ["a.tar", "b.tar.gz", "west", "a.zip.tar"]
    beside = ["a.geojson", "b.geojson", "west.geojson", "a.zip.geojson"]
    assert [reference_of(name) for name in names] == beside
    assert lonely_references([*beside, "ref.geojson", "c.geojson"], names) == ["c.geojson"]


@pytest.mark.parametrize("change", ["add", "grow", "take away"])
def test_any_change_in_a_folder_changes_its_description(change: str, tmp_path: Path) -> None:
    file = tmp_path / "f" / "sub" / "a.png"
    file.parent.mkdir(parents=True)
    file.write_text("a")
    before = contents_of(tmp_path / "f")
    assert before == contents_of(tmp_path / "f")
    if change == "add":
        (file.parent / "b.png").write_text("b")
    elif change == "grow":
        file.write_text("aa")
    else:
        file.unlink()
    assert contents_of(tmp_path / "f") != before
    assert contents_of(file) == ""
