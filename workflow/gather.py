"""The results of many tasks in one place: merged files and a summary.

Read is what the tasks left in their work directories, tasks/<archive> in the folder of the results:
`done`, how a task ended, is written by run_archive.py; classified.json and unclassified.json hold
one chip a line (write_json_object in answers.py), so that files of any length are merged line by
line.

Results of all archives take the place of earlier ones when all of them are there. As long as an
archive is not done, they are named classified.partial.json and so on, and those of an earlier call
stay: summary.json says of which archives these are.
"""

import json
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from pathlib import Path

from chip_classifier.answers import write_json_object
from chip_classifier.layout import CLASSIFIED, MAP, STATUS, TABLE, UNCLASSIFIED, results_of
from chip_classifier.log import printable
from chip_classifier.output import NEW, complete, put_in_place, take_away
from workflow.archives import describe_passed_over
from workflow.summary import (
    PAGE,
    SharedFeatures,
    read_mark,
    write_map,
    write_page,
    write_table,
)

NOT_RUN = "not run yet"
LOST = (
    "Tries of the task that ended without a word: {}. Its machine may have died, or lacked memory: "
    "see Snakemake's messages, and run the same command again."
)
NO_TABLE = (
    f"There is no {TABLE}, which an earlier version did not write: to have it, delete the folder "
    "of the archive in tasks and run the same command again."
)
SUMMARY = "summary.json"
COMPLETE = (CLASSIFIED, UNCLASSIFIED, MAP, TABLE)
PARTIAL = tuple(name.replace(".", ".partial.") for name in COMPLETE)
MERGED = (*COMPLETE, *PARTIAL, PAGE, SUMMARY)
ORDER = ".archives.json"
# What differs from archive to archive in a warning of the same meaning.
_DETAILS = re.compile(r"'[^']*'|\d[\d,.]*")


@dataclass(frozen=True)
class Call:
    """What one call of the workflow knows when its tasks have ended.

    archives: the names of the archives that have tasks.
    refused: name -> reason of those that have none.
    passed_over, others: what lies beside them; see Entries.
    shared_reference: the archives whose features are in one file for all.
    finished: the names of those whose tasks have come to an end, successfully or not.
    tries: name -> how often the task was started, of those that came to no end all the same.
    has_earlier: whether the folder of the results has those of an earlier call.
    """

    archives: Sequence[str]
    refused: Mapping[str, str] = field(default_factory=dict)
    passed_over: Mapping[str, str] = field(default_factory=dict)
    others: Sequence[str] = ()
    shared_reference: Sequence[str] = ()
    finished: Sequence[str] = ()
    tries: Mapping[str, int] = field(default_factory=dict)
    has_earlier: bool = False


@dataclass
class Counts:
    """What an archive that is done has: chips of each class, and chips without one."""

    classes: Counter = field(default_factory=Counter)
    unclassified: int = 0

    @property
    def chips(self) -> int:
        """Return the number of its chips."""
        return self.classes.total() + self.unclassified


def gather(out: Path, call: Call) -> dict:
    """Merge what the tasks have written, and write a summary.

    Args:
        out: folder of the results.
        call: what is known of the tasks.
    Returns:
        The content of summary.json.
    Raises:
        OSError, ValueError: results cannot be read or written.
    """
    reasons = {
        name: why_failed(out, name)
        if name in call.finished
        else why_not_finished(out, name, call.tries.get(name, 0))
        for name in call.archives
    }
    reasons = dict(sorted((reasons | dict(call.refused)).items()))
    counts = {name: Counts() for name, reason in reasons.items() if reason is None}
    is_whole = len(counts) == len(reasons)
    put_in_place([out])  # those of a call that died meanwhile
    new = out / NEW
    take_away(new)
    new.mkdir(parents=True)
    classified, unclassified, map_name, table = COMPLETE if is_whole else PARTIAL
    write_json_object(new / classified, _classified(out, counts))
    write_json_object(new / unclassified, _unclassified(out, counts))
    if not any(count.unclassified for count in counts.values()):
        (new / unclassified).unlink()
    shared = _shared_features(out, counts, call)
    write_map(new / map_name, out, list(counts), shared)
    without_table = write_table(new / table, out, list(counts))
    summary = _summary(reasons, counts)
    summary["warnings"] = warnings_of(out, counts, call)
    if is_whole and 0 < shared.lost < shared.number:
        summary["warnings"].insert(0, {"warning": _lost(shared), "archives": 0, "first": None})
    if without_table:
        summary["warnings"].append(
            {"warning": NO_TABLE, "archives": len(without_table), "first": without_table[0]}
        )
    summary["passed_over"] = {**call.passed_over, **dict.fromkeys(call.others, "It is no archive.")}
    summary["merged"] = _merged(out, summary, call)
    write_page(new / PAGE, out, summary)
    write_whole(new / SUMMARY, summary)
    complete(out, MERGED if is_whole else (*PARTIAL, PAGE, SUMMARY))  # the summary last
    put_in_place([out])
    return summary


def _shared_features(out: Path, done: Sequence[str], call: Call) -> SharedFeatures:
    """Return what must be known of the features in one file for all, to find those of no chip."""
    archives = [name for name in call.shared_reference if name in done]
    without = (chip for name in archives for chip, _ in _reasons(out, name))
    return SharedFeatures(archives, frozenset(without))


