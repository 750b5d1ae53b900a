import dataclasses
import math

import numpy as np
import pytest
import torch

from cips3d.data.heads import LOOKS, HeadPose, render_head, render_indexed, sample_parameters, sample_pose
from cips3d.data.heads.render import FAR, HIT, NEAR, camera_basis
from cips3d.data.heads.sdf import BLEND, EXPONENT_LIMIT, Group, HeadSDF, Material, ellipsoids
from cips3d.data.heads.toon import INK
from cips3d.render import Camera, camera_rays

FRONTAL = HeadPose(math.pi / 2, math.pi / 2)
BOX = 0.12  # half the side of the cube that a generator's field covers


def world_points(picture):
    """Surface points [3,S,S] that a picture's depth stands for, from the convention's formulas alone."""
    size = picture.depth.shape[0]
    yaw, pitch = picture.pose.yaw, picture.pose.pitch
    origin = np.array([math.sin(pitch) * math.cos(yaw), math.cos(pitch), math.sin(pitch) * math.sin(yaw)])
    right = np.cross([0.0, 1.0, 0.0], origin)
    right /= np.linalg.norm(right)
    up = np.cross(origin, right)
    x, y = np.meshgrid(np.linspace(-1, 1, size), np.linspace(1, -1, size))
    camera = np.stack([x, y, np.full_like(x, -1 / math.tan(math.radians(12) / 2))])
    camera /= np.linalg.norm(camera, axis=0)
    directions = np.einsum("wc,cij->wij", np.stack([right, up, origin], 1), camera)
    return origin[:, None, None] + directions * picture.depth.numpy()


def test_the_same_index_is_the_same_picture_whatever_was_rendered_before():
    first = render_indexed(3, 7, 24)
    render_indexed(3, 8, 24)
    again = render_indexed(3, 7, 24)
    assert torch.equal(first.image, again.image)
    assert torch.equal(first.depth, again.depth)
    assert first.pose == again.pose == sample_pose(3, 7)


def test_rays_are_those_of_the_generator():
    picture = render_indexed(0, 3, 9)
    yaw, pitch = (torch.tensor([angle], dtype=torch.float64) for angle in (picture.pose.yaw, picture.pose.pitch))
    rays = camera_rays(Camera.from_angles(yaw, pitch), 9)
    points = rays.origins[0] + rays.directions[0] * picture.depth.double().flatten()[:, None]
    seen = picture.depth.isfinite().flatten()
    np.testing.assert_allclose(world_points(picture).reshape(3, -1).T[seen], points[seen], atol=1e-7)


def test_seeds_and_indices_are_different_people():
    people = {sample_parameters(seed, index) for seed in range(3) for index in range(20)}
    assert len(people) == 60


def test_resolutions_show_the_same_head():
    # linspace(-1, 1, 17) is every second of linspace(-1, 1, 33): the same rays, reached from different cones.
    parameters, pose = sample_parameters(0, 4), sample_pose(0, 4)
    small = render_head(parameters, pose, 17, supersample=1)
    large = render_head(parameters, pose, 33, supersample=1)
    both = small.depth.isfinite() & large.depth[::2, ::2].isfinite()
    assert (small.depth.isfinite() == large.depth[::2, ::2].isfinite()).float().mean() > 0.98
    assert (small.depth - large.depth[::2, ::2])[both].abs().quantile(0.99) < 10 * HIT
    difference = (small.image.int() - large.image[:, ::2, ::2].int())[:, both].abs()
    assert difference.float().mean() < 2


def test_poses_follow_the_distribution():
    poses = [sample_pose(0, index) for index in range(4000)]
    yaw, pitch = np.array([(pose.yaw, pose.pitch) for pose in poses]).T
    for angle, std in ((yaw, 0.3), (pitch, 0.155)):
        assert abs(angle.mean() - math.pi / 2) < 5 * std / math.sqrt(len(angle))
        assert abs(angle.std() / std - 1) < 5 / math.sqrt(2 * len(angle))
    assert abs(np.corrcoef(yaw, pitch)[0, 1]) < 5 / math.sqrt(len(yaw))


