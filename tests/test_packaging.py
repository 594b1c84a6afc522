"""The wheel is the whole program: the page, the vendored files, the example, and a server that serves them."""

import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import httpx
import pytest

from child import child

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from this checkout, unpacked where an installer would put it."""
    out = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = out.glob("*.whl")
    site = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    return site


def environment(site: Path, home: Path) -> dict[str, str]:
    """The unpacked wheel comes before the checkout. Its files are copies, so their coverage is not counted."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    return {**inherited, "PYTHONPATH": str(site), "TRAINVITALS_DIR": str(home)}


def test_it_holds_what_the_folders_hold(unpacked: Path) -> None:
    """Every file of the three roots and of the example, no test, and no global `server` module."""
    wanted = {
        "trainvitals": ROOT / "client_hook/trainvitals",
        "trainvitals_server": ROOT / "server/trainvitals_server",
        "trainvitals_web": ROOT / "web/trainvitals_web",
        "trainvitals_examples/wavessm": ROOT / "examples/wavessm",
    }
    for package, source in wanted.items():
        files = {p.relative_to(source) for p in source.rglob("*") if p.is_file() and "__pycache__" not in p.parts}
        assert {p.relative_to(unpacked / package) for p in (unpacked / package).rglob("*") if p.is_file()} == files
    top = {path.name for path in unpacked.iterdir() if not path.name.endswith(".dist-info")}
    assert top == {"trainvitals", "trainvitals_server", "trainvitals_web", "trainvitals_examples"}


def test_it_serves_the_page(unpacked: Path, private_home: Path) -> None:
    """From where it was installed, not from the checkout."""
    code = "import trainvitals_server, trainvitals_web; print(trainvitals_server.__file__, trainvitals_web.__file__)"
    env = environment(unpacked, private_home)
    where = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout
    assert where.count(str(unpacked)) == 2
    serve = [sys.executable, "-m", "trainvitals_server.cli", "serve", "--port", "0"]
    with child(serve, env=env, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            link = next(word for line in process.stdout for word in line.split() if "/signin" in word)
            with httpx.Client(follow_redirects=True, trust_env=False) as browser:
                page = browser.get(link)
                assert page.status_code == 200
                assert "<title>" in page.text
                assert browser.get(page.url.join("/static/main.js")).status_code == 200
        finally:
            process.terminate()
            process.wait(60)


def test_the_example_runs_from_it(unpacked: Path, private_home: Path, tmp_path: Path) -> None:
    """As a module of the installed package."""
    train = [sys.executable, "-m", "trainvitals_examples.wavessm.train", "--iters", "2", "--bad_steps", "none"]
    started = time.monotonic()
    done = subprocess.run(
        [*train, "--model_file", str(tmp_path / "x.pth")],
        env=environment(unpacked, private_home),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, (done.stderr, time.monotonic() - started)
    assert (tmp_path / "x.pth").exists()
