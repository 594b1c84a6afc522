"""The comparison's table."""

from wavessm.three_ways import compare


def test_the_table_shows_psnr_or_how_few_batches_were_valid():
    """One row per validation, one column per way."""
    good = {"step": 8, "valid": 6, "failed": 0, "total": 6, "loss": 0.1, "psnr": 25.128, "ssim": 0.5}
    bad = {**good, "valid": 0, "failed": 6, "loss": None, "psnr": None, "ssim": None}
    lines = compare({"hook off": [bad], "automatic": [good]}).splitlines()
    assert lines[0].split() == ["step", "hook", "off", "automatic"]
    assert lines[1].split() == ["8", "0", "of", "6", "valid", "25.13"]
