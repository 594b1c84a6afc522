"""The README cannot drift: its commands exist, its code runs, its pictures are there, and it stays short."""

import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from loops import small_net

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_it_is_short() -> None:
    """At most 150 lines."""
    assert len(README.splitlines()) <= 150


def test_every_verb_it_names_has_help() -> None:
    """`trainvitals VERB`, wherever it is written."""
    verbs = set(re.findall(r"(?:`|^    )trainvitals ([a-z]+)", README, re.M))
    assert {"serve", "demo", "sanitize"} <= verbs
    for verb in verbs:
        done = subprocess.run(
            [sys.executable, "-m", "trainvitals_server.cli", verb, "--help"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{verb}: {done.stderr}"


def test_every_make_target_it_names_exists() -> None:
    """`make demo`, `make test`, ..."""
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"make ([a-z]+)", README)):
        assert re.search(rf"^{target}:", makefile, re.M), target


def test_every_file_it_links_exists() -> None:
    """Pictures and other pages."""
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / link).exists(), link


def test_its_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Each block as it stands, around a real model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRAINVITALS_MODE", "offline")
    first, second = re.findall(r"```python\n(.*?)```", README, re.S)
    model = small_net()
    x = torch.rand(1, 3, 8, 8)
    names = {
        "model": model,
        "optimizer": torch.optim.SGD(model.parameters(), 0.1),
        "scaler": torch.amp.GradScaler("cpu"),
        "loss": torch.tensor(1.0),
        "psnr": 30.0,
        "criterion": torch.nn.functional.mse_loss,
        "loader": [SimpleNamespace(x=x, y=x)] * 2,
    }
    exec(first, names)  # noqa: S102 - the README's own code
    with torch.no_grad():
        exec(second, names)  # noqa: S102
    names["watch"].close()  # type: ignore[attr-defined]
    assert capsys.readouterr().out.startswith("2 0 ")
    assert (tmp_path / "model_best.pth").exists()
