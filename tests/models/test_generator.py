"""What `Generator.render` promises beyond the official numbers: chunks, partial gradients, truncation, errors."""

import dataclasses

import pytest
import torch

import cips3d_ext
from cips3d.config.loader import build, load_preset, preset_names
from cips3d.models.generator import Generator
from cips3d.models.generator_config import GeneratorConfig
from cips3d.models.registry import GeneratorConfigs
from cips3d.render import Camera, Draws, volume

CONFIG = GeneratorConfig(
    z_shape_dim=5,
    shape_style_dim=6,
    shape_mapping_layers=2,
    z_appearance_dim=4,
    appearance_style_dim=8,
    appearance_mapping_layers=2,
    field_width=12,
    colour_width=7,
    feature_dim=6,
    inr_width=10,
    inr_blocks=3,
    rgb_blocks=(0, 2),
    skip_blocks=(1, 2),
)
RESOLUTION, SAMPLES, BATCH = 7, 4, 2
RAYS = RESOLUTION**2


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Generator(CONFIG).double()


@pytest.fixture
def inputs():
    source = torch.Generator().manual_seed(1)
    codes = [torch.randn(BATCH, n, generator=source).double() for n in (CONFIG.z_shape_dim, CONFIG.z_appearance_dim)]
    return *codes, Camera.sample(BATCH, generator=source)


def render(model, inputs, seed=2, **options):
    generator = torch.Generator().manual_seed(seed)
    return model.render(
        *inputs, **({"resolution": RESOLUTION, "samples_per_ray": SAMPLES, "generator": generator} | options)
    )


def gradients(model, out):
    model.zero_grad()
    (out.image.square().sum() + out.aux_image.sum() + out.depth.sum()).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


def assert_same(a, b):
    for left, right in zip(a, b, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-12)


def test_shapes(model, inputs):
    out = render(model, inputs)
    assert out.image.shape == out.aux_image.shape == (BATCH, 3, RESOLUTION, RESOLUTION)
    assert out.depth.shape == (BATCH, RESOLUTION, RESOLUTION) and out.weights.shape == (BATCH, RAYS, 2 * SAMPLES)
    assert render(model, inputs, hierarchical=False).weights.shape == (BATCH, RAYS, SAMPLES)
    assert out.image.abs().max() <= 1 and out.image.dtype == torch.float64
    assert_same(
        model(*inputs, resolution=RESOLUTION, samples_per_ray=SAMPLES, draws=Draws.none(samples=SAMPLES)),
        render(model, inputs, draws=Draws.none(samples=SAMPLES)),
    )


@pytest.mark.parametrize("ray_chunk", [1, 16, RAYS, 1000])
@pytest.mark.parametrize("hierarchical", [True, False])
def test_chunks_give_the_same_picture(model, inputs, ray_chunk, hierarchical):
    whole = render(model, inputs, density_noise_std=0.5, hierarchical=hierarchical)
    chunked = render(model, inputs, density_noise_std=0.5, hierarchical=hierarchical, ray_chunk=ray_chunk)
    assert_same(chunked, whole)
    assert whole.image.requires_grad and not chunked.image.requires_grad


def test_chunks_bound_the_rays_of_a_call(model, inputs, monkeypatch):
    seen = []

    def record(origins, directions, **arguments):
        seen.append(directions.shape[1])
        return cips3d_ext.render_rays(origins, directions, **arguments)

    monkeypatch.setattr(volume, "render_rays", record)
    render(model, inputs, ray_chunk=10)
    assert seen == [10, 10, 10, 10, RAYS - 40]


def test_styles_are_computed_once(model, inputs):
    calls = []
    for affine in (model.field.colour.gamma, model.inr.blocks[0].first.modulation):
        affine.register_forward_hook(lambda *_: calls.append(1))
    render(model, inputs, ray_chunk=10)
    assert len(calls) == 2


@pytest.mark.parametrize("ray_chunk", [None, 5])
def test_partial_gradients(model, inputs, ray_chunk):
    """The picture is the whole one; the gradient is the whole one's restricted to the chosen rays."""
    permutation = torch.randperm(RAYS, generator=torch.Generator().manual_seed(0))
    draws = Draws.none(samples=SAMPLES)
    draws = dataclasses.replace(draws, permutation=permutation)
    whole = render(model, inputs, draws=draws)
    chosen = torch.zeros(RAYS, dtype=torch.bool)
    chosen[permutation[:20]] = True
    mask = chosen.view(RESOLUTION, RESOLUTION)
    wanted = gradients(
        model, whole._replace(image=whole.image * mask, aux_image=whole.aux_image * mask, depth=whole.depth * mask)
    )
    part = render(model, inputs, draws=draws, grad_rays=20, ray_chunk=ray_chunk)
    assert_same(part, whole)
    actual = gradients(model, part)
    assert actual.keys() == wanted.keys()
    for name, grad in wanted.items():
        torch.testing.assert_close(actual[name], grad, rtol=1e-9, atol=1e-9)


