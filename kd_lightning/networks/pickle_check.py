"""Check what a pickle of torch would build, before anything is built."""

import io
import pickletools
from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple

MAX_BYTES = 4 * 2**20
"""Size of a pickle; that of a network with 5,000 tensors and Adam's state takes 3 MB."""

MAX_STEPS = 1_000_000
"""Instructions of a pickle."""

MAX_COPIED = 100_000
"""Entries that a pickle may copy: by repeated copies a file of some hundred bytes could fill the memory."""

VALUE_BYTES = {
    **dict.fromkeys(("ByteStorage", "CharStorage", "BoolStorage"), 1),
    **dict.fromkeys(("HalfStorage", "BFloat16Storage", "ShortStorage"), 2),
    **dict.fromkeys(("FloatStorage", "IntStorage"), 4),
    **dict.fromkeys(("DoubleStorage", "LongStorage", "ComplexFloatStorage"), 8),
    "ComplexDoubleStorage": 16,
}
"""Bytes per value of each storage type that is read."""

COPIED = ("collections OrderedDict", "collections Counter", "__builtin__ set", "builtins set", "torch Size")
"""Classes that may be called, with plain values that they copy."""

PLAIN = (str, int, float, bool, type(None))


class UnsafePickleError(ValueError):
    """The pickle is damaged, or does more than build tensors and plain values."""


class Name(str):
    """A class or function that a pickle names."""


class Storage(NamedTuple):
    """The values that tensors are views of.

    Attributes:
        key: Their name in the file.
        values: Their number.
        size: Their bytes.
    """

    key: str
    values: int
    size: int


class Built(NamedTuple):
    """A placeholder for a tensor."""


def storages_of(file: io.BytesIO) -> list[Storage]:
    """Follow a pickle to its end without executing it, and return the storages that it names.

    Only what ``torch.save`` writes for tensors and plain values in lists, tuples and dicts is allowed.

    Args:
        file: Positioned at the pickle's start, and after its end on return.

    Raises:
        UnsafePickleError: It holds anything else, or is damaged.
    """
    follower = _Follower()
    try:
        for step, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            if step == MAX_STEPS:
                raise UnsafePickleError("it is too long")
            follower.follow(opcode.name, argument)
    except UnsafePickleError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise UnsafePickleError("it is damaged") from error
    return follower.storages


class _Follower:
    """Simulates a pickle's stack, with lists as containers and placeholders as results of calls."""

    def __init__(self) -> None:
        self.storages: list[Storage] = []
        self._stack: list[Any] = []
        self._outer: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self._copied = 0
        self._steps: dict[str, Callable[[], None]] = {
            "MARK": self._mark,
            "TUPLE": lambda: self._push(self._since_mark()),
            "TUPLE1": lambda: self._push(self._pop(1)),
            "TUPLE2": lambda: self._push(self._pop(2)),
            "TUPLE3": lambda: self._push(self._pop(3)),
            "APPEND": lambda: self._extend(self._pop(1)),
            "APPENDS": lambda: self._extend(self._since_mark()),
            "SETITEM": lambda: self._set(self._pop(2)),
            "SETITEMS": lambda: self._set(self._since_mark()),
            "REDUCE": self._call,
            "BUILD": self._build,
            "BINPERSID": self._storage,
        }

    def follow(self, opcode: str, argument: Any) -> None:
        if opcode in ("BINPUT", "LONG_BINPUT"):
            self._memo[argument] = self._stack[-1]
        elif opcode in ("BINGET", "LONG_BINGET"):
            self._push(self._memo[argument])
        elif opcode in ("BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"):
            self._push(argument)
        elif opcode in ("NONE", "NEWTRUE", "NEWFALSE"):
            self._push({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[opcode])
        elif opcode in ("EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE", "EMPTY_SET"):
            self._push([])
        elif opcode == "GLOBAL":
            self._push(Name(argument))
        elif opcode in self._steps:
            self._steps[opcode]()
        elif (opcode, argument) not in (("PROTO", 2), ("STOP", None)):
            raise UnsafePickleError(f"torch.save does not write {opcode}")

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _pop(self, count: int) -> list[Any]:
        values = self._stack[-count:]
        if len(values) < count:
            raise UnsafePickleError("it is damaged")
        del self._stack[-count:]
        return values

    def _mark(self) -> None:
        self._outer.append(self._stack)
        self._stack = []

    def _since_mark(self) -> list[Any]:
        values, self._stack = self._stack, self._outer.pop()
        return values

    def _extend(self, values: list[Any]) -> None:
        if not isinstance(self._stack[-1], list):
            raise UnsafePickleError("it fills something that is not a container")
        self._stack[-1].extend(values)

    def _set(self, pairs: list[Any]) -> None:
        _require_plain(pairs[::2])  # hashing a tuple of tuples of tuples can take forever
        self._extend(pairs)

    def _call(self) -> None:
        name, arguments = self._pop(2)
        if not isinstance(name, Name) or not isinstance(arguments, list):
            raise UnsafePickleError("it calls something that is not a function")
        if name in COPIED:
            (copied,) = arguments or [[]]
            _require_plain(copied)
            self._count(copied)
            self._push(list(copied))
        elif name == "torch device":
            _require_plain(arguments)
            self._push("device")
        elif name == "torch._utils _rebuild_tensor_v2":
            self._push(_tensor(*arguments))
        elif name == "torch._utils _rebuild_parameter" and isinstance(arguments[0], Built):
            self._push(arguments[0])
        else:
            raise UnsafePickleError(f"it calls {name}")

    def _build(self) -> None:
        """Allow the attributes of an OrderedDict: a state dict has one, ``_metadata``."""
        state = self._pop(1)[0]
        if not isinstance(self._stack[-1], list):
            raise UnsafePickleError("it sets attributes of something that is not an OrderedDict")
        self._count(state)

    def _count(self, entries: Sequence[Any]) -> None:
        self._copied += len(entries)
        if self._copied > MAX_COPIED:
            raise UnsafePickleError("it copies too much")

    def _storage(self) -> None:
        kind, name, key, place, values, *_ = self._pop(1)[0]
        module, _, storage = name.partition(" ")
        right = kind == "storage" and isinstance(name, Name) and module == "torch" and storage in VALUE_BYTES
        if not right or not isinstance(key, str) or not isinstance(place, str) or not _is_count(values):
            raise UnsafePickleError("it names something that is not a storage")
        self.storages.append(Storage(key, values, values * VALUE_BYTES[storage]))
        self._push(self.storages[-1])


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Built:
    """Check that a tensor has no more values than its storage: with a stride of 0 one value could become billions."""
    numbers = [offset, *shape, *strides]
    if not isinstance(storage, Storage) or not all(map(_is_count, numbers)) or len(shape) != len(strides):
        raise UnsafePickleError("it builds something that is not a tensor")
    if prod(shape) > storage.values:
        raise UnsafePickleError("it builds a tensor with more values than the file has")
    return Built()


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**62


def _require_plain(values: Sequence[Any]) -> None:
    if not all(type(value) in PLAIN for value in values):
        raise UnsafePickleError("its keys are not plain values")
