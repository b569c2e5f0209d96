"""An executor for Snakemake that keeps to what its executors for Kubernetes and the clouds do.

Each job is the shell command that those run in a container, in an empty directory below the one
that the variable PODS names, which is its home, too: it fetches the workflow, its input and its
software from nowhere but the store and the packages on its PATH.
"""

import os
import subprocess
import tempfile
from collections.abc import AsyncGenerator
from pathlib import Path

from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor
from snakemake_interface_executor_plugins.jobs import JobExecutorInterface
from snakemake_interface_executor_plugins.settings import CommonSettings

# Those of the executor for Kubernetes, but for the installation of the storage plugin.
common_settings = CommonSettings(
    non_local_exec=True,
    implies_no_shared_fs=True,
    job_deploy_sources=True,
    pass_default_storage_provider_args=True,
    pass_default_resources_args=True,
    pass_envvar_declarations_to_cmd=False,
    auto_deploy_default_storage_provider=False,
)


class Executor(RemoteExecutor):
    """Runs each job as a process of its own session."""

    def run_job(self, job: JobExecutorInterface) -> None:
        """Start a job."""
        pod = Path(tempfile.mkdtemp(prefix="pod-", dir=os.environ["PODS"]))
        environment = {"HOME": str(pod), "PATH": os.environ["PATH"], **self.envvars()}
        with (pod / "pod.log").open("w") as log:
            process = subprocess.Popen(
                ["/bin/sh", "-c", self.format_job_exec(job)],
                cwd=pod,
                env=environment,
                start_new_session=True,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                stdout=log,
            )
        self.report_job_submission(SubmittedJobInfo(job=job, aux={"process": process}))

    async def check_active_jobs(
        self, active_jobs: list[SubmittedJobInfo]
    ) -> AsyncGenerator[SubmittedJobInfo, None]:
        """Report the jobs that have ended, and yield those that run."""
        for job in active_jobs:
            code = job.aux["process"].poll()
            if code is None:
                yield job
            elif code:
                self.report_job_error(job)
            else:
                self.report_job_success(job)

    def cancel_jobs(self, active_jobs: list[SubmittedJobInfo]) -> None:
        """End the jobs that run."""
        for job in active_jobs:
            job.aux["process"].kill()
