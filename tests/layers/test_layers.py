"""The layers: what they compute, that impl changes nothing in the state dict, initialisation, shared styles, errors."""

import copy
import math

import pytest
import torch

import cips3d_ext
from cips3d_ext import reference
from cips3d_ext.layers import FiLMSine, ModFC, VolumeRenderer

B, N, I, O, STYLE = 4, 3, 5, 6, 7


def make(layer: type, impl: str = "reference", **options):
    torch.manual_seed(0)
    return layer(I, O, STYLE, impl=impl, **options).double()


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randn(B, N, I, generator=generator, dtype=torch.float64),
        torch.randn(B, STYLE, generator=generator, dtype=torch.float64),
    )


def test_modfc_is_the_op_with_an_affine_style():
    options = {"activation": "lrelu", "alpha": 0.1, "gain": 2.0, "clamp": 1.0, "demodulate": False, "eps": 1e-6}
    layer = make(ModFC, bias=True, style_offset=0.5, **options)
    torch.nn.init.normal_(layer.bias)
    x, w = inputs()
    noise = torch.randn(B, N, 1, dtype=torch.float64)
    style = w @ layer.modulation.weight.T + layer.modulation.bias
    expected = reference.modfc(x, layer.weight, style, layer.bias, noise, style_offset=0.5, **options)
    torch.testing.assert_close(layer(x, w, noise), expected, rtol=1e-12, atol=1e-12)


def test_modfc_adds_a_skip_and_gives_colours():
    layer = make(ModFC, bias=True, activation="lrelu")
    x, w = inputs()
    style, skip, to_rgb = layer.modulation(w), torch.randn(B, N, O).double(), torch.randn(3, O).double()
    expected = layer(x, w) + skip
    torch.testing.assert_close(layer.apply_style(x, style, skip=skip), expected)
    y, rgb = layer.apply_style_with_rgb(x, style, to_rgb, skip=skip)
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(rgb, expected @ to_rgb.T)


def test_film_sine_is_the_op_with_affine_frequency_and_phase():
    layer = make(FiLMSine, beta_scale=0.25)
    x, w = inputs()
    gamma = w @ layer.gamma.weight.T + layer.gamma.bias
    beta = w @ layer.beta.weight.T + layer.beta.bias
    scales = {"gamma_scale": 15.0, "gamma_offset": 30.0, "beta_scale": 0.25}
    expected = reference.film_sine(x, layer.weight, layer.bias, gamma, beta, **scales)
    torch.testing.assert_close(layer(x, w), expected, rtol=1e-12, atol=1e-12)
    assert layer(x[:, :, None], w).shape == (B, N, 1, O)


@pytest.mark.parametrize("layer", [ModFC, FiLMSine])
def test_state_dict_does_not_depend_on_impl(layer):
    models = [make(layer, impl) for impl in ("reference", "auto", "fused")]
    states = [model.state_dict() for model in models]
    for state in states[1:]:
        assert list(state) == list(states[0])
        assert all(torch.equal(state[name], states[0][name]) for name in state)
    models[1].load_state_dict(models[0].state_dict(), strict=True)


@pytest.mark.parametrize("layer", [ModFC, FiLMSine])
def test_auto_gives_what_the_reference_gives_and_its_gradients(layer):
    x, w = inputs()
    results = []
    for impl in ("reference", "auto"):
        model = make(layer, impl)
        y = model(x, w)
        y.square().sum().backward()
        results.append([y, *(p.grad for p in model.parameters())])
    for got, want in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)


def test_state_dict_names():
    affine = ["weight", "bias"]
    assert list(make(ModFC).state_dict()) == ["weight", *(f"modulation.{name}" for name in affine)]
    assert list(make(ModFC, bias=True).state_dict())[:2] == ["weight", "bias"]
    names = ["weight", "bias", *(f"{film}.{name}" for film in ("gamma", "beta") for name in affine)]
    assert list(make(FiLMSine).state_dict()) == names
    assert not VolumeRenderer().state_dict()


