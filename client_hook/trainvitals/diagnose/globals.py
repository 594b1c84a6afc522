"""Which names a checkpoint's pickle may mention. None is ever imported; a dangerous one gives the file away.

A checkpoint that somebody else's `torch.load(weights_only=False)` will run must not pass here as healthy, nor be copied
into a `_FIXED` one. Of torch, numpy and the standard library, which are there to be abused on every machine, only the
names that real checkpoints use are let through. Of other packages everything is, but for what is known to run code or
to reach the system: it becomes a placeholder, and is named in the report.
"""

import sys

# fmt: off
KNOWN = {
    "torch": {
        "Size", "Tensor", "device", "Generator", "strided", "sparse_coo", "sparse_csr", "contiguous_format",
        "channels_last", "channels_last_3d", "preserve_format", "per_tensor_affine", "per_channel_affine",
        "per_tensor_symmetric", "per_channel_symmetric",
    },
    "torch.storage": {"UntypedStorage", "TypedStorage", "_TypedStorage"},
    "torch.serialization": {"_get_layout"},
    "torch.torch_version": {"TorchVersion"},
    "torch._dynamo.decorators": {"_DimRange"}, "torch._C": {"Generator"}, "torch.utils.hooks": {"RemovableHandle"},
    "torch.nested._internal.nested_tensor": {"NestedTensor", "_rebuild_njt"},
    "torch.masked.maskedtensor.core": {"MaskedTensor"},
    "numpy": {"dtype", "ndarray", "matrix", "recarray"},
    "numpy.core.multiarray": {"scalar", "_reconstruct"}, "numpy._core.multiarray": {"scalar", "_reconstruct"},
    "numpy.core.numeric": {"_frombuffer"}, "numpy._core.numeric": {"_frombuffer"},
    "numpy.ma": {"MaskedArray"}, "numpy.ma.core": {"MaskedArray", "_mareconstruct"},
    "builtins": {
        "Ellipsis", "NotImplemented", "NoneType", "NotImplementedType", "bool", "bytearray", "bytes", "complex", "dict",
        "float",
        "frozenset", "getattr", "int", "iter", "list", "object", "print", "range", "set", "slice", "str", "tuple",
        "type", "unicode", "xrange", "long",
    },
    "copyreg": {"_reconstructor", "__newobj__", "__newobj_ex__"},
    "collections": {"OrderedDict", "defaultdict", "deque", "Counter", "ChainMap", "UserDict", "UserList"},
    "datetime": {"datetime", "date", "time", "timedelta", "timezone"},
    "decimal": {"Decimal"}, "fractions": {"Fraction"}, "uuid": {"UUID", "SafeUUID"}, "argparse": {"Namespace"},
    "itertools": {"count"}, "re": {"_compile"},
    "functools": {"partial"}, "random": {"Random"}, "_random": {"Random"}, "time": {"struct_time"},
    "types": {"SimpleNamespace", "MappingProxyType", "NoneType", "EllipsisType", "GenericAlias", "UnionType"},
    "_codecs": {"encode"}, "codecs": {"encode"},
    "io": {"BytesIO", "StringIO"}, "_io": {"BytesIO", "StringIO"},
    "operator": {"itemgetter", "getitem"}, "_operator": {"itemgetter", "getitem"},
    "signal": {"Signals"}, "platform": {"uname_result"}, "logging": {"Logger", "getLogger"},
    "typing": {
        "Any", "Callable", "ClassVar", "Dict", "FrozenSet", "Generic", "Iterable", "Iterator", "List", "Literal",
        "Mapping", "NamedTuple", "Optional", "Sequence", "Set", "Tuple", "Type", "TypeVar", "Union",
    },
    "enum": {"Enum", "IntEnum", "Flag", "IntFlag", "StrEnum", "auto"},
}
PATHS = {"Path", "PosixPath", "WindowsPath", "PurePath", "PurePosixPath", "PureWindowsPath"}
# Packages of classes and plain functions; a name in them must not be dotted.
KNOWN_PACKAGES = (
    "torch.nn", "torch._C._nn", "torch.optim", "torch.ao.nn", "torch.ao.quantization", "torch.amp", "torch.cuda.amp",
    "torch.distributions", "torch.utils.data", "torch.distributed.tensor", "torch.distributed._tensor",
    "torch.distributed.fsdp", "torch.distributed.device_mesh", "torch.distributed.optim", "numpy.random",
    "numpy.dtypes",
)
DANGEROUS_PACKAGES = {
    "IPython", "cffi", "cloudpickle", "dill", "fabric", "fsspec", "httpx", "hydra", "invoke", "ipykernel", "joblib",
    "jsonpickle", "numba", "paramiko", "pexpect", "pip", "pkg_resources", "plumbum", "requests", "setuptools", "sh",
    "sympy", "trainvitals", "trainvitals_server", "urllib2", "urllib3", "httplib", "commands", "cPickle",
}
DANGEROUS_NAMES = {
    "CodeType", "FileIO", "FunctionType", "LambdaType", "MethodType", "apply_along_axis", "attrgetter", "call",
    "check_call", "check_output", "compile", "delattr", "dlopen", "eval", "exec", "execfile", "fromfile", "full_load",
    "getattr", "getoutput", "globals", "import_module", "instantiate", "load", "load_library", "loads", "locals",
    "methodcaller", "open", "open_code", "popen", "read_pickle", "run_string", "setattr", "spawn", "system",
    "unsafe_load", "vars", "_load_from_bytes",
}
# fmt: on
PYTHON_2 = {"__builtin__": "builtins", "copy_reg": "copyreg"}
GUARDED = sys.stdlib_module_names | {"torch", "numpy", "__builtin__", "copy_reg"}
COMMON_WORDS = {"code", "types", "test", "enum", "token", "string", "select", "profile", "queue", "platform", "trace"}


def is_dangerous(module: str, name: str) -> bool:
    """Whether naming `module.name` is a reason to refuse the file."""
    root = module.partition(".")[0]
    if root in GUARDED:
        return not _is_known(PYTHON_2.get(module, module), name)
    parts = name.split(".")
    reached = set(parts[:-1]) & (sys.stdlib_module_names - COMMON_WORDS)  # a module through another
    return root in DANGEROUS_PACKAGES or bool(reached) or not all(map(is_harmless, parts))


def is_harmless(name: str) -> bool:
    """Whether an attribute of this name of something unknown is let through."""
    return name not in DANGEROUS_NAMES and not (name.startswith("__") and name.endswith("__"))


def _is_known(module: str, name: str) -> bool:
    if name in KNOWN.get(module, ()):
        return True
    if module in ("pathlib", "pathlib._local"):
        return name in PATHS
    if module in ("torch._utils", "torch._tensor"):
        return name.startswith("_rebuild_")
    if module in ("torch", "numpy"):
        return is_number(name) or (module == "torch" and name.endswith(("Storage", "Tensor")) and "." not in name)
    if any(module == package or module.startswith(f"{package}.") for package in KNOWN_PACKAGES):
        return "." not in name and is_harmless(name)
    return False


def is_number(name: str) -> bool:
    """Whether this is a dtype or a scalar type by the look of it: float32, bfloat16, uint8, quint4x2, bits8, bool_."""
    stems = ("float", "bfloat", "complex", "int", "uint", "qint", "quint", "bits", "bool", "str_", "bytes", "datetime")
    return name.isidentifier() and name.startswith(stems)
