"""The pickle inside a checkpoint, unpickled into inert things: containers, numbers, tensor descriptions, placeholders.

The unpickler of the standard library does the parsing; what it would import, call or look up by persistent id is ours.
Nothing it can reach does anything: a global is a `Placeholder` subclass or one of the few functions below, all of which
only note down what they are given.
"""

import io
import math
import pickle
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from trainvitals.diagnose.globals import is_dangerous, is_harmless, is_number
from trainvitals.diagnose.report import RefusedError, plain

# torch's storage classes by the dtype they hold; newer files name UntypedStorage and give the dtype beside it.
STORAGES = {
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "UntypedStorage": "uint8",
}
MAX_DIMENSIONS = 64  # numpy's own limit, and more than anybody has
LARGEST = 1 << 58  # elements: their bytes still fit an int64
QUANTISED = {"QInt8Storage", "QUInt8Storage", "QInt32Storage", "QUInt4x2Storage", "QUInt2x4Storage"}


class Sealed:
    """What the unpickler made of checked values; a pickle may not change it afterwards."""

    def __setstate__(self, state: Any) -> None:
        raise RefusedError("expected a pickle that leaves tensors as they are, got one that changes them")


@dataclass(frozen=True)
class Dtype(Sealed):
    """`torch.float32` and its kin, by name."""

    name: str


@dataclass(frozen=True)
class Storage(Sealed):
    """A record of the file: its key, and how many elements of which dtype the pickle says it holds."""

    key: str
    dtype: str
    elements: int


@dataclass(frozen=True)
class Tensor(Sealed):
    """A view of a storage; `offset` and `stride` in elements. `dtype` is the view's own."""

    storage: Storage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True)
class Unjudged(Sealed):
    """A tensor whose numbers cannot be read here, and why."""

    why: str


class Placeholder:
    """An object of a type that is not looked into. It takes whatever a pickle does to an object, and keeps what may
    hold tensors."""

    origin = ""

    def __new__(cls, *args: Any, **named: Any) -> "Placeholder":
        """As pickles make objects: with arguments or without."""
        made = object.__new__(cls)
        made.__dict__.update(held=[*args, *named.values()], entries={})
        return made

    def __init__(self, *_: Any, **__: Any) -> None:
        """The arguments are held already."""

    def __setstate__(self, state: Any) -> None:
        self._hold(state)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.__dict__["entries"][key] = value

    def append(self, value: Any) -> None:
        """As a list."""
        self._hold(value)

    def extend(self, values: Any) -> None:
        """As a list."""
        self._hold(list(values))

    def add(self, value: Any) -> None:
        """As a set."""
        self._hold(value)

    def _hold(self, value: Any) -> None:
        self.__dict__["held"].append(value)


class InertDict(dict[Any, Any]):
    """An OrderedDict or a defaultdict: its entries are what counts, its factory and its attributes do not."""

    def __init__(self, *args: Any) -> None:
        super().__init__(args[0] if args and isinstance(args[0], Mapping | list) else ())

    def __setstate__(self, state: Any) -> None:
        """Attributes such as a state dict's `_metadata`."""


