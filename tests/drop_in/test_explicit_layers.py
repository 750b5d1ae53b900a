"""The layers of `cips3d_ext.drop_in`: the hosts' constructors, keys and forwards, their numbers through our ops."""

import pytest
import torch

from cips3d_ext import drop_in
from tests.drop_in.cases import SIDE, B, I, N, O, W
from tests.drop_in.checks import CountedOps
from tests.drop_in.hosts import cips, cips3d, pigan, stylegan, stylesdf

POINTS, PICTURES, CODES, FILMS = (B, N, I), (B, I, SIDE, SIDE), (B, W), (B, O)


@pytest.mark.parametrize(
    ("ours", "host", "args", "shapes"),
    [
        (drop_in.pigan.FiLMLayer, pigan.FiLMLayer, (I, O), (POINTS, FILMS, FILMS)),
        (drop_in.cips3d.FiLMLayer, cips3d.FiLMLayer, (I, O, W), (POINTS, CODES)),
        (drop_in.cips3d.FiLMLayer, cips3d.FiLMLayer, (I, O, W, False), ((B, I), (B, 2 * O))),
        (drop_in.cips3d.FiLMLayer_PreSin, cips3d.FiLMLayer_PreSin, (I, O, W), (POINTS, CODES)),
        (drop_in.cips3d.SinStyleMod, cips3d.SinStyleMod, (I, O, 1, W, True), (POINTS, CODES)),
        (drop_in.cips3d.SinStyleMod, cips3d.SinStyleMod, (I, O), ((B, I), (B, I))),
        (drop_in.cips3d.SinStyleMod, cips3d.SinStyleMod, (I, O, 1, None, False, True, True), (PICTURES, (B, I))),
        (drop_in.cips3d.SinStyleMod, cips3d.SinStyleMod, (I, O, 1, W, True, False, True), (POINTS, CODES)),
        (drop_in.cips3d.Modulated_FC_Conv, cips3d.Modulated_FC_Conv, (I, O, 1, W, True), (POINTS, CODES)),
        (drop_in.cips3d.Modulated_FC_Conv, cips3d.Modulated_FC_Conv, (I, O), ((B, I), (B, I))),
        (drop_in.stylesdf.FiLMSiren, stylesdf.FiLMSiren, (I, W, W), ((B, 2, 3, N, I), CODES)),
        (drop_in.stylegan.ToRGBLayer, stylegan.ToRGBLayer, (I, O, W, 1, 0.5), (PICTURES, CODES)),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_is_the_host_by_our_op(ours, host, args, shapes):
    ours, host = ours(*args), host(*args)
    ours.load_state_dict(host.state_dict(), strict=True)
    assert list(ours.state_dict()) == list(host.state_dict())
    inputs = [torch.randn(shape) for shape in shapes]
    with CountedOps() as counted:
        result = ours(*inputs)
    assert sum(counted.calls.values()) == 1
    torch.testing.assert_close(result, host(*inputs), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("demodulate", [False, True])
def test_modulated_conv_of_a_kernel_of_1(demodulate):
    ours, host = drop_in.cips.ModulatedConv1x1(I, O, W, demodulate), cips.ModulatedConv2d(I, O, 1, W, demodulate)
    ours.load_state_dict(host.state_dict(), strict=True)
    inputs = torch.randn(PICTURES), torch.randn(CODES)
    torch.testing.assert_close(ours(*inputs), host(*inputs), rtol=1e-4, atol=1e-4)


def test_initial_values_are_the_hosts():
    """Bounds and deviations, as their papers and code have them."""
    torch.manual_seed(0)
    film = drop_in.cips3d.FiLMLayer(6, 500, 64)
    assert film.linear.weight.abs().max() <= 1 / 25 and film.gain_fc.weight.abs().max() <= 0.25 / 8
    assert drop_in.cips3d.FiLMLayer_PreSin(9, 500, 4).linear.weight.abs().max() <= 1
    assert (drop_in.cips3d.FiLMLayer_PreSin(9, 5, 4).gain_fc.bias == 1).all()
    siren = drop_in.stylesdf.FiLMSiren(3, 500, 64, is_first=True)
    assert (
        siren.weight.abs().max() <= 1 / 3
        and abs(siren.gamma.weight.std().item() - 0.25 * (2 / 1.04 / 64) ** 0.5) < 2e-3
    )
    assert (drop_in.cips.ModulatedConv1x1(4, 5, 6).modulation.bias == 1).all()


def test_modulated_fc_conv_with_a_scale_of_its_own():
    options = {"style_dim": W, "use_style_fc": True, "scale": 0.5}
    ours, host = drop_in.cips3d.Modulated_FC_Conv(I, O, **options), cips3d.Modulated_FC_Conv(I, O, **options)
    host.modulation.scale = 0.5  # the host's map has it, too
    ours.load_state_dict(host.state_dict())
    inputs = torch.randn(POINTS), torch.randn(CODES)
    torch.testing.assert_close(ours(*inputs), host(*inputs), rtol=1e-4, atol=1e-4)


def test_modulated_fc_conv_loads_the_weights_of_grouped_convolutions():
    grouped, plain = (drop_in.cips3d.Modulated_FC_Conv(I, O, use_group_conv=g) for g in (True, False))
    network = torch.nn.ModuleList([plain])
    network.load_state_dict(torch.nn.ModuleList([grouped]).state_dict(), strict=True)
    inputs = torch.randn(POINTS), torch.randn(B, I)
    torch.testing.assert_close(plain(*inputs), grouped(*inputs))
    torch.testing.assert_close(plain(*inputs), grouped(*inputs, force_bmm=True))


def test_larger_kernels_are_refused():
    with pytest.raises(ValueError, match="kernel_size must be 1"):
        drop_in.cips3d.SinStyleMod(I, O, 3)
    with pytest.raises(ValueError, match="use_style_fc needs style_dim"):
        drop_in.cips3d.Modulated_FC_Conv(I, O, use_style_fc=True)
    with pytest.raises(ValueError, match="kernel_size must be 1"):
        drop_in.stylegan.ToRGBLayer(I, O, W, 3)
