"""Photographs, degradation and batches: real images, no download, the same for the same seed."""

import numpy as np
import pytest
import skimage.io
import torch

from wavessm.data import CLIMB_GAIN, CLIMB_STEPS, OVEREXPOSED, TrainingBatches, ValidationBatches, degrade, gain_at
from wavessm.metrics import score
from wavessm.photographs import CROP, WHITE, DataError, load_photographs


def batches(seed=0, bad_steps=()):
    return TrainingBatches(load_photographs().training, batch_size=3, seed=seed, bad_steps=bad_steps)


def test_the_photographs_lie_in_the_package(monkeypatch):
    """They are read where no network can be reached."""

    def refuse(*_):
        raise OSError("no network")

    monkeypatch.setattr("socket.socket.connect", refuse)
    split = load_photographs()
    assert (len(split.training), len(split.validation)) == (4, 2)
    for image in [*split.training, *split.validation]:
        assert image.dtype == np.float32
        assert 0 <= image.min() < image.max() <= WHITE


def test_a_batch_is_a_function_of_seed_and_step():
    """Asked for again, in another order, by another object: the same pixels. Other steps and seeds: others."""
    one, two = batches(), batches()
    assert torch.equal(two[5].degraded, one[5].degraded)
    assert torch.equal(one[5].clean, one[5].clean)
    assert not torch.equal(one[5].clean, one[6].clean)
    assert not torch.equal(one[5].clean, batches(seed=1)[5].clean)


def test_a_bad_step_changes_the_brightest_frame_only():
    """The pictures are those of the undisturbed run; one of them is eight stops brighter."""
    usual, bright = batches()[7], batches(bad_steps=[7])[7]
    gains = torch.ones(3)
    gains[usual.clean.mean((1, 2, 3)).argmax()] = OVEREXPOSED
    torch.testing.assert_close(bright.clean, usual.clean * gains[:, None, None, None])
    assert bright.degraded.isfinite().all()


def test_the_exposure_climbs_before_a_bad_step():
    """It is normal until the climb, then rises without a fall, then jumps, then is normal again."""
    gains = [gain_at(step, [100, 300]) for step in range(60, 110)]
    climb = gains[100 - CLIMB_STEPS - 60 : 40]
    assert gains[: 100 - CLIMB_STEPS - 60 + 1] == [1.0] * (100 - CLIMB_STEPS - 60 + 1)
    assert climb == sorted(climb)
    assert 0.8 * CLIMB_GAIN < climb[-1] < CLIMB_GAIN
    assert gains[40] == OVEREXPOSED
    assert gains[41:] == [1.0] * 9


def test_degradation_makes_an_image_worse_and_keeps_its_brightness():
    """PSNR of the degraded input is what the network has to beat."""
    clean = load_photographs().validation[0][:CROP, :CROP]
    worse = degrade(clean, np.random.default_rng(0))
    to_tensor = lambda image: torch.from_numpy(image.transpose(2, 0, 1).copy())[None]  # noqa: E731
    assert 15 < score(to_tensor(worse), to_tensor(clean)).psnr < 30
    assert abs(worse.mean() - clean.mean()) < 0.02 * WHITE


def test_validation_crops_are_the_same_every_time():
    """And all images of the validation take part."""
    validation = ValidationBatches(load_photographs().validation, batch_size=2, count=3)
    first, again = list(validation), list(validation)
    assert len(first) == len(validation) == 3
    assert all(torch.equal(a.degraded, b.degraded) for a, b in zip(first, again, strict=True))


def write_images(folder, count, size=CROP):
    for index in range(count):
        pixels = np.random.default_rng(index).integers(0, 256, (size, size, 3), dtype=np.uint8)
        skimage.io.imsave(folder / f"{index}.png", pixels, check_contrast=False)


def test_a_users_folder_is_split_by_image(tmp_path):
    """Every fifth image is for validation, no image serves both purposes."""
    write_images(tmp_path, 6)
    split = load_photographs(tmp_path)
    assert (len(split.training), len(split.validation)) == (4, 2)
    assert not any(np.array_equal(a, b) for a in split.training for b in split.validation)


def test_grey_images_become_three_channels(tmp_path):
    """A folder may hold both kinds."""
    write_images(tmp_path, 1)
    skimage.io.imsave(tmp_path / "grey.png", np.full((CROP, CROP), 128, np.uint8), check_contrast=False)
    assert {image.shape for images in load_photographs(tmp_path) for image in images} == {(CROP, CROP, 3)}


@pytest.mark.parametrize(
    ("count", "size", "message"), [(1, CROP, "at least 2 images"), (2, CROP - 1, "at least 64 x 64 pixels")]
)
def test_unusable_folders_are_refused_in_one_line(tmp_path, count, size, message):
    """The line says what was expected and what came."""
    write_images(tmp_path, count, size)
    with pytest.raises(DataError, match=message) as error:
        load_photographs(tmp_path)
    assert "\n" not in str(error.value)


def test_a_missing_folder_is_refused(tmp_path):
    """By name."""
    with pytest.raises(DataError, match="expected a folder of images"):
        load_photographs(tmp_path / "nowhere")
