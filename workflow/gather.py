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
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from chip_classifier.answers import write_json_object
from chip_classifier.layout import CLASSIFIED, MAP, STATUS, UNCLASSIFIED, results_of
from chip_classifier.log import printable
from workflow.summary import PAGE, PARTIAL_MAP, read_mark, write_map, write_page

NOT_RUN = "not run yet"
LOST = (
    "Tries of the task that ended without a word: {}. Its machine may have died, or lacked memory: "
    "see Snakemake's messages, and run the same command again."
)
PARTIAL, SUMMARY = "classified.partial.json", "summary.json"
MERGED = (CLASSIFIED, PARTIAL, UNCLASSIFIED, SUMMARY, MAP, PARTIAL_MAP, PAGE)
ORDER = ".archives.json"


@dataclass
class Counts:
    """What an archive that is done has: chips of each class, and chips without one."""

    classes: Counter = field(default_factory=Counter)
    unclassified: int = 0

    @property
    def chips(self) -> int:
        """Return the number of its chips."""
        return self.classes.total() + self.unclassified


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
    counts = {name: Counts() for name, reason in reasons.items() if reason is None}
    complete = len(counts) == len(reasons)
    out.mkdir(parents=True, exist_ok=True)
    merged = out / (CLASSIFIED if complete else PARTIAL)
    write_json_object(merged, _classified(out, counts))
    write_json_object(out / UNCLASSIFIED, _unclassified(out, counts))
    if not any(count.unclassified for count in counts.values()):
        (out / UNCLASSIFIED).unlink()
    summary = _summary(reasons, counts)
    write_whole(out / SUMMARY, summary)
    write_map(out, counts, complete)
    write_page(out, summary)
    first = f"{len(counts):,} of {len(reasons):,} archives are done, {summary['chips']:,} chips of "
    first += f"them ({summary['unclassified']:,} unclassified): {merged.name}"
    missing = [f"{name}: {reason}" for name, reason in reasons.items() if reason is not None]
    return "\n".join(map(printable, [first, *missing]))


def _classified(out: Path, counts: Mapping[str, Counts]) -> Iterator[tuple[str, object]]:
    """Yield the answers of the archives that are done, and count them."""
    for name, count in counts.items():
        for chip, answer in read_entries(results_of(out / "tasks" / name) / CLASSIFIED):
            count.classes[answer["class"]] += 1
            yield f"{name}/{chip}", answer


def _unclassified(out: Path, counts: Mapping[str, Counts]) -> Iterator[tuple[str, object]]:
    """Yield the reasons of the chips that are not classified, and count them."""
    for name, count in counts.items():
        path = results_of(out / "tasks" / name) / UNCLASSIFIED
        for chip, reason in read_entries(path) if path.exists() else ():
            count.unclassified += 1
            yield f"{name}/{chip}", reason


def _summary(reasons: Mapping[str, str | None], counts: Mapping[str, Counts]) -> dict:
    """Return the content of summary.json.

    Args:
        reasons: name -> why an archive is not done, None if it is.
        counts: name -> what one that is done has.
    """
    tasks: dict[str, dict] = {}
    for name, reason in reasons.items():
        if reason is not None:
            tasks[name] = {"status": NOT_RUN if reason == NOT_RUN else "failed", "reason": reason}
            continue
        tasks[name] = {
            "status": "done",
            "chips": counts[name].chips,
            "unclassified": counts[name].unclassified,
            "classes": dict(counts[name].classes.most_common()),
        }
    totals = sum((count.classes for count in counts.values()), Counter())
    unclassified = sum(count.unclassified for count in counts.values())
    return {
        "complete": len(counts) == len(reasons),
        "archives": len(reasons),
        "done": len(counts),
        "chips": totals.total() + unclassified,
        "unclassified": unclassified,
        "classes": dict(totals.most_common()),
        "tasks": tasks,
    }


def why_failed(out: Path, name: str) -> str | None:
    """Say why a task that has come to its end failed, in one sentence; None if it succeeded."""
    return read_mark(out, name)["reason"]


def why_not_finished(out: Path, name: str, tries: int) -> str:
    """Say why a task that was started so many times has not come to its end, in one sentence."""
    work_dir = out / "tasks" / name
    try:
        status = json.loads((work_dir / STATUS).read_text())
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
