"""Who may import whom, read from the syntax trees, and what an import costs."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOTS = {
    "trainvitals": ROOT / "client_hook/trainvitals",
    "trainvitals_server": ROOT / "server/trainvitals_server",
    "trainvitals_web": ROOT / "web/trainvitals_web",
}
OURS = tuple(ROOTS)


def modules(package: str, folder: str = "") -> list[Path]:
    return sorted((ROOTS[package] / folder).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Every module name imported anywhere in the file, inside functions too; not those for type checkers only."""
    tree = ast.parse(path.read_text())
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide who is imported"
            for alias in node.names:
                yield f"{node.module}.{alias.name}"


def is_under(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def ours(path: Path) -> set[str]:
    return {name for name in imports(path) if any(is_under(name, package) for package in OURS)}


def test_there_is_something_to_look_at() -> None:
    """An empty list would let every other test here pass."""
    assert len(modules("trainvitals")) > 20
    assert len(modules("trainvitals_server")) > 20


@pytest.mark.parametrize("path", modules("trainvitals"), ids=str)
def test_the_hook_never_imports_the_server_or_the_page(path: Path) -> None:
    """The trainer's side stands alone."""
    assert not {n for n in ours(path) if not is_under(n, "trainvitals")}


@pytest.mark.parametrize("path", modules("trainvitals_server"), ids=str)
def test_the_server_never_imports_torch(path: Path) -> None:
    """A server needs no torch on its machine."""
    assert not {n for n in imports(path) if is_under(n, "torch")}


def test_the_wire_imports_nothing_of_ours() -> None:
    """The wire is the one thing both sides share, so it may depend on neither."""
    assert not ours(ROOTS["trainvitals"] / "wire.py")


@pytest.mark.parametrize("path", modules("trainvitals_server", "rules"), ids=str)
def test_rules_import_the_wire_and_each_other_only(path: Path) -> None:
    """Rules are pure: no store, no clock, no chart."""
    allowed = ("trainvitals.wire", "trainvitals_server.rules")
    assert not {n for n in ours(path) if n != "trainvitals.wire" and not any(is_under(n, a) for a in allowed)}
    assert not {n for n in imports(path) if n.split(".")[0] in ("time", "datetime", "sqlite3", "sqlite_utils")}


@pytest.mark.parametrize("path", modules("trainvitals_server", "store"), ids=str)
def test_the_store_knows_no_rule_and_no_panel(path: Path) -> None:
    """The store keeps; it does not judge or draw."""
    banned = ("trainvitals_server.rules", "trainvitals_server.panels", "trainvitals_server.api")
    assert not {n for n in ours(path) if any(is_under(n, b) for b in banned)}


@pytest.mark.parametrize("path", modules("trainvitals_server"), ids=str)
def test_sql_lives_in_the_store_alone(path: Path) -> None:
    """No other room opens the database."""
    if "store" not in path.relative_to(ROOTS["trainvitals_server"]).parts:
        assert not {n for n in imports(path) if n.split(".")[0] in ("sqlite3", "sqlite_utils")}


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("trainvitals", ["torch", "numpy", "websockets", "trainvitals_server", "fastapi"]),
        ("trainvitals.wire", ["torch", "numpy", "websockets", "trainvitals_server", "fastapi"]),
        ("trainvitals.delivery.recovery", ["torch", "trainvitals_server", "fastapi"]),
        ("trainvitals_server.cli.sync", ["torch", "fastapi", "uvicorn", "plotly", "sqlite_utils"]),
        ("trainvitals_server.cli", ["torch", "fastapi", "uvicorn", "plotly", "sqlite_utils"]),
    ],
)
def test_an_import_pulls_in_nothing_heavy(module: str, absent: list[str]) -> None:
    """`import trainvitals` and the command line are cheap, in a fresh process."""
    code = f"import {module}, sys; print([m for m in {absent!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_watching_pulls_in_torch_but_no_server_stack() -> None:
    """A training process never loads fastapi or its kin."""
    code = (
        "import trainvitals, sys; trainvitals.watch; print(sorted(set(sys.modules) & {'fastapi','uvicorn','plotly'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