def test_camera_stands_on_the_unit_sphere_and_looks_at_the_origin():
    origin, rotation = camera_basis(HeadPose(yaw=1.1, pitch=1.3))
    wanted = [math.sin(1.3) * math.cos(1.1), math.cos(1.3), math.sin(1.3) * math.sin(1.1)]
    torch.testing.assert_close(origin[:, 0], torch.tensor(wanted))
    torch.testing.assert_close(rotation[:, 2], origin[:, 0])  # backward
    torch.testing.assert_close(rotation.T @ rotation, torch.eye(3))
    assert torch.linalg.det(rotation) > 0
    assert rotation[1, 1] > 0  # up is up


@pytest.mark.parametrize("turn", [0.4, -0.4])
def test_yaw_turns_the_camera_and_not_the_other_way(turn):
    # yaw pi/2 + 0.4 stands on the side of -x: that side is seen, and the nose points to the picture's right.
    picture = render_head(sample_parameters(0, 2), HeadPose(math.pi / 2 + turn, math.pi / 2), 48)
    points = world_points(picture)
    seen = np.isfinite(points[0])
    assert points[0][seen].mean() * turn < -0.003
    nose_column = np.where(seen, points[2], -1.0).argmax() % 48
    assert (nose_column - 23.5) * turn > 2


def test_pitch_below_a_right_angle_looks_from_above():
    parameters = sample_parameters(0, 2)
    above = render_head(parameters, HeadPose(math.pi / 2, math.pi / 2 - 0.4), 48)
    nose = np.where(above.depth.isfinite().numpy(), world_points(above)[2], -1.0).argmax() // 48
    frontal = render_head(parameters, FRONTAL, 48)
    nose_frontal = np.where(frontal.depth.isfinite().numpy(), world_points(frontal)[2], -1.0).argmax() // 48
    assert camera_basis(above.pose)[0][1] > 0
    assert nose > nose_frontal + 3  # further down in the picture


def test_depth_is_where_the_surface_is():
    parameters = sample_parameters(0, 5)
    picture = render_head(parameters, sample_pose(0, 5), 24, supersample=1)
    sdf = HeadSDF(parameters)
    size = 24 * 24
    points = torch.from_numpy(world_points(dataclasses.replace(picture, depth=torch.ones(24, 24))))
    origin = camera_basis(picture.pose)[0].double()
    directions = points.flatten(1) - origin
    along = torch.arange(NEAR, FAR, HIT / 2, dtype=torch.float64)
    first = torch.full((size,), math.inf)
    for ray in range(size):  # brute force: the first sample inside
        inside = sdf((origin + directions[:, ray : ray + 1] * along).float()) < 0
        if inside.any():
            first[ray] = along[inside.int().argmax()]
    found = picture.depth.flatten()
    assert (found.isfinite() == first.isfinite()).float().mean() > 0.97  # grazing rays may differ
    both = found.isfinite() & first.isfinite()
    error = (found - first)[both].abs()
    assert both.sum() > 150
    assert error.median() < 2 * HIT
    assert error.quantile(0.98) < 25 * HIT


def test_heads_fill_the_picture_and_stay_in_the_box():
    for index in range(12):
        picture = render_indexed(1, index, 32)
        seen = picture.depth.isfinite()
        assert 0.2 < seen.float().mean() < 0.8
        assert picture.depth[seen].min() > NEAR and picture.depth[seen].max() < FAR
        points = world_points(picture)[:, seen.numpy()]
        assert np.abs(points[[0, 2]]).max() < BOX
        assert points[1].max() < BOX  # below, the clothes go on past the picture's edge


def test_heads_are_asymmetric_from_the_front():
    for index in range(8):
        # light and gaze from the front, so that what remains is the head's own asymmetry
        parameters = dataclasses.replace(sample_parameters(0, index), light=(0.0, 0.0, 1.0), gaze=(0.0, 0.0))
        image = render_head(parameters, FRONTAL, 32).image.float()
        assert (image - image.flip(-1)).abs().mean() > 1.5
        mirrored = dataclasses.replace(parameters, hair_side=-parameters.hair_side)
        image_mirrored = render_head(mirrored, FRONTAL, 32).image.float()
        difference = (image_mirrored - image.flip(-1)).abs().mean()
        assert difference < (image - image.flip(-1)).abs().mean() / 2


