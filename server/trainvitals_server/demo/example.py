"""The wavessm example as a child: the checkout's where there is one, else the one installed with the package."""

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import trainvitals_server
from trainvitals_server.cli.failure import Failure
from trainvitals_server.demo.child import Child

NEEDED = ("torch", "skimage")


def check_installed() -> None:
    """Raises `Failure` where something the example needs is missing; imports none of it."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise Failure(f"the example needs {' and '.join(missing)}; pip install 'trainvitals[demo]'")


def start_example(directory: Path, run: str, options: Sequence[str], on_line: Callable[[str], None]) -> Child:
    """Start training as run `run`, reporting to the server announced in `directory`, where the checkpoints go too."""
    model_file = directory / "checkpoints" / run / "wavessm_x.pth"
    variables = {"TRAINVITALS_DIR": str(directory), "TRAINVITALS_RUN_ID": run}
    return Child([*program(), "--model_file", str(model_file), *options], variables, on_line)


def program() -> list[str]:
    """What to give to the interpreter to run the example."""
    checkout = Path(trainvitals_server.__file__).resolve().parents[2] / "examples" / "wavessm" / "train.py"
    return [str(checkout)] if checkout.is_file() else ["-m", "trainvitals_examples.wavessm.train"]
