"""status.json: whether a run succeeded, and if not, one sentence that says what to change."""

import json
from pathlib import Path

from chip_classifier.files import create, overwrite
from chip_classifier.layout import STATUS

# What status.json says while a run goes on: a process that is killed cannot write it any more.
KILLED = (
    "The task was ended from outside before it could finish (killed, out of memory or power); "
    "run it again to resume where it stopped."
)


def write_status(work_dir: Path, status: str, reason: str | None) -> None:
    """Write status.json, whole if possible. Raises OSError if it cannot be written at all."""
    path = work_dir / STATUS
    text = json.dumps({"status": status, "reason": reason}) + "\n"
    temporary = work_dir / f"{STATUS}.part"
    try:
        with create(temporary) as file:
            file.write(text)
        temporary.replace(path)
    except OSError:
        # On a full disk the old file's block is still there to be written over.
        if temporary.is_file():
            temporary.unlink()
        with overwrite(path) as file:
            file.write(text)
