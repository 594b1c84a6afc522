"""More stable settings for layers that keep running statistics."""

from torch import nn

from trainvitals.layers import named_norms


def configure_bn_for_stability(model: nn.Module, momentum: float = 0.01, eps: float = 1e-3) -> int:
    """Set `momentum` and `eps` of every layer with running statistics; returns the number of layers.

    A lower momentum lets one odd batch move the statistics less (0.01 instead of 0.1: a tenth); a higher eps keeps tiny
    variances from blowing activations up. Values as in the user's fix 2.
    """
    layers = [norm.module for norm in named_norms({"": model}) if hasattr(norm.module, "momentum")]
    for layer in layers:
        layer.momentum = momentum  # type: ignore[assignment]  # nn.Module types attributes as tensors
        layer.eps = eps  # type: ignore[assignment]
    return len(layers)
