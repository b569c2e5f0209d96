"""Kill the task at random moments and resume it: nothing may be lost, nothing classified twice.

    python tests/measure/kill_run.py --kills 20 --seed 1

One long job is killed with SIGKILL, run again, killed again, until it ends by itself; then a new
job begins, until the kills are used up and the last job has ended. The moments are random: within
the start-up, at a random chip of those that are left, and while the results are being written.
After each kill the files that the task left behind are examined; at the end of each job its results
must be those of a run that nobody disturbed, byte for byte, and it must warn of the same. Prints
what was found; the exit code is 1 if a promise is broken.
"""

import argparse
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import cv2

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import chip_files

RESULTS = ("classified.csv", "classified.json", "unclassified.json")
BATCH = 4
# When to kill, in turn. The results are written in a moment, which a kill at just any time would
# hardly meet.
KINDS = ("classifying", "starting", "classifying", "ending")
ENDING_SECONDS = 0.1


@dataclass
class Tally:
    """What became of the kills.

    phases: number of kills by what the task was doing; broken: the promises that were broken;
    resumed: runs that went on from a journal; jobs: jobs that ended by themselves.
    """

    phases: Counter = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    resumed: int = 0
    jobs: int = 0


def make_job(folder: Path, archive: bytes, model: Path) -> Path:
    """Make the work directory of one job, in which small batches make for many moments."""
    return chip_files.make_work_dir(folder, archive, model, {"deploy_batch": str(BATCH)})


def make_archive(chips: int, seed: int) -> bytes:
    """Make an archive of different jpegs of 256 x 256, some of them broken, replaced, linked to."""
    members: list[chip_files.Member] = []
    for number in range(chips):
        smooth = cv2.resize(chip_files.scene(seed * chips + number, 6, 6, 3), (256, 256))
        data = chip_files.pillow(smooth, "jpeg")
        members.append((f"chips/{number}.jpg", data[:300] if number % 50 == 9 else data))
    members.append(chip_files.header("chips/link.jpg", b"2", "5.jpg"))
    members.append(("chips/7.jpg", members[3][1]))
    return chip_files.make_tar(members)


def read_journal(path: Path) -> int:
    """Return the number of chips that a journal answers; the line that was cut off does not count.

    Raises ValueError if anything but its last line is damaged.
    """
    answered = 0
    for line in path.read_bytes().split(b"\n")[1:-1]:
        batch = json.loads(line)
        if batch["first"] != answered or not len(batch["classes"]) == len(batch["certainties"]):
            raise ValueError(f"the batch of chip {answered} is out of place")
        answered += len(batch["classes"])
    return answered


def logged_batches(work_dir: Path) -> list[tuple[int, int]]:
    """Return the first and last chip of each batch that out.log tells of."""
    path = work_dir / "output" / "logs" / "out.log"
    log = path.read_text(encoding="utf-8") if path.exists() else ""
    return [(int(a), int(b)) for a, b in re.findall(r"Chips (\d+) to (\d+): ", log)]


