"""What the generator promises beyond the public picture, which `test_public` compares."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from cips3d.models.stylegan2 import upsample
from cips3d.models.volumegan import VolumeganGenerator, VolumeganGeneratorConfig
from cips3d.models.volumegan.volume import FeatureVolume
from cips3d.render import Camera

CONFIG = VolumeganGeneratorConfig(
    z_shape_dim=5,
    shape_style_dim=6,
    mapping_layers=2,
    volume_side=8,
    volume_channels=3,
    volume_base_channels=8,
    octaves=2,
    field_width=7,
    field_layers=2,
    feature_dim=6,
    nerf_side=4,
    renderer_channels=(5, 4),
)
SAMPLES, BATCH = 4, 2


def make(config=CONFIG, impl="auto"):
    torch.manual_seed(0)
    generator = VolumeganGenerator(config, impl).double()
    generator.adjust_init(density_bias=20, density_gain=5, shape_gain=1)  # fog: rays meet something
    return generator


def inputs():
    source = torch.Generator().manual_seed(1)
    z = torch.randn(BATCH, CONFIG.z_shape_dim, generator=source, dtype=torch.float64)
    return z, z[:, :0], Camera.sample(BATCH, generator=source, dtype=torch.float64)


def render(generator, **options):
    given = {"resolution": 16, "samples_per_ray": SAMPLES, "generator": torch.Generator().manual_seed(2)} | options
    return generator.render(*inputs(), **given)


def noise(generator, resolution):
    source = torch.Generator().manual_seed(3)
    return tuple(
        torch.randn(BATCH, *shape, generator=source, dtype=torch.float64)
        for shape in generator.noise_shapes(resolution)
    )


def same(a, b):
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("side", "rays"), [(3, 3), (4, 4), (8, 4), (16, 4)])
def test_rays_of_a_picture(side, rays):
    out = render(make(), resolution=side)
    assert out.image.shape == (BATCH, 3, side, side)
    assert out.aux_image.shape == (BATCH, 3, rays, rays) and out.depth.shape == (BATCH, rays, rays)
    assert out.weights.shape == (BATCH, rays * rays, 2 * SAMPLES) and out.weights.sum(-1).min() > 0.5
    if side == rays:
        same(out.aux_image, out.image.clamp(-1, 1))


@pytest.mark.parametrize("side", [5, 12, 32])
def test_sides_without_layers_are_refused(side):
    with pytest.raises(ValueError, match=rf"side 4, 8, 16, or below 4 .*, got {side}"):
        render(make(), resolution=side)


def test_fused_and_reference_agree_with_gradients():
    results = []
    for impl in ("reference", "auto"):
        generator = make(impl=impl)
        out = render(generator)
        (out.image.square().sum() + out.depth.sum()).backward()
        results.append((out.image, {name: p.grad for name, p in generator.named_parameters()}))
    same(results[0][0], results[1][0])
    for name, gradient in results[0][1].items():
        same(gradient, results[1][1][name])
        assert gradient is not None and gradient.abs().max() > 0, name


def test_chunks_of_rays_give_the_same_picture():
    generator = make()
    same(render(generator, ray_chunk=5).image, render(generator).image)


def test_every_layer_has_a_style_of_its_own():
    generator = make()
    w_shape, w_appearance = generator.map(*inputs()[:2])
    same(w_shape, w_appearance)
    layered = [
        w[:, None].repeat(1, n, 1)
        for w, n in ((w_shape, generator.shape_layers), (w_appearance, generator.appearance_layers))
    ]
    camera, options = inputs()[2], {"resolution": 16, "samples_per_ray": SAMPLES}

    def picture(styles):
        return generator.synthesise(*styles, camera, generator=torch.Generator().manual_seed(2), **options).image

    whole = picture(layered)
    same(whole, picture((w_shape, w_appearance)))
    for half in (0, 1):
        for layer in range(layered[half].shape[1]):
            moved = [w.clone() for w in layered]
            moved[half][:, layer] += 1
            assert (picture(moved) - whole).abs().max() > 1e-3, (half, layer)


def test_style_mixing_changes_layers_from_one_on():
    generator = make(dataclasses.replace(CONFIG, style_mixing=0.5))
    z, none, _ = inputs()
    source, cutoffs = torch.Generator().manual_seed(0), []
    for _ in range(60):
        mixing = generator.draw_mixing(BATCH, source).double()
        w, layered = generator.map_training(z, none, None, mixing)
        same(w, generator.mapping(z))
        own = (layered == w[:, None]).all(-1)
        assert torch.equal(own[0], own[1])  # of the whole batch
        cutoffs.append(int(own[0].sum()))
        other = generator.mapping(mixing[:, 2:])
        same(layered[:, cutoffs[-1] :], other[:, None].expand(-1, generator.appearance_layers - cutoffs[-1], -1))
    assert set(cutoffs) == set(range(generator.appearance_layers + 1))
    assert 0.3 < sum(c == generator.appearance_layers for c in cutoffs) / len(cutoffs) < 0.7
    assert make(dataclasses.replace(CONFIG, style_mixing=0.0)).draw_mixing(BATCH, source) is None


def test_noise_of_training_and_the_constant_one():
    generator = make()
    with torch.no_grad():
        for block in generator.renderer.blocks:
            block.strength.fill_(0.7)
    assert generator.noise_shapes(4) == () and generator.noise_shapes(8) == ((8, 8),) * 2
    features = torch.randn(BATCH, 6, 4, 4, dtype=torch.float64)
    styles = generator.painter_of(*generator.map(*inputs()[:2]))
    constant = tuple(n.expand(BATCH, -1, -1) for block in generator.renderer.blocks for n in block.constant)
    shown, drawn, given = (
        generator.upsample(styles, features, features[:, :3], 16, n, 1.0)
        for n in (None, noise(generator, 16), constant)
    )
    same(shown, given)
    assert (shown - drawn).abs().max() > 1e-2


def test_new_layers_fade_in_over_the_picture_before():
    generator = make()
    before, after = render(generator, resolution=8).image, render(generator, resolution=16).image
    doubled = F.interpolate(before, scale_factor=2, mode="nearest")
    same(render(generator, resolution=16, alpha=0.25).image, 0.25 * after + 0.75 * doubled)
    same(render(generator, resolution=4, alpha=0.25).image, render(generator, resolution=4).image)


def test_new_layers_can_begin_as_the_picture_before():
    generator = make(dataclasses.replace(CONFIG, colour_gain=0.0))
    small, large = (render(generator, resolution=side).image for side in (4, 16))
    same(large, upsample(upsample(small)))
    painted = render(make(), resolution=16).image
    assert (painted - large).abs().mean() > 0.01


def test_without_the_volume_points_are_all_the_field_sees():
    generator = make(dataclasses.replace(CONFIG, volume_channels=0))
    assert generator.field.volume is None and render(generator).image.shape == (BATCH, 3, 16, 16)
    assert generator.field.layers[0].weight.shape[1] == 3 + 6 * CONFIG.octaves


def test_density_is_that_of_the_query_and_has_second_derivatives():
    generator = make()
    field = generator.field_of(generator.mapping(inputs()[0]))
    points = 0.1 * torch.rand(BATCH, 3, 4, 3, dtype=torch.float64) - 0.05
    same(generator.density(field, points).flatten(1), generator.query(field, points.flatten(1, 2)).density)
    few = points[:, 0, :2].clone().requires_grad_()
    assert torch.autograd.gradgradcheck(lambda p: generator.density(field, p), (few,))


def test_volume_has_second_derivatives():
    torch.manual_seed(0)
    volume = FeatureVolume(3, 4, 2, 3).double()
    w = torch.randn(1, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda w: volume(w)[:, :, 1, :2, 3], (w,))


def test_parts_that_stages_and_initialisation_speak_of():
    generator = make()
    names = {id(p): name for name, p in generator.named_parameters()}
    frozen = {names[id(p)].split(".")[0] for p in generator.nerf_parameters()}
    assert frozen == {"mapping", "field"} and len(generator.mapping_parameters()) == 2 * CONFIG.mapping_layers
    untouched, changed = VolumeganGenerator(CONFIG), VolumeganGenerator(CONFIG)
    changed.load_state_dict(untouched.state_dict())
    changed.adjust_init(3.0, 2.0, 0.5)
    for name, tensor in changed.state_dict().items():
        wanted = {
            "field.density.bias": lambda t: t + 3,
            "field.density.weight": lambda t: 2 * t,
            "mapping.fc1.weight": lambda t: t / 2,
        }.get(name, lambda t: t)
        torch.testing.assert_close(tensor, wanted(untouched.state_dict()[name]))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"volume_side": 12}, "volume_side must be a power of two from 4 on, got 12"),
        ({"volume_low": (0.2, 0.0, 0.0)}, "volume_low must be below volume_high"),
        ({"renderer_layers": 0}, "renderer_layers >= 1"),
        ({"near": 1.3}, "near=1.3"),
    ],
)
def test_configurations_that_make_no_sense(values, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(CONFIG, **values)
