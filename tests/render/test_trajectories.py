"""Camera paths, checked by geometry."""

import math

import pytest
import torch

from cips3d.render.trajectories import FAR_FOV, TRAJECTORIES, TRANSLATION, Swing, camera_at

FRONT = math.pi / 2
SWING = Swing(yaw_mean=FRONT, pitch_mean=FRONT, yaw=0.4, pitch=0.2, fov_deg=12.0)
FRAMES = 80


def path(name: str) -> list:
    return [camera_at(name, SWING, frame, FRAMES) for frame in range(FRAMES)]


def parts(camera) -> tuple:
    """right, up, backward, position of a batch of one."""
    assert camera.cam2world.shape == (1, 4, 4)
    return tuple(camera.cam2world[0, :3].T)


def looks_at_the_origin_from_the_unit_sphere(camera) -> bool:
    *_, backward, position = parts(camera)
    return torch.allclose(position.norm(), torch.ones(())) and torch.allclose(backward, position, atol=1e-5)


@pytest.mark.parametrize("name", ["yaw", "circle", "circle-near-far"])
def test_on_the_sphere_looking_at_the_origin(name):
    assert all(looks_at_the_origin_from_the_unit_sphere(camera) for camera in path(name))


@pytest.mark.parametrize("name", TRAJECTORIES)
def test_closed_and_continuous(name):
    """No step is longer than the mean one by much, also from the last frame to the first; axes stay orthonormal."""
    poses = torch.cat([camera.cam2world for camera in path(name)])
    rotation = poses[:, :3, :3]
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3).expand(FRAMES, 3, 3), rtol=0, atol=1e-5)
    steps = (poses.roll(-1, 0) - poses).flatten(1).norm(dim=1)
    assert 0 < steps.max() < 4 * steps.mean()
    fovs = torch.tensor([camera.fov_deg for camera in path(name)])
    assert (fovs.roll(-1) - fovs).abs().max() < (FAR_FOV - 1) * SWING.fov_deg * 4 * math.pi / FRAMES


@pytest.mark.parametrize("name", ["yaw", "circle"])
def test_extremes(name):
    pitch, yaw = torch.cat([camera.pitch_yaw for camera in path(name)]).T
    torch.testing.assert_close(torch.stack([yaw.min(), yaw.max()]), torch.tensor([FRONT - 0.4, FRONT + 0.4]))
    reach = 0.2 if name == "circle" else 0.0
    torch.testing.assert_close(torch.stack([pitch.min(), pitch.max()]), torch.tensor([FRONT - reach, FRONT + reach]))


def test_near_far_opens_the_view_and_closes_it():
    fovs = [camera.fov_deg for camera in path("circle-near-far")]
    assert fovs[0] == 12.0 and max(fovs) == fovs[FRAMES // 2] == pytest.approx(20.0)
    assert fovs[1 : FRAMES // 2] == pytest.approx(fovs[: FRAMES // 2 : -1])


@pytest.mark.parametrize("name", ["translate-circle-near-far", "translate-rotate"])
def test_translations_do_not_turn(name):
    part = int(TRANSLATION * FRAMES)
    cameras = path(name)
    right, up, backward, start = parts(cameras[0])
    for axis, moves in ((right, cameras[:part]), (up, cameras[part : 2 * part])):
        offsets = torch.stack([parts(camera)[3] - start for camera in moves])
        along = offsets @ axis
        torch.testing.assert_close(offsets, along[:, None] * axis, rtol=0, atol=1e-6)
        half = math.tan(math.radians(6))  # of the picture's width at the origin
        assert along.max().item() == pytest.approx(half / 2) and along.min().item() == pytest.approx(-half / 2)
        assert all(torch.allclose(parts(camera)[2], backward, atol=1e-6) for camera in moves)


def test_translate_circle_goes_on_with_the_circles():
    cameras = path("translate-circle-near-far")[FRAMES // 2 :]
    circles = [camera_at("circle-near-far", SWING, frame, FRAMES // 2) for frame in range(FRAMES // 2)]
    for camera, circle in zip(cameras, circles, strict=True):
        torch.testing.assert_close(camera.cam2world, circle.cam2world)
        assert camera.fov_deg == pytest.approx(circle.fov_deg)


def test_rotation_is_about_the_line_of_sight():
    cameras = path("translate-rotate")[FRAMES // 2 :]
    right, up, backward, position = parts(cameras[0])
    for camera in cameras:
        assert looks_at_the_origin_from_the_unit_sphere(camera)
        assert torch.allclose(parts(camera)[3], position, atol=1e-6)
    quarter = parts(cameras[len(cameras) // 4])
    torch.testing.assert_close(quarter[1], -right, rtol=0, atol=1e-5)  # up has turned to the left
    torch.testing.assert_close(quarter[0], up, rtol=0, atol=1e-5)


def test_unknown_names_and_frames():
    for name, frame in (("spiral", 0), ("yaw", 4), ("yaw", -1)):
        with pytest.raises(ValueError, match=r"yaw, circle, .* and a frame in 0 .. 3, got "):
            camera_at(name, SWING, frame, 4)
