"""One call of the workflow: what its rules are about, and what comes before and after them.

All that drives Snakemake is here and in places.py, so that the Snakefile holds rules.
"""

import atexit
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from snakemake.settings.types import ExecMode
from snakemake.workflow import Workflow

from chip_classifier.errors import TaskError
from chip_classifier.layout import (
    CLASSIFIED,
    LOG,
    PAGE,
    PORTS,
    REFERENCE,
    RESULTS,
    STATUS,
    logs_of,
    results_of,
)
from chip_classifier.output import put_in_place
from workflow.archives import (
    SUFFIXES,
    WILD,
    choose_archives,
    contents_of,
    describe_passed_over,
    lonely_references,
    reference_of,
)
from workflow.gather import (
    MERGED,
    PARTIAL,
    SUMMARY,
    Call,
    describe,
    gather,
    progress_line,
    read_mark,
    write_order,
)
from workflow.places import Places
from workflow.settings import SettingsError, read_settings

# Of a task; a store gets the first ones of one that ends, and the others in any case.
RESULT_FILES = [
    *(results_of(Path()) / name for name in RESULTS),
    *(logs_of(Path()) / name for name in (LOG, PAGE)),
]
LOGS = (STATUS, "stdout.log")
SECONDS_BETWEEN_LINES = 10  # of progress
# That the merged results are complete. No result itself is declared to Snakemake, which would
# delete it before the next one is there.
MARK = ".merged"


