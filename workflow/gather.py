"""The results of many tasks in one place: merged JSON files and a summary.

The Snakefile uses it. Read is what the tasks left in their work directories, tasks/<archive> in the
folder of the results: `done`, how a task ended, is written by run_archive.py; classified.json and
unclassified.json hold one chip a line (write_json_object in answers.py), so that files of any
length are merged line by line.
"""

import json
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path

from chip_classifier.answers import write_json_object
from chip_classifier.log import printable
from workflow.summary import MAP, PAGE, PARTIAL_MAP, read_mark, write_map, write_page

NOT_RUN = "not run yet"
LOST = (
    "Tries of the task that ended without a word: {}. Its machine may have died, or lacked memory: "
    "see Snakemake's messages, and run the same command again."
)
RESULTS = ("classified.json", "classified.partial.json", "unclassified.json", "summary.json")
RESULTS += (MAP, PARTIAL_MAP, PAGE)
ORDER = ".archives.json"


def gather(
    out: Path,
    archives: Collection[str],
    refused: Mapping[str, str],
    finished: Collection[str],
    tries: Mapping[str, int],
) -> str:
    """Merge what the tasks have written, and write a summary.

    Args:
        out: folder of the results.
        archives: the names of the archives that have tasks.
        refused: name -> reason of those that have none.
        finished: the names of those whose tasks have come to an end, successfully or not.
        tries: name -> how often the task was started, of those that came to no end all the same.
    Returns:
        The summary as text: how many are done, and a line for each archive that is not.
    Raises:
        OSError, ValueError: results cannot be read or written.
    """
    reasons = {
        name: why_failed(out, name)
        if name in finished
        else why_not_finished(out, name, tries.get(name, 0))
        for name in archives
    }
    reasons = dict(sorted((reasons | refused).items()))
    done = [name for name, reason in reasons.items() if reason is None]
    complete = len(done) == len(reasons)
    classes: dict[str, Counter] = {name: Counter() for name in done}
    unclassified: Counter = Counter()

    def all_classified() -> Iterator[tuple[str, object]]:
        for name in done:
            for chip, answer in read_entries(results_of(out, name) / "classified.json"):
                classes[name][answer["class"]] += 1
                yield f"{name}/{chip}", answer

    def all_unclassified() -> Iterator[tuple[str, object]]:
        for name in done:
            path = results_of(out, name) / "unclassified.json"
            for chip, reason in read_entries(path) if path.exists() else ():
                unclassified[name] += 1
                yield f"{name}/{chip}", reason

    out.mkdir(parents=True, exist_ok=True)
    merged = out / ("classified.json" if complete else "classified.partial.json")
    write_json_object(merged, all_classified())
    write_json_object(out / "unclassified.json", all_unclassified())
    if not unclassified:
        (out / "unclassified.json").unlink()

    entries = {}
    for name, reason in reasons.items():
        if reason is not None:
            entries[name] = {"status": NOT_RUN if reason == NOT_RUN else "failed", "reason": reason}
            continue
        counts = classes[name]
        entries[name] = {
            "status": "done",
            "chips": counts.total() + unclassified[name],
            "unclassified": unclassified[name],
            "classes": dict(counts.most_common()),
        }
    totals = sum(classes.values(), Counter())
    chips = totals.total() + unclassified.total()
    summary = {
        "complete": complete,
        "archives": len(reasons),
        "done": len(done),
        "chips": chips,
        "unclassified": unclassified.total(),
        "classes": dict(totals.most_common()),
        "tasks": entries,
    }
    write_whole(out / "summary.json", summary)
    write_map(out, done, complete)
    write_page(out, summary)
    first = f"{len(done):,} of {len(reasons):,} archives are done, {chips:,} chips of them"
    first += f" ({unclassified.total():,} unclassified): {merged.name}"
    missing = [f"{name}: {reason}" for name, reason in reasons.items() if reason is not None]
    return "\n".join(map(printable, [first, *missing]))


def why_failed(out: Path, name: str) -> str | None:
    """Say why a task that has come to its end failed, in one sentence; None if it succeeded."""
    return read_mark(out, name)["reason"]


def why_not_finished(out: Path, name: str, tries: int) -> str:
    """Say why a task that was started so many times has not come to its end, in one sentence."""
    work_dir = out / "tasks" / name
    try:
        status = json.loads((work_dir / "status.json").read_text())
    except (OSError, ValueError):
        log = work_dir / "stdout.log"
        if log.exists() and log.stat().st_size:
            return f"The task could not be started: see {log.relative_to(out)}."
    else:
        if status["status"] == "failed":
            return status["reason"]
    return LOST.format(tries) if tries else NOT_RUN


def progress_line(archives: int, finished: int, before: int, chips: int, seconds: float) -> str:
    """Say how far the tasks are.

    Args:
        archives: their number.
        finished: how many of them have come to an end.
        before: how many of them had so before this call.
        chips: those that were answered in this call.
        seconds: the time since it began.
    """
    left = timedelta(seconds=round(seconds / (finished - before) * (archives - finished)))
    return (
        f"{finished:,} of {archives:,} archives done, {chips / seconds:,.1f} chips/s, {left} left"
    )


def results_of(out: Path, name: str) -> Path:
    """Return the directory that the task of an archive wrote its results to."""
    return out / "tasks" / name / "output" / "results"


def read_entries(path: Path) -> Iterator[tuple[str, object]]:
    """Yield the entries of a JSON object that has one a line. Raises ValueError if it has not."""
    with path.open(encoding="ascii") as file:
        for line in file:
            if line.strip("{}\n"):
                (entry,) = json.loads("{" + line.rstrip(",\n") + "}").items()
                yield entry


def write_whole(path: Path, content: object) -> None:
    """Write a JSON file, whole or not at all."""
    temporary = path.with_name(f"{path.name}.part")
    temporary.write_text(json.dumps(content, indent=2) + "\n")
    temporary.replace(path)


def write_order(out: Path, archives: Iterable[str], refused: Mapping[str, str]) -> None:
    """Note the archives for main, which gets no command line of thousands of names."""
    out.mkdir(parents=True, exist_ok=True)
    write_whole(out / ORDER, {"archives": list(archives), "refused": dict(refused)})


def main() -> None:
    """Merge the results of tasks that have all ended; exits with 1 if one of them has failed.

    Nothing is written then: the Snakefile does that when everything has come to its end.
    """
    out = Path(sys.argv[1])
    order = json.loads((out / ORDER).read_text())
    archives, refused = order["archives"], order["refused"]
    if refused or any(why_failed(out, name) for name in archives):
        sys.exit("Some archives are not done.")
    print(gather(out, archives, refused, archives, {}))


if __name__ == "__main__":
    main()