def test_partial_gradients_are_unbiased(model, inputs):
    """Every ray is among the first 7 of as many of these permutations: the mean of their gradients, times rays / 7, is
    the whole gradient."""
    order = torch.randperm(RAYS, generator=torch.Generator().manual_seed(0))
    wanted = gradients(model, render(model, inputs, draws=Draws.none(samples=SAMPLES)))
    total = {name: torch.zeros_like(grad) for name, grad in wanted.items()}
    shifts = range(0, RAYS, 7)
    for shift in shifts:
        draws = dataclasses.replace(Draws.none(samples=SAMPLES), permutation=order.roll(shift))
        for name, grad in gradients(model, render(model, inputs, draws=draws, grad_rays=7)).items():
            total[name] += grad
    for name, grad in wanted.items():
        torch.testing.assert_close(total[name] / len(shifts) * (RAYS / 7), grad, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("grad_rays", [RAYS, RAYS + 5])
def test_all_rays_with_gradient(model, inputs, grad_rays):
    wanted = gradients(model, render(model, inputs))
    actual = gradients(model, render(model, inputs, grad_rays=grad_rays, ray_chunk=10))
    assert actual.keys() == wanted.keys() and all(torch.equal(actual[name], wanted[name]) for name in wanted)


def test_same_generator_same_picture(model, inputs):
    assert_same(render(model, inputs, seed=3), render(model, inputs, seed=3))
    assert not torch.equal(render(model, inputs, seed=3).image, render(model, inputs, seed=4).image)


def test_truncation(model, inputs):
    fixed = {"draws": Draws.none(samples=SAMPLES)}
    assert model.mean_w_shape is None
    half = render(model, inputs, truncation_psi=0.5, **fixed)
    assert model.mean_w_shape.shape == (1, 6) and model.mean_w_appearance.shape == (1, 8)
    assert not any("mean_w" in key for key in model.state_dict())
    zero = model.map(*inputs[:2], truncation_psi=0.0)
    torch.testing.assert_close(zero[0], model.mean_w_shape.expand(BATCH, -1))
    assert not torch.allclose(half.image, render(model, inputs, **fixed).image)

    first = model.mean_w_shape
    model.update_mean_styles(n=10000, seed=0)
    assert torch.equal(model.mean_w_shape, first)
    z = torch.randn(4000, CONFIG.z_appearance_dim, generator=torch.Generator().manual_seed(9)).double()
    torch.testing.assert_close(model.mean_w_appearance, model.appearance_mapping(z).mean(0, True), rtol=0, atol=0.05)
    model.mean_w_shape = torch.zeros(1, 6)
    torch.testing.assert_close(model.map(*inputs[:2], 0.5)[0], 0.5 * model.map(*inputs[:2])[0])
    model.load_state_dict(model.state_dict())
    assert model.mean_w_shape is None  # other weights, other means


def test_a_mean_style_assigned_alone_stays(model, inputs):
    model.mean_w_appearance = torch.full((1, 8), 2.0)
    truncated = model.map(*inputs[:2], truncation_psi=0.0)
    assert (truncated[1] == 2).all() and model.mean_w_shape.shape == (1, 6)


@pytest.mark.parametrize("impl", ["auto", "reference"])
def test_gradients_of_styles_and_pose(inputs, impl):
    """Against finite differences; without importance samples, whose places count as constants."""
    torch.manual_seed(0)
    model = Generator(CONFIG, impl).double()
    styles = [w.detach().requires_grad_() for w in model.map(*inputs[:2])]
    angles = [angle.clone().requires_grad_() for angle in inputs[2].pitch_yaw.double().unbind(1)]

    def picture(w_shape, w_appearance, pitch, yaw):
        camera = Camera.from_angles(yaw, pitch)
        fixed = {"hierarchical": False, "draws": Draws.none(samples=SAMPLES)}
        out = model.synthesise(w_shape, w_appearance, camera, 3, SAMPLES, **fixed)
        return 100 * out.image, 100 * out.aux_image  # of a network that was not trained: small

    torch.autograd.gradcheck(picture, (*styles, *angles))
    grads = torch.autograd.grad(sum(image.square().sum() for image in picture(*styles, *angles)), (*styles, *angles))
    assert all(grad.abs().max() > 1e-6 for grad in grads)


def test_no_images(model, inputs):
    nothing = [part[:0] for part in inputs]
    assert render(model, nothing).image.shape == (0, 3, RESOLUTION, RESOLUTION)


def test_backgrounds(model, inputs):
    """last_back leaves no weight unused; white_back changes the pictures of rays that let light through."""
    assert (render(model, inputs).weights.sum(-1) < 0.999).any()
    torch.testing.assert_close(render(model, inputs, last_back=True).weights.sum(-1), torch.ones(BATCH, RAYS).double())
    plain, white = render(model, inputs), render(model, inputs, white_back=True)
    through = (1 - plain.weights.sum(-1)).view(BATCH, 1, RESOLUTION, RESOLUTION)
    changed = (plain.aux_image - white.aux_image).abs()
    assert changed[through.expand_as(changed) > 0.1].min() > 0 and torch.equal(plain.weights, white.weights)


def test_implementations_agree(inputs):
    torch.manual_seed(0)
    fast, plain = Generator(CONFIG).double(), Generator(CONFIG, impl="reference").double()
    plain.load_state_dict(fast.state_dict())
    for left, right in zip(render(fast, inputs), render(plain, inputs), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-8, atol=1e-8)


def test_initial_pictures_are_grey():
    """Released widths: colours near zero, so that the discriminator's first gradients pass the tanh."""
    torch.manual_seed(0)
    model = Generator(GeneratorConfig())
    out = model.render(
        torch.randn(1, 256), torch.randn(1, 512), Camera.from_angles(1.5, 1.5), resolution=4, ray_chunk=16
    )
    assert out.image.abs().max() < 0.5
    assert sum(p.numel() for p in model.parameters()) == 11_287_743 - 22_089  # without the official unused ones


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"camera": Camera.from_angles(torch.zeros(3), 1.0)}, "z_shape has batch 2 and the camera has batch 3"),
        ({"z_shape": torch.zeros(2, 4)}, r"z_shape must be \[B,5\], got \[2, 4\]"),
        ({"z_appearance": torch.zeros(3, 4)}, "z_appearance has batch 3 and the camera has batch 2"),
        ({"samples_per_ray": 2}, "samples_per_ray must be at least 3 with hierarchical=True, got 2"),
        ({"ray_chunk": 0}, "ray_chunk must be at least 1 or None, got 0"),
        ({"grad_rays": -1}, "grad_rays must be at least 1 or None, got -1"),
        ({"z_shape": torch.zeros(2, 5)}, "z_shape is torch.float32 on cpu and the generator torch.float64 on cpu"),
        ({"resolution": 1}, "resolution must be one whole number .*at least 2 .*got 1"),
        ({"resolution": (8, 6)}, r"pictures are square.*got \(8, 6\)"),
        ({"activation": "tanh"}, "activation"),
    ],
)
def test_errors(model, inputs, change, message):
    arguments = dict(zip(("z_shape", "z_appearance", "camera"), inputs, strict=True)) | change
    with pytest.raises(ValueError, match=message):
        model.render(**arguments)


