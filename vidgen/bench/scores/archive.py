"""Arrays of an .npz file that may come from anywhere: damaged, cut short, or made to fill the memory."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: A file may unpack to this many bytes, whatever its size; above, to as many times its size. Numbers do not compress
#: so well, but zeros do.
_FREE, _TIMES = 1 << 28, 100


def read_arrays(path: Path, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Those of the named arrays that a file has.

    Raises:
        OSError: the file cannot be opened.
        ValueError: it is no .npz archive, is damaged or cut short, holds pickled objects, or unpacks to far more than
            it is.
    """
    with open(path, "rb") as stream:
        if not zipfile.is_zipfile(stream):
            raise ValueError("no .npz archive")
        stream.seek(0)
        try:
            with np.load(stream, allow_pickle=False) as stored:
                size = sum(member.file_size for member in stored.zip.infolist())
                if size > max(_FREE, _TIMES * os.fstat(stream.fileno()).st_size):
                    raise ValueError(f"it unpacks to {size} bytes")
                return {name: stored[name] for name in names if name in stored.files}
        except (MemoryError, OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
            raise ValueError(str(error) or type(error).__name__) from error
