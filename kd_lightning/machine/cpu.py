"""What this machine's CPU is and can do."""

import os
import platform
from contextlib import suppress
from math import ceil
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


def cores() -> int:
    """Return the number of cores that this process may use: those it is bound to, or its container's limit.

    Libraries count the machine's cores. In a container with a share of them, a thread for each core would mostly wait.
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = _share()
    return bound if share is None else max(1, min(bound, ceil(share)))


def _share() -> float | None:
    """Return how many cores' time the container has, or ``None`` without a limit."""
    with suppress(OSError, ValueError):  # cgroups v2: "max 100000" without a limit
        quota, period = (CGROUPS / "cpu.max").read_text().split()
        return int(quota) / int(period)
    with suppress(OSError, ValueError):  # cgroups v1: -1 without a limit
        quota, period = ((CGROUPS / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return int(quota) / int(period) if int(quota) > 0 else None
    return None


def use_own_cores() -> None:
    """Let torch use the cores that this process has, where it counted more; ``OMP_NUM_THREADS`` takes precedence."""
    import torch  # the rest of this file is for programs without it

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(min(torch.get_num_threads(), cores()))


def needs_reduce_range() -> bool:
    """Return whether this CPU's int8 sums saturate: x86 without VNNI, or an unknown CPU."""
    if platform.machine().lower() in {"arm64", "aarch64"}:
        return False
    return not {"avx512_vnni", "avx_vnni"} & cpu_flags()


def int8_flags() -> list[str]:
    """Return what decides the speed of int8 on this CPU: the instruction sets it has of those that matter."""
    known = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "amx_int8", "asimd", "asimddp", "i8mm")
    return [name for name in known if name in cpu_flags()]


def cpu_flags() -> set[str]:
    """Return the names of the CPU's instruction sets as Linux lists them; empty elsewhere."""
    return set(_cpu_field("flags", "Features").split())


def cpu_name() -> str:
    """Return the CPU's name for people."""
    return _cpu_field("model name") or platform.processor() or platform.machine()


def _cpu_field(*names: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() in names), "")
