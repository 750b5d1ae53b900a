"""pi-GAN's pictures are its public formula's, whatever computes them; its styles are frequencies and phases."""

import math

import pytest
import torch
import torch.nn.functional as F

from cips3d.models.pigan import PiganGenerator, PiganGeneratorConfig
from cips3d.render import Camera, Draws, camera_rays

CONFIG = PiganGeneratorConfig(z_shape_dim=5, shape_style_dim=6, mapping_layers=2, field_width=7, field_layers=3)
SIDE, SAMPLES = 4, 5
DENSITY_GAIN = 30.0  # rays are to meet something


@pytest.fixture
def make():
    def make(impl="auto", dtype=torch.float32):
        torch.manual_seed(0)
        model = PiganGenerator(CONFIG, impl).to(dtype)
        model.adjust_init(5.0, DENSITY_GAIN, 1.0)
        return model

    return make


def inputs(dtype=torch.float32):
    source = torch.Generator().manual_seed(1)
    z = torch.randn(2, CONFIG.z_shape_dim, generator=source, dtype=dtype)
    camera = Camera.sample(2, generator=source).to(dtype=dtype)
    shape = 2, SIDE**2, SAMPLES
    draws = Draws(*(torch.rand(shape, generator=source, dtype=dtype) for _ in range(2)))
    return z, z[:, :0], camera, draws


def render(model, **options):
    z, none, camera, draws = inputs(next(model.parameters()).dtype)
    return model.render(z, none, camera, SIDE, SAMPLES, draws=draws, **options)


def values_by_hand(model, w, points, directions):
    """sin((15 f + 30)(W x + b) + p), layer by layer: colours in [0,1] [B,N,3] and density [B,N]."""

    def film(x, layer):
        frequency, phase = 15 * layer.gamma(w) + 30, layer.beta(w)
        return torch.sin(frequency[:, None] * F.linear(x, layer.weight, layer.bias) + phase[:, None])

    field, x = model.field, points * (2 / CONFIG.box_side)
    for layer in field.layers:
        x = film(x, layer)
    colour = film(
        torch.cat([directions.repeat_interleave(points.shape[1] // directions.shape[1], 1), x], -1), field.colour
    )
    return torch.sigmoid(field.feature(colour)), field.density(x)[..., 0]


def test_the_picture_is_the_published_integral(make):
    """Without importance samples, in float64: colours times weights, the last interval without end, to [-1,1]."""
    model = make("reference", torch.float64)
    z, none, camera, draws = inputs(torch.float64)
    out = model.render(z, none, camera, SIDE, SAMPLES, draws=draws, hierarchical=False)

    rays, w = camera_rays(camera, SIDE), model.mapping(z)
    even = torch.linspace(CONFIG.near, CONFIG.far, SAMPLES, dtype=torch.float64)
    depths = even + (draws.jitter - 0.5) * (even[1] - even[0])
    points = rays.origins[:, :, None] + depths[..., None] * rays.directions[:, :, None]
    rgb, sigma = values_by_hand(model, w, points.flatten(1, 2), rays.directions)
    rgb, sigma = rgb.unflatten(1, (-1, SAMPLES)), sigma.unflatten(1, (-1, SAMPLES))
    deltas = torch.cat([depths.diff(dim=-1), torch.full_like(depths[..., :1], 1e10)], -1)
    alpha = 1 - torch.exp(-deltas * F.relu(sigma))
    light = torch.cumprod(torch.cat([torch.ones_like(alpha[..., :1]), 1 - alpha + 1e-10], -1), -1)[..., :-1]
    weights = alpha * light
    wanted = 2 * (weights[..., None] * rgb).sum(2) - 1
    torch.testing.assert_close(out.image.flatten(2).mT, wanted)
    torch.testing.assert_close(out.depth.flatten(1), (weights * depths).sum(-1))
    assert weights.sum(-1).mean() > 0.1 and wanted.std() > 0.01


def test_kernels_and_references_give_the_same_pictures_and_gradients(make):
    images, gradients = [], []
    for impl in ("reference", "auto"):
        model = make(impl)
        out = render(model)
        names = [name for name, _ in model.named_parameters()]
        found = torch.autograd.grad(out.image.square().mean(), list(model.parameters()))
        images.append(out.image.detach())
        gradients.append(dict(zip(names, found, strict=True)))
    torch.testing.assert_close(images[1], images[0], rtol=1e-3, atol=1e-4)
    for name, wanted in gradients[0].items():
        scale = wanted.abs().max()
        torch.testing.assert_close(gradients[1][name] / scale, wanted / scale, rtol=0, atol=2e-2, msg=name)
        assert scale > 0, name


def test_chunks_and_partial_gradients_change_no_pixel(make):
    model = make()
    whole = render(model).image
    torch.testing.assert_close(render(model, ray_chunk=3).image, whole, rtol=1e-4, atol=1e-5)
    parts = render(model, grad_rays=5, generator=torch.Generator().manual_seed(0)).image
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-5)


def test_one_code_decides_all(make):
    model = make()
    z, none, _, _ = inputs()
    w, nothing = model.map(z, none)
    assert w.shape == (2, CONFIG.shape_style_dim) and nothing.shape == (2, 0)
    halfway, _ = model.map(z, none, 0.5)
    torch.testing.assert_close(halfway, (w + model.mean_w_shape) / 2)


def test_truncated_styles_are_truncated_frequencies(make):
    """The public code averages frequencies and phases; they are linear in our styles."""
    model = make()
    z, none, _, _ = inputs()
    w, _ = model.map(z, none)
    mean = model.mean_w_shape if model.mean_w_shape is not None else model.map(z, none, 0.0)[0][:1]
    mixed, whole, average = (model.field_of(each) for each in (torch.lerp(mean, w, 0.3), w, mean))
    for a, b, c in zip(mixed.gamma + mixed.beta, whole.gamma + whole.beta, average.gamma + average.beta, strict=True):
        torch.testing.assert_close(a, torch.lerp(c.expand_as(b), b, 0.3))


def test_initial_weights_are_the_public_codes():
    torch.manual_seed(0)
    model = PiganGenerator(PiganGeneratorConfig())
    field = model.field
    first, *others = (layer.weight.detach() for layer in field.layers)
    assert first.abs().max().item() == pytest.approx(1 / 3, rel=0.01)
    for weight in (*others, field.density.weight, field.feature.weight):
        assert weight.abs().max().item() == pytest.approx(math.sqrt(6 / 256) / 25, rel=0.05)
    assert field.colour.weight.abs().max().item() == pytest.approx(math.sqrt(6 / 259) / 25, rel=0.01)
    kaiming = math.sqrt(2 / (1 + 0.2**2) / 256)
    assert model.mapping[2].weight.std().item() == pytest.approx(kaiming, rel=0.02)
    assert field.layers[4].gamma.weight.std().item() == pytest.approx(0.25 * kaiming, rel=0.02)


def test_a_wrong_interval_is_told():
    with pytest.raises(ValueError, match="wanted 0 <= near < far"):
        PiganGeneratorConfig(near=1.2, far=1.0)
