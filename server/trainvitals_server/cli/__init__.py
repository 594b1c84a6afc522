"""The command line `trainvitals`: one file per verb, imported only when it is asked for.

A verb is a module of this folder with `arguments(parser)` and `run(options) -> int` (the exit code); the
first line of its docstring is its help. A verb that cannot do what it was asked raises `Failure`, which becomes one
line on stderr. Importing this package pulls in the standard library and nothing else.
"""

import argparse
import ast
import importlib
import importlib.abc
import keyword
import os
import pkgutil
import sys
from collections.abc import Callable, Sequence
from importlib import metadata, util
from typing import NoReturn, Protocol, cast

from trainvitals_server.cli.failure import Failure, warn

# What the extra `server` installs and verbs import; a missing one is explained, not shown as a traceback.
EXTRA = {"fastapi", "starlette", "uvicorn", "sqlite_utils", "plotly", "httpx", "zstandard"}


class Verb(Protocol):
    """What a verb's module offers."""

    __doc__: str | None
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line. `usage_code` is the exit code of a wrong command line."""

    usage_code = 2

    def error(self, message: str) -> NoReturn:
        """End with the reason."""
        raise Failure(f"{message}; see `{self.prog} --help`", code=self.usage_code)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the verb named by the first argument; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return dispatch(arguments)
    except Failure as failure:
        warn(str(failure))
        return failure.code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output left: nothing more to say, and nothing to flush at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:  # a directory that cannot be made, a file that cannot be read
        warn(str(error))
        return 1


def dispatch(arguments: list[str]) -> int:
    """Find the verb, parse what follows it, run it. Raises `Failure` for an unknown verb."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(overview())
        return 0 if arguments else 2
    if arguments[0] in ("-V", "--version"):
        print(f"trainvitals {metadata.version('trainvitals')}")
        return 0
    name, *rest = arguments
    if name not in verbs():
        raise Failure(f"expected one of {', '.join(verbs())}; got {name!r}", code=2)
    verb = load(name)
    parser = Parser(prog=f"trainvitals {name}", description=verb.__doc__)
    verb.arguments(parser)
    try:
        options = parser.parse_args(rest)
    except SystemExit as end:  # --help
        return int(end.code or 0)
    return verb.run(options)


def load(name: str) -> Verb:
    """Import a verb. Raises `Failure` where what it needs is not installed."""
    try:
        return cast(Verb, importlib.import_module(f"{__name__}.{module_of(name)}"))
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in EXTRA:
            raise
        raise Failure(
            f"`trainvitals {name}` needs {error.name}, which is not installed; pip install 'trainvitals[server]'"
        ) from error


def module_of(name: str) -> str:
    """The module of a verb; one that is a word of Python's own has an underscore behind it."""
    return f"{name}_" if keyword.iskeyword(name) else name


def verbs() -> dict[str, str]:
    """Every verb and the first line of its help, read from the sources without importing them."""
    found = {}
    for module in pkgutil.iter_modules(__path__):
        tree = ast.parse(source(module.name))
        if any(isinstance(node, ast.FunctionDef) and node.name == "run" for node in tree.body):
            found[module.name.rstrip("_")] = (ast.get_docstring(tree) or "").partition("\n")[0]
    return found


def source(name: str) -> str:
    """The source text of a module of this folder."""
    spec = util.find_spec(f"{__name__}.{name}")
    text = spec.loader.get_source(spec.name) if spec and isinstance(spec.loader, importlib.abc.InspectLoader) else None
    return text or ""


def overview() -> str:
    """What `trainvitals --help` prints."""
    lines = ["usage: trainvitals VERB [...]", "", "A bedside monitor for PyTorch training runs.", ""]
    lines += [f"  {name:<10} {line}" for name, line in verbs().items()]
    return "\n".join([*lines, "", "`trainvitals VERB --help` explains one verb."])
