"""The processor cores and the memory that the task may use.

A container has its share as a control group of Linux's, version 1 or 2: an allowance of processor
time (docker run --cpus) and of memory (--memory). The names of its files are those of the kernel's
documentation: cgroup-v2.rst; cgroup-v1/memory.rst and sched-bwc.rst.
"""

import contextlib
import math
import os
import posixpath
import sys
from collections.abc import Iterator
from pathlib import Path


def cores_of_affinity() -> int:
    """Return the number of processor cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def usable_cores(root: Path = Path("/")) -> int:
    """Return the number of processor cores that this process may use.

    That is how many it may run on, but no more than it is allowed time for: 2 of 64 for a container
    with an allowance of 1.5 cores. OMP_NUM_THREADS, where it is a number, is how Snakemake and
    other schedulers say how many of the machine's a task has.

    Args:
        root: of the file system.
    """
    given = os.environ.get("OMP_NUM_THREADS", "")
    told = [max(1, int(given))] if given.isdecimal() else []
    return math.ceil(min([cores_of_affinity(), *_core_quotas(root), *told]))


def usable_memory(root: Path = Path("/")) -> int:
    """Return the bytes of memory that the control group allows; sys.maxsize where there is none.

    Args:
        root: of the file system.
    """
    limits = [sys.maxsize]
    for folder in _control_groups(root, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            with contextlib.suppress(OSError, ValueError):  # of the other version; "max"
                limits.append(int((folder / name).read_text()))
    return min(limits)


def allowed_bytes(most: int) -> int:
    """Return `most` bytes, or an eighth of what the control group allows where that is less."""
    return min(most, usable_memory() // 8)


def _core_quotas(root: Path) -> Iterator[float]:
    """Yield the allowances of processor time, in cores, that hold for this process."""
    for folder in _control_groups(root, "cpu"):
        for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
            with contextlib.suppress(OSError, ValueError):  # of the other version; "max"
                words = " ".join((folder / name).read_text() for name in names).split()
                quota, period = map(int, words)
                if quota > 0:  # -1 is none
                    yield quota / period


def _control_groups(root: Path, controller: str) -> Iterator[Path]:
    """Yield the folders that may limit this process: of its control group and of those above it.

    /proc/self/cgroup has lines such as "4:cpu,cpuacct:/docker/1f" of version 1 and "0::/docker/1f"
    of version 2. In a container that may be a path of the host's, of which only the last folder is
    to be seen, as the top of the tree: what does not exist limits nothing.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # not Linux
        return
    top = root / "sys/fs/cgroup"
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        # Outside of what a container may see, the path begins with "/..".
        parts = posixpath.normpath(path).strip("/").split("/")
        for depth in range(len(parts), -1, -1):
            yield top.joinpath(controller if controllers else "", *parts[:depth])
