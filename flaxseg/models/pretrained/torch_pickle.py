"""Reads the pickles that torch.save() writes with an interpreter that builds data and calls nothing."""

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from flaxseg.errors import WeightsError
from flaxseg.models.pretrained.torch_tensors import STORAGES, Storage, tensor_of

_DTYPES = (
    "float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool",
)  # fmt: skip

_OPCODES = {opcode.code: opcode for opcode in pickletools.opcodes}
_MAX_NAME_LENGTH = 100
_MAX_INSTRUCTIONS = 500_000
"""About 40 describe a tensor, and a million take a second or two."""

_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}

_INSTRUCTIONS = frozenset((
    "PROTO", "FRAME", "STOP", "MARK", "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1",
    "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES",
    "EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "APPEND", "APPENDS", "SETITEM",
    "SETITEMS", "BINPUT", "LONG_BINPUT", "MEMOIZE", "BINGET", "LONG_BINGET", "GLOBAL", "STACK_GLOBAL", "BINPERSID",
    "REDUCE", "BUILD",
))  # fmt: skip

_REMEDY = (
    "None of it was run. If you trust the file, load it in PyTorch and save the weights alone: "
    "torch.save(model.state_dict(), PATH), or safetensors.torch.save_file"
)


@dataclass(frozen=True)
class _Global:
    """The name of a function or class in a pickle; nothing is imported."""

    name: str


def unpickled(
    file: BinaryIO, *, name: str, max_instructions: int = _MAX_INSTRUCTIONS
) -> tuple[Any, dict[str, Storage]]:
    """Returns the object in a pickle, and leaves the file positioned after it.

    The standard library's unpickler is not safe, however few names it may look up: it hashes nested tuples until the
    stack overflows, and allocates as much memory as an instruction of five bytes requests.

    Args:
      file: positioned at the pickle's beginning.
      name: the file's name, for messages.
      max_instructions: the largest number of instructions that the pickle may have.

    Returns:
      Dicts, lists, tuples, numbers, strings, None, and each tensor as a `Tensor`; and every storage by its key.

    Raises:
      WeightsError: the pickle names or calls something that is not needed to build tensors, has an instruction that
        PyTorch does not write, or a tensor that exceeds its storage.
      LookupError, TypeError, ValueError: it is damaged.
    """
    machine = _Machine(name)
    return machine.run(file, max_instructions), machine.storages


class _Machine:
    """The stack machine that runs a pickle, limited to the instructions that PyTorch writes."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.storages: dict[str, Storage] = {}
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def run(self, file: BinaryIO, max_instructions: int) -> Any:
        count = 0
        while code := file.read(1):
            count += 1
            if count > max_instructions:
                raise self._refused(f"its pickle has more than {max_instructions:,} instructions")
            opcode = _OPCODES.get(code.decode("latin-1"))
            if opcode is None:
                raise ValueError(f"{code!r} is not an instruction of a pickle")
            if opcode.name not in _INSTRUCTIONS:
                raise self._refused(f"its pickle has the instruction {opcode.name}, which torch.save() does not write")
            if opcode.name == "STOP":
                return self._stack.pop()
            self._execute(opcode.name, opcode.arg.reader(file) if opcode.arg else None)
        raise EOFError("its pickle has no end")

    def _execute(self, instruction: str, argument: Any) -> None:
        stack = self._stack
        match instruction:
            case "PROTO" | "FRAME":
                pass
            case "MARK":
                self._below.append(stack)
                self._stack = []
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append(_CONSTANTS[instruction])
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE":
                values = tuple(self._marked())
                self._stack.append(values)
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                last = [stack.pop() for _ in range(int(instruction[-1]))]
                stack.append(tuple(reversed(last)))
            case "APPEND" | "APPENDS":
                self._extend(self._marked() if instruction == "APPENDS" else [stack.pop()])
            case "SETITEM":
                value = stack.pop()
                self._set_items([stack.pop(), value])
            case "SETITEMS":
                self._set_items(self._marked())
            case "BINPUT" | "LONG_BINPUT":
                self._memo[argument] = stack[-1]
            case "MEMOIZE":
                self._memo[len(self._memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(self._memo[argument])
            case "GLOBAL":
                stack.append(self._named(argument.replace(" ", ".", 1)))
            case "STACK_GLOBAL":
                attribute = stack.pop()
                stack.append(self._named(".".join((stack.pop(), attribute))))
            case "BINPERSID":
                stack.append(self._storage(stack.pop()))
            case "REDUCE":
                arguments = stack.pop()
                stack.append(self._call(stack.pop(), arguments))
            case "BUILD":
                # Sets attributes of an object, such as the version numbers of a state dict, which are not needed.
                stack.pop()
            case _:
                stack.append(argument)

    def _marked(self) -> list[Any]:
        """Pops and returns what was pushed on the stack since the last mark."""
        values = self._stack
        self._stack = self._below.pop()
        return values

    def _extend(self, values: list[Any]) -> None:
        if not isinstance(self._stack[-1], list):
            raise TypeError("its pickle appends to something that is not a list")
        self._stack[-1].extend(values)

    def _set_items(self, flat: list[Any]) -> None:
        if not isinstance(self._stack[-1], dict) or len(flat) % 2:
            raise TypeError("its pickle sets items of something that is not a dict")
        self._stack[-1].update(_entries(zip(flat[::2], flat[1::2], strict=True)))

    def _named(self, name: str) -> _Global:
        if name not in _NAMES:
            raise self._refused(f"names {name[:_MAX_NAME_LENGTH]}, which is not needed for tensors")
        return _Global(name)

    def _storage(self, given: Any) -> Storage:
        match given:
            case ("storage", _Global(name=cls), str(key), str(), int(length), *view) if (
                cls in STORAGES and length >= 0 and view in ([], [None])
            ):
                storage = Storage(STORAGES[cls], key, length)
                if self.storages.setdefault(key, storage) != storage:
                    raise ValueError(f"its storage {key} is described in two ways")
                return storage
        raise self._refused("refers to data that is not the storage of a tensor")

    def _call(self, function: Any, arguments: Any) -> Any:
        called = _CALLS.get(function.name) if isinstance(function, _Global) else None
        if called is None or not isinstance(arguments, tuple):
            raise self._refused(
                f"calls {function.name if isinstance(function, _Global) else 'something that is not a function'}"
            )
        return called(*arguments)

    def _refused(self, what: str) -> WeightsError:
        return WeightsError(f"{self.name}: {what}. {_REMEDY}")


def _entries(pairs: Any) -> dict[Any, Any]:
    """Returns the pairs with a plain key, such as a tensor's name; hashing anything else might never terminate."""
    return {key: value for key, value in pairs if isinstance(key, str | int | float | None)}


def _parameter(tensor: Any, *_: Any) -> Any:
    return tensor


_CALLS: Mapping[str, Callable[..., Any]] = {
    "collections.OrderedDict": lambda pairs=(): _entries(pairs),
    "torch._utils._rebuild_tensor": tensor_of,
    "torch._utils._rebuild_tensor_v2": tensor_of,
    "torch._utils._rebuild_parameter": _parameter,
    "torch.Size": lambda sizes=(): tuple(sizes),
}
_NAMES = frozenset((*_CALLS, *STORAGES, "torch.storage.TypedStorage", *(f"torch.{dtype}" for dtype in _DTYPES)))