class Reader(pickle.Unpickler):
    """Unpickles one `data.pkl`. `kept` collects the types that became placeholders."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))
        self.kept: set[str] = set()
        self._classes: dict[str, type[Placeholder]] = {}

    def find_class(self, module: str, name: str) -> Any:
        """What a global stands for. Raises `RefusedError` for a dangerous one."""
        full = plain(f"{module}.{name}")
        if full in FUNCTIONS:
            return FUNCTIONS[full]
        if is_dangerous(module, name):
            raise RefusedError(f"its pickle names {full}, which can run code; nothing of it was loaded")
        if module in ("torch", "torch.storage") and name in STORAGES:
            return Dtype(STORAGES[name])
        if module in ("torch", "torch.storage") and name in QUANTISED:
            return Dtype("quantised")
        if module == "torch" and is_number(name):
            return Dtype(name)
        return self._placeholder(module, full)

    def persistent_load(self, pid: Any) -> Storage:
        """A storage, as torch.save refers to it. Raises `RefusedError` for anything else."""
        if isinstance(pid, tuple) and len(pid) == 5 and pid[0] == "storage" and isinstance(pid[1], Dtype):
            key, elements = pid[2], pid[4]
            if isinstance(key, str) and isinstance(elements, int) and elements >= 0:
                return Storage(key, pid[1].name, elements)
        raise RefusedError(f"expected a reference to a storage in its pickle, got {str(pid)[:80]!r}")

    def _placeholder(self, module: str, full: str) -> type[Placeholder]:
        if module not in ("builtins", "__builtin__", "copyreg", "copy_reg") and not full.startswith("torch."):
            self.kept.add(full)
        return self._classes.setdefault(full, type("Placeholder", (Placeholder,), {"origin": full}))


def _tensor(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> Tensor | Unjudged:
    """`_rebuild_tensor_v2`: (storage, offset, size, stride, requires_grad, hooks, metadata)."""
    return _view(storage, storage.dtype if isinstance(storage, Storage) else "", offset, shape, stride)


def _tensor_v3(storage: Any, offset: Any, shape: Any, stride: Any, _: Any, __: Any, dtype: Any, *___: Any) -> Any:
    """`_rebuild_tensor_v3`: the dtype comes beside an untyped storage."""
    return _view(storage, dtype.name if isinstance(dtype, Dtype) else "", offset, shape, stride)


def _view(storage: Any, dtype: str, offset: Any, shape: Any, stride: Any) -> Tensor | Unjudged:
    sizes, strides = tuple(shape), tuple(stride)
    numbers = (offset, *sizes, *strides)
    if not isinstance(storage, Storage) or len(sizes) != len(strides) or len(sizes) > MAX_DIMENSIONS:
        raise RefusedError(f"expected a tensor with a storage, and a stride for each of at most {MAX_DIMENSIONS} sizes")
    if not all(isinstance(number, int) and 0 <= number < LARGEST for number in numbers):
        raise RefusedError("expected whole numbers within bounds as a tensor's offset, shape and stride")
    if math.prod(sizes) >= LARGEST:
        raise RefusedError(f"expected a tensor of fewer than {LARGEST:,} elements, got more")
    if dtype not in ITEM_BYTES:
        return Unjudged(dtype or "of an unknown type")
    return Tensor(storage, dtype, offset, sizes, strides)


def _attribute(owner: Any, name: Any, *_: Any) -> Any:
    """`getattr`, by which older protocols name what is defined within a class."""
    is_unknown = isinstance(owner, Placeholder) or (isinstance(owner, type) and issubclass(owner, Placeholder))
    if not is_unknown or not isinstance(name, str) or not is_harmless(name) or name in sys.stdlib_module_names:
        raise RefusedError(
            "its pickle looks an attribute up with getattr, which can run code; nothing of it was loaded"
        )
    return type("Placeholder", (Placeholder,), {"origin": f"{owner.origin}.{plain(name)}"})


def _inner(tensor: Any = None, *_: Any) -> Any:
    """`_rebuild_parameter` and its like: what counts is the tensor in it."""
    return tensor


def _from_type(function: Any, _: Any, args: Any, *__: Any) -> Any:
    """`_rebuild_from_type_v2`: a tensor subclass around one of our functions."""
    return function(*args) if isinstance(function, Function) and isinstance(args, tuple) else function


def _sparse(*_: Any) -> Any:
    raise RefusedError("it holds a sparse tensor, whose indices cannot be trusted; save it dense")


def _unjudged(why: str) -> Callable[..., Unjudged]:
    return lambda *_: Unjudged(why)


class Function(Sealed):
    """One of the functions a pickle may call, without a place for a pickle to change it."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *args: Any) -> Any:
        """As a pickle's REDUCE calls it."""
        return self._call(*args)


CALLS: dict[str, Callable[..., Any]] = {
    "builtins.getattr": _attribute,
    "__builtin__.getattr": _attribute,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
    "torch._utils._rebuild_parameter": _inner,
    "torch._utils._rebuild_parameter_with_state": _inner,
    "torch._tensor._rebuild_from_type": _from_type,
    "torch._tensor._rebuild_from_type_v2": _from_type,
    "torch._utils._rebuild_sparse_tensor": _sparse,
    "torch._utils._rebuild_sparse_csr_tensor": _sparse,
    "torch._utils._rebuild_qtensor": _unjudged("quantised"),
    "torch.nested._internal.nested_tensor._rebuild_njt": _unjudged("nested"),
    "torch._utils._rebuild_meta_tensor_no_storage": _unjudged("on the meta device"),
    "torch.serialization._get_layout": lambda name=None: name,
    "torch.Size": lambda sizes=(): tuple(sizes),
}
FUNCTIONS: dict[str, Any] = {
    **{name: Function(call) for name, call in CALLS.items()},
    "collections.OrderedDict": InertDict,
    "collections.defaultdict": InertDict,
}

ITEM_BYTES = {
    "float64": 8,
    "float32": 4,
    "float16": 2,
    "bfloat16": 2,
    "float8_e4m3fn": 1,
    "float8_e5m2": 1,
    "float8_e4m3fnuz": 1,
    "float8_e5m2fnuz": 1,
    "complex128": 16,
    "complex64": 8,
    "complex32": 4,
    "int64": 8,
    "int32": 4,
    "int16": 2,
    "int8": 1,
    "uint64": 8,
    "uint32": 4,
    "uint16": 2,
    "uint8": 1,
    "bool": 1,
}


def unpickle(data: bytes) -> tuple[Any, set[str]]:
    """The object in `data`, inert, and the types in it that were not looked into. Raises `RefusedError`."""
    reader = Reader(data)
    try:
        return reader.load(), reader.kept
    except (RefusedError, MemoryError):
        raise
    except Exception as error:  # whatever a broken pickle makes the unpickler do
        first = (str(error).splitlines() or [""])[0][:120]
        raise RefusedError(f"expected a pickle that torch.save wrote, got one that is broken: {first}") from error
