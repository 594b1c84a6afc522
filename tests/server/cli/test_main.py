"""The entry: verbs by their files, help, errors of one line, and what an import costs."""

import subprocess
import sys

import pytest

from trainvitals_server.cli import main, verbs

KNOWN = {
    *("serve", "open", "demo", "runs", "show", "tail", "alerts", "events", "sanitize", "pin", "unpin", "delete"),
    *("backup", "check", "export", "import", "replay", "query", "storage"),
}


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)


def test_help_lists_every_verb_with_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Found by their files, and read without importing them."""
    assert main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert verbs().keys() >= KNOWN
    for verb, line in verbs().items():
        assert line.endswith(".")
        assert any(shown.split()[:1] == [verb] and shown.endswith(line) for shown in lines)


@pytest.mark.parametrize("verb", sorted(KNOWN))
def test_each_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It ends well and shows the usage."""
    assert main([verb, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"usage: trainvitals {verb}")


@pytest.mark.parametrize("arguments", [["bogus"], ["client"], ["runs", "--bogus"], ["show"], ["serve", "--port", "x"]])
def test_a_wrong_call_is_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """With exit code 2; what is no verb, a module of this folder included, is not run."""
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("trainvitals: ")
    assert len(err.splitlines()) == 1


def test_no_verb_at_all_shows_the_overview(capsys: pytest.CaptureFixture[str]) -> None:
    """And is a mistake."""
    assert main([]) == 2
    assert "usage: trainvitals VERB" in capsys.readouterr().out


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    """As installed."""
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.split()[0] == "trainvitals"


def test_importing_the_command_line_costs_the_standard_library_only() -> None:
    """A shell's completion or a wrong word must not wait for Plotly or torch."""
    heavy = [
        "msgspec",
        "numpy",
        "torch",
        "httpx",
        "fastapi",
        "starlette",
        "uvicorn",
        "plotly",
        "sqlite_utils",
        "websockets",
        "platformdirs",
    ]
    code = (
        f"import sys, trainvitals_server.cli as c; c.main(['--help']); print([m for m in {heavy} if m in sys.modules])"
    )
    assert python(code).stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("missing", ["httpx", "uvicorn"])
def test_a_missing_extra_is_explained_in_one_line(missing: str) -> None:
    """As on a machine where only the hook is installed."""
    verb = {"httpx": "runs", "uvicorn": "serve"}[missing]
    call = f"from trainvitals_server.cli import main; sys.exit(main([{verb!r}]))"
    done = python(f"import sys; sys.modules[{missing!r}] = None; {call}")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"trainvitals: `trainvitals {verb}` needs {missing}, which is not installed; pip install 'trainvitals[server]'"
    ]


def test_a_reader_that_leaves_ends_it_quietly() -> None:
    """As `trainvitals --help | head -1` does."""
    code = "import sys; from trainvitals_server.cli import main; sys.exit(main(['--help']))"
    command = f'"{sys.executable}" -c "{code}" | true'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=300, check=False)
    assert done.stderr == ""


def test_python_dash_m_is_the_same_command() -> None:
    """For where the script is not on the path."""
    done = subprocess.run(
        [sys.executable, "-m", "trainvitals_server.cli", "bogus"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