def start(work_dir: Path) -> subprocess.Popen:
    """Start the task, without its output."""
    return subprocess.Popen(
        chip_files.command(work_dir), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def kill(work_dir: Path, seconds: float, chips: int | None) -> bool:
    """Run the task and kill it; False if it ended by itself before.

    Args:
        work_dir: its work directory.
        seconds: after how many seconds to kill it.
        chips: begin to count the seconds when so many chips are answered; None: at the start.
    """
    journal = work_dir / "output" / "results" / "resume.jsonl"
    process = start(work_dir)
    while chips is not None and process.poll() is None:
        # Every batch is a line of its own, so that counting lines is enough.
        if journal.exists() and (journal.read_bytes().count(b"\n") - 1) * BATCH >= chips:
            break
        time.sleep(0.002)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return True
    return False


def examine(work_dir: Path, whole: Path, answered: int, tally: Tally) -> int:
    """Check what a killed run left behind.

    Args:
        work_dir: its work directory.
        whole: the results of the undisturbed run.
        answered: the chips that were answered before the run began.
        tally: receives what was found.
    Returns:
        The number of chips answered now.
    """
    results = work_dir / "output" / "results"
    status = work_dir / "status.json"
    log = work_dir / "output" / "logs" / "out.log"
    text = log.read_text(encoding="utf-8") if log.exists() else ""
    if status.exists() and json.loads(status.read_text())["status"] != "failed":
        tally.broken.append("the status of a killed run is neither 'failed' nor 'success'")
    for name in RESULTS:
        path = results / name
        # Between the last batch and the status the results are there already, but only whole.
        if path.exists() and path.read_bytes() != (whole / name).read_bytes():
            tally.broken.append(f"a killed run left a {name} that is not that of a whole run")
    journal = results / "resume.jsonl"
    try:
        now = read_journal(journal) if journal.exists() else 0
    except (ValueError, KeyError, TypeError) as error:
        tally.broken.append(f"the journal is damaged: {error}")
        return answered
    if now < answered:
        tally.broken.append(f"{answered - now} chips are gone from the journal")
    if "Total classification time" in text:
        tally.phases["writing the results"] += 1
    elif now > answered:
        tally.phases["classifying"] += 1
    else:
        tally.phases["starting"] += 1
    check_batches(work_dir, answered, now, tally)
    return now


def check_batches(work_dir: Path, before: int, after: int, tally: Tally) -> None:
    """Check that a run classified the chips from `before` to `after`, each of them once."""
    expected = before
    for first, last in logged_batches(work_dir):
        if first != expected:
            tally.broken.append(f"chip {first} was classified when chip {expected} was due")
        expected = last + 1
    # The line of the last batch may be missing: the journal comes before the log.
    if not expected <= after <= expected + BATCH:
        tally.broken.append(f"out.log ends with chip {expected - 1}, the journal at chip {after}")


def kill_run(folder: Path, kills: int, chips: int, seed: int) -> Tally:
    """Kill and resume until the kills are used up and the last job has ended.

    Args:
        folder: an empty directory.
        kills: how many.
        chips: files in the archive.
        seed: of the chips and of the moments.
    """
    rng = random.Random(seed)
    tally = Tally()
    model = chip_files.save_checksum_model(folder / "model.h5", 32, 32)
    archive = make_archive(chips, seed)
    total = chips + 2
    work_dir = make_job(folder / "undisturbed", archive, model)
    started = time.monotonic()
    start(work_dir).wait()
    duration = time.monotonic() - started
    whole = work_dir / "output" / "results"
    if set(chip_files.files_below(whole)) != set(RESULTS):
        tally.broken.append(f"the undisturbed run left {chip_files.files_below(whole)}")
        return tally
    log = (work_dir / "output" / "logs" / "out.log").read_text(encoding="utf-8")
    classifying = float(re.search(r"Total classification time: ([0-9.]+) s", log)[1])
    print(
        f"undisturbed: {total:,} chips in {duration:.1f} s, {classifying:.1f} s of them classifying"
    )

    done = tries = 0
    while done < kills and not tally.broken:
        work_dir = make_job(folder / f"job{tally.jobs}", archive, model)
        log_path = work_dir / "output" / "logs" / "out.log"
        answered, ended = 0, False
        while not ended and not tally.broken:
            # What is in out.log after a kill must be of the run that was killed.
            log_path.unlink(missing_ok=True)
            if done == kills or answered == total:
                ended = not kill(work_dir, seconds=600, chips=None)
            else:
                kind = KINDS[tries % len(KINDS)]
                tries += 1
                seconds, wait_for = {
                    "starting": (rng.uniform(0, duration - classifying), None),
                    "classifying": (rng.uniform(0, 0.02), rng.randint(answered + 1, total)),
                    "ending": (rng.uniform(0, ENDING_SECONDS), total),
                }[kind]
                ended = not kill(work_dir, seconds, wait_for)
            log = log_path.read_text(encoding="utf-8") if log_path.exists() else ""
            tally.resumed += "Resuming an earlier run" in log
            if not ended:
                done += 1
                before = answered
                if (chip_files.read_json(work_dir / "status.json") or {}).get(
                    "status"
                ) == "success":
                    # Its success is on record: the kill came between that and the exit.
                    tally.phases["exiting"] += 1
                    (work_dir / "output" / "results" / "resume.jsonl").unlink(missing_ok=True)
                    ended = True
                else:
                    answered = examine(work_dir, whole, answered, tally)
                print(
                    f"kill {done}: {answered:,} of {total:,} chips, {before:,} before", flush=True
                )
        if ended:
            finish(work_dir, whole, answered, total, tally)
    return tally


def finish(work_dir: Path, whole: Path, answered: int, total: int, tally: Tally) -> None:
    """Check a job that ended by itself; arguments as in examine, total: chips in the archive."""
    tally.jobs += 1
    results = work_dir / "output" / "results"
    status = chip_files.read_json(work_dir / "status.json")
    if status != chip_files.read_json(whole.parents[1] / "status.json"):
        tally.broken.append(f"the last run of a job, unlike the undisturbed one, says {status}")
    if set(chip_files.files_below(results)) != set(RESULTS):
        tally.broken.append(f"the last run of a job left {chip_files.files_below(results)}")
        return
    for name in RESULTS:
        if (results / name).read_bytes() != (whole / name).read_bytes():
            tally.broken.append(f"{name} is not that of the undisturbed run")
    check_batches(work_dir, answered, total, tally)


def main() -> int:
    """Parse the command line and kill; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--chips", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        tally = kill_run(Path(folder), arguments.kills, arguments.chips, arguments.seed)
    phases = ", ".join(f"{number} while {phase}" for phase, number in tally.phases.most_common())
    print(
        f"seed {arguments.seed}: {tally.phases.total()} kills ({phases}), {tally.resumed} runs "
        f"resumed, {tally.jobs} jobs ended with the results of the undisturbed run, "
        f"{time.monotonic() - started:.0f} s"
    )
    for promise in tally.broken:
        print("BROKEN:", promise)
    return int(bool(tally.broken))


if __name__ == "__main__":
    sys.exit(main())
