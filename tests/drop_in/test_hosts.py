"""What belongs to single hosts: look-alikes and kinds that are left alone, options of calls, training state, dtypes."""

import copy
import pickle

import pytest
import torch
from torch import nn

import cips3d_ext
from cips3d_ext.drop_in import _trial
from tests.drop_in.cases import CASES, MANY, SIDE, B, I, N, O, W
from tests.drop_in.checks import CountedOps, accelerated, tensors_of
from tests.drop_in.hosts import cips, cips3d, epigraf, pigan, stylegan, stylenerf, stylesdf, volumegan


def with_gain(layer: nn.Module, gain: float) -> nn.Module:
    layer.act_gain = gain
    return layer


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (cips3d.generator_film_layer(), "computes something else"),
        (cips3d.SinStyleMod(I, O, 3, use_group_conv=True), "only 1x1"),
        (cips.ModulatedConv2d(I, O, 3, W), "only 1x1"),
        (cips.ModulatedConv2d(I, O, 1, W, upsample=True), "changes the resolution"),
        (cips.with_style_returned(), "returns tuple, not Tensor"),
        (stylegan.SynthesisLayer(I, O, W, SIDE, 3), "only 1x1"),
        (stylegan.SynthesisLayer(I, O, W, SIDE, 1, up=2), "changes the resolution"),
        (stylegan.ToRGBLayer(I, O, W, kernel_size=3), "only 1x1"),
        (with_gain(stylegan.SynthesisLayer(I, O, W, SIDE, 1), 2.0), "its gain is 2, which lrelu has not"),
        (stylenerf.Style2Layer(I, O, 0), "no style"),
        (stylenerf.ToRGBLayer(I, O, 0), "no style"),
        (stylenerf.SynthesisLayer(I, O, W, SIDE, kernel_size=3), "only 1x1"),
        (volumegan.ModulateConvLayer(I, O, SIDE, W, scale_factor=2), "upsamples"),
        (epigraf.SynthesisLayer(I, O, W, fmm_rank=3), "matrix for each sample"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else value.replace(" ", "-"),
)
def test_left_alone_with_a_reason(layer, reason):
    report = cips3d_ext.accelerate(layer)
    assert not report.swapped and reason in report.skipped[0].reason
    with pytest.raises(ValueError, match="strict=True"):
        cips3d_ext.accelerate(layer, strict=True)


def test_a_trial_runs_our_op_also_where_a_call_of_its_size_would_not():
    """On a CPU few colours of many channels run the host's product; on a GPU they would have run another formula."""
    report = cips3d_ext.accelerate(cips.BoundedToRGB(32, 3, W))
    assert "computes something else" in {entry.name: entry.reason for entry in report.skipped}[""]


@pytest.mark.parametrize(
    "layer",
    [pigan.FiLMLayer(256, 256), cips3d.FiLMLayer(512, 256, 512), stylesdf.FiLMSiren(256, 256, 256)],
    ids=lambda layer: type(layer).__module__.rsplit(".", 1)[-1],
)
def test_sines_of_published_widths_pass_their_trial_by_far(layer, monkeypatch):
    """Whatever the random numbers are: with a fifth of the tolerance."""
    monkeypatch.setattr(_trial, "_TOLERANCE", _trial._TOLERANCE / 5)
    for seed in range(3):
        monkeypatch.setattr(_trial, "_SEED", seed)
        monkeypatch.setattr(_trial, "_INPUT_SEED", 10 + seed)
        cips3d_ext.accelerate(layer, strict=True)
        cips3d_ext.undo(layer)


def calls(layer: nn.Module, *args, **kwargs) -> int:
    """Our ops' calls; the result is the host's."""
    expected = None
    host = copy.deepcopy(layer)
    cips3d_ext.undo(host)
    for one in (host, layer):
        torch.manual_seed(3)
        with CountedOps() as counted:
            result = tensors_of(one(*args, **kwargs))
        if expected is not None:
            for seen, wanted in zip(result, expected, strict=True):
                assert seen.dtype == wanted.dtype
                torch.testing.assert_close(seen, wanted, rtol=1e-4, atol=1e-4)
        expected = result
    return sum(counted.calls.values())


def picture(*shape: int) -> torch.Tensor:
    return torch.randn(*(shape or (B, I, SIDE, SIDE)))


def test_few_colours_and_few_points_run_our_op_where_gradients_follow():
    """In forward alone the host's product is as fast on a CPU or faster."""
    for layer in (cips.ToRGB(I, 2, W), stylegan.ToRGBLayer(I, 2, W), stylenerf.ToRGBLayer(I, 2, W)):
        ours = accelerated(layer)
        assert calls(ours, picture(), torch.randn(B, W)) == 1
        with torch.no_grad():
            assert calls(ours, picture(), torch.randn(B, W)) == 0
    layer = accelerated(epigraf.SynthesisLayer(I, O, W))
    with torch.no_grad():
        assert [calls(layer, torch.randn(1, I, n), torch.randn(1, W)) for n in (255, 256)] == [0, 1]
        assert calls(layer, torch.randn(2, I, 3), torch.randn(2, W)) == 1


