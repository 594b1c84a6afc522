"""Image quality in validation, where the user gives it: PSNR and SSIM."""

from typing import Any

from trainvitals_server.panels.figures import figure, line

PLACE = 32


def panel() -> dict[str, Any]:
    """PSNR on the left axis; SSIM on one of its own, from 0 to 1, labelled inside on the right."""
    right = {
        "overlaying": "y",
        "side": "right",
        "range": [0, 1.02],
        "showgrid": False,
        "zeroline": False,
        "ticklabelposition": "inside",
        "nticks": 4,
    }
    traces = [line("PSNR", unit="dB"), line("SSIM", yaxis="y2")]
    return {
        "id": "validation_quality",
        "title": "Validation quality",
        "help": "PSNR in dB (left) and SSIM (right), as given to the validation. A repaired model should come back to "
        "where it was.",
        "scope": "events",
        "kind": "lines",
        "figure": figure(traces, y="PSNR (dB)", yaxis2=right),
        "feeds": [
            {"trace": 0, "event": "validation", "field": "metrics.psnr"},
            {"trace": 1, "event": "validation", "field": "metrics.ssim"},
        ],
    }
