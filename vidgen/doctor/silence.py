"""What to say of a library whose probe found nothing: it is not there, does not load, crashes or hangs."""

from __future__ import annotations

from vidgen.doctor import Check
from vidgen.doctor.children import Answer


def broken(name: str, answer: Answer, install: str, *, needed: bool = False) -> Check:
    """A library that is not there, or does not load: that is worse than absent, and its own words say why."""
    if answer.missing:
        whole = answer.missing.split(".")[0].replace("_", "-") == name.replace("_", "-")
        return Check(name, "missing", "not installed" if whole else f"lacks {answer.missing}", install, needed)
    return silent(name, answer, f"pip install --force-reinstall {name.replace('_', '-')}", needed=needed)


def silent(name: str, answer: Answer, mend: str, *, needed: bool = False) -> Check:
    """A probe without findings: it crashed, hung or failed."""
    again = "vidgen doctor   (again, when the machine is idle)"
    return Check(name, "missing" if needed else "warning", answer.error, again if answer.hung else mend, needed)