def _lost(shared: SharedFeatures) -> str:
    """Say how many of the features in one file for all match no chip."""
    first = f"'{shared.first_lost}'" if shared.first_lost else "one without a name"
    return (
        f"{shared.lost:,} of the {shared.number:,} features in the file for all archives match no "
        f"chip of any of them, the first is {first}: they get no class."
    )


def _merged(out: Path, summary: Mapping, call: Call) -> dict | None:
    """Say which archives the files of COMPLETE are of, and when they were written; None if none."""
    if summary["complete"]:
        when = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        return {"archives": list(summary["tasks"]), "written": when}
    if not call.has_earlier:
        return None
    try:
        earlier = json.loads((out / SUMMARY).read_text())
    except (OSError, ValueError):
        earlier = {}
    if earlier.get("complete") and "merged" not in earlier:  # of a version before 1.2
        return {"archives": list(earlier["tasks"]), "written": None}
    return earlier.get("merged") or {"archives": None, "written": None}


def warnings_of(out: Path, done: Sequence[str], call: Call) -> list[dict]:
    """Return what the tasks warn of, and what the workflow does: each once.

    Returns:
        "warning": a sentence, with the details of the first archive; "archives": how many have it,
        0 if it is the workflow's own; "first": the first of these.
    """
    own = describe_passed_over(call.passed_over, call.others)
    found = {sentence: {"warning": sentence, "archives": 0, "first": None} for sentence in own}
    told = {name: read_mark(out, name).get("warnings", ()) for name in done}
    shared = {name for name in call.shared_reference if name in told}
    # A feature of all archives' file matches a chip of one: that is none to warn of (see _lost).
    is_useless = all(any(text.startswith("None of the") for text in told[name]) for name in shared)
    for name, sentences in told.items():
        for sentence in sentences:
            if name in shared and not is_useless and _MATCH_NO_CHIP.search(sentence):
                continue
            key = _DETAILS.sub("#", sentence)
            entry = found.setdefault(key, {"warning": sentence, "archives": 0, "first": name})
            entry["archives"] += 1
    return list(found.values())


_MATCH_NO_CHIP = re.compile(r"^(None|[\d,]+) of the [\d,]+ features in ")


def describe(summary: Mapping) -> str:
    """Return the end of what the terminal shows: warnings, counts, and what is not done."""
    lines = []
    for entry in summary["warnings"]:
        where = f" in {entry['first']}" if entry["archives"] else ""
        if entry["archives"] > 1:
            where += f" and {entry['archives'] - 1:,} more archives"
        lines.append(f"Warning{where}: {entry['warning']}")
    merged = summary["merged"]
    if merged and not summary["complete"]:
        of = "other archives or" if merged["archives"] is None else f"{len(merged['archives']):,}"
        lines.append(
            f"{CLASSIFIED} and what belongs to it are still those of an earlier call, of {of} "
            f"archives: {SUMMARY} names them."
        )
    name = CLASSIFIED if summary["complete"] else PARTIAL[0]
    lines.append(
        f"{summary['done']:,} of {summary['archives']:,} archives are done, {summary['chips']:,} "
        f"chips of them ({summary['unclassified']:,} unclassified): {name}"
    )
    tasks = summary["tasks"].items()
    lines += [f"{name}: {task['reason']}" for name, task in tasks if task["status"] != "done"]
    return "\n".join(map(printable, lines))


def _classified(out: Path, counts: Mapping[str, Counts]) -> Iterator[tuple[str, object]]:
    """Yield the answers of the archives that are done, and count them."""
    for name, count in counts.items():
        for chip, answer in read_entries(results_of(out / "tasks" / name) / CLASSIFIED):
            count.classes[answer["class"]] += 1
            yield f"{name}/{chip}", answer


def _unclassified(out: Path, counts: Mapping[str, Counts]) -> Iterator[tuple[str, object]]:
    """Yield the reasons of the chips that are not classified, and count them."""
    for name, count in counts.items():
        for chip, reason in _reasons(out, name):
            count.unclassified += 1
            yield f"{name}/{chip}", reason


def _reasons(out: Path, name: str) -> Iterator[tuple[str, object]]:
    """Yield the chips of an archive that are not classified, with the reason for each."""
    path = results_of(out / "tasks" / name) / UNCLASSIFIED
    yield from read_entries(path) if path.exists() else ()


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


def write_order(out: Path, call: Call) -> None:
    """Note what main needs, which gets no command line of thousands of names."""
    out.mkdir(parents=True, exist_ok=True)
    write_whole(out / ORDER, asdict(call))


def main() -> None:
    """Merge the results of tasks that have all ended; exits with 1 if one of them has failed.

    Nothing is written then: the workflow does that when everything has come to its end.
    """
    out = Path(sys.argv[1])
    call = Call(**json.loads((out / ORDER).read_text()))
    if call.refused or any(why_failed(out, name) for name in call.archives):
        sys.exit("Some archives are not done.")
    gather(out, replace(call, finished=call.archives))


if __name__ == "__main__":
    main()
