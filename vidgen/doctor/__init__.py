"""What this machine can run: one line a check, each with the command that mends it.

Loads no heavy library in this process: libraries are tried in short-lived child processes.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any, Literal

Status = Literal["ok", "warning", "missing"]


@dataclass(frozen=True)
class Check:
    """One line.

    Attributes:
        found: what is there. mend: the command that makes it better; "" where nothing is wrong.
        needed: without it, training, exporting or sampling on a CPU does not work.
    """

    name: str
    status: Status
    found: str
    mend: str = ""
    needed: bool = False


@dataclass(frozen=True)
class DoctorReport:
    """All checks, in the order they are shown, and how long they took in seconds."""

    checks: tuple[Check, ...]
    seconds: float

    @property
    def ready(self) -> bool:
        """Whether all that CPU work needs is there."""
        return not self._lacking()

    def _lacking(self) -> list[str]:
        return [check.name for check in self.checks if check.needed and check.status == "missing"]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as ``--json`` prints them."""
        checks = [asdict(check) for check in self.checks]
        return {"ready": self.ready, "seconds": round(self.seconds, 1), "checks": checks}

    def table(self) -> str:
        """One line a check, and a last line that sums up."""
        width = max((len(check.name) for check in self.checks), default=0)
        lines = [
            f"{check.status:7}  {check.name:{width}}  {check.found}" + (f"  ->  {check.mend}" if check.mend else "")
            for check in self.checks
        ]
        lacking = ", ".join(self._lacking())
        summary = f"not ready for CPU work: {lacking}" if lacking else "ready for CPU work"
        return "\n".join([*lines, "", summary])


def doctor(timeout: float = 20.0) -> DoctorReport:
    """Look at Python, packages, processor, compilers, drivers, libraries, codecs and disks.

    Args:
        timeout: seconds that each look may take; some run side by side.
    """
    from vidgen.doctor.checks import all_checks

    start = time.monotonic()
    checks = all_checks(timeout)
    return DoctorReport(tuple(checks), time.monotonic() - start)
