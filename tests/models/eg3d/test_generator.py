"""What EG3D's generator adds to a style network: planes, pose conditioning, growing raw images, aligned pixels."""

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cips3d.models.eg3d import Eg3dGenerator, Eg3dGeneratorConfig
from cips3d.models.eg3d.field import plane_features
from cips3d.models.eg3d.synthesis import resize
from cips3d.render.draws import Draws
from cips3d.render.rays import Camera, camera_rays

SIDE, RAW, SAMPLES = 16, 8, 4


def cameras(count: int) -> Camera:
    yaw = torch.linspace(1.2, 1.9, count, dtype=torch.float64)
    return Camera.from_angles(yaw, torch.full_like(yaw, 1.5))


def codes(count: int) -> tuple[Tensor, Tensor]:
    z = torch.randn(count, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return z, z[:, :0]


def test_planes_are_read_as_the_public_code_reads_them() -> None:
    """xy, xz and zx, bilinear between texel centres, nothing outside of the box."""
    torch.manual_seed(0)
    planes, points = torch.randn(2, 3, 4, 5, 5, dtype=torch.float64), torch.rand(2, 30, 3, dtype=torch.float64) - 0.5
    features = plane_features(planes, points * 1.4, 1.2, "reference")
    wanted = []
    for k, pair in enumerate(((0, 1), (0, 2), (2, 0))):
        grid = (points * 1.4 / 0.6)[:, None, :, list(pair)]
        wanted.append(F.grid_sample(planes[:, k], grid, align_corners=False)[:, :, 0].mT)
    torch.testing.assert_close(features, torch.stack(wanted).mean(0))


def test_raw_pixels_lie_where_resizing_puts_them(generator: Eg3dGenerator) -> None:
    """A picture of the rays' directions in the image plane, resized, is the raw picture's own, away from borders."""
    camera = cameras(1)
    at_distance_one = []
    for side in (SIDE, RAW):
        directions = generator.rays(camera, side).directions @ camera.cam2world[0, :3, :3]
        at_distance_one.append((directions / -directions[..., 2:])[0, :, :2].T.view(1, 2, side, side))
    image, raw = at_distance_one
    torch.testing.assert_close(resize(image, RAW)[..., 1:-1, 1:-1], raw[..., 1:-1, 1:-1])
    whole = generator.rays(camera, SIDE).directions
    torch.testing.assert_close(whole, camera_rays(camera, SIDE).directions)


def test_image_and_raw_image(generator: Eg3dGenerator) -> None:
    out = generator.render(*codes(2), cameras(2), SIDE, SAMPLES, draws=Draws.none(2, RAW**2, SAMPLES))
    assert out.image.shape == (2, 3, SIDE, SIDE)
    assert out.aux_image.shape == (2, 3, RAW, RAW) and out.aux_image.abs().max() <= 1.002 * (1 + 1e-6)
    assert out.depth.shape == (2, RAW, RAW)
    expected = out.depth / out.weights.sum(-1).view_as(out.depth)
    assert ((expected >= 0.88) & (expected <= 1.12 + 0.08)).all()  # jitter moves the last sample a spacing on
    assert out.weights.shape == (2, RAW**2, 2 * SAMPLES - 1)


def test_chunks_of_rays_give_the_same_picture(generator: Eg3dGenerator) -> None:
    draws = Draws.from_seed(0, 2, RAW**2, SAMPLES, dtype=torch.float64)
    whole = generator.render(*codes(2), cameras(2), SIDE, SAMPLES, draws=draws)
    chunked = generator.render(*codes(2), cameras(2), SIDE, SAMPLES, draws=draws, ray_chunk=10)
    torch.testing.assert_close(chunked.image, whole.image.detach())
    torch.testing.assert_close(chunked.aux_image, whole.aux_image.detach())


@torch.no_grad()
def test_fused_and_reference_agree(generator: Eg3dGenerator) -> None:
    """float32: jitter and importance samples are the same, so pictures differ by rounding alone."""
    generator.float()
    draws = Draws.from_seed(0, 2, RAW**2, SAMPLES)
    z, empty = (code.float() for code in codes(2))
    camera = cameras(2).to(dtype=torch.float32)
    reference = generator.render(z, empty, camera, SIDE, SAMPLES, draws=draws)
    fast = Eg3dGenerator(generator.config, "auto")
    fast.load_state_dict(generator.state_dict())
    out = fast.render(z, empty, camera, SIDE, SAMPLES, draws=draws)
    torch.testing.assert_close(out.image, reference.image, atol=1e-5, rtol=1e-4)


def test_density_is_the_query_s_and_differentiable_twice(generator: Eg3dGenerator) -> None:
    w, _ = generator.map(*codes(1))
    with torch.no_grad():
        planes = generator.field_of(w)
    points = 0.05 * torch.randn(1, 2, 2, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    torch.testing.assert_close(
        generator.density(planes, points).flatten(), generator.query(planes, points.flatten(1, 2)).density.flatten()
    )
    points.requires_grad_()
    assert torch.autograd.gradgradcheck(lambda p: generator.density(planes, p), (points,))


def test_styles_depend_on_the_pose_they_are_mapped_with(generator: Eg3dGenerator) -> None:
    z, camera = codes(2)[0], cameras(2)
    left, right = generator.map_shape(z, camera), generator.map_shape(z, camera[torch.tensor([1, 0])])
    assert not torch.allclose(left, right)
    frontal = Camera.from_angles(math.pi / 2, math.pi / 2)
    torch.testing.assert_close(generator.map_shape(z), generator.map_shape(z, frontal[torch.tensor([0, 0])]))
    config = dataclasses.replace(generator.config, pose_conditioned=False)
    without = Eg3dGenerator(config, "reference").double()
    without.load_state_dict(generator.state_dict())
    assert torch.equal(without.map_shape(z, camera), without.map_shape(z))
    assert without.condition(camera, 0, torch.Generator()) is None


def test_poses_are_swapped_with_a_probability_that_falls(generator: Eg3dGenerator) -> None:
    camera = cameras(200)
    config = dataclasses.replace(generator.config, swap_probability=0.25, swap_images=1000)
    swapping = Eg3dGenerator(config, "reference")
    rng = torch.Generator().manual_seed(0)

    def swapped(shown: int) -> Tensor:
        condition = swapping.condition(camera, shown, rng)
        assert condition is not None
        previous = camera.cam2world.roll(1, 0)
        own = (condition.cam2world == camera.cam2world).all(-1).all(-1)
        assert (own | (condition.cam2world == previous).all(-1).all(-1)).all()
        return ~own

    assert swapped(0).all()
    for shown, probability in ((500, 0.625), (1000, 0.25), (5000, 0.25)):
        deviation = math.sqrt(probability * (1 - probability) / 200)
        assert swapped(shown).double().mean().item() == pytest.approx(probability, abs=4 * deviation)


def test_the_raw_image_grows(generator: Eg3dGenerator) -> None:
    assert [generator.ray_side(SIDE, shown) for shown in (0, 4, 8, 99)] == [4, 6, 8, 8]
    assert generator.ray_side(SIDE) == RAW
    out = generator.render(*codes(1), cameras(1), SIDE, SAMPLES, shown=0)
    assert out.aux_image.shape == (1, 3, 4, 4) and out.image.shape == (1, 3, SIDE, SIDE)
    with pytest.raises(ValueError, match="draws 16 pixels a side alone, got 32"):
        generator.ray_side(32)


def test_backbone_noise_is_drawn_in_training_alone(generator: Eg3dGenerator) -> None:
    shapes = generator.noise_shapes(SIDE)
    assert shapes == ((1, 4, 4), (1, 8, 8), (1, 8, 8))
    assert len(shapes) == generator.config.most_layers
    for conv in generator.backbone.synthesis.convolutions():
        torch.nn.init.ones_(conv.noise_strength)
    noise = tuple(torch.randn(2, *shape, dtype=torch.float64) for shape in shapes)
    w, _ = generator.map(*codes(2))
    assert torch.equal(generator.field_of(w), generator.field_of(w))
    assert not torch.allclose(generator.field_of(w), generator.field_of(w, noise))


def test_initial_density_and_shapes_can_be_changed(generator: Eg3dGenerator) -> None:
    planes = generator.field_of(generator.map(*codes(1))[0])
    points = torch.zeros(1, 1, 3, dtype=torch.float64)
    before = generator.density(planes, points)
    generator.adjust_init(2.0, 1.0, 1.0)
    torch.testing.assert_close(generator.density(planes, points), before + 2)
    z = codes(2)[0]
    styles = generator.map_shape(z)
    generator.adjust_init(0.0, 1.0, 0.5)
    torch.testing.assert_close(generator.map_shape(z), styles / 2)  # new biases are 0


def test_parameters_belong_to_field_or_super_resolution(generator: Eg3dGenerator) -> None:
    nerf = {id(p) for p in generator.nerf_parameters()}
    assert {id(p) for p in generator.mapping_parameters()} < nerf
    rest = {name.split(".")[0] for name, p in generator.named_parameters() if id(p) not in nerf}
    assert rest == {"superresolution"}


def test_impossible_configurations_are_told() -> None:
    with pytest.raises(ValueError, match="wanted 0 <= ray_start < ray_end"):
        Eg3dGeneratorConfig(ray_start=4.0)
    with pytest.raises(ValueError, match=r"swap_probability must be in \[0,1\], got 2"):
        Eg3dGeneratorConfig(swap_probability=2.0)
    with pytest.raises(ValueError, match="plane_side must be a power of two"):
        Eg3dGenerator(Eg3dGeneratorConfig(plane_side=12, z_shape_dim=2, shape_style_dim=2))


def test_too_few_samples_are_told(generator: Eg3dGenerator) -> None:
    with pytest.raises(ValueError, match="samples_per_ray must be at least 4, got 3"):
        generator.render(*codes(1), cameras(1), SIDE, 3)