@pytest.mark.parametrize("layer", [ModFC, FiLMSine])
def test_fewer_styles_serve_consecutive_rows(layer):
    model = make(layer)
    x, w = inputs()
    expected = model(x, w[:2].repeat_interleave(2, 0))
    torch.testing.assert_close(model(x, w[:2]), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(model(x, w[:1]), model(x, w[:1].expand(B, -1)), rtol=1e-12, atol=1e-12)


def test_fewer_styles_with_noise():
    model = make(ModFC)
    x, w = inputs()
    noise = torch.randn(B, 1, O, dtype=torch.float64)
    expected = model(x, w[:2].repeat_interleave(2, 0), noise)
    torch.testing.assert_close(model(x, w[:2], noise), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("layer", [ModFC, FiLMSine])
def test_wrong_styles_are_named(layer):
    model, (x, w) = make(layer), inputs()
    with pytest.raises(ValueError, match=rf"{layer.__name__}: the batch of x must be a multiple .* w \[3, 7\]"):
        model(x, w[:3])
    with pytest.raises(ValueError, match=rf"{layer.__name__}: w must be .* \[any, 7\], got \[4, 6\]"):
        model(x, w[:, 1:])
    with pytest.raises(ValueError, match=f"{layer.__name__}: impl must be one of"):
        make(layer, "fast")


@pytest.mark.parametrize("layer", [ModFC, FiLMSine])
def test_reset_parameters_draws_every_parameter_afresh(layer):
    model = make(layer)
    before = copy.deepcopy(model.state_dict())
    model.reset_parameters()
    assert all(not torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_initialisation():
    torch.manual_seed(0)
    modfc = ModFC(64, 256, 128, bias=True)
    assert modfc.weight.std().item() == pytest.approx(math.sqrt(2 / 1.04 / 256), rel=0.05)
    assert modfc.modulation.weight.std().item() == pytest.approx(math.sqrt(2 / 1.04 / 128), rel=0.05)
    assert modfc.bias is not None and not modfc.bias.any()
    film = FiLMSine(64, 256, 100)
    bound = math.sqrt(6 / 64) / 25
    assert 0.95 * bound < film.weight.abs().max().item() <= bound
    for affine in (film.gamma, film.beta):
        assert 0.95 * 0.025 < affine.weight.abs().max().item() <= 0.025  # a quarter of 1 / sqrt(100)
        assert affine.bias.abs().max().item() > 0.05


def test_representation_shows_the_options():
    assert repr(make(ModFC, activation="lrelu")).splitlines()[1].strip() == (
        "5, 6, style_dim=7, bias=False, demodulate=True, style_offset=1.0, activation='lrelu', alpha=0.2, gain=1.0, "
        "clamp=None, eps=1e-08, impl='reference'"
    )
    assert "5, 6, style_dim=7, gamma_scale=15.0, gamma_offset=30.0, beta_scale=1.0" in repr(make(FiLMSine))
    assert repr(VolumeRenderer(last_back=True, impl="auto")) == "VolumeRenderer(last_back=True)"


def test_volume_renderer_is_the_op():
    generator = torch.Generator().manual_seed(0)
    density, noise = (torch.randn(2, 3, 5, generator=generator) for _ in range(2))
    features = torch.randn(2, 3, 5, 4, generator=generator)
    depths = torch.rand(2, 3, 5, generator=generator).sort(-1).values
    beta, ray_norm = torch.tensor([0.4]), torch.rand(2, 3, generator=generator) + 1
    options = {"activation": "sdf", "white_back": 2, "last_back": True}
    found = VolumeRenderer(beta=3.0, **options)(density, features, depths, noise, beta, ray_norm)
    given = {"noise": noise, "beta": beta, "ray_norm": ray_norm}
    expected = cips3d_ext.volume_render(density, features, depths, **given, **options)
    assert all(torch.equal(got, want) for got, want in zip(found, expected, strict=True))
    without = VolumeRenderer(beta=3.0, **options)(density, None, depths)
    expected = cips3d_ext.volume_render(density, None, depths, beta=3.0, **options)
    assert without.feature is None and torch.equal(without.weights, expected.weights)


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"rul": "left"}, TypeError, r"unknown options \['rul'\]; there are \['activation', 'shift', 'beta', 'rule'"),
        ({"noise": torch.zeros(1)}, TypeError, r"unknown options \['noise'\]"),
        ({"beta": torch.ones(1)}, TypeError, "beta must be a number"),
        ({"rule": "right"}, ValueError, "rule must be one of"),
        ({"activation": "exp"}, ValueError, "activation must be one of"),
        ({"depth": "median"}, ValueError, "depth must be one of"),
        ({"impl": "fast"}, ValueError, "impl must be one of"),
    ],
)
def test_volume_renderer_checks_its_options_at_once(options, error, message):
    with pytest.raises(error, match=message):
        VolumeRenderer(**options)


def test_gradients_of_second_order_pass_through_the_layers():
    x, w = inputs()
    for layer in (ModFC, FiLMSine):
        model = make(layer, "auto", **({"activation": "sin"} if layer is ModFC else {}))
        code = w.clone().requires_grad_()
        (first,) = torch.autograd.grad(model(x, code).square().sum(), code, create_graph=True)
        first.square().sum().backward()
        assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())
