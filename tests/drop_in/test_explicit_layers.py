"""The layers of `cips3d_ext.drop_in`: the hosts' constructors, keys and forwards, their numbers through our ops."""

import pytest
import torch

from cips3d_ext import drop_in
from tests.drop_in.cases import SIDE, B, I, N, O, W
from tests.drop_in.checks import CountedOps
from tests.drop_in.hosts import cips, cips3d, epigraf, pigan, stylegan, stylenerf, stylesdf, volumegan
from tests.drop_in.hosts import volumegan_rendering as volumegan_renderers

POINTS, PICTURES, CODES, FILMS = (B, N, I), (B, I, SIDE, SIDE), (B, W), (B, O)
SAMPLES, COLUMNS = (3 * B, I, SIDE, SIDE), (B, I, N)


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
        (drop_in.cips.LFF, cips.LFF, (O,), ((B, 2, SIDE, SIDE),)),
        (drop_in.stylesdf.FiLMSiren, stylesdf.FiLMSiren, (I, W, W), ((B, 2, 3, N, I), CODES)),
        (drop_in.stylegan.ToRGBLayer, stylegan.ToRGBLayer, (I, O, W, 1, 0.5), (PICTURES, CODES)),
        (drop_in.stylegan.SynthesisLayer, stylegan.SynthesisLayer, (I, O, W, SIDE, 1), (PICTURES, CODES)),
        (drop_in.stylegan.SynthesisLayer, stylegan.SynthesisLayer, (I, O, W, SIDE, 1, 1, False), (PICTURES, CODES)),
        (drop_in.stylenerf.Style2Layer, stylenerf.Style2Layer, (I, O, W, "relu"), (SAMPLES, CODES)),
        (drop_in.stylenerf.ToRGBLayer, stylenerf.ToRGBLayer, (I, O, W), (SAMPLES, CODES)),
        (drop_in.stylenerf.SynthesisLayer, stylenerf.SynthesisLayer, (I, O, W, SIDE, 1), (SAMPLES, CODES)),
        (drop_in.epigraf.SynthesisLayer, epigraf.SynthesisLayer, (I, O, W, "lrelu", 0.5), (COLUMNS, CODES)),
        (drop_in.epigraf.SynthesisOutputLayer, epigraf.SynthesisOutputLayer, (I, O, W, 0.5), (COLUMNS, CODES)),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_is_the_host_by_our_op(ours, host, args, shapes):
    ours, host = ours(*args), host(*args)
    assert_is(ours, host, shapes)


