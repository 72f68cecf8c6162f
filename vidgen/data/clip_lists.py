"""The reference's text lists of clips: a name, a first and a last frame a line."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from vidgen._files import atomic_file
from vidgen.errors import DataError

_MAX_BYTES = 64 << 20
_LINE = re.compile(r"(\S+)\s+([0-9]{1,9})\s+([0-9]{1,9})")


@dataclass(frozen=True)
class ListLine:
    """One clip of a list.

    Args:
        name: name of the video without folder and ``.npy``.
        first: its first frame.
        last: its last frame, included.
    """

    name: str
    first: int
    last: int


def list_split(path: Path) -> str:
    """Which split a list is for, by its name: ``train`` or ``test``.

    Raises:
        DataError: the name does not say.
    """
    found: list[str] = re.findall("(train|test)_list", path.name.lower())
    if len(set(found)) != 1:
        raise DataError(
            f"cannot tell what the list {path} is for",
            seen=f"it is named {path.name}",
            cause="a list is named like Train_list_20.txt or Test_list_16.txt",
            fix="rename the file so that it contains Train_list or Test_list",
        )
    return found[0]


def read_list(path: Path) -> list[ListLine]:
    """Read a list such as the reference releases; empty lines are passed over.

    Raises:
        DataError: it cannot be read, or a line is not ``name start end``; with the number of the line.
    """
    try:
        size = path.stat().st_size
        if size > _MAX_BYTES:
            raise _refusal(path, f"it has {size} bytes, at most {_MAX_BYTES} are read")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _refusal(path, str(error)) from error
    lines = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise _refusal(path, f"line {number} is {line[:80]!r}")
        first, last = int(match[2]), int(match[3])
        if last < first:
            raise _refusal(path, f"line {number} ends at frame {last}, before it starts at {first}")
        # Lists made on other machines may carry their folders.
        name = PurePosixPath(PureWindowsPath(match[1]).name).name
        lines.append(ListLine(name.removesuffix(".npy"), first, last))
    if not lines:
        raise _refusal(path, "it lists nothing")
    return lines


def write_list(path: Path, lines: Iterable[ListLine]) -> None:
    """Write a list whole or not at all.

    Raises:
        StorageError: it cannot be written.
    """
    with atomic_file(path) as partial:
        partial.write_text("".join(f"{line.name} {line.first} {line.last}\n" for line in lines), encoding="utf-8")


def _refusal(path: Path, seen: str) -> DataError:
    return DataError(
        f"cannot read the list {path}",
        seen=f"{seen}, expected lines of a name, a first and a last frame",
        cause="the path is wrong, or the file is no list of clips",
        fix=f"look at it (head {path}), or leave out --list to apply the rule of the data set",
    )