def test_identities_vary():
    images = torch.stack([render_indexed(0, index, 16).image for index in range(24)]).float()
    assert images.std(0).mean() > 30
    assert len({sample_parameters(0, index).hair_style for index in range(60)}) == 6


def test_ellipsoid_distance_equals_the_formula_in_float64():
    parameters = sample_parameters(0, 0)
    shapes = ellipsoids(parameters)
    points = torch.randn(3, 200, generator=torch.Generator().manual_seed(0)) * 0.06
    expected = np.empty((len(shapes), 200))
    for row, shape in enumerate(shapes):
        cr, sr, ct, st = (f(a) for a in (shape.roll, shape.tilt) for f in (math.cos, math.sin))
        roll = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
        tilt = np.array([[1, 0, 0], [0, ct, -st], [0, st, ct]])
        local = (tilt @ roll).T @ (points.double().numpy() - np.array(shape.centre)[:, None])
        k0 = np.linalg.norm(local / np.array(shape.radii)[:, None], axis=0)
        k1 = np.linalg.norm(local / np.array(shape.radii)[:, None] ** 2, axis=0)
        expected[row] = k0 * (k0 - 1) / k1
    # A union is at most the smallest distance of its members, and at most b log K below it; it saturates far away.
    distances = HeadSDF(parameters).distances(points).numpy()
    for group, material in ((Group.EYE, Material.EYE), (Group.CLOTHES, Material.CLOTHES)):
        members = expected[[shape.group == group for shape in shapes]]
        nearest = members.min(0).clip(max=EXPONENT_LIMIT * BLEND[group])
        assert (distances[material] < nearest + 1e-4).all()
        assert (distances[material] > nearest - BLEND[group] * math.log(len(members)) - 1e-4).all()


def test_normals_are_the_gradient():
    sdf = HeadSDF(sample_parameters(0, 1))
    picture = render_head(sample_parameters(0, 1), FRONTAL, 24, supersample=1)
    points = torch.from_numpy(world_points(picture)[:, picture.depth.isfinite().numpy()]).float()
    _, normals = sdf.surface(points)
    step = 2e-4 * torch.eye(3)
    slope = torch.stack([sdf(points + step[:, k : k + 1]) - sdf(points - step[:, k : k + 1]) for k in range(3)])
    cosine = (torch.nn.functional.normalize(slope, dim=0) * normals).sum(0)
    torch.testing.assert_close(normals.norm(dim=0), torch.ones(points.shape[1]))
    assert cosine.quantile(0.05) > 0.99  # where materials meet, the gradient jumps


def test_toons_are_flat_inked_and_vivid():
    wanted = (torch.tensor(INK) * 255).round().int()[:, None, None]
    colours, saturation, ink = {}, {}, {}
    for look in LOOKS:
        pictures = torch.stack([render_indexed(0, index, 40, 1, look).image for index in range(6)]).int()
        colours[look] = sum(len(picture.flatten(1).unique(dim=1).T) for picture in pictures)
        most = pictures.amax(1).clamp(min=1)
        saturation[look] = (1 - pictures.amin(1) / most).mean()
        ink[look] = (pictures == wanted).all(1).float().mean()
    assert colours["toon"] < colours["natural"] / 2
    assert saturation["toon"] > 1.2 * saturation["natural"]
    assert ink["toon"] > 0.03 and ink["natural"] == 0


def test_a_toon_is_not_drawn_with_other_shapes():
    person, pose = sample_parameters(0, 6), sample_pose(0, 6)
    natural, toon = (render_head(person, pose, 24, look=look) for look in LOOKS)
    assert torch.equal(natural.depth, toon.depth)
    outside = ~natural.depth.isfinite()
    background = toon.image[:, outside]
    assert (background[:, 0:1] == background).float().mean() > 0.8  # flat but for blended edges


def test_wrong_resolution_is_an_error():
    with pytest.raises(ValueError, match="resolution and supersample must be at least 1, got 0 and 2"):
        render_head(sample_parameters(0, 0), FRONTAL, 0)