def test_few_points_of_few_samples_run_the_hosts_product_on_a_cpu():
    """Making a weight for each of few samples takes less time than packing one."""
    for layer, shape in (
        (cips3d.SinStyleMod(I, O), (B, N, I)),
        (cips3d.SinStyleMod(I, O, use_group_conv=True), (B, I, SIDE, SIDE)),
    ):
        for samples, expected in ((B, 0), (MANY, 1)):
            x = torch.randn(samples, *shape[1:])
            assert calls(accelerated(layer), x, torch.randn(samples, I)) == expected
    assert calls(accelerated(layer), torch.randn(1, I, 32, 32), torch.randn(1, I)) == 1


def test_unused_inputs_of_a_forward_are_the_hosts():
    styled = accelerated(cips.StyledConv(I, O, 1, W))
    w = torch.randn(B, W)
    assert calls(styled, picture(), w, noise=picture(1, 1, SIDE, SIDE)) == 1
    assert calls(styled, picture(), w, noise=picture(1, 1, 1, 1)) == 1  # of the convolution inside alone
    layer = accelerated(stylenerf.SynthesisLayer(I, O, W, SIDE))
    assert calls(layer, picture(), w, noise_mode="none", more="") == 1
    assert calls(layer, picture(), w, noise_mode="random", skip_up=True) == 1
    assert calls(layer, picture(), w, input_noise=picture(1, 1, SIDE, SIDE)) == 0


def test_views_are_no_obstacle():
    """Inputs with other strides, as of channels-last networks and slices."""
    conv, w = accelerated(stylegan.SynthesisLayer(I, O, W, SIDE, 1)), torch.randn(B, 2 * W)[:, ::2]
    assert calls(conv, picture().to(memory_format=torch.channels_last), w) == 1
    assert calls(conv, picture(B, SIDE, SIDE, I).permute(0, 3, 1, 2), w) == 1
    assert conv(picture().to(memory_format=torch.channels_last), w).is_contiguous()


@pytest.mark.parametrize("training", [False, True])
def test_running_magnitude_moves_in_training_alone(training):
    host = stylenerf.Style2Layer(I, O, W, magnitude_ema_beta=0.9).train(training)
    ours = accelerated(host)
    arguments = picture(), torch.randn(B, W)
    for layer in (host, ours):
        layer(*arguments)
    assert torch.equal(ours.w_avg, host.w_avg) and (host.w_avg.item() != 1) is training


def test_volumegan_takes_codes_of_the_style_space():
    layer = volumegan.ModulateConvLayer(I, O, SIDE, W)
    cips3d_ext.accelerate(layer)
    layer.space_of_latent = "Y"
    assert calls(layer, picture(), torch.randn(B, I + 3)) == 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_pictures_with_float32_weights(dtype):
    """As EG3D's blocks with use_fp16: the layer's parameters stay float32."""
    host = stylegan.SynthesisLayer(I, O, W, SIDE, 1, conv_clamp=256)
    ours, x, w = accelerated(host), picture(), torch.randn(B, W)
    exact = host(x, w, noise_mode="const")
    result = ours(x.to(dtype), w, noise_mode="const")
    assert result.dtype == dtype
    assert (result.float() - exact).abs().max() < 8 * torch.finfo(dtype).eps * exact.abs().max()


def test_persistent_classes_keep_their_pickles_and_parents_copy_accelerated():
    """A whole model of such classes: deep copies keep the layers accelerated, pickles are built by the host's way."""
    parent = nn.ModuleDict({"rgb": stylegan.ToRGBLayer(I, O, W)})
    plain = pickle.dumps(parent)
    cips3d_ext.accelerate(parent)
    assert type(copy.deepcopy(parent)["rgb"]) is type(parent["rgb"])
    assert pickle.dumps(parent) == plain
    assert parent["rgb"]._init_args == (I, O, W)


def test_dead_parameters_keep_no_gradient():
    layer = accelerated(cips3d.SinStyleMod(I, O))
    layer(torch.randn(B, 3, I), torch.randn(B, I)).sum().backward()
    assert layer.norm.weight.grad is None and layer.weight.grad is not None


@pytest.mark.parametrize(
    "case", [c for c in CASES if c.name in ("EG3D-rgb", "CIPS-styled", "StyleNeRF-style2")], ids=str
)
def test_compiles(case):
    layer = accelerated(case.layer().eval())
    arguments = [a.detach() for a in case.arguments()]
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.manual_seed(3)
    expected = layer(*arguments)
    torch.manual_seed(3)
    torch.testing.assert_close(compiled(*arguments), expected)
