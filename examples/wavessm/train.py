"""Start the training program: `python examples/wavessm/train.py` or `python -m trainvitals_examples.wavessm.train`."""

import importlib
import sys
from pathlib import Path


def main() -> int:
    """Run the trainer of the package this file lies in; run as a mere file, it makes its folder a package first."""
    package = __spec__.parent if __spec__ else None
    if package is None:
        folder = Path(__file__).resolve().parent
        sys.path[0], package = str(folder.parent), folder.name
    return int(importlib.import_module(f"{package}.trainer").main())


if __name__ == "__main__":
    sys.exit(main())
