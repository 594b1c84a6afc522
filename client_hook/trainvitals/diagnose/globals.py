"""Which names a checkpoint's pickle may mention. None is ever imported; a dangerous one gives the file away.

A checkpoint that somebody else's `torch.load(weights_only=False)` will run must not pass here as healthy, nor be copied
into a `_FIXED` one. So a pickle that names a way to run code, to reach the system or to look attributes up is refused,
whatever it would do with it. Everything else is unknown, which is no crime: it becomes a placeholder.
"""

# fmt: off
DANGEROUS_MODULES = frozenset({
    "_ctypes", "_frozen_importlib", "_operator", "_pickle", "_posixsubprocess", "_socket", "_thread", "_winapi",
    "antigravity", "asyncio", "atexit", "bdb", "cPickle", "cProfile", "cgi", "cgitb", "cloudpickle", "cmd", "code",
    "codeop", "commands", "compileall", "concurrent", "ctypes", "dbm", "dill", "dis", "distutils", "doctest",
    "ensurepip", "faulthandler", "fileinput", "fsspec", "ftplib", "gc", "getpass", "glob", "http", "httplib",
    "httpx", "idlelib", "imaplib", "imp", "importlib", "inspect", "joblib", "jsonpickle", "lib2to3", "linecache",
    "mailcap", "marshal", "mmap", "modulefinder", "msvcrt", "multiprocessing", "nntplib", "nt", "ntpath",
    "operator", "os", "paramiko", "pdb", "pickle", "pickletools", "pip", "pipes", "pkg_resources", "pkgutil",
    "platform", "poplib", "posix", "posixpath", "profile", "pstats", "pty", "py_compile", "pyclbr", "pydoc",
    "readline", "requests", "resource", "runpy", "select", "selectors", "setuptools", "shelve", "shutil", "signal",
    "site", "smtpd", "smtplib", "socket", "socketserver", "sqlite3", "ssl", "subprocess", "sys", "sysconfig",
    "tarfile", "telnetlib", "tempfile", "test", "threading", "timeit", "tkinter", "trace", "traceback", "tty",
    "turtle", "unittest", "urllib", "urllib2", "urllib3", "venv", "webbrowser", "winreg", "wsgiref", "xmlrpc",
    "zipapp", "zipfile", "zipimport",
})
SAFE_BUILTINS = frozenset({
    "Ellipsis", "NoneType", "bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int", "list",
    "object", "range", "set", "slice", "str", "tuple",
})
DANGEROUS_NAMES = frozenset({
    "CodeType", "FileIO", "FunctionType", "LambdaType", "MethodType", "apply_along_axis", "attrgetter",
    "check_call", "check_output", "compile", "delattr", "eval", "exec", "execfile", "fromfile", "getattr",
    "getoutput", "globals", "import_module", "load", "loads", "locals", "methodcaller", "open", "open_code",
    "popen", "setattr", "spawn", "system", "vars",
})
# fmt: on
DANGEROUS_PREFIXES = (
    "numpy.f2py",
    "numpy.testing",
    "numpy.distutils",
    "logging.config",
    "torch.hub",
    "torch.jit",
    "torch.package",
    "torch.serialization",
    "torch.utils.cpp_extension",
    "torch.utils.model_zoo",
    "torch._inductor",
    "torch._dynamo",
    "torch.fx",
    "torch.multiprocessing",
    "torch.distributed.elastic",
    "torch.testing",
)


def is_dangerous(module: str, name: str) -> bool:
    """Whether naming `module.name` is a reason to refuse the file."""
    if module in ("builtins", "__builtin__"):
        return name not in SAFE_BUILTINS
    if module in ("copyreg", "copy_reg"):
        return name not in ("_reconstructor", "__newobj__", "__newobj_ex__")
    parts = name.split(".")
    roots = {module.partition(".")[0], *parts[:-1]}  # a dotted name may reach a module through another
    if roots & DANGEROUS_MODULES or any(module == one or module.startswith(f"{one}.") for one in DANGEROUS_PREFIXES):
        return True
    return any(part in DANGEROUS_NAMES or (part.startswith("__") and part.endswith("__")) for part in parts)
