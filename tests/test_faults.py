"""What a night's run may meet: kills, hostile archives and chips, full disks, little memory.

kill_run.py, load_run.py and fuzz.py try the same at length.
"""

import gzip
import html
import json
import multiprocessing
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import ModuleType

import cv2
import h5py
import numpy as np
import pytest

import chip_files
from chip_classifier import MAX_CHIP_PIXELS
from chip_classifier.errors import BrokenArchive, UndecodableChip
from chip_classifier.layout import TRY_AGAIN
from chip_classifier.ports import Ports
from chip_classifier.settings import settle
from chip_classifier.sources.tar import Tar
from chip_files import Run, decode_chip, make_tar, make_work_dir, run_task, uniform_png
from keras_files.open_model import open_model
from measure import fuzz, kill_run

UNIT_PORTS = {"normalization_vector": "0,0,0"}  # the model sees the pixels as they are
NOBODY = 65534


def colour_archive(count: int) -> tuple[bytes, dict[str, dict]]:
    """Make an archive of chips of one colour, and what bands_model answers with UNIT_PORTS."""
    colours = np.random.default_rng(count).integers(0, 256, (count, 3)).tolist()
    members = [(f"chips/{n}.png", uniform_png(*colour)) for n, colour in enumerate(colours)]
    bands = {str(n): (blue, green, red) for n, (red, green, blue) in enumerate(colours)}
    return make_tar(members), {
        name: {"class": str(np.argmax(values)), "certainty": float(max(values))}
        for name, values in bands.items()
    }


def run_with(work_dir: Path, **options: object) -> Run:
    """Run the task as a process with options of subprocess.run."""
    done = subprocess.run(
        chip_files.command(work_dir),
        capture_output=True,
        check=False,
        encoding="utf-8",
        stdin=subprocess.DEVNULL,
        timeout=chip_files.TIMEOUT_SECONDS,
        **options,
    )
    return Run(work_dir, done.returncode, done.stdout, done.stderr)


def wait_until(condition: Callable[[], bool], process: subprocess.Popen) -> None:
    """Wait for something to happen while the task runs."""
    give_up = time.monotonic() + chip_files.TIMEOUT_SECONDS
    while not condition():
        assert process.poll() is None, "the task ended too early"
        assert time.monotonic() < give_up
        time.sleep(0.002)


def journal_of(work_dir: Path) -> Path:
    """Return the path of the journal."""
    return work_dir / "output" / "results" / "resume.jsonl"


def kill_after(work_dir: Path, lines: int, number: int = signal.SIGKILL) -> float:
    """Run the task, end it when its journal has so many lines; give the seconds it took to end."""
    journal = journal_of(work_dir)
    process = kill_run.start(work_dir)
    wait_until(lambda: journal.exists() and journal.read_bytes().count(b"\n") >= lines, process)
    process.send_signal(number)
    sent = time.monotonic()
    process.wait(chip_files.TIMEOUT_SECONDS)
    return time.monotonic() - sent


# --------------------------------------------------------------------------- killed and resumed


def test_killed_job_is_resumed_without_loss(tmp_path: Path) -> None:
    tally = kill_run.kill_run(tmp_path, kills=3, chips=1500, seed=1)
    assert tally.broken == []
    assert tally.phases.total() == 3
    assert tally.resumed >= 1
    assert tally.jobs >= 1


