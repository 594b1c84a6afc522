"""The example as an importable package, `wavessm`, from this checkout."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "examples"))


@pytest.fixture
def arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., argparse.Namespace]:
    """The example's arguments, with its checkpoint and everything of the hook in a folder of the test's own."""
    from wavessm.arguments import parse_arguments

    monkeypatch.setenv("TRAINVITALS_DIR", str(tmp_path / "home"))
    for name in ("SERVER", "TOKEN", "MODE", "RUN_ID"):
        monkeypatch.delenv(f"TRAINVITALS_{name}", raising=False)
    return lambda *given: parse_arguments(["--model_file", str(tmp_path / "wavessm_x.pth"), *given])
