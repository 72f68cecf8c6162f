"""Tables of benchmarks in pages of the documentation: the old one is replaced, wherever its two marks stand."""

from __future__ import annotations

import sys
from pathlib import Path

from vidgen._files import atomic_file


def replace_table(page: Path, program: str, text: str) -> None:
    """Put text between the marks of a program into a page, and leave the rest of it as it is.

    Args:
        program: as its mark names it, e.g. ``benchmarks/engines.py``.
    """
    begin, end = f"<!-- table: python {program} -->", f"<!-- end: {program} -->"
    found = page.read_text(encoding="utf-8")
    before, has_begin, rest = found.partition(begin)
    _, has_end, after = rest.partition(end)
    if not (has_begin and has_end):
        sys.exit(f"{page} has no place for the table: it needs a line {begin} and a line {end}")
    with atomic_file(page) as partial:
        partial.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")
