"""Labels against OpenCV's pinhole camera written out."""

import math

import pytest
import torch
from torch.nn.functional import normalize

from cips3d.render.labels import at_distance_one, camera_labels, label_camera, mirrored_labels
from cips3d.render.rays import Camera, camera_rays

SIDE = 8


@pytest.fixture
def camera() -> Camera:
    yaw, pitch = torch.tensor([1.2, 1.9], dtype=torch.float64), torch.tensor([1.4, 1.7], dtype=torch.float64)
    return Camera.from_angles(yaw, pitch, fov_deg=20.0)


def test_label_is_the_camera_whose_pixel_centres_the_rays_pass(camera: Camera) -> None:
    """Every pixel of every camera through K^-1 and cam2world in OpenCV's axes."""
    labels = camera_labels(camera, SIDE, radius=2.7)
    rays = camera_rays(camera, SIDE)
    for b in range(2):
        pose, intrinsics = labels[b, :16].view(4, 4), labels[b, 16:].view(3, 3)
        for row in range(SIDE):
            for column in range(SIDE):
                pixel = torch.tensor([(column + 0.5) / SIDE, (row + 0.5) / SIDE, 1.0], dtype=torch.float64)
                direction = pose[:3, :3] @ torch.linalg.solve(intrinsics, pixel)
                torch.testing.assert_close(rays.directions[b, row * SIDE + column], normalize(direction, dim=0))
        torch.testing.assert_close(pose[:3, 3], 2.7 * rays.origins[b, 0])
        assert torch.linalg.det(pose[:3, :3]).item() == pytest.approx(1)


def test_back_and_forth(camera: Camera) -> None:
    back = label_camera(camera_labels(camera, SIDE, 2.7), SIDE, 2.7)
    torch.testing.assert_close(back.cam2world, camera.cam2world)
    torch.testing.assert_close(back.pitch_yaw, camera.pitch_yaw)
    assert back.fov_deg == pytest.approx(camera.fov_deg)


def test_published_focal_length() -> None:
    """FFHQ's labels: 4.2647 picture sides, a field of 13.4 degrees between the edges."""
    labels = camera_labels(Camera.from_angles(math.pi / 2, math.pi / 2), 512, 2.7)
    labels[:, [16, 20]] = 4.2647
    camera = label_camera(labels, 512, 2.7)
    edges = 2 * math.degrees(math.atan(math.tan(math.radians(camera.fov_deg) / 2) * 512 / 511))
    assert edges == pytest.approx(2 * math.degrees(math.atan(0.5 / 4.2647)))


def test_other_cameras_are_refused(camera: Camera) -> None:
    labels = camera_labels(camera, SIDE)
    with pytest.raises(ValueError, match=r"must be \[B,25\]"):
        label_camera(labels[:, :24], SIDE)
    shifted = labels.clone()
    shifted[1, 18] = 0.4
    with pytest.raises(ValueError, match="one focal length f for all"):
        label_camera(shifted, SIDE)


def test_mirror_image_is_seen_from_the_mirrored_yaw() -> None:
    yaw, pitch = torch.tensor([1.2, 1.9]), torch.tensor([1.4, 1.7])
    labels = camera_labels(Camera.from_angles(yaw, pitch), SIDE)
    torch.testing.assert_close(mirrored_labels(labels), camera_labels(Camera.from_angles(math.pi - yaw, pitch), SIDE))


def test_distance_is_taken_out(camera: Camera) -> None:
    torch.testing.assert_close(at_distance_one(camera_labels(camera, SIDE, 2.7)), camera_labels(camera, SIDE))