def assert_is(ours, host, shapes, **options):
    with torch.no_grad():
        for parameter in host.parameters():
            parameter.add_(0.3)  # noise strengths and biases are zero when they are made
    assert list(ours.state_dict()) == list(host.state_dict())
    assert [name for name, _ in ours.named_parameters()] == [name for name, _ in host.named_parameters()]
    ours.load_state_dict(host.state_dict(), strict=True)
    inputs = [torch.randn(shape) for shape in shapes]
    torch.manual_seed(1)
    with CountedOps() as counted:
        result = ours(*inputs, **options)
    assert sum(counted.calls.values()) == 1
    torch.manual_seed(1)
    torch.testing.assert_close(result, host(*inputs, **options), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("options", [{"noise_mode": "const"}, {"noise_mode": "none", "gain": 2.0}, {"skip_up": True}])
def test_noise_of_stylenerf(options):
    make = {"magnitude_ema_beta": 0.9}
    ours, host = (m.SynthesisLayer(I, O, W, SIDE, 1, **make) for m in (drop_in.stylenerf, stylenerf))
    assert_is(ours, host, (SAMPLES, CODES), **options)
    assert_is(ours, host, (SAMPLES, CODES), input_noise=torch.randn(3 * B, 1, SIDE, SIDE))
    torch.testing.assert_close(ours.w_avg, host.w_avg)


@pytest.mark.parametrize("space", ["W", "Y"])
@pytest.mark.parametrize(("demodulate", "noise", "activation"), [(True, "spatial", "lrelu"), (False, "none", "linear")])
def test_volumegans_convolution(space, demodulate, noise, activation):
    host = volumegan.ModulateConvLayer(I, O, SIDE, W, demodulate, 1.0, noise, activation, 0.9)
    shape = I, O, SIDE, W, 1, True, 1, None, demodulate, True, 1.0, 1.0
    ours = drop_in.volumegan.ModulateConvLayer(*shape, noise, activation, 0.9, 1e-8)
    host.space_of_latent = ours.space_of_latent = space
    assert_is(ours, host, (PICTURES, (B, I) if space == "Y" else CODES), noise_mode="random")


@pytest.mark.parametrize("use_wscale", [False, True])
def test_equalised_rates_of_volumegan(use_wscale):
    """A fresh layer has weights of the same deviation, however they are split into a parameter and its scale."""
    torch.manual_seed(0)
    shape = 64, 300, SIDE, 16, 1, False, 1, None, False
    ours = drop_in.volumegan.ModulateConvLayer(*shape, use_wscale, 2.0, 0.5, "none", "linear", None, 1e-8)
    assert ours.weight.std().item() * ours.wscale == pytest.approx(2.0 / 8, rel=0.02)
    assert ours.style.bias.mean().item() * ours.style.bscale == pytest.approx(1)
    assert ours.weight.std().item() == pytest.approx(2.0 if use_wscale else 0.5, rel=0.02)


@pytest.mark.parametrize("rays", [(4,), (2, 2)])
def test_volumegans_renderers(rays):
    steps = 6
    samples = torch.randn(B, *rays, steps, 5), torch.randn(B, *rays, steps, 1)
    z = 0.5 + torch.rand(B, *rays, steps, 1).sort(-2).values
    origins, directions = torch.randn(B, *rays, 3), torch.randn(B, *rays, 3)
    ours = drop_in.volumegan.HierarchicalSampling(clamp_mode="relu")
    torch.manual_seed(1)
    found = ours(*samples, z, origins, directions, 0.3, clamp_mode="softplus", unknown=1)
    assert ours.clamp_mode == "softplus" and not hasattr(ours, "unknown")  # as the host's, for later calls too
    torch.manual_seed(1)
    expected = volumegan_renderers.HierarchicalSampling(clamp_mode="softplus")(*samples, z, 0.3)
    torch.testing.assert_close(found["pts_z"], expected)
    assert torch.equal(found["pts"], origins.unsqueeze(-2) + directions.unsqueeze(-2) * found["pts_z"])
    assert found["ray_dirs"] is directions
    settings = {"clamp_mode": "mipnerf", "white_back": True, "max_depth": 2.0}
    for key, value in drop_in.volumegan.Renderer(**settings)(*samples, z, 0).items():
        torch.testing.assert_close(value, volumegan_renderers.Renderer(**settings)(*samples, z, 0)[key])


@pytest.mark.parametrize("demodulate", [False, True])
def test_modulated_conv_of_a_kernel_of_1(demodulate):
    ours, host = drop_in.cips.ModulatedConv1x1(I, O, W, demodulate), cips.ModulatedConv2d(I, O, 1, W, demodulate)
    ours.load_state_dict(host.state_dict(), strict=True)
    inputs = torch.randn(PICTURES), torch.randn(CODES)
    torch.testing.assert_close(ours(*inputs), host(*inputs), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("activation", [None, "sin", "sinrelu"])
def test_styled_conv(activation):
    ours = drop_in.cips.StyledConv(I, O + 1, 1, W, activation=activation)
    host = cips.StyledConv(I, O + 1, 1, W, activation)
    torch.nn.init.ones_(host.noise.weight)
    ours.load_state_dict(host.state_dict(), strict=True)
    inputs, results = (torch.randn(PICTURES), torch.randn(CODES)), []
    for layer in (ours, host):
        torch.manual_seed(3)
        results.append((layer(*inputs), torch.get_rng_state()))
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-4)
    noise = torch.randn(B, 1, SIDE, SIDE)
    torch.testing.assert_close(ours(*inputs, noise), host(*inputs, noise), rtol=1e-4, atol=1e-4)
    with torch.autocast("cpu", dtype=torch.bfloat16):  # noise and bias bring the product back to float32
        assert ours(*inputs).dtype == host(*inputs).dtype == torch.float32


def test_to_rgb():
    ours, host = drop_in.cips.ToRGB(I, W, upsample=False), cips.ToRGB(I, 3, W)
    ours.load_state_dict(host.state_dict(), strict=True)
    inputs = torch.randn(PICTURES), torch.randn(CODES), torch.randn(B, 3, SIDE, SIDE)
    for given in (inputs[:2], inputs):
        torch.testing.assert_close(ours(*given), host(*given), rtol=1e-4, atol=1e-4)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert ours(*given).dtype == host(*given).dtype == torch.float32


def test_to_rgb_with_the_colours_of_half_the_resolution():
    """Zeros between pixels, then the filter [1,3,3,1] x [1,3,3,1] / 16 over two columns before and one behind."""
    layer = drop_in.cips.ToRGB(I, W)
    picture, code, skip = torch.randn(B, I, 4, 6), torch.randn(CODES), torch.randn(B, 3, 2, 3)
    spread = torch.zeros(B, 3, 4, 6)
    spread[:, :, ::2, ::2] = skip
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 4
    kernel = torch.outer(taps, taps).expand(3, 1, 4, 4)
    expected = torch.nn.functional.conv2d(torch.nn.functional.pad(spread, (2, 1, 2, 1)), kernel, groups=3)
    torch.testing.assert_close(layer(picture, code, skip) - layer(picture, code), expected, rtol=1e-4, atol=1e-5)
    assert list(layer.state_dict())[:2] == ["bias", "upsample.kernel"]


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
    with pytest.raises(ValueError, match="take the host's"):
        drop_in.cips.StyledConv(I, O, 3, W)
    with pytest.raises(ValueError, match="activation must be None"):
        drop_in.cips.StyledConv(I, O, 1, W, activation="relu")
    with pytest.raises(ValueError, match="blur_kernel must have 4 taps"):
        drop_in.cips.ToRGB(I, W, blur_kernel=[1, 2, 1])
    with pytest.raises(ValueError, match="kernel_size must be 1"):
        drop_in.cips3d.SinStyleMod(I, O, 3)
    with pytest.raises(ValueError, match="use_style_fc needs style_dim"):
        drop_in.cips3d.Modulated_FC_Conv(I, O, use_style_fc=True)
    with pytest.raises(ValueError, match="kernel_size must be 1"):
        drop_in.stylegan.ToRGBLayer(I, O, W, 3)
    with pytest.raises(ValueError, match="kernel_size must be 1, got 3"):
        drop_in.stylenerf.SynthesisLayer(I, O, W, SIDE)


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: drop_in.stylegan.SynthesisLayer(I, O, W, SIDE, 1, 2), "up must be 1, got 2"),
        (lambda: drop_in.stylegan.SynthesisLayer(I, O, W, SIDE, 1, activation="swish"), "got 'swish'"),
        (lambda: drop_in.stylegan.SynthesisLayer(I, O, W, SIDE, 1)(None, None, "all"), "noise_mode must be one of"),
        (lambda: drop_in.stylenerf.Style2Layer(I, O, 0), "without style it is a torch.nn.Linear"),
        (lambda: drop_in.stylenerf.ToRGBLayer(I, O, W, mode="3d"), "mode must be '2d'"),
        (lambda: drop_in.stylenerf.SynthesisLayer(I, O, W, SIDE, 1, use_group=True), "use_group must be False"),
        (lambda: drop_in.epigraf.SynthesisLayer(I, O, W, cfg=epigraf.SynthesisLayer(I, O, W, fmm_rank=2).cfg), "fmm"),
        (lambda: modulate(noise_type="channel"), "noise_type none or spatial"),
        (lambda: modulate(scale_factor=2), "scale_factor must be 1"),
    ],
)
def test_what_the_op_does_not_have_is_refused(make, problem):
    with pytest.raises(ValueError, match=problem):
        make()


def modulate(scale_factor=1, noise_type="none"):
    options = 1, True, scale_factor, None, True, True, 1.0, 1.0, noise_type, "lrelu", None, 1e-8
    return drop_in.volumegan.ModulateConvLayer(I, O, SIDE, W, *options)