class Deployment:
    """The archives of one call, their tasks, and where the results go.

    settings: see Settings; places: where files are.
    entries: what the folder of archives holds; archives: the names of those that have tasks.
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
        self._model_ports = self._ports_beside_model()
        self.model_ports = self.places.place(self._model_ports) if self._model_ports else []
        # Below the prefix, if there is a store: Snakemake adds that.
        self.out = out if self.places.prefix else out.absolute()
        self.tasks = self.out / "tasks"
        self.out_here = (
            self.places.stored(str(self.out)).local_path() if self.places.prefix else self.out
        )
        # Not declared as a directory, which the executors do not find in S3 (plugin 0.3.6).
        self.stored = RESULT_FILES if self.places.prefix else []
        self.mark = self.out / MARK
        for path in (folder, self.model, self.ports, self.out):
            if any(character in str(path) for character in WILD):
                raise WorkflowError(
                    f"Rename '{path}': Snakemake takes a name with braces for a pattern."
                )
        self._files = set(self.places.files_in(folder))
        here = None if self.places.is_stored(folder) else Path(folder)
        self.entries = choose_archives(self._files, here, self._known_names())
        self.archives = self.entries.archives
        if not self.archives and not self.entries.refused:
            said = describe_passed_over(self.entries.passed_over, self.entries.others)
            if here and not here.is_dir():
                raise WorkflowError(f"{here} is no folder: set archives to the one with them.")
            raise WorkflowError(
                f"{self.places.whole_name(folder)} holds no archive ({', '.join(SUFFIXES)}, or a "
                f"folder of chips). {' '.join(said)}".rstrip()
            )
        self._shared = self._shared_reference()
        if workflow.exec_mode == ExecMode.DEFAULT:
            self._forget_stale_mark()

    def _known_names(self) -> set[str]:
        """Return the names in the folder of archives that are the workflow's other inputs."""
        folder = self.places.whole_name(self.settings.archives).rstrip("/") + "/"
        others = (
            self.settings.model,
            self.settings.ports,
            self.settings.reference,
            self._model_ports,
        )
        wholes = [self.places.whole_name(name) for name in (*others, self.settings.out) if name]
        return {
            whole.removeprefix(folder).partition("/")[0]
            for whole in wholes
            if whole.startswith(folder)
        }

    def _ports_beside_model(self) -> str | None:
        """Return the name of the ports.json that belongs to the model; None if there is none."""
        folder, slash, _ = self.settings.model.rpartition("/")
        name = f"{folder}{slash}{PORTS}"
        is_that_of_the_run = bool(self.settings.ports) and (
            self.places.whole_name(name) == self.places.whole_name(self.settings.ports)
        )
        return name if not is_that_of_the_run and self.places.exists(name) else None

    def _shared_reference(self) -> str | None:
        """Return the name of the file with the features of all archives; None if there is none."""
        beside = f"{self.settings.archives}/{REFERENCE}" if REFERENCE in self._files else None
        return self.settings.reference or beside

    # ------------------------------------------------------------------------- what rules are about

    def archive(self, name: str) -> str:
        """Return the file of an archive."""
        return self.places.place(f"{self.settings.archives}/{name}")

    def references(self, name: str) -> list[str]:
        """Return the file with the features of an archive's chips: its own, or that of all."""
        if (reference := reference_of(name)) in self._files:
            return [self.archive(reference)]
        return [self.places.place(self._shared)] if self._shared else []

    def contents(self, name: str) -> str:
        """Describe what an archive that is a folder holds; "" for a file."""
        return (
            ""
            if self.places.is_stored(self.settings.archives)
            else contents_of(Path(self.settings.archives, name))
        )

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
        """Check the ports and the GPUs before any task begins, and begin to show the progress."""
        self._check_ports()
        if self.settings.gpus:
            self._check_gpus()
        for text in describe_passed_over(self.entries.passed_over, self.entries.others):
            logger.warning(text)
        for name in lonely_references(self._files, [*self.archives, *self.entries.refused]):
            logger.warning(
                f"{name} is not used: no archive has its name, such as a.tar for a.geojson."
            )
        if self.places.prefix:
            self._begin_in_store()
        put_in_place([self.out_here])  # the results of a call that died while it did so
        write_order(self.out_here, self._call())
        threading.Thread(target=self._show_progress, daemon=True).start()

    def succeed(self) -> None:
        """Send the merged results to the store, if there is one, and say what they are."""
        self._end(json.loads((self.out_here / SUMMARY).read_text()))

    def fail(self) -> None:
        """Merge what there is, beside the results of an earlier call."""
        finished = self._finished()
        self.places.fetch(self.tasks / name / "done" for name in finished)
        self.places.fetch(self.tasks / name / file for name in finished for file in self.stored)
        missing = set(self.archives) - finished
        self.places.fetch(self.tasks / name / file for name in missing for file in LOGS)
        self.places.fetch([self.out / SUMMARY])
        here = self.places.files_in(str(self.out)) if self.places.prefix else os.listdir(self.out)
        call = replace(
            self._call(),
            finished=sorted(finished),
            tries=self._tries(),
            has_earlier=CLASSIFIED in here,
        )
        self._end(gather(self.out_here, call))

    def _call(self) -> Call:
        """Return what is known before any task has begun."""
        shared = [n for n in self.archives if self._shared and reference_of(n) not in self._files]
        entries = self.entries
        return Call(self.archives, entries.refused, entries.passed_over, entries.others, shared)

    def _end(self, summary: Mapping) -> None:
        """Send the merged results to the store, if there is one, and show the summary last."""
        if self.places.prefix:
            here = [name for name in MERGED if (self.out_here / name).exists()]
            stale = set(MERGED if summary["complete"] else PARTIAL).difference(here)
            stale.intersection_update(self.places.files_in(str(self.out)))
            self.places.remove(self.out / name for name in stale)
            self.places.send(self.out / name for name in here)  # the summary is the last of them
            shutil.rmtree(self.out_here)
        atexit.register(print, describe(summary))  # Snakemake has something to say after this

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

    def _check_ports(self) -> None:
        """Refuse a ports.json that no task can use."""
        try:
            from chip_classifier.ports import parse_ports, read_ports
        except ImportError:  # the packages of the task are another Python's
            return
        for name in filter(None, (self.settings.ports, self._model_ports)):
            try:
                parse_ports(read_ports(self.places.fetched(name)))
            except TaskError as error:
                raise WorkflowError(f"{name}: {error} No task was started.") from error

    def _begin_in_store(self) -> None:
        """Remove from the store the logs of tasks that run again, which cannot do so themselves."""
        shutil.rmtree(self.out_here, ignore_errors=True)
        again = set(self.archives) - self._finished()
        stale = {f"tasks/{name}/{log}" for name in again for log in LOGS}
        there = stale.intersection(self.places.files_in(str(self.out)))
        self.places.remove(self.out / name for name in there)

    def _forget_stale_mark(self) -> None:
        """Remove the mark of complete results if these were taken away, or did not arrive."""
        if not self.places.prefix:
            if not all((self.out / name).exists() for name in (CLASSIFIED, SUMMARY)):
                self.mark.unlink(missing_ok=True)
            return

        async def is_stale() -> bool:
            mark, *others = (
                self.places.stored(str(self.out / name)) for name in (MARK, CLASSIFIED, SUMMARY)
            )
            if not await mark.managed_exists():
                return False
            if not all([await other.managed_exists() for other in others]):
                return True
            return await others[-1].managed_mtime() < await mark.managed_mtime()

        if self._workflow.async_run(is_stale()):
            self.places.remove([self.mark])
