"""The command line: what is said before anything is loaded, and ports from several places."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from chip_classifier import VERSION
from chip_classifier.command_line import DEFAULT_WORK_DIR, HELP
from chip_classifier.ports_json import STRING_PORTS
from chip_files import SCRIPT, assert_succeeded, make_tar, make_work_dir, run_task, uniform_png


def run(*arguments: object) -> subprocess.CompletedProcess:
    """Run the script on a command line that ends it at once."""
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, check=False, encoding="utf-8", timeout=60)


def test_without_arguments_the_usage_is_shown() -> None:
    if DEFAULT_WORK_DIR.exists():
        pytest.skip(f"{DEFAULT_WORK_DIR} is there")
    done = run()
    assert done.returncode == 2
    assert done.stderr.startswith("usage: ")
    assert "give --chips, --model and --out, or --work-dir" in done.stderr


def test_current_directory_that_is_gone_is_named(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    flags = "--chips c.tar --model m.h5 --out o"
    command = ["sh", "-c", f'rmdir "$PWD" && "{sys.executable}" "{SCRIPT}" {flags}']
    done = subprocess.run(
        command, cwd=gone, capture_output=True, check=False, encoding="utf-8", timeout=60
    )
    assert done.returncode == 2
    assert "the current directory cannot be used" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("flag", ["--chips", "--model", "--out", "--work-dir", "--ports"])
def test_empty_path_is_not_the_current_directory(flag: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), flag, ""],
        cwd=tmp_path,
        capture_output=True,
        check=False,
        encoding="utf-8",
        timeout=60,
    )
    assert done.returncode == 2
    assert f"{flag}: the path is empty" in done.stderr
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("typo", ["--clases", "\u2014classes", "-classes"])
def test_flag_that_is_mistyped_is_guessed(typo: str, tmp_path: Path) -> None:
    done = run("--chips", tmp_path, "--model", "m.h5", "--out", tmp_path / "out", typo, "a,b")
    assert done.returncode == 2
    assert "did you mean --classes?" in done.stderr


def test_version_is_told() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"deploy-chip-classifier.py {VERSION}\n")


def test_help_has_groups_and_every_port() -> None:
    text = run("--help").stdout
    for group in ("what to give:", "how the model was trained:", "what to get:"):
        assert f"\n{group}\n" in text
    assert HELP.keys() >= set(STRING_PORTS)
    for port in STRING_PORTS:
        assert f"--{port} {HELP[port][0]}" in text.replace("[True]", "True")


def test_file_of_ports_must_exist(bands_model: Path, tmp_path: Path) -> None:
    (tmp_path / "chips").mkdir()
    (tmp_path / "chips" / "a.png").write_bytes(uniform_png(1, 2, 3))
    given = ("--chips", tmp_path / "chips", "--model", bands_model, "--out", tmp_path / "out")
    done = run(*given, "--ports", tmp_path / "prots.json")
    assert done.returncode == 1
    assert f"The file of ports {tmp_path / 'prots.json'} does not exist" in done.stderr


def test_ports_of_the_model_the_file_and_flags(softmax_model: Path, tmp_path: Path) -> None:
    """Flags go before --ports, which goes before the model's own; out.log says which is which."""
    model = tmp_path / "model"
    model.mkdir()
    (model / "m.h5").write_bytes(softmax_model.read_bytes())
    (model / "ports.json").write_text(
        '{"classes": ["Red", "Blue"], "preprocessing": "none", "deploy_batch": 7, "note": "x"}'
    )
    (tmp_path / "mine.json").write_text('{"deploy_batch": "5", "classes": "R, B"}')
    (tmp_path / "chips").mkdir()
    for name, color in (("r", (200, 0, 0)), ("b", (0, 0, 200))):
        (tmp_path / "chips" / f"{name}.png").write_bytes(uniform_png(*color))
    out = tmp_path / "out"
    given = ("--chips", tmp_path / "chips", "--model", model / "m.h5", "--out", out)
    flags = ("--ports", tmp_path / "mine.json", "--classes", "rot, blau", "--probabilities")
    done = run(*given, *flags)
    assert done.returncode == 0, done.stderr
    log = (out / "out.log").read_text()
    assert "Port deploy_batch: 5" in log
    assert "Port preprocessing: none" in log
    assert "Set by the command line: classes, probabilities" in log
    assert "Set by mine.json: deploy_batch" in log
    assert "Set by ports.json beside the model: preprocessing" in log
    assert "ports.json beside the model sets 'note', which is no string port" in done.stderr
    assert '"r": {"class": "rot"' in (out / "classified.json").read_text()
    assert '"probabilities": {"rot"' in (out / "classified.json").read_text()

    (model / "ports.json").write_text('{"size": "many"}')
    done = run(*given)
    assert done.returncode == 1
    assert "positive whole number, not 'many'. (It is set in ports.json beside" in done.stderr


def test_ports_of_the_model_count_in_a_work_directory(softmax_model: Path, tmp_path: Path) -> None:
    chips = make_tar([("c/r.png", uniform_png(200, 0, 0)), ("c/b.png", uniform_png(0, 0, 200))])
    work_dir = make_work_dir(tmp_path / "w", chips, softmax_model, {"preprocessing": "none"})
    (work_dir / "input" / "model" / "ports.json").write_text(
        '{"classes": "Red, Blue", "preprocessing": "caffe"}'
    )
    found = assert_succeeded(run_task(work_dir)).classified
    assert [found[name]["class"] for name in ("r", "b")] == ["Red", "Blue"]
    assert found["r"]["certainty"] == pytest.approx(1 / (1 + np.exp(-20)))
