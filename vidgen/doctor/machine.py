"""What this machine is: processor, cores, memory. Standard library only."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

#: Instruction sets that decide the speed of convolutions -> the flags that name them (x86, then Arm).
FEATURES: dict[str, frozenset[str]] = {
    "AVX2": frozenset({"avx2"}),
    "FMA": frozenset({"fma"}),
    "AVX-512": frozenset({"avx512f"}),
    "AVX-512 BF16": frozenset({"avx512_bf16", "avx512bf16"}),
    "VNNI": frozenset({"avx512_vnni", "avx512vnni", "avx_vnni"}),
    "AMX": frozenset({"amx_tile"}),
    "NEON": frozenset({"asimd", "neon"}),
    "dot product": frozenset({"asimddp"}),
    "SVE": frozenset({"sve"}),
}


@dataclass(frozen=True)
class Machine:
    """Processor and memory.

    Attributes:
        cores: of the machine. usable: those this process may run on, after affinity and container quota.
        memory, available: bytes, after the container's limit; None where it cannot be known.
        features: names from :data:`FEATURES`.
    """

    cpu: str
    cores: int
    usable: float
    features: tuple[str, ...]
    memory: int | None
    available: int | None
    system: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def machine() -> Machine:
    """This machine, read from the operating system."""
    info = _read("/proc/cpuinfo")
    name, flags = parse_cpuinfo(info) if info else _sysctl_cpu()
    total, available = parse_meminfo(_read("/proc/meminfo"))
    limit = parse_limit(_read("/sys/fs/cgroup/memory.max"))
    if limit is not None and total is not None and limit < total:
        used = parse_limit(_read("/sys/fs/cgroup/memory.current")) or 0
        total, available = limit, min(available or limit, max(0, limit - used))
    return Machine(
        cpu=name or platform.processor() or platform.machine(),
        cores=os.cpu_count() or 1,
        usable=_usable_cores(),
        features=tuple(feature for feature, names in FEATURES.items() if names & flags),
        memory=total,
        available=available,
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
    )


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def parse_cpuinfo(text: str) -> tuple[str, frozenset[str]]:
    """Processor name and flags from the text of /proc/cpuinfo; Arm has no name there."""
    values: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            values.setdefault(key.strip().lower(), value.strip())
    flags = values.get("flags") or values.get("features") or ""
    return values.get("model name", ""), frozenset(flags.lower().split())


def parse_meminfo(text: str) -> tuple[int | None, int | None]:
    """Total and available bytes from the text of /proc/meminfo."""
    values: dict[str, int] = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        number = value.split()[:1]
        if number and number[0].isdecimal():
            values[key] = int(number[0]) * 1024
    return values.get("MemTotal"), values.get("MemAvailable")


def parse_limit(text: str) -> int | None:
    """A container's limit in bytes; None for ``max``, which means no limit."""
    return int(text) if text.strip().isdecimal() else None


def parse_quota(text: str) -> float | None:
    """A container's cores from the text of cpu.max, e.g. ``"150000 100000"`` -> 1.5; None without a limit."""
    quota, _, period = text.strip().partition(" ")
    return int(quota) / int(period) if quota.isdecimal() and period.isdecimal() and int(period) else None


def _usable_cores() -> float:
    try:
        allowed = float(len(os.sched_getaffinity(0)))
    except AttributeError:  # macOS and Windows have no affinity call
        allowed = float(os.cpu_count() or 1)
    quota = parse_quota(_read("/sys/fs/cgroup/cpu.max"))
    return min(allowed, quota) if quota else allowed


def _sysctl_cpu() -> tuple[str, frozenset[str]]:
    if platform.system() != "Darwin":
        return "", frozenset()
    name = _sysctl("machdep.cpu.brand_string")
    flags = f"{_sysctl('machdep.cpu.features')} {_sysctl('machdep.cpu.leaf7_features')}".lower().split()
    arm = {"asimd", "asimddp"} if platform.machine() == "arm64" else set()
    return name, frozenset(flags) | arm


def _sysctl(key: str) -> str:
    try:
        done = subprocess.run(["sysctl", "-n", key], capture_output=True, text=True, timeout=2, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()
