"""Reads the pickles inside torch.save files as plain descriptions, with no way to call or import anything.

A pickle is a program: loading one can run any function on the machine. The interpreter here knows the
instructions that a saved state dict consists of and a table of names; a tensor comes out as a description of
where its numbers lie, and every other name is refused. ``torch.load(weights_only=True)`` is not enough for this
purpose: it rejects pickle protocols 4 and 5, and allocates what the file claims before it has seen the bytes.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

#: A state dict of 50,000 tensors stays below both.
MAX_INSTRUCTIONS = 2_000_000
MAX_BYTES = 64 << 20
MAX_DIMENSIONS = 16
#: The largest number in a genuine file is the 80-bit magic number of the legacy format.
MAX_INTEGER_BITS = 128

#: Storage class -> element type; bfloat16 has no NumPy name and is kept as such.
STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}
#: Names that carry settings beside the tensors (``{"args": Namespace(...), "state_dict": ...}``). They are read as
#: an :class:`Opaque` marker; the objects are never made.
OPAQUE = frozenset(
    {
        "_codecs.encode",
        "argparse.Namespace",
        "numpy._core.multiarray.scalar",
        "numpy.core.multiarray.scalar",
        "numpy.dtype",
        "torch.Size",
        "torch.device",
        *(f"torch.{name}" for name in ("float64", "float32", "float16", "bfloat16", "int64", "int32", "uint8")),
    }
)


class PickleRefusedError(Exception):
    """A pickle is broken or asks for more than describing tensors.

    Attributes:
        unsafe: True when it names code, False when it is merely damaged or not of this kind.
    """

    def __init__(self, reason: str, *, unsafe: bool = False) -> None:
        super().__init__(reason)
        self.unsafe = unsafe


@dataclass(frozen=True)
class Storage:
    """A run of numbers elsewhere in the file: its key, element type and number of elements."""

    key: str
    dtype: str
    length: int


@dataclass(frozen=True)
class TensorView:
    """A tensor as a strided view of a storage; offset and strides count elements. Checked to lie inside."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True)
class Opaque:
    """An object that was not made: only the name of its kind is known."""

    name: str


@dataclass(frozen=True)
class _Global:
    """A name the pickle refers to; one of the tables of this file."""

    name: str


def shown(text: object) -> str:
    """Text from an untrusted file, made safe for a terminal: ASCII, quoted, at most 80 characters."""
    quoted = ascii(text)
    return quoted if len(quoted) <= 80 else quoted[:77] + "..."


def read_pickle(stream: BinaryIO) -> tuple[Any, dict[str, Storage]]:
    """Interpret one pickle from the stream's position; leaves the stream just after it.

    Returns:
        What was pickled, made of dicts, lists, tuples, text, bytes, numbers, None, :class:`TensorView` and
        :class:`Opaque`; and every storage it refers to, by key.

    Raises:
        PickleRefusedError: damaged, too large, or anything but a description of tensors.
    """
    machine = _Machine()
    start = stream.tell()
    for count, (name, argument, position) in enumerate(_instructions(stream)):
        if count > MAX_INSTRUCTIONS or position - start > MAX_BYTES:
            raise PickleRefusedError(f"a pickle of more than {MAX_INSTRUCTIONS:,} instructions or {MAX_BYTES:,} bytes")
        if name == "STOP":
            return machine.pop(), machine.storages
        machine.step(name, argument)
    raise PickleRefusedError("a pickle without an end")


def _instructions(stream: BinaryIO) -> Iterator[tuple[str, Any, int]]:
    try:
        for opcode, argument, position in pickletools.genops(stream):
            yield opcode.name, argument, position or 0
    except (ValueError, IndexError, EOFError, OverflowError, MemoryError) as error:
        raise PickleRefusedError(f"not a whole pickle ({shown(str(error))})") from error


