"""The page's files: self-contained, vendored by the letter, small enough to read."""

import hashlib
import re
from pathlib import Path

import pytest

import trainvitals_web

ROOT = Path(trainvitals_web.__file__).parent
STATIC = ROOT / "static"
OWN = sorted(path for path in STATIC.rglob("*.js") if "vendor" not in path.parts)
VENDORED = sorted((STATIC / "vendor").iterdir())
SHA = re.compile(r"sha256 of `([^`]+)`[^`]*: `([0-9a-f]{64})`")


@pytest.mark.parametrize("folder", VENDORED, ids=lambda path: path.name)
def test_what_is_vendored_is_what_its_note_says(folder: Path) -> None:
    """Version in the folder's name, licence beside it, checksum in the note, no source map to ask for."""
    note = (folder / "VENDORED.md").read_text()
    assert note.startswith(f"# {folder.name.rpartition('-')[0]} {folder.name.rpartition('-')[2]}")
    assert (folder / "LICENSE").is_file()
    (found,) = SHA.findall(note)
    content = (folder / found[0]).read_bytes()
    assert hashlib.sha256(content).hexdigest() == found[1]
    assert b"sourceMappingURL" not in content


@pytest.mark.parametrize("path", OWN, ids=lambda path: str(path.relative_to(STATIC)))
def test_a_module_opens_with_what_it_is_for_and_imports_only_its_own_kind(path: Path) -> None:
    """A comment first; relative imports of files that exist; no address of another host, no markup from strings."""
    text = path.read_text()
    assert text.startswith("/**")
    for target in re.findall(r"""^import [^"]*"([^"]+)";$|import\("(\.[^"]+\.js)"\)\)?[.;]""", text, re.MULTILINE):
        name = target[0] or target[1]
        assert name.startswith("."), f"expected a relative import, got {name!r}"
        assert (path.parent / name).is_file(), f"expected a file, got {name!r}"
    assert not re.search(r"https?://", text)
    assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text)


def test_the_page_names_only_files_that_exist() -> None:
    """And has no script of its own: the security policy would not run it."""
    html = (ROOT / "index.html").read_text()
    for name in re.findall(r'(?:src|href)="(/static/[^"]+)"', html):
        assert (ROOT / name.removeprefix("/")).is_file(), name
    assert re.findall(r"<script(?![^>]*src=)", html) == []


def test_plotly_is_the_release_that_builds_the_figures() -> None:
    """The Python package declares panels for the JavaScript that draws them."""
    offline = pytest.importorskip("plotly.offline")
    assert (STATIC / "vendor" / f"plotly.js-cartesian-dist-min-{offline.get_plotlyjs_version()}").is_dir()
