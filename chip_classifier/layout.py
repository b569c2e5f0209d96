"""What the files of a run are called, and where they lie: for the task and for the workflow alike.

input/ports.json, input/chips/, input/model/                    what a work directory is given
output/results/, output/logs/, status.json                      what a run leaves there
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# ------------------------------------------------------------------------------ what a run is given

INPUT = "input"
PORTS = "ports.json"
CHIPS_FOLDER, MODEL_FOLDER = "chips", "model"
ARCHIVE_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
# The features that the chips were cut at: beside a tar, a zip or a folder; in a work directory and
# in a folder of chips by any name with this suffix.
REFERENCE, REFERENCE_SUFFIX = "ref.geojson", ".geojson"
MODEL_SUFFIXES = (".h5", ".hdf5", ".keras")


@dataclass(frozen=True)
class Given:
    """What the command line gives in place of a work directory.

    chips: a tar, a zip or a folder of chips; model: a model file, or the folder of its two files;
    ports: the text of each string port that is set; ports_file: a file that sets others.
    """

    chips: Path
    model: Path
    ports: Mapping[str, str]
    ports_file: Path | None = None


# ------------------------------------------------------------------------------ what a run leaves

STATUS, LOCK = "status.json", "task.lock"
CLASSIFIED, UNCLASSIFIED = "classified.json", "unclassified.json"
MAP, TABLE = "classified.geojson", "classified.csv"
RESULTS = (CLASSIFIED, UNCLASSIFIED, MAP, TABLE)
JOURNAL = "resume.jsonl"
LOG, PAGE = "out.log", "preview.html"

# ------------------------------------------------------------------------------ exit codes

# Of a failed task. Final: it would fail again, until somebody changes its input.
FINAL = 1
TRY_AGAIN = 75  # EX_TEMPFAIL in sysexits.h: a stop, too little memory, a full disk, a read error


def results_of(work_dir: Path) -> Path:
    """Return the folder of a work directory's results."""
    return work_dir / "output" / "results"


def logs_of(work_dir: Path) -> Path:
    """Return the folder of a work directory's log and page."""
    return work_dir / "output" / "logs"


def is_reference(name: str) -> bool:
    """Return whether a file beside chips is one of features, by its name."""
    return name.lower().endswith(REFERENCE_SUFFIX) and not name.startswith(".")