class _Machine:
    """The stack, the marks and the memo of one pickle."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._outer: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self.storages: dict[str, Storage] = {}

    def pop(self) -> Any:
        if not self._stack:
            raise PickleRefusedError("an instruction without a value to work on")
        return self._stack.pop()

    def step(self, name: str, argument: Any) -> None:
        """Carry out one instruction."""
        if name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name])
        elif name in _LITERALS:
            if isinstance(argument, int) and argument.bit_length() > MAX_INTEGER_BITS:
                raise PickleRefusedError("a whole number of more than 128 bits")
            self._stack.append(argument)
        elif name in _ACTIONS:
            _ACTIONS[name](self, argument)
        elif name not in ("PROTO", "FRAME"):
            raise PickleRefusedError(f"the pickle instruction {name}, which no state dict needs", unsafe=True)

    def _top(self, *kinds: type) -> Any:
        if not self._stack or not isinstance(self._stack[-1], kinds):
            raise PickleRefusedError(f"an instruction that needs a {kinds[0].__name__}")
        return self._stack[-1]

    def _mark(self, _: Any) -> None:
        self._outer.append(self._stack)
        self._stack = []

    def _since_mark(self) -> list[Any]:
        if not self._outer:
            raise PickleRefusedError("an instruction without a mark")
        items, self._stack = self._stack, self._outer.pop()
        return items

    def _empty(self, kind: Callable[[], Any]) -> None:
        self._stack.append(kind())

    def _tuple(self, size: int | None) -> None:
        items = self._since_mark() if size is None else [self.pop() for _ in range(size)][::-1]
        self._stack.append(tuple(items))

    def _append(self, items: list[Any]) -> None:
        self._top(list).extend(items)

    def _set(self, items: list[Any]) -> None:
        target = self._top(dict)
        for key, value in _pairs(items):
            target[key] = value

    def _put(self, index: int | None) -> None:
        self._memo[len(self._memo) if index is None else index] = self._top(object)

    def _get(self, index: int) -> None:
        if index not in self._memo:
            raise PickleRefusedError("a reference to nothing")
        self._stack.append(self._memo[index])

    def _global(self, name: str) -> None:
        self._stack.append(_known(name))

    def _stack_global(self) -> None:
        name, module = self.pop(), self.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise PickleRefusedError("a name that is not text")
        self._stack.append(_known(f"{module} {name}"))

    def _call(self) -> None:
        arguments, function = self.pop(), self.pop()
        if not isinstance(function, _Global) or not isinstance(arguments, tuple):
            raise PickleRefusedError("a call of something that is not a function", unsafe=True)
        self._stack.append(_describe_call(function.name, arguments))

    def _build(self) -> None:
        # Attributes of a state dict (its version notes) and of opaque objects say nothing we need.
        self.pop()
        self._top(dict, Opaque)

    def _persistent(self) -> None:
        storage = _storage(self.pop())
        if self.storages.setdefault(storage.key, storage) != storage:
            raise PickleRefusedError(f"storage {shown(storage.key)} with two different types or lengths")
        self._stack.append(storage)


_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_LITERALS = frozenset(
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 BINFLOAT BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINSTRING "
    "SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8".split()
)
_ACTIONS: dict[str, Callable[[_Machine, Any], object]] = {
    "MARK": _Machine._mark,
    "POP": lambda machine, _: machine.pop(),
    "POP_MARK": lambda machine, _: machine._since_mark(),
    "EMPTY_DICT": lambda machine, _: machine._empty(dict),
    "EMPTY_LIST": lambda machine, _: machine._empty(list),
    "EMPTY_TUPLE": lambda machine, _: machine._tuple(0),
    "TUPLE1": lambda machine, _: machine._tuple(1),
    "TUPLE2": lambda machine, _: machine._tuple(2),
    "TUPLE3": lambda machine, _: machine._tuple(3),
    "TUPLE": lambda machine, _: machine._tuple(None),
    "APPEND": lambda machine, _: machine._append([machine.pop()]),
    "APPENDS": lambda machine, _: machine._append(machine._since_mark()),
    "SETITEM": lambda machine, _: machine._set([machine.pop(), machine.pop()][::-1]),
    "SETITEMS": lambda machine, _: machine._set(machine._since_mark()),
    "BINPUT": _Machine._put,
    "LONG_BINPUT": _Machine._put,
    "MEMOIZE": lambda machine, _: machine._put(None),
    "BINGET": _Machine._get,
    "LONG_BINGET": _Machine._get,
    "GLOBAL": _Machine._global,
    "STACK_GLOBAL": lambda machine, _: machine._stack_global(),
    "REDUCE": lambda machine, _: machine._call(),
    "NEWOBJ": lambda machine, _: machine._call(),
    "BUILD": lambda machine, _: machine._build(),
    "BINPERSID": lambda machine, _: machine._persistent(),
}


def _pairs(items: list[Any]) -> Iterator[tuple[Any, Any]]:
    if len(items) % 2:
        raise PickleRefusedError("a dictionary with a key that has no value")
    for key, value in zip(items[::2], items[1::2]):
        # Hashing a deeply nested tuple overflows the C stack; genuine files have plain keys.
        if not isinstance(key, str | int | float | bytes | None):
            raise PickleRefusedError("a dictionary key that is neither text nor a number")
        yield key, value


def _known(spaced: str) -> _Global | Opaque:
    module, _, name = spaced.partition(" ")
    dotted = f"{module}.{name}"
    storage = module in ("torch", "torch.cuda") and name in STORAGES
    if not storage and dotted not in _CALLS and dotted not in OPAQUE:
        raise PickleRefusedError(f"the name {shown(dotted)}: code, where only tensors belong", unsafe=True)
    return _Global(dotted)


def _storage(identity: Any) -> Storage:
    """A persistent id: ("storage", class, key, device, elements[, view])."""
    if not isinstance(identity, tuple) or len(identity) not in (5, 6) or identity[0] != "storage":
        raise PickleRefusedError("a reference that is not a tensor storage")
    kind, key, length = identity[1], identity[2], identity[4]
    dtype = STORAGES.get(kind.name.rpartition(".")[2]) if isinstance(kind, _Global) else None
    if dtype is None or not isinstance(key, str) or not _is_count(length):
        raise PickleRefusedError("a tensor storage without a known type, key and length")
    if len(identity) == 6 and identity[5] is not None:
        raise PickleRefusedError("a storage that is a view of another (written by torch older than 0.4)")
    return Storage(key, dtype, length)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 62


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> TensorView:
    counts = isinstance(shape, tuple) and isinstance(strides, tuple) and all(map(_is_count, (offset, *shape, *strides)))
    if not isinstance(storage, Storage) or not counts or len(shape) != len(strides) or len(shape) > MAX_DIMENSIONS:
        raise PickleRefusedError("a tensor without a storage, an offset, sizes and strides")
    elements, last = 1, offset
    for size, stride in zip(shape, strides):
        elements *= size
        last += (size - 1) * stride
    # More elements than the storage holds can only be a view that repeats them: a small file, a huge array.
    if elements > storage.length or (elements and last >= storage.length):
        raise PickleRefusedError(f"a tensor of size {list(shape)} on a storage of {storage.length} elements")
    return TensorView(storage, offset, shape, strides)


def _parameter(tensor: Any, *_: Any) -> TensorView:
    if not isinstance(tensor, TensorView):
        raise PickleRefusedError("a parameter that is not a tensor")
    return tensor


def _mapping(items: Any = (), *_: Any) -> dict[Any, Any]:
    pairs = isinstance(items, list | tuple) and all(isinstance(i, list | tuple) and len(i) == 2 for i in items)
    if not pairs:
        raise PickleRefusedError("an ordered dictionary that is not made of pairs")
    return dict(_pairs([part for item in items for part in item]))


_CALLS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _mapping,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
}


def _describe_call(name: str, arguments: tuple[Any, ...]) -> Any:
    if name in OPAQUE:
        return Opaque(name)
    describe = _CALLS.get(name)
    try:
        if describe is not None:
            return describe(*arguments)
    except TypeError as error:
        raise PickleRefusedError(f"a call of {name} with the wrong number of values") from error
    raise PickleRefusedError(f"a call of {name}", unsafe=True)
