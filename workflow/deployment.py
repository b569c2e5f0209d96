"""One call of the workflow: what its rules are about, and what comes before and after them.

All that drives Snakemake is here and in places.py, so that the Snakefile holds rules.
"""

import atexit
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from snakemake.workflow import Workflow

from chip_classifier.layout import (
    ARCHIVE_SUFFIXES,
    CLASSIFIED,
    LOG,
    MAP,
    PAGE,
    STATUS,
    UNCLASSIFIED,
    logs_of,
    results_of,
)
from workflow.archives import WILD, choose_archives, lonely_references, reference_of
from workflow.gather import MERGED, gather, progress_line, read_mark, write_order
from workflow.places import Places
from workflow.settings import SettingsError, read_settings

# Of a task; a store gets the first ones of one that ends, and the others in any case.
RESULT_FILES = [
    *(results_of(Path()) / name for name in (CLASSIFIED, UNCLASSIFIED, MAP)),
    *(logs_of(Path()) / name for name in (LOG, PAGE)),
]
LOGS = (STATUS, "stdout.log")
SECONDS_BETWEEN_LINES = 10  # of progress


class Deployment:
    """The archives of one call, their tasks, and where the results go.

    settings: see Settings; places: where files are.
    archives: the names of the archives that have tasks; refused: name -> reason of those without.
    out: the folder of the results as Snakemake's rules name it, tasks that of the tasks in it;
    out_here: the same folder, or the copy of it on this machine if it is in a store.
    stored: the files of a task that a store gets; [] where the results go to a folder.
    """

    def __init__(self, workflow: Workflow, config: Mapping[str, object]) -> None:
        """Find the archives; raises WorkflowError if there are none, or a setting is wrong.

        Args:
            workflow: Snakemake's object, which a Snakefile has under this name.
            config: what stands behind --config.
        """
        try:
            self.settings = read_settings(config)
        except SettingsError as error:
            raise WorkflowError(str(error)) from error
        self._workflow = workflow
        self.places = Places(workflow)
        folder, out = self.settings.archives, Path(self.settings.out)
        self.model = self.places.place(self.settings.model)
        self.ports = self.places.place(self.settings.ports) if self.settings.ports else []
        # Below the prefix, if there is a store: Snakemake adds that.
        self.out = out if self.places.prefix else out.absolute()
        self.tasks = self.out / "tasks"
        self.out_here = (
            self.places.stored(str(self.out)).local_path() if self.places.prefix else self.out
        )
        # Not declared as a directory, which the executors do not find in S3 (plugin 0.3.6).
        self.stored = RESULT_FILES if self.places.prefix else []
        for path in (folder, self.model, self.ports, self.out):
            if any(character in str(path) for character in WILD):
                raise WorkflowError(
                    f"Rename '{path}': Snakemake takes a name with braces for a pattern."
                )
        self._files = set(self.places.files_in(folder))
        here = None if self.places.is_stored(folder) else Path(folder)
        self.archives, self.refused = choose_archives(self._files, here)
        if not self.archives and not self.refused:
            raise WorkflowError(
                f"{self.places.whole_name(folder)} holds no archive "
                f"({', '.join(ARCHIVE_SUFFIXES)})."
            )

    # ------------------------------------------------------------------------- what rules are about

    def archive(self, name: str) -> str:
        """Return the file of an archive."""
        return self.places.place(f"{self.settings.archives}/{name}")

    def references(self, name: str) -> list[str]:
        """Return the file with the features of an archive's chips, if there is one beside it."""
        reference = reference_of(name)
        return [self.archive(reference)] if reference in self._files else []

    def threads(self) -> int:
        """Return the cores of a task: all of one machine, shared out to its GPUs if there are any.

        On a cluster --set-threads says it, also to the processes that run the tasks there.
        """
        cores = self._workflow.resource_settings.cores
        if self._workflow.remote_exec or not cores:
            return 1
        return max(1, cores // len(self.settings.gpus.split(",")))

    # ---------------------------------------------------------------------------- before and after

    def start(self) -> None:
        """Check the GPUs, take away what an earlier call merged, and begin to show the progress."""
        if self.settings.gpus:
            self._check_gpus()
        for name in lonely_references(self._files, [*self.archives, *self.refused]):
            logger.warning(
                f"{name} is not used: no archive has its name, such as a.tar for a.geojson."
            )
        self._forget()
        write_order(self.out_here, self.archives, self.refused)
        threading.Thread(target=self._show_progress, daemon=True).start()

    def succeed(self) -> None:
        """Put the merged results into the store, if there is one, and remove the copies here."""
        if self.places.prefix:
            self.places.send(self.out / name for name in MERGED if (self.out_here / name).exists())
            shutil.rmtree(self.out_here)

    def fail(self) -> None:
        """Merge what there is, and let a summary be the last that the terminal shows."""
        finished = self._finished()
        self.places.fetch(self.tasks / name / "done" for name in finished)
        self.places.fetch(self.tasks / name / file for name in finished for file in self.stored)
        missing = set(self.archives) - finished
        self.places.fetch(self.tasks / name / file for name in missing for file in LOGS)
        summary = gather(self.out_here, self.archives, self.refused, finished, self._tries())
        self.succeed()
        atexit.register(print, summary)  # Snakemake has something to say after this

    def _finished(self) -> set[str]:
        """Return the archives whose tasks have come to an end, in this call or before."""
        dag = self._workflow.dag
        return {
            job.wildcards.archive
            for job in dag.jobs
            if job.rule.name == "classify" and (dag.finished(job) or not dag.needrun(job))
        }

    def _tries(self) -> dict[str, int]:
        """Return archive -> how often its task was tried, of those that came to no end."""
        failed = self._workflow.scheduler.failed
        return {job.wildcards.archive: job.attempt for job in failed if job.rule.name == "classify"}

    def _check_gpus(self) -> None:
        """Make sure that TensorFlow sees the GPUs: without them it would compute on the CPU."""
        gpus, image = self.settings.gpus, self.settings.image
        count = "import tensorflow as tf; print(len(tf.config.list_physical_devices('GPU')))"
        docker = ["docker", "run", "--rm", "--gpus", f'"device={gpus}"', image, "python"]
        found = subprocess.run(
            [*(docker if image else [self.settings.python]), "-c", count],
            capture_output=True,
            check=False,
            env={**os.environ, "CUDA_VISIBLE_DEVICES": gpus},
            text=True,
        )
        wanted, seen = len(gpus.split(",")), found.stdout.strip()[-9:] or "none"
        if seen != str(wanted):
            raise WorkflowError(
                f"gpus={gpus} names {wanted}, but TensorFlow sees {seen} of them: name the GPUs "
                'that nvidia-smi shows, install "tensorflow[and-cuda]", or leave gpus out to '
                f"compute on the CPU. {found.stderr[-500:] if found.returncode else ''}"
            )

    def _show_progress(self) -> None:
        """Print a line whenever more archives are finished, at most one in ten seconds."""
        started, shown = time.monotonic(), self._finished()
        chips, before = 0, len(shown)
        while True:
            time.sleep(1)
            finished = self._finished()
            if new := finished - shown:
                self.places.fetch(self.tasks / name / "done" for name in new)
                chips += sum(read_mark(self.out_here, name)["chips"] for name in new)
                seconds = time.monotonic() - started
                count = len(self.archives)
                print(progress_line(count, len(finished), before, chips, seconds), flush=True)
                shown = finished
                time.sleep(SECONDS_BETWEEN_LINES - 1)

    def _forget(self) -> None:
        """Remove the merged results of an earlier call: from here on, they do not tell everything.

        A store also has the logs of tasks that run again, which those cannot remove themselves.
        """
        if self.places.prefix:
            again = set(self.archives) - self._finished()
            stale = {*MERGED, *(f"tasks/{name}/{log}" for name in again for log in LOGS)}
            shutil.rmtree(self.out_here, ignore_errors=True)
            there = stale.intersection(self.places.files_in(str(self.out)))
            self.places.remove(self.out / name for name in there)
        for name in MERGED:
            (self.out_here / name).unlink(missing_ok=True)
