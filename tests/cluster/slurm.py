"""A Slurm of three nodes on this machine, without systemd and without accounting.

Each node is a slurmd with a port of its own on the loopback interface. All is started by `start`
and ended by `stop`, with the jobs that still run. Slurm reads /etc/slurm/slurm.conf and nothing
else: its jobs do not inherit the variable SLURM_CONF.
"""

import contextlib
import os
import re
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from chip_files import REPOSITORY

CONFIGURATION = Path("/etc/slurm/slurm.conf")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue")
NODES = ("n1", "n2", "n3")
SNAKEFILE = REPOSITORY / "workflow" / "Snakefile"
SECONDS = 60
NODE_TIMEOUT = 10  # seconds that a node may not answer before it is taken for dead

# For nodes of this size, and for a test that does not wait.
OPTIONS = {
    "slurm_partition=gpu": "slurm_partition=chips",
    "mem_mb=16000": "mem_mb=1500",
    "--set-resources classify:gpu=1 ": "",
    "classify=8": "classify=2",
    "--latency-wait 60": "--latency-wait 5 --seconds-between-status-checks 3 "
    "--slurm-init-seconds-before-status-checks 3",
}


def why_not() -> str | None:
    """Say why Slurm cannot be started on this machine; None if it can."""
    if missing := [name for name in PROGRAMS if not shutil.which(name)]:
        return f"needs {missing[0]}: apt-get install slurmctld slurmd slurm-client munge"
    if os.getuid():
        return "needs root, to start Slurm"
    if CONFIGURATION.exists():
        return f"this machine has a Slurm of its own: {CONFIGURATION}"
    return None


def configuration(folder: Path, name: str) -> str:
    """Return the content of slurm.conf for a cluster whose files are in a folder."""
    host = socket.gethostname().partition(".")[0]
    return f"""
ClusterName={name}
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort=17000
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmdLogFile={folder}/slurmd-%n.log
SlurmdSpoolDir={folder}/spool-%n
SlurmdTimeout={NODE_TIMEOUT}
JobRequeue=0
ReturnToService=2
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=5,bf_interval=5
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
NodeName=n[1-3] NodeHostname={host} NodeAddr=127.0.0.1 Port=[17001-17003] CPUs=2 RealMemory=4000
PartitionName=chips Nodes=n[1-3] Default=YES MaxTime=INFINITE State=UP
"""


def documented_command(snakefile: Path = SNAKEFILE) -> list[str]:
    """Return the documentation's command for Slurm, with these nodes' sizes."""
    text = (REPOSITORY / "docs" / "many-machines.md").read_text()
    command = re.search(r"^\.venv/bin/snakemake (--executor slurm .*)$", text, re.MULTILINE)[1]
    for old, new in OPTIONS.items():
        assert old in command
        command = command.replace(old, new)
    engine = [sys.executable, "-m", "snakemake", "--snakefile", str(snakefile)]
    return [*engine, *shlex.split(command)]


class Slurm:
    """The cluster: munged, slurmctld and a slurmd for each node, as children of this process."""

    def __init__(self, folder: Path) -> None:
        """Prepare a cluster; the folder is for its files, and its path has no blanks."""
        self.folder = folder
        self.name = f"chips{os.getpid()}"
        self.processes: dict[str, subprocess.Popen] = {}

    def start(self) -> None:
        """Start all, and wait until the nodes take jobs. Raises RuntimeError if they do not."""
        (self.folder / "state").mkdir()
        key = self.folder / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)
        CONFIGURATION.parent.mkdir(exist_ok=True)
        CONFIGURATION.write_text(configuration(self.folder, self.name))
        files = {"socket": "munge.socket", "pid-file": "munge.pid", "log-file": "munge.log"}
        files |= {"seed-file": "munge.seed", "key-file": key.name}
        options = [f"--{option}={self.folder / file}" for option, file in files.items()]
        self._run("munged", "--foreground", "--force", *options)
        self._run("slurmctld", "-D", "-c")
        for node in NODES:
            self.start_node(node)
        give_up = time.monotonic() + SECONDS
        while self._ask("sinfo", "-h", "-o", "%T %D") != "idle 3":
            if time.monotonic() > give_up:
                raise RuntimeError(f"Slurm's nodes are not idle: see {self.folder}")
            time.sleep(0.5)

    def _run(self, *command: str, name: str | None = None) -> None:
        log = (self.folder / f"{name or command[0]}.out").open("w")
        self.processes[name or command[0]] = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )

    def _ask(self, *command: str) -> str:
        done = subprocess.run(command, capture_output=True, check=False, text=True, timeout=SECONDS)
        return done.stdout.strip()

    def start_node(self, node: str) -> None:
        """Start a node, or start it again."""
        (self.folder / f"spool-{node}").mkdir(exist_ok=True)
        self._run("slurmd", "-D", "-N", node, name=node)

    def running(self) -> dict[str, list[str]]:
        """Return the jobs that run: node -> numbers of jobs."""
        jobs: dict[str, list[str]] = {node: [] for node in NODES}
        for line in self._ask("squeue", "-h", "-t", "R", "-o", "%N %A").splitlines():
            node, job = line.split()
            jobs[node].append(job)
        return jobs

    def processes_on(self, node: str | None) -> list[int]:
        """Return the processes of the jobs on a node, or on all, and those that start its steps."""
        found = []
        jobs = [
            job for name, jobs in self.running().items() if node in (None, name) for job in jobs
        ]
        steps = tuple(f"slurmstepd: [{job}.".encode() for job in jobs)
        cluster, where = f"SLURM_CLUSTER_NAME={self.name}", f"SLURMD_NODENAME={node or ''}"
        for process in Path("/proc").glob("[0-9]*"):
            try:
                title = (process / "cmdline").read_bytes()
                variables = (process / "environ").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue  # it has ended
            of_node = cluster in variables and (node is None or where in variables)
            if of_node or title.startswith(steps):
                found.append(int(process.name))
        return [process for process in found if process != os.getpid()]

    def kill_node(self, node: str) -> None:
        """End a node as a power cut does: its slurmd and all that runs on it, at once."""
        self.processes[node].kill()
        self.processes[node].wait()
        self._kill(self.processes_on(node))

    def _kill(self, processes: list[int]) -> None:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):  # it has ended
                os.kill(process, signal.SIGKILL)

    def stop(self) -> None:
        """End all, with the jobs that still run, and remove the configuration."""
        self._ask("scancel", "--state=PENDING", "--user=root")
        self._kill(self.processes_on(None))
        for process in reversed(self.processes.values()):
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        CONFIGURATION.unlink(missing_ok=True)
