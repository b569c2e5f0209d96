"""The results of many tasks in one place: merged JSON files and a summary.

The Snakefile uses it. Read is what the tasks left in their work directories, tasks/<archive> in the
folder of the results, of those that are marked as done. Their classified.json and unclassified.json
hold one chip a line (write_json_object in answers.py), so that files of any length are merged line
by line.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from chip_classifier.answers import write_json_object
from workflow.summary import write_map, write_page

NOT_RUN = "not run yet"
MOST_SHOWN = 20


def gather(out: Path, archives: Mapping[str, Path], shared: Sequence[Path], complete: bool) -> None:
    """Merge what the tasks have written, write a summary, and print what is not done.

    Args:
        out: folder of the results.
        archives: the name and the path of each archive.
        shared: the model and, if there is one, ports.json.
        complete: every task is known to be done; otherwise it is looked up, and the merged file is
            named classified.partial.json.
    Raises:
        OSError, ValueError: results cannot be read or written.
    """
    reasons = {
        name: None if complete else why_not_done(out / "tasks" / name, [path, *shared])
        for name, path in archives.items()
    }
    done = [name for name, reason in reasons.items() if reason is None]
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
    merged, partial = out / "classified.json", out / "classified.partial.json"
    write_json_object(merged if complete else partial, all_classified())
    (partial if complete else merged).unlink(missing_ok=True)
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
    summary = {
        "complete": complete,
        "archives": len(reasons),
        "done": len(done),
        "chips": totals.total() + unclassified.total(),
        "unclassified": unclassified.total(),
        "classes": dict(totals.most_common()),
        "tasks": entries,
    }
    temporary = out / "summary.json.part"
    temporary.write_text(json.dumps(summary, indent=2) + "\n")
    temporary.replace(out / "summary.json")
    write_map(out, done, complete)
    write_page(out, summary)

    print(
        f"{len(done):,} of {len(reasons):,} archives are done, {summary['chips']:,} chips of them",
        end="",
    )
    print(f" ({unclassified.total():,} unclassified): {merged if complete else partial}")
    missing = [f"{name}: {reason}" for name, reason in reasons.items() if reason is not None]
    print(*missing[:MOST_SHOWN], *["..."] * (len(missing) > MOST_SHOWN), sep="\n", flush=True)


def why_not_done(work_dir: Path, inputs: Sequence[Path]) -> str | None:
    """Say why a task is not done, in one sentence; None if it is.

    A task that was done before one of its input files changed is not.
    """
    try:
        newest = max(path.stat().st_mtime for path in inputs)
        if (work_dir / "done").stat().st_mtime >= newest:
            return None
    except OSError:
        pass
    try:
        status = json.loads((work_dir / "status.json").read_text())
    except (OSError, ValueError):
        log = work_dir / "stdout.log"
        began = log.exists() and log.stat().st_size > 0
        return f"The task could not be started: see {log}." if began else NOT_RUN
    return status["reason"] if status["status"] == "failed" else NOT_RUN


def results_of(out: Path, name: str) -> Path:
    """Give the directory that the task of an archive wrote its results to."""
    return out / "tasks" / name / "output" / "results"


def read_entries(path: Path) -> Iterator[tuple[str, object]]:
    """Yield the entries of a JSON object that has one a line. Raises ValueError if it has not."""
    with path.open(encoding="ascii") as file:
        for line in file:
            if line.strip("{}\n"):
                (entry,) = json.loads("{" + line.rstrip(",\n") + "}").items()
                yield entry
