"""The network has the user's layers, and its spectral branch breaks them as the user saw."""

import pytest
import torch

from wavessm.data import TrainingBatches
from wavessm.network import GatedScan, SpectralTransform, WaveSSM
from wavessm.photographs import load_photographs

FIRST_KEY = "refinement_ffc.scales.0.ffc.local_conv.1.running_mean"
FIRST_LAYER = "refinement_ffc.scales.0.ffc.spectral.mix.1"
BREAKING = {
    "refinement_ffc.scales.0.ffc.local_conv.1",
    "refinement_ffc.scales.0.ffc.spectral.mix.1",
    "refinement_ffc.scales.1.ffc.local_conv.1",
    "refinement_ffc.scales.1.ffc.spectral.mix.1",
    "decoder.1",
}


def norms(model):
    return {name: module for name, module in model.named_modules() if isinstance(module, torch.nn.BatchNorm2d)}


def batch(bad_steps=(), step=1):
    return TrainingBatches(load_photographs().training, batch_size=2, seed=0, bad_steps=bad_steps)[step]


def forward(model, degraded):
    with torch.autocast("cpu", dtype=torch.float16):
        return model(degraded)


def test_the_key_of_the_users_message_is_the_first_statistic_of_the_state_dict():
    """A guard that reads the state dict from the top names the layer the user was told of."""
    keys = [key for key in WaveSSM().state_dict() if "running" in key]
    assert keys[0] == FIRST_KEY


def test_the_spectral_norm_comes_before_the_local_one_in_forward_order():
    """Registration order and forward order differ, as they do in the user's network."""
    torch.manual_seed(0)
    model, order = WaveSSM(), []
    for name, module in norms(model).items():
        module.register_forward_hook(lambda *_, name=name: order.append(name))
    forward(model, batch().degraded)
    assert order[:2] == [FIRST_LAYER, FIRST_KEY.rsplit(".", 1)[0]]
    assert set(order) == BREAKING


@pytest.mark.parametrize("size", [(64, 64), (32, 96)])
def test_the_untrained_network_returns_its_input(size):
    """Any improvement in PSNR is learned."""
    degraded = torch.rand(2, 3, *size)
    assert torch.equal(forward(WaveSSM(), degraded), degraded)


def test_an_ordinary_batch_has_headroom_and_leaves_statistics_finite():
    """The largest value the spectral convolution takes is 10 to 100 times below the largest of float16."""
    torch.manual_seed(0)
    model, peaks = WaveSSM(), []
    conv = model.refinement_ffc.scales[0].ffc.spectral.mix[0]
    conv.register_forward_pre_hook(lambda _, inputs: peaks.append(inputs[0].detach().abs().max().item()))
    forward(model, batch().degraded)
    assert 10 < 65504 / peaks[0] < 100
    assert all(norm.running_var.isfinite().all() for norm in norms(model).values())


def test_an_overexposed_frame_breaks_every_norm_by_overflow_alone():
    """The frame is finite in float32; the cast to float16 before the spectral convolution is where it overflows."""
    torch.manual_seed(0)
    model = WaveSSM()
    degraded = batch(bad_steps=[1]).degraded
    assert degraded.isfinite().all()
    assert degraded.max() < 65504
    forward(model, degraded)
    assert {name for name, norm in norms(model).items() if not norm.running_mean.isfinite().all()} == BREAKING
    assert all(parameter.isfinite().all() for parameter in model.parameters())


def test_the_same_frame_is_harmless_in_float32():
    """What breaks the run is the precision, not the picture."""
    torch.manual_seed(0)
    model = WaveSSM()
    model(batch(bad_steps=[1]).degraded)
    assert all(norm.running_var.isfinite().all() for norm in norms(model).values())


def test_the_spectral_transform_leaves_float16_for_its_transforms():
    """Half precision goes in, float32 comes out, of the same shape."""
    out = forward(SpectralTransform(4), torch.rand(2, 4, 8, 10).half())
    assert (out.dtype, out.shape) == (torch.float32, (2, 4, 8, 10))


def test_the_scan_is_the_recurrence_it_claims_to_be():
    """Its matrix form equals h[t] = a h[t-1] + (1 - a) x[t], along rows and along columns."""
    torch.manual_seed(0)
    scan, x = GatedScan(2), torch.rand(1, 2, 3, 5)
    decay = torch.sigmoid(scan.decay)

    def recur(sequence):
        state, states = torch.zeros_like(sequence[..., 0]), []
        for t in range(sequence.shape[-1]):
            state = decay[None, :, None] * state + (1 - decay)[None, :, None] * sequence[..., t]
            states.append(state)
        return torch.stack(states, dim=-1)

    columns = recur(x.transpose(2, 3)).transpose(2, 3)
    expected = x + torch.sigmoid(scan.gate(x)) * (recur(x) + columns - 2 * x)
    torch.testing.assert_close(scan(x), expected)