@pytest.fixture(scope="module")
def killed(bands_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The work directory of a run over 3,000 chips that was killed in the middle."""
    archive, _ = colour_archive(3000)
    ports = {"deploy_batch": "1", **UNIT_PORTS}
    folder = tmp_path_factory.mktemp("killed") / "w"
    work_dir = make_work_dir(folder, archive, bands_model, ports)
    kill_after(work_dir, lines=50)
    assert chip_files.read_json(work_dir / "status.json")["status"] == "failed"
    return work_dir


def test_resumed_run_warns_of_what_only_the_killed_one_saw(
    bands_model: Path, tmp_path: Path
) -> None:
    bright, black = chip_files.png(np.full((4, 4, 3), 50_000, np.uint16)), uniform_png(0, 0, 0)
    members = [(f"chips/{n}.png", bright if n < 3 else black) for n in range(1500)]
    ports = {"deploy_batch": "1", **UNIT_PORTS}
    work_dir = make_work_dir(tmp_path / "w", make_tar(members), bands_model, ports)
    kill_after(work_dir, lines=50)
    killed = shutil.copytree(work_dir, tmp_path / "killed")
    run = chip_files.assert_succeeded(run_task(work_dir))  # its warnings are in status.json
    assert kill_run.logged_batches(work_dir)[0][0] >= 49
    told = [line.partition(" WARNING ")[2] for line in run.warnings()]
    assert len(told) == 2
    assert told[0].startswith("Some chips have 16-bit bands")
    assert told[1].startswith("The model's outputs are no probabilities")
    page = html.unescape((work_dir / "output" / "logs" / "preview.html").read_text())
    assert all(warning in page for warning in told)

    # A journal that does not say what was noticed, as earlier ones, is not gone on from.
    lines = journal_of(killed).read_text().splitlines(keepends=True)
    lines[1:] = [re.sub(r',"noticed":\[[^]]*\]', "", line) for line in lines[1:]]
    journal_of(killed).write_text("".join(lines))
    again = chip_files.assert_succeeded(run_task(killed))
    assert kill_run.logged_batches(killed)[0] == (0, 0)
    assert again.status == run.status
    assert again.classified == run.classified


@pytest.mark.parametrize("changed", ["archive", "model", "classes"])
def test_changed_input_starts_anew_and_says_so(
    changed: str, killed: Path, softmax_model: Path, tmp_path: Path
) -> None:
    work_dir = shutil.copytree(killed, tmp_path / "w")
    archive, answers = colour_archive(3000)
    ports = {"deploy_batch": "1", **UNIT_PORTS}
    if changed == "archive":
        archive, answers = colour_archive(200)
        (work_dir / "input" / "chips" / "chips.tar").write_bytes(archive)
    elif changed == "model":
        (work_dir / "input" / "model" / "bands.h5").unlink()
        shutil.copy(softmax_model, work_dir / "input" / "model")
    else:
        names = ("blue", "green", "red")
        answers = {
            name: {**answer, "class": names[int(answer["class"])]}
            for name, answer in answers.items()
        }
        ports["classes"] = ",".join(names)
        (work_dir / "input" / "ports.json").write_text(json.dumps(ports))
    run = chip_files.assert_succeeded(run_task(work_dir))
    assert re.search(rf"Starting anew: .*{changed}", run.log)
    assert kill_run.logged_batches(work_dir)[0] == (0, 0)
    assert not journal_of(work_dir).exists()
    if changed == "model":
        assert {answer["class"] for answer in run.classified.values()} == {"0", "1"}
        assert len(run.classified) == 3000
    else:
        assert run.classified == answers


@pytest.mark.parametrize(
    ("port", "values"),
    [
        ("normalization_vector", ((123.68123, 0.0, 1e-7), (123.68124, 0.0, 1e-7))),
        ("normalization_value", ((), (1.0,))),
        ("normalization_value", ((58.395,), (58.39501,))),
        ("classes", (None, ("0", "1"))),
        ("classes", (("a", "b"), ("b", "a"))),
        ("deploy_batch", (1, 10)),
    ],
)
def test_no_change_of_a_port_is_too_small_for_starting_anew(
    port: str, values: tuple, bands_model: Path
) -> None:
    both = [Ports(**{port: value}) for value in values]
    first, second = (settle(ports, open_model(bands_model)).in_force for ports in both)
    assert first != second


def run_listing_at_first(work_dir: Path, seconds: float) -> Run:
    """Run the task, listing chips for so long before TensorFlow is loaded."""
    program = (
        "import os\n"
        "from chip_classifier.environment import prepare_environment\n"
        "prepare_environment()\n"
        "from chip_classifier import listing\n"
        "import chip_files\n"
        f"listing.LISTING_SECONDS = {seconds}\n"
        "task = chip_files.load_task()\n"
        "os._exit(task.main(task.begin(task.__doc__)))\n"
    )
    path = os.pathsep.join(
        filter(
            None,
            (str(chip_files.REPOSITORY), str(Path(__file__).parent), os.environ.get("PYTHONPATH")),
        )
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "--work-dir", work_dir],
        check=False,
        env={**os.environ, "PYTHONPATH": path},
    )
    return Run(work_dir, done.returncode, "", "")


def test_results_do_not_depend_on_when_the_chips_are_listed(
    checksum_model: Path, tmp_path: Path
) -> None:
    archive, _ = colour_archive(3000)
    hasty, patient = (
        run_listing_at_first(make_work_dir(tmp_path / str(s), archive, checksum_model), s)
        for s in (0, 60)
    )
    assert hasty.code == patient.code == 0
    assert hasty.classified == patient.classified


def test_archive_without_chips_fails_however_long_it_takes_to_find_out(
    checksum_model: Path, tmp_path: Path
) -> None:
    archive = make_tar([(f"chips/{number}.txt", b"") for number in range(3000)])
    run = run_listing_at_first(make_work_dir(tmp_path / "w", archive, checksum_model), 0)
    assert run.code == 1
    assert run.status["status"] == "failed"
    assert (
        "holds no jpeg, png, tif, webp, bmp or jp2 chips (3000 other files)" in run.status["reason"]
    )


def test_damage_is_found_before_the_chips_in_front_of_it_are_classified(
    checksum_model: Path, tmp_path: Path
) -> None:
    archive, _ = colour_archive(3000)
    end = archive.rindex(b"ustar")  # in the header of the last chip
    work_dir = make_work_dir(tmp_path / "w", archive[:end], checksum_model, {"deploy_batch": "1"})
    run = run_listing_at_first(work_dir, 0)
    assert run.code == 1
    assert "is cut off or damaged after the member" in run.status["reason"]
    # To list the chips takes a small part of the time to classify them one by one.
    assert len(kill_run.logged_batches(work_dir)) < 1500


def test_results_of_an_earlier_run_outlast_one_that_is_killed(
    bands_model: Path, tmp_path: Path
) -> None:
    work_dir = make_work_dir(tmp_path / "w", colour_archive(2)[0], bands_model)
    results, log = work_dir / "output" / "results", work_dir / "output" / "logs" / "out.log"
    results.mkdir(parents=True)
    for name in kill_run.RESULTS:
        (results / name).write_text("{}")
    (work_dir / "status.json").write_text('{"status": "success", "reason": null}')
    process = kill_run.start(work_dir)
    wait_until(log.exists, process)
    process.kill()
    process.wait()
    for name in kill_run.RESULTS:
        assert (results / name).read_text() == "{}"
    status = chip_files.read_json(work_dir / "status.json")
    assert status["status"] == "failed"
    assert " are still those of a run of 20" in status["reason"]


# -------------------------------------------------------------------------------------- signals


def test_signals_are_answered_while_a_batch_is_computed(tmp_path: Path) -> None:
    import keras

    # Of this size a batch of 30 chips is computed in two parts, two parts at a time, so that the
    # second batch begins when the first one is done; smaller ones would be done together.
    layers = [keras.layers.Conv2D(64, 3, padding="same") for _ in range(4)]
    pooling = keras.layers.GlobalAveragePooling2D()
    model = chip_files.save_model(
        tmp_path / "slow.h5", keras.Sequential([keras.Input((224, 224, 3)), *layers, pooling])
    )
    colours = [(9, 9, 9), (200, 0, 0), (0, 0, 90)] * 20
    members = [(f"{n}.png", uniform_png(*colour)) for n, colour in enumerate(colours)]
    work_dir = make_work_dir(tmp_path / "w", make_tar(members), model, {"deploy_batch": "30"})
    journal = journal_of(work_dir)

    # With the header alone in the journal, TensorFlow loads, then the first batch is computed.
    assert kill_after(work_dir, 2, signal.SIGTERM) < 2
    status = chip_files.read_json(work_dir / "status.json")
    assert status["status"] == "failed"
    assert "SIGTERM" in status["reason"]
    assert kill_run.read_journal(journal) == 30

    log = work_dir / "output" / "logs" / "out.log"
    log.unlink()
    process = kill_run.start(work_dir)
    wait_until(lambda: log.exists() and "Time to load the model" in log.read_text(), process)
    time.sleep(0.3)  # the second batch takes longer than that
    process.send_signal(signal.SIGINT)
    sent = time.monotonic()
    assert process.wait(chip_files.TIMEOUT_SECONDS) == chip_files.TRY_AGAIN
    assert time.monotonic() - sent < 2
    assert "SIGINT" in chip_files.read_json(work_dir / "status.json")["reason"]
    assert kill_run.logged_batches(work_dir) == []
    assert kill_run.read_journal(journal) == 30

    run = chip_files.assert_succeeded(run_task(work_dir))
    assert kill_run.logged_batches(work_dir) == [(30, 59)]
    for number in range(3, 60):
        # Chips of one colour are the same chip, in whatever run they were classified.
        answer, same = run.classified[str(number)], run.classified[str(number % 3)]
        assert answer["class"] == same["class"]
        assert answer["certainty"] == pytest.approx(same["certainty"], rel=1e-4)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_while_the_script_loads_is_answered(
    number: signal.Signals, bands_model: Path, tmp_path: Path
) -> None:
    work_dir = make_work_dir(tmp_path / "w", colour_archive(1)[0], bands_model)
    (work_dir / "status.json").write_text('{"status": "success", "reason": null}')
    process = kill_run.start(work_dir)
    maps = Path(f"/proc/{process.pid}/maps")
    wait_until(lambda: "numpy" in maps.read_text(), process)  # OpenCV and others come after it
    process.send_signal(number)
    sent = time.monotonic()
    assert process.wait(chip_files.TIMEOUT_SECONDS) == chip_files.TRY_AGAIN
    assert time.monotonic() - sent < 2
    status = chip_files.read_json(work_dir / "status.json")
    assert status["status"] == "failed"
    assert number.name in status["reason"]


def test_signal_is_answered_while_a_model_makes_libhdf5_loop(tmp_path: Path) -> None:
    data = bytearray((chip_files.REPOSITORY / "tests/models/tf284_mixed.h5").read_bytes())
    data[5594 : 5594 + 160] = bytes(160)  # in a heap of texts
    model = tmp_path / "loop.h5"
    model.write_bytes(data)
    work_dir = make_work_dir(tmp_path / "w", colour_archive(1)[0], model)
    process = subprocess.Popen(chip_files.command(work_dir), stderr=subprocess.PIPE)
    wait_until((work_dir / "output" / "logs" / "out.log").exists, process)
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    sent = time.monotonic()
    process.communicate(timeout=chip_files.TIMEOUT_SECONDS)  # and nobody else has its stderr
    assert time.monotonic() - sent < 2
    assert "SIGTERM" in chip_files.read_json(work_dir / "status.json")["reason"]


def test_what_tensorflow_raises_is_a_sentence_with_the_layer(tmp_path: Path) -> None:
    model = tmp_path / "m.h5"
    shutil.copy(chip_files.REPOSITORY / "tests/models/k122_theano_th_atrous.h5", model)
    with h5py.File(model, "a") as file:
        place = file.get("model_weights", file)
        place["dense_3"].attrs["weight_names"] = np.array([b"dense_3_W", b"dense_3_W"])
    work_dir = make_work_dir(tmp_path / "w", colour_archive(3)[0], model)
    reason = chip_files.assert_failed(run_task(work_dir, "--trained-with", "theano"))
    assert reason.startswith("m.h5: layer 'dense_3' (Dense)")
    assert not re.search(r"File|node|Unexpected|/", reason)


# ----------------------------------------------------------------- exchanged between check and use


def exchange(path: Path, other: Path, process: subprocess.Popen, when: Callable[[], bool]) -> None:
    """Move another file over one of a running task's; kill the task half way."""
    wait_until(when, process)
    process.send_signal(signal.SIGSTOP)  # so that nothing happens between seeing and doing
    os.replace(other, path)
    process.send_signal(signal.SIGCONT)
    journal = path.parents[2] / "output" / "results" / "resume.jsonl"
    wait_until(lambda: journal.exists() and journal.read_bytes().count(b"\n") > 200, process)
    process.kill()
    process.wait()


def test_archive_that_is_exchanged_while_it_is_open(bands_model: Path, tmp_path: Path) -> None:
    archive, _ = colour_archive(3000)
    other, answers = colour_archive(3001)
    work_dir = make_work_dir(
        tmp_path / "w", archive, bands_model, {"deploy_batch": "1", **UNIT_PORTS}
    )
    path = work_dir / "input" / "chips" / "chips.tar"
    (tmp_path / "other.tar").write_bytes(other)
    process = kill_run.start(work_dir)

    def is_open() -> bool:
        opened = Path(f"/proc/{process.pid}/fd").iterdir()
        return any(os.path.realpath(entry) == str(path.resolve()) for entry in opened)

    exchange(path, tmp_path / "other.tar", process, is_open)
    assert chip_files.assert_succeeded(run_task(work_dir)).classified == answers


def test_model_that_is_exchanged_while_tensorflow_loads(
    bands_model: Path, softmax_model: Path, tmp_path: Path
) -> None:
    archive, answers = colour_archive(3000)
    work_dir = make_work_dir(tmp_path / "w", archive, None, {"deploy_batch": "1", **UNIT_PORTS})
    path = work_dir / "input" / "model" / "model.h5"
    shutil.copy(bands_model, path)
    shutil.copy(softmax_model, tmp_path / "other.h5")
    process = kill_run.start(work_dir)
    maps = Path(f"/proc/{process.pid}/maps")
    exchange(path, tmp_path / "other.h5", process, lambda: "tensorflow" in maps.read_text())
    shutil.copy(bands_model, path)
    assert chip_files.assert_succeeded(run_task(work_dir)).classified == answers


# ----------------------------------------------------------------------------- hostile archives


def entry(
    name: str,
    data: bytes = b"",
    tar_format: int = tarfile.GNU_FORMAT,
    size: int | None = None,
    **attributes: object,
) -> bytes:
    """Make one member of an archive, header and data; size: the one to declare instead."""
    member = tarfile.TarInfo(name)
    member.size = len(data) if size is None else size
    for attribute, value in attributes.items():
        setattr(member, attribute, value)
    padding = bytes(-len(data) % tarfile.BLOCKSIZE)
    return member.tobuf(tar_format, "utf-8", "surrogateescape") + data + padding


END = bytes(2 * tarfile.BLOCKSIZE)


def with_field(member: bytes, at: int, field: bytes) -> bytes:
    """Change a field of a member's header, and its checksum."""
    made = bytearray(member)
    made[at : at + len(field)] = field
    made[148:156] = b" " * 8
    made[148:156] = b"%06o\0 " % sum(made[:512])
    return bytes(made)


def old_gnu_sparse(name: str, data: bytes, real_size: int) -> bytes:
    """Make a sparse member of GNU tar's old format, with the data at its beginning."""
    member = entry(name, data, type=tarfile.GNUTYPE_SPARSE)
    member = with_field(member, 386, tarfile.itn(0, 12) + tarfile.itn(len(data), 12))
    return with_field(member, 483, tarfile.itn(real_size, 12, tarfile.GNU_FORMAT))


def pax_sparse(name: str, data: bytes, real_size: int, version: str) -> bytes:
    """Make a sparse member in the pax format 0.1 or 1.0, with the data at its beginning."""
    keys = {"name": name}
    if version == "1.0":
        keys |= {"major": "1", "minor": "0", "realsize": str(real_size)}
        data = f"1\n0\n{len(data)}\n".encode().ljust(tarfile.BLOCKSIZE, b"\0") + data
    else:
        keys |= {"map": f"0,{len(data)}", "size": str(real_size)}
    headers = {f"GNU.sparse.{key}": value for key, value in keys.items()}
    return entry("GNUSparseFile.0/a.png", data, tarfile.PAX_FORMAT, pax_headers=headers)


# All that a terminal or a reader of lines may take for more than a letter.
CONTROLS = [*range(1, 32), *range(0x7F, 0xA0), 0x85, 0x2028, 0x2029, 0x202E, 0x2066, 0xFEFF]
FORGED = "2026-01-01 00:00:00,000 ERROR forged"


def opened_files(work_dir: Path, folder: Path) -> tuple[Run, dict[str, bool]]:
    """Run the task; give the files that it opened, and whether it did so to write."""
    folder.mkdir()
    seen = folder / "opened.txt"
    (folder / "sitecustomize.py").write_text(
        "import os, sys\n"
        f"seen = os.open({str(seen)!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND)\n"
        "def note(event, args):\n"
        "    if event == 'open' and isinstance(args[0], (str, bytes)):\n"
        "        write = bool((args[2] or 0) & (os.O_WRONLY | os.O_RDWR))\n"
        "        os.write(seen, f'{write} {os.fspath(args[0])!r}\\n'.encode())\n"
        "sys.addaudithook(note)\n"
    )
    path = os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))
    # Libraries try whether they could write a temporary file, and keep their settings at home.
    environment = {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    environment |= {"TMPDIR": str(folder), "HOME": str(folder)}
    run = run_task(work_dir, environment=environment)
    opened: dict[str, bool] = {}
    for line in seen.read_text().splitlines():
        write, _, name = line.partition(" ")
        name = name.strip("b'\"")
        opened[name] = opened.get(name, False) or write == "True"
    return run, opened


def test_hostile_archive_is_classified_without_leaving_the_work_directory(
    bands_model: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    secret = outside / "secret.png"
    secret.write_bytes(uniform_png(250, 1, 1))
    sound = uniform_png(1, 2, 250)
    long = "n" * 5000
    up = "../" * 12
    classified = {
        "chips/sound": entry("chips/sound.png", sound),
        "../../above": entry("../../above.png", sound),
        str(outside / "new")[1:]: entry(f"{outside}/new.png", sound),
        f"chips/{up}tmp/x": entry(f"chips/{up}tmp/x.png", sound),
        f"chips/{long}": entry(f"chips/{long}.png", sound),
        f"chips/{long}2": entry(f"chips/{long}2.png", sound, tarfile.PAX_FORMAT),
        f"chips/{'d/' * 2500}e": entry(f"chips/{'d/' * 2500}e.png", sound),
        "chips/pax": entry(
            "chips/pax.png", sound, tarfile.PAX_FORMAT, pax_headers={"comment": "x" * 5_000_000}
        ),
        "chips/last": entry("chips/last.png", sound),
    }
    huge = "the file has 1,000,000,000,000 bytes"
    unclassified = {
        "chips/symlink": (entry("chips/symlink.png", type=b"2", linkname=str(secret)), "a link to"),
        "chips/hard": (entry("chips/hard.png", type=b"1", linkname=str(secret)), "a link to"),
        "chips/up": (entry("chips/up.png", type=b"2", linkname=up + str(secret)), "a link to"),
        "chips/passwd": (entry("chips/passwd.png", type=b"2", linkname="/etc/passwd"), "a link to"),
        "chips/gnu": (old_gnu_sparse("chips/gnu.png", sound, 10**12), huge),
        "chips/pax01": (pax_sparse("chips/pax01.png", sound, 10**12, "0.1"), huge),
        "chips/pax10": (pax_sparse("chips/pax10.png", sound, 10**12, "1.0"), huge),
    } | {
        f"chips/c{code}{chr(code)}{FORGED}": (
            entry(f"chips/c{code}{chr(code)}{FORGED}.png", b"no image"),
            "is no image",
        )
        for code in dict.fromkeys(CONTROLS)
    }
    others = [
        entry("chips/a.png", type=tarfile.DIRTYPE),
        entry("chips/fifo.png", type=tarfile.FIFOTYPE),
        entry("chips/null.png", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
        entry("chips/disk.png", type=tarfile.BLKTYPE, devmajor=8, devminor=0),
    ]
    archive = [*list(classified.values())[:-1], *(data for data, _ in unclassified.values())]
    archive += [*others, classified["chips/last"], END]
    work_dir = make_work_dir(tmp_path / "w", b"".join(archive), bands_model)
    before = chip_files.files_below(tmp_path)
    run, opened = opened_files(work_dir, tmp_path / "audit")
    assert run.code == 0, run.status

    answer = {"class": "0", "certainty": pytest.approx(250 - 103.939, rel=1e-6)}
    assert run.classified == dict.fromkeys(classified, answer)
    assert list(run.unclassified) == list(unclassified)
    for name, (_, reason) in unclassified.items():
        assert reason in run.unclassified[name]
    assert "Passed over in the archive: 3 other files" in run.log

    # All line breaks of Unicode count here, whatever reads the log.
    forged = [line for line in run.log.splitlines() if "forged" in line]
    assert len(forged) == len(set(CONTROLS))
    for line in forged:
        assert re.match(r"[0-9-]{10} [0-9:,]{12} WARNING Chip 'chips/c", line)
        assert line.isprintable()

    new = set(chip_files.files_below(tmp_path)) - set(before)
    assert {name for name in new if not name.startswith("audit/")} == {
        "w/status.json",
        "w/output/logs/out.log",
        "w/output/logs/preview.html",
        "w/output/results/classified.csv",
        "w/output/results/classified.json",
        "w/output/results/unclassified.json",
    }
    assert str(work_dir / "input" / "chips" / "chips.tar") in opened
    assert not [name for name in opened if str(outside) in name or name == "/etc/passwd"]
    written = {name for name, write in opened.items() if write}
    # Keras is told to look for its settings below /dev/null, where nothing can be.
    assert {name for name in written if not name.startswith((str(tmp_path), os.devnull))} == set()


def test_reason_and_terminal_show_no_control_characters_of_names(
    bands_model: Path, tmp_path: Path
) -> None:
    name = "chips/\x1b]0;title\x07\r\x9b2J" + FORGED + ".png"
    archive = entry(name, b"x" * 1000)[:-512]
    run = chip_files.run_without_tensorflow(make_work_dir(tmp_path / "w", archive, bands_model))
    assert chip_files.assert_failed(run).isprintable()
    assert "forged.png" in run.status["reason"]
    assert all(line.isprintable() for line in run.stderr.splitlines())


@pytest.mark.parametrize(
    "kind",
    [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK],
)
def test_metadata_beyond_reason_is_refused_unread(kind: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with path.open("wb") as file:
        file.write(entry("chips/a.png", b"x") + entry("long", type=kind, size=100_000_000))
        file.truncate(file.tell() + 100_001_280)
    chips = Tar(path).chips()
    assert next(chips).name == "chips/a.png"
    tracemalloc.start()
    with pytest.raises(BrokenArchive, match=r"after the member 'chips/a\.png' .*metadata"):
        next(chips)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**22


@pytest.mark.parametrize(
    ("headers", "cause"),
    [
        ([(tarfile.GNUTYPE_LONGNAME, b"n" * (2**23 + 1))], "metadata"),
        ([(tarfile.GNUTYPE_LONGNAME, b"n" * 2**21)] * 5, "metadata"),
        ([(tarfile.XHDTYPE, b"100 comment=" + b"x" * 2**21)] * 5, "metadata"),
        ([(tarfile.XGLTYPE, b"65600 comment=" + b"x" * 65585 + b"\n")], "metadata"),
        ([(tarfile.XGLTYPE, b"".join(b"7 %s=\n" % b"abc"[:3] for _ in range(9)))], None),
        ([(tarfile.XGLTYPE, b"".join(b"8 k%03d=\n" % n for n in range(101)))], "global"),
        ([(tarfile.GNUTYPE_LONGNAME, b"n" * 70_000 + b".png")], "70,004 letters"),
        ([(tarfile.GNUTYPE_LONGNAME, b"n" * 60_000 + b".png")], None),
    ],
)
def test_sum_of_what_stands_before_a_member_is_bounded(
    headers: list[tuple[bytes, bytes]], cause: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "a.tar"
    before = b"".join(entry("x", data, type=kind) for kind, data in headers)
    path.write_bytes(entry("c/a.png", b"x") + before + entry("c/b.png", b"x") + END)
    chips = Tar(path).chips()
    assert next(chips).name == "c/a.png"
    if cause is None:
        assert len(list(chips)) == 1
        return
    with pytest.raises(BrokenArchive, match=cause) as caught:
        list(chips)
    assert len(str(caught.value)) < 1000


def test_sum_of_names_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chip_classifier.sources.source.MAX_NAMES_LENGTH", 10_000)
    path = tmp_path / "a.tar"
    path.write_bytes(b"".join(entry(f"c/{'n' * 1000}{n}.png", b"x") for n in range(20)) + END)
    chips = Tar(path).chips()
    with pytest.raises(BrokenArchive, match="names of more than 10,000 letters in all"):
        list(chips)
    link = entry("c/l.png", type=b"2", linkname="n" * 70_000)
    path.write_bytes(link + END)
    with pytest.raises(BrokenArchive, match="shorter"):
        list(Tar(path).chips())


def test_members_that_lie_about_their_sizes_are_not_classified(
    bands_model: Path, tmp_path: Path
) -> None:
    sound = uniform_png(1, 2, 250)
    sparse = old_gnu_sparse("c/part.png", sound, 50_000)
    negative = {"GNU.sparse.name": "c/place.png", "GNU.sparse.size": "50000"}
    negative["GNU.sparse.map"] = "0,-99999999999,0,50000"
    members = {
        "part": with_field(sparse, 398, tarfile.itn(50_000, 12)),  # the length of its only part
        "place": entry("x.png", sound, tarfile.PAX_FORMAT, pax_headers=negative),
        "size": entry(
            "c/size.png", b"", tarfile.PAX_FORMAT, pax_headers={"GNU.sparse.realsize": "-1"}
        ),
        # One that is sparse by the global header alone.
        "twice": entry("g", b"25 GNU.sparse.map=0,1000\n11 size=84\n", type=tarfile.XGLTYPE)
        + entry("c/twice.png", b"x" * 84),
    }
    archive = entry("c/a.png", sound) + old_gnu_sparse("c/b.png", sound, 50_000)
    run = run_with(
        make_work_dir(tmp_path / "w", archive + b"".join(members.values()) + END, bands_model)
    )
    assert run.code == 0, run.status
    assert list(run.classified) == ["a", "b"]
    assert list(run.unclassified) == list(members)
    for name, reason in run.unclassified.items():
        assert ("negative" if name == "size" else "sparse file is damaged") in reason


def test_header_that_leads_back_to_itself_ends_the_archive(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    # tarfile of Python with the mending of CVE-2025-8194 refuses it by itself.
    circle = with_field(entry("c/b.png"), 124, tarfile.itn(-512, 12, tarfile.GNU_FORMAT))
    path.write_bytes(entry("c/a.png") + circle + END)
    chips = Tar(path).chips()
    assert next(chips).name == "c/a.png"
    with pytest.raises(BrokenArchive, match="cut off or damaged"):
        next(chips)


def test_batch_larger_than_the_archive_takes_memory_for_its_chips_only(
    checksum_model: Path, tmp_path: Path
) -> None:
    archive, _ = colour_archive(3000)
    ports = {"deploy_batch": "999999999", "size": "16"}
    work_dir = make_work_dir(tmp_path / "w", archive, checksum_model, ports)
    assert run_listing_at_first(work_dir, 0).code == 0
    assert kill_run.logged_batches(work_dir) == [(0, 2999)]


@pytest.fixture(scope="module")
def quiet_memory(bands_model: Path, tmp_path_factory: pytest.TempPathFactory) -> float:
    """Peak memory, in MiB, of a run over one small chip."""
    folder = tmp_path_factory.mktemp("quiet") / "w"
    code, memory, _ = fuzz.run(make_work_dir(folder, colour_archive(1)[0], bands_model))
    assert code == 0
    return memory


def test_gzip_bomb_is_passed_over(bands_model: Path, quiet_memory: float, tmp_path: Path) -> None:
    zeros = gzip.compress(bytes(2**28), 1)  # streams of gzip may be joined
    sound = uniform_png(1, 2, 250)
    archive = [
        gzip.compress(entry("c/a.png", sound) + entry("c/bomb.bin", size=2**32)),
        *[zeros] * 16,
        gzip.compress(entry("c/bomb.png", size=5 * 2**28)),
        *[zeros] * 5,
        gzip.compress(entry("c/b.png", sound) + END),
    ]
    work_dir = make_work_dir(tmp_path / "w", b"".join(archive), bands_model)
    code, memory, _ = fuzz.run(work_dir)
    run = Run(work_dir, code, "", "")
    assert run.code == 0, run.status
    assert list(run.classified) == ["a", "b"]
    assert list(run.unclassified) == ["bomb"]
    assert "1,342,177,280 bytes" in run.unclassified["bomb"]
    assert memory < quiet_memory + 400


# ------------------------------------------------------------------------------- hostile chips


def test_fuzzed_chips_break_no_promise(tmp_path: Path) -> None:
    assert fuzz.fuzz(tmp_path, count=600, seed=7) == []


def test_same_seed_gives_the_same_fuzzed_archive(tmp_path: Path) -> None:
    made = [
        fuzz.write_archive(tmp_path / f"{n}.tar", 300, seed) for n, seed in enumerate((3, 3, 4))
    ]
    assert made[0] == made[1] != made[2]


def memory_of_process() -> dict[str, int]:
    """Return the present size of this process' address space and its largest so far, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    fields = dict(line.split(":") for line in lines)
    return {name: int(fields[name].split()[0]) * 1024 for name in ("VmSize", "VmPeak")}


def in_new_process(function: Callable, *arguments: object) -> object:
    """Call a function of this file in a process of its own, whose memory nobody else uses."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return pool.submit(function, *arguments).result(chip_files.TIMEOUT_SECONDS)


def refuse(files: dict[str, bytes]) -> dict[str, tuple[str, int]]:
    """Try to decode files; give each one's problem and the bytes that the memory grew by."""
    decode_chip(uniform_png(1, 2, 3))  # what a decoder needs only once
    found = {}
    for name, data in files.items():
        before = memory_of_process()["VmPeak"]
        try:
            problem = f"decoded as {decode_chip(data).shape}"
        except (UndecodableChip, MemoryError) as error:
            problem = str(error)
        found[name] = (problem, memory_of_process()["VmPeak"] - before)
    return found


def test_decompression_bombs_are_refused_before_they_are_decoded() -> None:
    jpeg = bytearray(chip_files.pillow(chip_files.scene(1, 16, 16, 3), "jpeg"))
    at = jpeg.find(b"\xff\xc0") + 5
    jpeg[at : at + 4] = (16000).to_bytes(2) * 2
    tif = bytearray(chip_files.tif(np.zeros((16, 16), np.uint8), compression="zlib"))
    for tag in (256, 257, 278):  # ImageWidth, ImageLength, RowsPerStrip
        at = tif.find(tag.to_bytes(2, "little"), 8) + 8
        tif[at : at + 4] = (16000).to_bytes(4, "little")
    files = {
        "png": chip_files.png_file(16000, 16000, b""),
        "jpeg": bytes(jpeg),
        "tif": bytes(tif),
        "png, limit": chip_files.png_file(8192, MAX_CHIP_PIXELS // 8192 + 1, b""),
    }
    for problem, growth in in_new_process(refuse, files).values():
        assert "pixels" in problem
        assert f"limit is {MAX_CHIP_PIXELS:,}" in problem or "limit of" in problem
        assert growth < 2**28  # decoded, each would take 768 MB; glibc reserves 128 MiB a thread


# ---------------------------------------------------------------------------- faults of machines


@pytest.fixture
def mount_tmpfs(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Return a function that mounts a small disk, or mounts it again with another size."""
    place = tmp_path / "disk"

    def mount(options: str) -> Path:
        place.mkdir(exist_ok=True)
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", place],
            capture_output=True,
            check=False,
        )
        if done.returncode:
            pytest.skip(f"a tmpfs cannot be mounted here: {done.stderr.decode().strip()}")
        return place

    yield mount
    if place.is_mount():
        subprocess.run(["umount", place], check=True)


def fill(disk: Path) -> None:
    """Use up a disk to the last block."""
    with (disk / "filler").open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            return


def copy_to_disk(disk: Path, archive: bytes, model: Path) -> Path:
    """Make a work directory on another disk, which a model cannot be linked to."""
    work_dir = make_work_dir(disk / "w", archive, None, {"deploy_batch": "1", **UNIT_PORTS})
    shutil.copy(model, work_dir / "input" / "model")
    return work_dir


def test_disk_that_is_full_from_the_start_fails_with_the_reason(
    mount_tmpfs: Callable[[str], Path], bands_model: Path
) -> None:
    disk = mount_tmpfs("size=1m")
    work_dir = copy_to_disk(disk, colour_archive(3)[0], bands_model)
    (work_dir / "status.json").write_text('{"status": "success", "reason": null}')
    fill(disk)
    run = run_with(work_dir)
    assert run.code == TRY_AGAIN
    assert run.status["status"] == "failed"
    assert re.search("full|No space left", run.status["reason"])
    assert run.stderr.splitlines()[-1] == run.status["reason"]
    assert run.classified is None


@pytest.mark.parametrize("stdout", ["closed pipe", "full disk"])
def test_stdout_that_takes_nothing_does_not_end_the_run(
    stdout: str, bands_model: Path, tmp_path: Path
) -> None:
    archive, answers = colour_archive(3)
    work_dir = make_work_dir(tmp_path / "w", archive, bands_model, UNIT_PORTS)
    ours, theirs = os.pipe()
    os.close(ours)
    with open(theirs, "wb") as pipe, open("/dev/full", "wb") as full:
        done = subprocess.run(
            chip_files.command(work_dir),
            stdout=pipe if stdout == "closed pipe" else full,
            stderr=subprocess.PIPE,
            check=False,
            encoding="utf-8",
            timeout=chip_files.TIMEOUT_SECONDS,
        )
    run = chip_files.assert_succeeded(Run(work_dir, done.returncode, "", done.stderr))
    assert run.classified == answers


def test_disk_that_fills_up_fails_the_run_which_is_resumed(
    mount_tmpfs: Callable[[str], Path], bands_model: Path
) -> None:
    disk = mount_tmpfs("size=16m")
    archive, answers = colour_archive(3000)
    work_dir = copy_to_disk(disk, archive, bands_model)
    used = shutil.disk_usage(disk).used
    mount_tmpfs(f"remount,size={used + 2**17}")
    run = run_with(work_dir)
    assert run.code == chip_files.TRY_AGAIN
    assert run.status["status"] == "failed"
    assert "full" in run.status["reason"]
    assert run.stderr.splitlines()[-1] == run.status["reason"]
    assert run.classified is None
    answered = kill_run.read_journal(journal_of(work_dir))
    assert 100 < answered < 3000

    mount_tmpfs("remount,size=16m")
    run = chip_files.assert_succeeded(run_with(work_dir))
    assert run.classified == answers
    assert kill_run.logged_batches(work_dir)[0][0] == answered


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", ">/dev/full 2>&1"])
def test_closed_or_full_streams_do_not_end_the_run(
    closed: str, bands_model: Path, tmp_path: Path
) -> None:
    archive, answers = colour_archive(3)
    work_dir = make_work_dir(tmp_path / "w", archive, bands_model, UNIT_PORTS)
    shell = ["sh", "-c", f'exec "$0" "$@" {closed}', *chip_files.command(work_dir)]
    done = subprocess.run(shell, check=False, timeout=chip_files.TIMEOUT_SECONDS)
    assert done.returncode == 0
    run = Run(work_dir, 0, "", "")
    assert run.status["status"] == "success"
    assert run.classified == answers


OLD = '{"status": "success", "reason": null}'


@pytest.mark.parametrize("closed", ["", "2>&-", "<&- >&- 2>&-", "2>/dev/full"])
@pytest.mark.parametrize("failure", ["option", "library", "input"])
def test_no_success_of_an_earlier_run_outlasts_a_failure(
    failure: str, closed: str, bands_model: Path, tmp_path: Path
) -> None:
    work_dir = make_work_dir(tmp_path / "w", None, bands_model)
    (work_dir / "status.json").write_text(OLD)
    (tmp_path / "lure").mkdir()
    if failure == "library":
        (tmp_path / "lure" / "cv2.py").write_text("raise ImportError('libGL.so.1 is missing')")
    arguments = ["--trained-with", "cntk"] if failure == "option" else []
    shell = ["sh", "-c", f'exec "$0" "$@" {closed}', *chip_files.command(work_dir, *arguments)]
    done = subprocess.run(
        shell,
        check=False,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "lure")},
        timeout=chip_files.TIMEOUT_SECONDS,
    )
    assert done.returncode == {"option": 2, "library": 1, "input": 1}[failure]
    status = chip_files.read_json(work_dir / "status.json")
    assert status["status"] == "failed"
    parts = {"option": "--trained-with", "library": "libGL.so.1", "input": "tar archive"}
    assert parts[failure] in status["reason"]
    assert not (work_dir / "task.lock").exists()


def test_help_touches_no_work_directory(bands_model: Path, tmp_path: Path) -> None:
    work_dir = make_work_dir(tmp_path / "w", None, bands_model)
    (work_dir / "status.json").write_text(OLD)
    assert run_task(work_dir, "--help").code == 0
    assert (work_dir / "status.json").read_text() == OLD


def test_machine_without_proc(bands_model: Path, tmp_path: Path) -> None:
    """TensorFlow aborts there when it is loaded."""
    work_dir = make_work_dir(tmp_path / "w", colour_archive(1)[0], bands_model)
    without = ["unshare", "--mount", "sh", "-c", 'umount -l /proc && exec "$0" "$@"']
    if subprocess.run([*without, "true"], check=False, capture_output=True).returncode:
        pytest.skip("/proc can be taken away by root only")
    done = subprocess.run(
        [*without, *chip_files.command(work_dir)],
        check=False,
        capture_output=True,
        timeout=chip_files.TIMEOUT_SECONDS,
    )
    assert done.returncode == 1
    assert b"no /proc" in done.stderr
    assert "no /proc" in Run(work_dir, 1, "", "").status["reason"]


def run_with_another(part: str, work_dir: Path) -> subprocess.CompletedProcess:
    """Run the task with another part in place of one, given as a statement."""
    program = (
        "import os, chip_classifier.environment\n"
        "chip_classifier.environment.prepare_environment()\n"
        "import chip_files\n"
        "task = chip_files.load_task()\n"
        f"{part}\n"
        "os._exit(task.main(task.begin(task.__doc__)))\n"
    )
    path = os.pathsep.join((str(chip_files.REPOSITORY), str(Path(__file__).parent)))
    return subprocess.run(
        [sys.executable, "-c", program, "--work-dir", work_dir],
        check=False,
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": path},
    )


def test_status_that_cannot_be_written_in_the_end_is_told(tmp_path: Path) -> None:
    status = tmp_path / "status.json"
    part = f"task.run_task = lambda *_: (os.unlink({str(status)!r}), os.mkdir({str(status)!r}))[1]"
    done = run_with_another(part, tmp_path)
    assert done.returncode == TRY_AGAIN
    (line,) = done.stderr.splitlines()
    assert line.startswith("status.json cannot be written (")
    assert line.endswith(f"make {tmp_path} writable.")


def test_unexpected_error_is_explained_on_stderr_too(bands_model: Path, tmp_path: Path) -> None:
    work_dir = make_work_dir(tmp_path / "w", colour_archive(1)[0], bands_model)
    done = run_with_another("task.find_inputs = lambda source: 1 / 0", work_dir)
    lines = done.stderr.splitlines()
    assert done.returncode == TRY_AGAIN
    assert lines[0].startswith("Traceback")
    assert lines[-2] == "ZeroDivisionError: division by zero"
    reason = chip_files.read_json(work_dir / "status.json")["reason"]
    assert lines[-1] == reason
    assert "Unexpected error, ZeroDivisionError" in reason


# ------------------------------------------------------------------------- odd files, several runs


@pytest.mark.parametrize("number", [8, 20, 31, 40])
def test_few_descriptors_are_enough_or_named(
    number: int, bands_model: Path, tmp_path: Path
) -> None:
    archive, answers = colour_archive(3)
    work_dir = make_work_dir(tmp_path / "w", archive, bands_model, UNIT_PORTS)
    (work_dir / "status.json").write_text(OLD)
    run = run_with(
        work_dir, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (number, number))
    )
    if number < 32:
        reason = run.stderr.splitlines()[-1]
        assert f"only {number} files" in reason
        assert (run.code, run.status) == (TRY_AGAIN, {"status": "failed", "reason": reason})
    else:
        assert chip_files.assert_succeeded(run).classified == answers


@pytest.mark.parametrize(
    ("limit", "most", "words"),
    [
        (resource.RLIMIT_CPU, 1, "limit of processor time (ulimit -t): raise it"),
        (resource.RLIMIT_AS, 2**30, "limit of memory is 1,024 MiB (ulimit -v), too little"),
        (resource.RLIMIT_FSIZE, 2**10, "limit for the size of a file (ulimit -f): raise it"),
    ],
)
def test_limits_are_called_that_and_nothing_else_is_blamed(
    limit: int, most: int, words: str, bands_model: Path, tmp_path: Path
) -> None:
    work_dir = make_work_dir(tmp_path / "w", colour_archive(60)[0], bands_model, UNIT_PORTS)
    run = run_with(work_dir, preexec_fn=lambda: resource.setrlimit(limit, (most, most)))
    assert run.code == TRY_AGAIN
    assert words in run.status["reason"]
    assert run.stderr.splitlines()[-1] == run.status["reason"]


def test_end_of_processor_time_is_answered(bands_model: Path, tmp_path: Path) -> None:
    """The system sends this signal a second before it kills."""
    work_dir = make_work_dir(tmp_path / "w", colour_archive(1)[0], bands_model)
    process = kill_run.start(work_dir)
    log = work_dir / "output" / "logs" / "out.log"
    wait_until(lambda: log.exists() and "Port" in log.read_text(), process)
    process.send_signal(signal.SIGXCPU)
    assert process.wait(chip_files.TIMEOUT_SECONDS) == TRY_AGAIN
    reason = chip_files.read_json(work_dir / "status.json")["reason"]
    assert "limit of processor time (ulimit -t)" in reason


def test_low_limit_of_descriptors_that_can_be_raised_is(bands_model: Path, tmp_path: Path) -> None:
    work_dir = make_work_dir(tmp_path / "w", colour_archive(1)[0], bands_model)
    chip_files.assert_succeeded(
        run_with(work_dir, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (9, 999)))
    )


ODD_PLACES = {
    "output/logs/out.log": [os.mkfifo, os.mkdir, "link"],
    "output/results": [os.mkfifo, "dangling", "link", Path.touch],
    "output/logs": [os.mkfifo, "dangling"],
    "output": [os.mkfifo, "dangling"],
    "status.json": [os.mkdir],
    "input/chips/chips.tar": [os.mkfifo, os.mkdir, "dangling"],
    "input/model/model.h5": [os.mkfifo, os.mkdir, "dangling"],
}


@pytest.mark.parametrize(
    ("place", "make"), [(place, make) for place, kinds in ODD_PLACES.items() for make in kinds]
)
def test_odd_file_in_the_way_is_named_at_once(
    place: str, make: object, bands_model: Path, tmp_path: Path
) -> None:
    work_dir = make_work_dir(tmp_path / "w", None, None)
    shutil.copy(bands_model, work_dir / "input" / "model" / "model.h5")
    (work_dir / "input" / "chips" / "chips.tar").write_bytes(colour_archive(1)[0])
    precious = tmp_path / "precious"
    precious.write_text("precious")
    path = work_dir / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    if callable(make):
        make(path)
    else:
        path.symlink_to(precious if make == "link" else tmp_path / "nowhere")
    started = time.monotonic()
    run = run_with(work_dir)
    assert time.monotonic() - started < 20
    assert run.code == 1
    reason = run.stderr.splitlines()[-1]
    assert str(path) in reason and "Traceback" not in run.stderr
    if place in ("output/results", "output/logs", "output"):
        kinds = {os.mkfifo: "a FIFO", Path.touch: "a file"}
        kind = kinds.get(make, "a link that leads to no directory")
        assert reason == (
            f"The output directory cannot be written to: {path} is {kind}, where the task needs a "
            "directory; take it away."
        )
    assert place == "status.json" or run.status == {"status": "failed", "reason": reason}
    assert precious.read_text() == "precious"
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("make", ["link", os.mkfifo])
def test_nothing_is_written_through_a_link_or_into_a_fifo(
    make: object, bands_model: Path, tmp_path: Path
) -> None:
    archive, answers = colour_archive(3)
    work_dir = make_work_dir(tmp_path / "w", archive, bands_model, UNIT_PORTS)
    precious = tmp_path / "precious"
    precious.write_text("precious")
    names = ("results/classified.json", "logs/preview.html")
    places = ["status.json", *(f"output/{name}" for name in names)]
    paths = [work_dir / f"{place}{part}" for place in places for part in ("", ".part")]
    paths += [journal_of(work_dir), work_dir / "output" / "results" / ".new"]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(precious) if make == "link" else make(path)
    run = chip_files.assert_succeeded(run_with(work_dir))
    assert run.classified == answers
    assert precious.read_text() == "precious"
    assert not [path for path in paths if path.is_symlink() or path.is_fifo()]


def test_second_run_in_a_work_directory_refuses_and_changes_nothing(
    bands_model: Path, tmp_path: Path
) -> None:
    archive, answers = colour_archive(3000)
    ports = {"deploy_batch": "1", **UNIT_PORTS}
    work_dir = make_work_dir(tmp_path / "w", archive, bands_model, ports)
    first = kill_run.start(work_dir)
    wait_until((work_dir / "task.lock").exists, first)
    for seconds in (0.0, 0.3, 1.0):  # at the first moment, and while TensorFlow loads
        time.sleep(seconds)
        second = run_with(work_dir)
        assert first.poll() is None
        assert second.code == 1
        assert second.stderr.splitlines()[-1].startswith("Another run of the task is at work in")
    assert first.wait(chip_files.TIMEOUT_SECONDS) == 0
    run = Run(work_dir, 0, "", "")
    assert run.status["status"] == "success"
    assert run.classified == answers
    assert not (work_dir / "task.lock").exists()


def test_lock_of_a_killed_run_is_gone_with_it(killed: Path, tmp_path: Path) -> None:
    work_dir = shutil.copytree(killed, tmp_path / "w")
    (work_dir / "task.lock").touch()
    chip_files.assert_succeeded(run_task(work_dir))


def test_work_directory_without_locks_is_used_with_a_warning(
    bands_model: Path, tmp_path: Path
) -> None:
    work_dir = make_work_dir(tmp_path / "w", colour_archive(1)[0], bands_model)
    (work_dir / "task.lock").mkdir()
    run = chip_files.assert_succeeded(run_task(work_dir))
    assert len(run.warnings("cannot be locked")) == 1


# How to start a process as a user who is not root: as that of the tests, or as nobody.
NOT_ROOT: dict = {"env": {**os.environ, "HOME": "/nonexistent"}}
if os.geteuid() == 0:
    NOT_ROOT |= {"user": NOBODY, "group": NOBODY, "extra_groups": []}


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A directory that every user can read; that of pytest is its user's alone."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        program = f"import numpy; open({str(chip_files.SCRIPT)!r})"
        try:
            subprocess.run(
                [sys.executable, "-c", program], capture_output=True, check=True, **NOT_ROOT
            )
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"this Python cannot be run by a user who is not root: {error}")
        yield Path(folder)


def own_work_dir(folder: Path, archive: bytes, model: Path, ports: dict | None = None) -> Path:
    """Make a work directory that belongs to a user who is not root."""
    work_dir = make_work_dir(folder / "w", archive, None, ports)
    shutil.copy(model, work_dir / "input" / "model")
    for name in ("results", "logs"):
        (work_dir / "output" / name).mkdir(parents=True)
    for path in [work_dir, *work_dir.rglob("*")]:
        os.chown(path, NOT_ROOT.get("user", -1), NOT_ROOT.get("group", -1))
    return work_dir


def test_another_user_than_root_runs_the_task_on_read_only_input(
    public_folder: Path, bands_model: Path
) -> None:
    archive, answers = colour_archive(20)
    work_dir = own_work_dir(public_folder, archive, bands_model, UNIT_PORTS)
    inputs = [work_dir / "input", *(work_dir / "input").rglob("*")]
    for path in inputs:
        path.chmod(0o555 if path.is_dir() else 0o444)
    run = chip_files.assert_succeeded(run_with(work_dir, **NOT_ROOT))
    assert run.classified == answers
    assert (work_dir / "status.json").stat().st_uid == NOT_ROOT.get("user", os.geteuid())
    for path in inputs:
        path.chmod(0o755)


@pytest.mark.parametrize("place", ["output", "output/results", "output/logs", "."])
def test_directory_that_is_not_writable_is_reported(
    place: str, public_folder: Path, bands_model: Path
) -> None:
    work_dir = own_work_dir(public_folder, colour_archive(1)[0], bands_model)
    if place == "output":
        shutil.rmtree(work_dir / "output" / "results")
    (work_dir / place).chmod(0o555)
    run = run_with(work_dir, **NOT_ROOT)
    (work_dir / place).chmod(0o755)
    assert run.code == 1
    reason = run.stderr.splitlines()[-1]
    assert "writ" in reason
    assert str(work_dir) in reason
    assert "Traceback" not in run.stderr
    assert run.classified is None
    assert run.status == (None if place == "." else {"status": "failed", "reason": reason})


def test_input_that_cannot_be_read_is_reported(public_folder: Path, bands_model: Path) -> None:
    work_dir = own_work_dir(public_folder, colour_archive(1)[0], bands_model)
    (work_dir / "input" / "chips" / "chips.tar").chmod(0)
    run = run_with(work_dir, **NOT_ROOT)
    assert "chips.tar" in chip_files.assert_failed(run, chip_files.TRY_AGAIN)


# -------------------------------------------------------------------------------- little memory

SMOOTH = cv2.resize(chip_files.scene(6, 30, 30, 3), (1000, 1000))


def large_chips() -> dict[str, bytes]:
    """Make sound chips that decoders need memory for in different ways."""
    half = (SMOOTH.astype(np.uint16) << 8) + 128
    return {
        "baseline.jpg": chip_files.pillow(SMOOTH, "jpeg"),
        "progressive.jpg": chip_files.pillow(SMOOTH, "jpeg", progressive=True),
        "interlaced.png": chip_files.interlaced_png(SMOOTH),
        "one_strip.tif": chip_files.tif(SMOOTH, photometric="rgb"),
        "tiled.tif": chip_files.tif(SMOOTH, photometric="rgb", tile=(256, 256)),
        "16_bit.tif": chip_files.tif(half, photometric="rgb"),
        "zstd.tif": chip_files.pillow(SMOOTH, "tiff", compression="zstd"),
        "jpeg.tif": chip_files.pillow(SMOOTH, "tiff", compression="jpeg"),
    }


def decode_with_little_memory(files: dict[str, bytes]) -> dict[str, set[str]]:
    """Decode files with 0 to 40 MiB more memory than the process has; give what came of each."""
    found: dict[str, set[str]] = {}
    for name, data in files.items():
        whole = decode_chip(data)
        found[name] = set()
        for half in range(40 * 2):
            limit = memory_of_process()["VmSize"] + half * 2**19
            resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
            try:
                same = np.array_equal(decode_chip(data), whole)
                outcome = "the same pixels" if same else "other pixels"
            except MemoryError:
                outcome = "MemoryError"
            except UndecodableChip as error:
                outcome = str(error)
            finally:
                unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
                resource.setrlimit(resource.RLIMIT_AS, unlimited)
            found[name].add(outcome)
    return found


def test_chip_is_not_blamed_for_a_lack_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    # Each block of memory comes from the system and goes back to it, so that the limit is felt.
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "65536")
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "0")
    found = in_new_process(decode_with_little_memory, large_chips())
    assert found == {name: {"the same pixels", "MemoryError"} for name in large_chips()}


def test_run_with_200_mb_too_little_is_whole_or_failed(bands_model: Path, tmp_path: Path) -> None:
    members = list(large_chips().items()) * 4
    archive = make_tar([(f"{n}{name}", data) for n, (name, data) in enumerate(members)])
    ports = {"deploy_batch": "7", **UNIT_PORTS}
    work_dirs = [make_work_dir(tmp_path / name, archive, bands_model, ports) for name in "ab"]
    process = kill_run.start(work_dirs[0])
    peak = 0
    while process.poll() is None:
        status = Path(f"/proc/{process.pid}/status").read_text()
        if sizes := re.search(r"VmPeak:\s+([0-9]+) kB", status):
            peak = int(sizes[1]) * 1024
        time.sleep(0.005)
    whole = Run(work_dirs[0], process.returncode, "", "")
    assert whole.code == 0
    assert len(whole.classified) == len(members)

    limit = peak - 200 * 2**20
    scarce = run_with(
        work_dirs[1], preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    )
    assert scarce.unclassified is None
    if scarce.code == 0:
        assert scarce.classified == whole.classified
    else:
        assert scarce.status["status"] == "failed"
        assert scarce.status["reason"]
        assert scarce.classified is None


def start_thread_without_memory_for_python(seconds: int) -> tuple[str, str]:
    """Start a thread for whose stack there is memory, but not for its first step in Python.

    Gives the type of what ends the task within so many seconds, and the reason for status.json.
    """
    task = chip_files.load_task()
    stack, guard, less_than_a_frame = 2**18, 2**12, 2**13

    def start() -> None:
        threading.stack_size(stack)
        limit = memory_of_process()["VmSize"] + stack + guard + less_than_a_frame
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
        threading.Thread(target=time.sleep, args=[0], daemon=True).start()

    signal.signal(signal.SIGALRM, lambda *_: pytest.fail("nobody noticed"))
    signal.alarm(seconds)
    try:
        task.supervise(start)
    except BaseException as error:  # noqa: BLE001, it is the result
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        return type(error).__name__, task.explain(error, sys.stderr)
    return "none", ""


def test_thread_that_cannot_begin_ends_the_task() -> None:
    kind, reason = in_new_process(start_thread_without_memory_for_python, 20)
    assert (kind, "ran out of memory" in reason) == ("MemoryError", True)


def test_thread_that_dies_ends_the_task(task: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)  # set back after the test
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)

    def start() -> None:
        threading.Thread(target=int, args=["x"]).start()
        threading.Event().wait(20)  # for ever, if nobody noticed

    with pytest.raises(ValueError, match="invalid literal"):
        task.supervise(start)
