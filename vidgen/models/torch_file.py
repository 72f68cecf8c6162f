"""Opens files written by torch.save, the zip format and the legacy one, without running anything they contain."""

from __future__ import annotations

import contextlib
import errno
import io
import mmap
import struct
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from vidgen.errors import CheckpointError
from vidgen.models.safe_pickle import PickleRefusedError, Storage, TensorView, read_pickle, shown

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_VERSION = 1001
#: What other kinds of file start with, and what to say of them.
_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x89HDF", "an HDF5 file (Keras or TensorFlow)"),
    (b"\x1f\x8b", "a gzip archive; unpack it first"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself; run git lfs pull"),
    (b"<", "a web page or XML; the download did not give the file itself"),
    (b"{", "JSON text"),
    (b"\x7fELF", "a program"),
    (b"\x08", "a protocol buffer (ONNX or TensorFlow)"),
    (b"\x0a", "a protocol buffer (ONNX or TensorFlow)"),
)
#: The last eight bytes of the .index file of a TensorFlow checkpoint.
_TENSORFLOW_INDEX = bytes.fromhex("57fb808b247547db")
#: What the zipfile module raises on damaged archives.
_ZIP_ERRORS = (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError, OverflowError, struct.error)


class TorchFile(ABC):
    """An open file of torch.save.

    Attributes:
        root: what was saved; see :func:`vidgen.models.safe_pickle.read_pickle`.
    """

    root: Any

    @abstractmethod
    def _bytes(self, storage: Storage) -> bytes:
        """The bytes of a storage, exactly as many as its type and length need."""

    def read(self, view: TensorView) -> NDArray[Any]:
        """The numbers of a tensor, copied out; bfloat16 comes as float32.

        Raises:
            CheckpointError: they are not in the file.
        """
        data = self._bytes(view.storage)
        assert len(data) == view.storage.length * _item_size(view.storage.dtype)  # as_strided reads what it is told
        if view.storage.dtype == "bfloat16":
            flat: NDArray[Any] = (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
        else:
            flat = np.frombuffer(data, self._element(view.storage.dtype))
        steps = tuple(stride * flat.itemsize for stride in view.strides)
        # The interpreter has checked that offset, sizes and strides stay inside the storage.
        window = np.lib.stride_tricks.as_strided(flat[view.offset :], view.shape, steps)
        return np.array(window, dtype=flat.dtype.newbyteorder("="), order="C")

    def _element(self, dtype: str) -> np.dtype[Any]:
        return np.dtype(dtype).newbyteorder("<")


@contextlib.contextmanager
def open_torch_file(path: Path) -> Iterator[TorchFile]:
    """Open a file of torch.save and describe what it holds.

    Raises:
        CheckpointError: missing, truncated, of another kind, or it holds anything but tensors and plain values.
    """
    if not path.is_file():
        raise CheckpointError(
            f"cannot open {path}",
            seen="a folder, expected a .pth file" if path.is_dir() else "no such file",
            cause="a wrong path",
            fix=f"ls {path.parent}",
        )
    try:
        with path.open("rb") as stream:
            start = stream.read(32)
            if not start:
                raise _foreign(path, "an empty file")
            if start.startswith(b"PK"):
                with contextlib.closing(_ZipFile(path, stream)) as opened:
                    yield opened
            elif start[0] == 0x80 or start[:1] in b"(cL":
                with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
                    yield _LegacyFile(path, content)
            else:
                raise _foreign(path, _kind(path, start))
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise _truncated(path, "an archive that refers to places outside the file") from error
        raise CheckpointError(
            f"cannot read {path}",
            seen=error.strerror or str(error),
            cause="no permission, or the disk failed",
            fix=f"ls -l {path}",
        ) from error


class _ZipFile(TorchFile):
    """The format of torch 1.6 and later: an uncompressed zip of one pickle and one entry per storage."""

    def __init__(self, path: Path, stream: IO[bytes]) -> None:
        self._path = path
        try:
            self._archive = zipfile.ZipFile(stream)
            entries = self._archive.infolist()
        except _ZIP_ERRORS as error:
            raise _truncated(path, f"a zip archive without a readable directory ({shown(str(error))})") from error
        self._entries = {entry.filename: entry for entry in entries}
        self._prefix = self._find_prefix()
        self._check_sizes(entries)
        self._order = "<" if self._entry("byteorder", b"little") == b"little" else ">"
        with _refusals(path):
            self.root, storages = read_pickle(io.BytesIO(self._open("data.pkl")))
        for storage in storages.values():
            self._check_storage(storage)

    def _check_sizes(self, entries: list[zipfile.ZipInfo]) -> None:
        # torch never compresses. Whatever unpacks to more than the file itself is a trap for memory.
        if any(entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 for entry in entries):
            raise _foreign(self._path, "a zip archive with compressed or encrypted entries")
        size = self._path.stat().st_size
        if len(self._entries) < len(entries) or sum(entry.file_size for entry in entries) > size:
            raise _unsafe(self._path, f"a zip archive that claims to hold more than its {size} bytes")

    def _find_prefix(self) -> str:
        found = [name.removesuffix("data.pkl") for name in self._entries if name.endswith("/data.pkl")]
        if len(found) != 1:
            arrays = any(name.endswith(".npy") for name in self._entries)
            raise _foreign(self._path, "NumPy arrays (.npz)" if arrays else "a zip archive not written by torch.save")
        if any(name.startswith(f"{found[0]}code/") for name in self._entries):
            raise _foreign(self._path, "a TorchScript program (torch.jit.save)")
        return found[0]

    def _entry(self, name: str, default: bytes) -> bytes:
        return self._open(name) if self._prefix + name in self._entries else default

    def _open(self, name: str) -> bytes:
        try:
            return self._archive.read(self._entries[self._prefix + name])
        except KeyError as error:
            raise _truncated(self._path, f"no entry {shown(name)}") from error
        except (*_ZIP_ERRORS, RuntimeError) as error:
            raise _truncated(self._path, f"entry {shown(name)} is damaged ({shown(str(error))})") from error

    def _check_storage(self, storage: Storage) -> None:
        entry = self._entries.get(f"{self._prefix}data/{storage.key}")
        found, expected = entry.file_size if entry else 0, storage.length * _item_size(storage.dtype)
        if found != expected:
            raise _truncated(self._path, f"storage {shown(storage.key)} has {found} bytes, expected {expected}")

    def _bytes(self, storage: Storage) -> bytes:
        return self._open(f"data/{storage.key}") if storage.length else b""

    def _element(self, dtype: str) -> np.dtype[Any]:
        return np.dtype(dtype).newbyteorder("<" if self._order == "<" else ">")

    def close(self) -> None:
        self._archive.close()


class _LegacyFile(TorchFile):
    """The format before torch 1.6: five pickles, then each storage as a 64-bit length and its bytes."""

    def __init__(self, path: Path, content: mmap.mmap) -> None:
        self._path = path
        self._content = content
        stream = cast(BinaryIO, content)  # it has read, readline and tell
        with _refusals(path):
            magic, _ = read_pickle(stream)
            if magic != LEGACY_MAGIC:
                raise _foreign(path, "a pickle that torch.save did not write")
            version, _ = read_pickle(stream)
            system, _ = read_pickle(stream)
            self.root, storages = read_pickle(stream)
            keys, _ = read_pickle(stream)
        if version != LEGACY_VERSION or not isinstance(keys, list) or not isinstance(system, dict):
            raise _foreign(path, f"legacy format version {shown(version)}, expected {LEGACY_VERSION}")
        if system.get("little_endian") is not True:
            raise _foreign(path, "a legacy file of a big-endian machine")
        self._storages = self._locate(keys, storages)

    def _locate(self, keys: list[Any], storages: dict[str, Storage]) -> dict[str, int]:
        """Where the bytes of each storage start."""
        position, end = self._content.tell(), len(self._content)
        starts: dict[str, int] = {}
        for key in keys:
            if not isinstance(key, str) or key not in storages or key in starts:
                raise _truncated(self._path, f"storage {shown(key)} in its list of storages, which no tensor uses")
            storage = storages[key]
            length = int.from_bytes(self._content[position : position + 8], "little")
            starts[key] = position + 8
            position += 8 + storage.length * _item_size(storage.dtype)
            if position > end:
                raise _truncated(self._path, f"{end} bytes, expected at least {position}")
            if length != storage.length:
                raise _truncated(self._path, f"storage {shown(key)} has {length} elements, expected {storage.length}")
        if missing := sorted(set(storages) - set(starts)):
            raise _truncated(self._path, f"no storage {shown(missing[0])}")
        return starts

    def _bytes(self, storage: Storage) -> bytes:
        start = self._storages[storage.key]
        return self._content[start : start + storage.length * _item_size(storage.dtype)]


def _item_size(dtype: str) -> int:
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize


@contextlib.contextmanager
def _refusals(path: Path) -> Iterator[None]:
    """Turn a refused pickle into our error."""
    try:
        yield
    except PickleRefusedError as error:
        raise (_unsafe if error.unsafe else _truncated)(path, str(error)) from error


def _kind(path: Path, start: bytes) -> str:
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size:
        return "a .safetensors file, which needs no import if vidgen wrote it"
    with path.open("rb") as stream:
        stream.seek(-min(8, path.stat().st_size), 2)
        if stream.read() == _TENSORFLOW_INDEX:
            return "a TensorFlow checkpoint index"
    for signature, name in _SIGNATURES:
        if start.startswith(signature):
            return name
    return f"a file that starts with {shown(start[:8])}"


def _foreign(path: Path, seen: str) -> CheckpointError:
    return CheckpointError(
        f"cannot import {path}",
        seen=f"{seen}, expected a state dict written by torch.save",
        cause="it is not an official .pth checkpoint",
        fix="vidgen import G_4900.pth OUT.safetensors   (give the file that the training program saved)",
    )


def _truncated(path: Path, seen: str) -> CheckpointError:
    return CheckpointError(
        f"cannot import {path}",
        seen=seen,
        cause="the file is damaged, was not copied whole, or is of another kind",
        fix=f"compare its size with the original's and fetch it again: ls -l {path}",
    )


def _unsafe(path: Path, seen: str) -> CheckpointError:
    return CheckpointError(
        f"refusing {path}",
        seen=seen,
        cause="loading it could run code or exhaust memory; a whole model was pickled, or someone means harm. "
        "Nothing was run",
        fix="where the file is trusted, save only the weights: torch.save(model.state_dict(), 'G.pth')",
    )
