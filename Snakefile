"""Run the task on many archives, one task per archive, with Snakemake.

    snakemake --cores 4 --keep-going --retries 2 --rerun-incomplete \\
        --config archives=chips model=model.h5 ports=ports.json out=deployed gpus=0,1,2,3

The README, "Many machines", has the commands for clusters. What the folder `out` gets:

    tasks/<archive>/         the work directory of a task; `done` in it says that it succeeded
    classified.json          "<archive>/<chip>" -> class and certainty, once all archives are done
    classified.partial.json  the same of the archives that are done, while others are not
    unclassified.json        "<archive>/<chip>" -> reason, if there is such a chip
    summary.json             every archive with its counts, or the reason why it is not done

The same command again finishes what is missing. To have an archive done anew, delete its folder.
"""

import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

# ------------------------------------------------------------------------------------ --config


def setting(name: str, default: str = "") -> str:
    """Give a setting as text, without blanks; Snakemake reads `gpus=0` as a number."""
    value = config.get(name)
    return str("" if value is None else value).strip() or default


for name in ("archives", "model"):
    if not setting(name):
        raise WorkflowError(f"Set {name}: --config archives=DIR model=FILE, or in a --configfile.")

ARCHIVE_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
FOLDER = Path(setting("archives")).absolute()  # holds the archives themselves, no further folders
MODEL = Path(setting("model")).absolute()
PORTS = Path(setting("ports")).absolute() if setting("ports") else None  # one ports.json for all
OUT = Path(setting("out", "deployed")).absolute()
# Numbers of this machine's GPUs, "0,1,2,3": each task gets one to itself. To be left out where
# there is none, and on a cluster, whose scheduler gives each task its GPU.
GPUS = setting("gpus")
IMAGE = setting("image")  # container image to run with Docker; without it, the script is run
PROGRAM = Path(workflow.basedir) / "run_archive.py"
PYTHON = setting("python", sys.executable)  # has the packages of requirements.txt
TRAINED_WITH = setting("trained_with", "tensorflow")  # or theano

# An archive is known by the whole name of its file: a.tar and a.tar.gz are two.
ARCHIVES = {
    path.name: path
    for path in sorted(FOLDER.glob("[!.]*"))
    if path.name.lower().endswith(ARCHIVE_SUFFIXES) and not path.is_dir()
}
if not ARCHIVES:
    raise WorkflowError(f"{FOLDER} holds no archive ({', '.join(ARCHIVE_SUFFIXES)}).")
for path in (*ARCHIVES.values(), MODEL, PORTS, OUT):
    if any(character in str(path) for character in "{}\n"):
        raise WorkflowError(f"Rename '{path}': Snakemake takes a name with braces for a pattern.")

# --------------------------------------------------------------------------------------- rules


localrules:
    all,
    merge,


rule all:
    input:
        OUT / "classified.json",


rule classify:
    input:
        archive=lambda wildcards: ARCHIVES[wildcards.archive],
        model=MODEL,
        ports=PORTS or [],
    output:
        # A mark, and none of the results: Snakemake deletes the output of a task that failed, and
        # the task would have nothing left to resume from.
        touch(OUT / "tasks" / "{archive}" / "done"),
    log:
        OUT / "tasks" / "{archive}" / "stdout.log",
    wildcard_constraints:
        archive="[^/]+",
    params:
        # The answers depend on the first one; a change of the others makes no task run again.
        trained_with=TRAINED_WITH,
        work_dir=str(OUT / "tasks" / "{archive}"),
        ports=["--ports", PORTS] if PORTS else [],
        gpus=["--gpus", GPUS] if GPUS else [],
        image=["--image", IMAGE] if IMAGE else [],
    resources:
        **({"gpu": 1} if GPUS else {}),
    shell:
        "{PYTHON:q} {PROGRAM:q} --archive {input.archive:q} --model {input.model:q}"
        " {params.ports:q} --work-dir {params.work_dir:q} --trained-with {params.trained_with:q}"
        " {params.gpus:q} {params.image:q} > {log:q} 2>&1"


rule merge:
    input:
        [OUT / "tasks" / archive / "done" for archive in ARCHIVES],
    output:
        OUT / "classified.json",
    run:
        collect(complete=True)


# ------------------------------------------------------------------------------------- results


def collect(complete: bool) -> None:
    """Write the merged results and the summary."""
    from gather import gather  # here, because no task needs it

    gather(OUT, ARCHIVES, [MODEL, *filter(None, [PORTS])], complete)


onstart:
    # They are those of an earlier call, and from here on there is something that they do not tell.
    for stale in ("classified.json", "summary.json"):
        (OUT / stale).unlink(missing_ok=True)


onerror:
    collect(complete=False)