def test_wrong_styles(model, inputs):
    w_shape, w_appearance = model.map(*inputs[:2])
    with pytest.raises(ValueError, match=r"synthesise: w_shape must be \[B,6\], got \[2, 8\]"):
        model.synthesise(w_appearance, w_appearance, inputs[2])
    with pytest.raises(ValueError, match="synthesise: w_appearance has batch 1 and the camera has batch 2"):
        model.synthesise(w_shape, w_appearance[:1], inputs[2])


def test_presets():
    names = preset_names("generator")
    presets = {name: build(GeneratorConfigs, load_preset("generator", name), name) for name in names}
    assert presets["released"] == GeneratorConfig()
    assert presets["paper"] == dataclasses.replace(GeneratorConfig(), rgb_blocks=tuple(range(9)), skip_blocks=())
    out = Generator(presets["demo"]).render(
        torch.randn(1, 64), torch.randn(1, 64), Camera.from_angles(1.5, 1.5), resolution=4, samples_per_ray=3
    )
    assert out.image.shape == (1, 3, 4, 4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rgb_blocks": (3,)}, r"rgb_blocks must be distinct blocks in 0 .. 2, got \(3,\)"),
        ({"rgb_blocks": ()}, "at least one block"),
        ({"skip_blocks": (0,)}, "block 0 cannot be in skip_blocks"),
        ({"near": 2.0}, "wanted 0 <= near < far"),
    ],
)
def test_configuration_errors(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(CONFIG, **change)
