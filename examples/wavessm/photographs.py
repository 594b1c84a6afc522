"""The photographs of a run, read and split by image: those scikit-image ships in its package, or a folder of one's own.

An image is float32 [H, W, 3], scene-linear (the display's gamma undone), with diffuse white at `WHITE`.
"""

from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import numpy as np
import skimage.io
from numpy.typing import NDArray

Image = NDArray[np.float32]

WHITE = 8.0  # 14-bit raw values divided by 2048, which keeps features of the order of 1
GAMMA = 2.2
CROP = 64

# Inside the package itself: reading them needs no download.
TRAINING = ("astronaut.png", "coffee.png", "ihc.png", "motorcycle_left.png")
VALIDATION = ("chelsea.png", "rocket.jpg")
SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff"}


class DataError(ValueError):
    """The images asked for cannot be trained on."""


class Split(NamedTuple):
    """Whole images for each purpose: no image serves both."""

    training: list[Image]
    validation: list[Image]


def load_photographs(folder: Path | None = None) -> Split:
    """The shipped photographs, or those of `folder`, of which every fifth (at least one) is for validation.

    Raises `DataError` where the folder holds fewer than two images, or one smaller than `CROP` pixels.
    """
    if folder is None:
        shipped = Path(str(files("skimage.data")))
        return Split([_read(shipped / name) for name in TRAINING], [_read(shipped / name) for name in VALIDATION])
    paths = _find(folder)
    validation = paths[::5]
    return Split([_read(path) for path in paths if path not in validation], [_read(path) for path in validation])


def _find(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f"expected a folder of images, got {str(folder)!r}")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if len(paths) < 2:
        raise DataError(f"expected at least 2 images in {str(folder)!r}, found {len(paths)}")
    return paths


def _read(path: Path) -> Image:
    pixels = np.asarray(skimage.io.imread(path))
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[:, :, None], 3, axis=2)
    if pixels.ndim != 3 or pixels.shape[2] < 3 or min(pixels.shape[:2]) < CROP:
        raise DataError(f"expected an image of at least {CROP} x {CROP} pixels, got {pixels.shape} in {str(path)!r}")
    brightest = np.iinfo(pixels.dtype).max if np.issubdtype(pixels.dtype, np.integer) else 1.0
    linear = (pixels[:, :, :3].astype(np.float64) / brightest) ** GAMMA
    return np.asarray(WHITE * linear, dtype=np.float32)
