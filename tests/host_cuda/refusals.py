"""What CUDA, or we, refuse, for test_cuda.py: each function runs under the host driver and raises."""

from __future__ import annotations

import sys
import threading
from typing import Any

import numpy as np
from host_cuda.scenarios import PTX

from vidgen.runtime.cuda import Cuda, open_cuda


def on_another_thread(library: str) -> str:
    """What CUDA says when a thread that did not open it uses it."""
    said: list[str] = []

    def use(cuda: Cuda) -> None:
        try:
            cuda.allocate(4)
        except Exception as error:
            said.append(str(error))

    with open_cuda(0, library) as cuda:
        thread = threading.Thread(target=use, args=(cuda,))
        thread.start()
        thread.join()
    return said[0]


def opened(library: str | None, device: int = 0) -> str:
    """The name of the library that opens a device."""
    with open_cuda(device, library) as cuda:
        return cuda.name


def opened_without_libraries() -> None:
    """Open a device where neither library can be imported."""
    for name in [name for name in sys.modules if name.split(".")[0] in ("cuda", "pycuda")]:
        del sys.modules[name]
    sys.path_importer_cache.clear()
    sys.meta_path.insert(0, _Without("cuda", "pycuda"))
    open_cuda()


class _Without:
    """Finds nothing, so that what is installed seems not to be."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.split(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def too_much(library: str, nbytes: int) -> None:
    """Ask for more memory than there is."""
    with open_cuda(0, library) as cuda:
        cuda.allocate(nbytes)


def too_much_pinned(library: str) -> None:
    """Ask for pinned memory that the host does not grant."""
    with open_cuda(0, library) as cuda:
        cuda.pinned(4096)


def load(library: str, image: bytes) -> None:
    """Load an image and give it back."""
    with open_cuda(0, library) as cuda, cuda.load(image):
        pass


def launch_unknown(library: str) -> None:
    """Launch a kernel that the image does not have."""
    with open_cuda(0, library) as cuda, cuda.stream() as stream, cuda.load(PTX.format(entry="one").encode()) as module:
        module.launch("two", (1, 1, 1), (1, 1, 1), [], stream)


def launch_bad_argument(library: str, argument: Any) -> None:
    """Launch with an argument that does not say how many bytes it has."""
    with open_cuda(0, library) as cuda, cuda.stream() as stream, cuda.load(PTX.format(entry="one").encode()) as module:
        module.launch("one", (1, 1, 1), (1, 1, 1), [argument], stream)


def copy_bad_array(library: str, kind: str) -> None:
    """Copy an array that no copy can go through."""
    array = np.zeros((4, 4), np.float32)
    with open_cuda(0, library) as cuda, cuda.stream() as stream, cuda.allocate(64) as memory:
        if kind == "strided":
            cuda.to_device(memory.address, array.T, stream)
        array.flags.writeable = False
        cuda.to_host(array, memory.address, stream)
