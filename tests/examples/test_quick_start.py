"""The three steps of the user's own quick start, with our commands, on a checkpoint that a really broken run left."""

import os
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
KEY = "refinement_ffc.scales.0.ffc.local_conv.1.running_mean"
TRAIN = [sys.executable, str(ROOT / "examples/wavessm/train.py"), "--batch_size", "2", "--val_every", "4"]
DIAGNOSE = [sys.executable, "-m", "trainvitals_server.cli", "diagnose"]


@pytest.fixture(scope="module")
def corrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `checkpoints/wavessm_x.pth` as it is after 8 iterations, of which the 6th overflowed, without any
    defence: what the guard of our own save would not write under that name."""
    folder = tmp_path_factory.mktemp("quick")
    done = call(folder, *TRAIN, "--iters", "8", "--bad_steps", "6", "--mode", "disabled")
    assert "0 valid batches" in done.stdout
    saved = folder / "checkpoints/wavessm_x.pth"
    saved.with_name("wavessm_x.pth.unhealthy").replace(saved)
    return folder


@pytest.fixture
def folder(corrupted: Path, tmp_path: Path) -> Path:
    """A copy of it for one test, with images to train on."""
    shutil.copytree(corrupted / "checkpoints", tmp_path / "checkpoints")
    (tmp_path / "DataSetFiles/Main_Dataset").mkdir(parents=True)
    for name in ("astronaut.png", "coffee.png", "chelsea.png"):
        shutil.copy(str(files("skimage.data") / name), tmp_path / "DataSetFiles/Main_Dataset")
    return tmp_path


def call(folder: Path, *command: str, code: int = 0) -> "subprocess.CompletedProcess[str]":
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TRAINVITALS_")}
    environment = {**inherited, "TRAINVITALS_DIR": str(folder / "home")}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


def test_diagnose_fix_resume(folder: Path) -> None:
    """Diagnose, fix, resume with the fixed script: validation works and a checkpoint is saved again."""
    told = call(folder, *DIAGNOSE, "./checkpoints/wavessm_x.pth", code=1).stdout
    assert KEY in told
    assert "Statistics corrupted, weights OK: fixable" in told
    told = call(folder, *DIAGNOSE, "./checkpoints/wavessm_x.pth", "--fix").stdout
    assert f"[SANITIZE] Resetting corrupted running_mean: {KEY}" in told
    fixed = "./checkpoints/wavessm_x_FIXED.pth"
    call(folder, *DIAGNOSE, fixed)
    data = ["--data_path", "./DataSetFiles/Main_Dataset", "--mode", "offline"]
    told = call(folder, *TRAIN, "--resume", "--model_file", fixed, *data, "--iters", "12", "--bad_steps", "none").stdout
    assert "at iter 8" in told
    assert "[Iter 12] Val Loss: " in told
    assert "PSNR: " in told
    assert "SSIM: " in told
    assert "Checkpoint saved: checkpoints/wavessm_x_FIXED.pth" in told
    assert "corrupted stats" not in told
    call(folder, *DIAGNOSE, fixed)


def test_the_corrupted_one_can_be_resumed_from_too(folder: Path) -> None:
    """It is seen and repaired right after loading, and the repair is recorded."""
    resume = ["--resume", "--model_file", "./checkpoints/wavessm_x.pth", "--mode", "offline"]
    told = call(folder, *TRAIN, *resume, "--iters", "12", "--bad_steps", "none").stdout
    assert "Performing post-load model health check... Found " in told
    assert f"[SANITIZE] Resetting corrupted running_mean: {KEY}" in told
    assert "[Pre-validation sanitization at iter 12] Model health OK" in told
    assert "[Iter 12] Val Loss: " in told
    call(folder, *DIAGNOSE, "./checkpoints/wavessm_x.pth")
