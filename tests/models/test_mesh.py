"""The mesh of a constructed ball is closed and round, and files of all formats can be read again with their colours."""

import math

import numpy as np
import pytest
import torch
import trimesh

from cips3d.models import mesh as mesh_module
from cips3d.models.mesh import Mesh, extract_mesh, write_mesh

RADIUS, STEP = 0.08, 0.02
W = torch.zeros(1, 128)
# 0, a quarter, a half and all of sRGB's range and their shares of light, by hand from IEC 61966-2-1
COLOURS, LIGHT = [[0, 64, 128], [255, 0, 64], [64, 128, 0], [128, 64, 255]], {0: 0, 64: 13, 128: 55, 255: 255}


@pytest.fixture
def tetrahedron() -> Mesh:
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=np.float32) / 10
    faces = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    return Mesh(corners, faces, np.array(COLOURS, dtype=np.uint8))


def body(mesh: Mesh) -> trimesh.Trimesh:
    return trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)


@pytest.mark.parametrize("level", [0.0, None])
def test_a_ball_is_closed_and_round(ball, level):
    mesh = extract_mesh(ball, W, resolution=48, step=STEP, level=level)
    closed = body(mesh)
    assert closed.is_watertight and closed.euler_number == 2
    radii = np.linalg.norm(mesh.vertices, axis=1)
    grid = 0.24 / 47
    assert np.abs(radii - RADIUS).max() < (0.2 if level == 0 else 0.5) * grid
    assert closed.volume == pytest.approx(4 / 3 * math.pi * RADIUS**3, rel=0.01 if level == 0 else 0.05)
    outwards = (closed.face_normals * closed.triangles_center).sum(1) / np.linalg.norm(closed.triangles_center, axis=1)
    assert outwards.min() > 0.9


def test_what_reaches_the_box_is_closed_at_its_faces(ball):
    with torch.no_grad():
        ball.field.density.weight[0, 1:3] = 0  # a slab between two planes of constant x
        ball.field.density.bias.fill_(-ball.field.density.weight[0, 0].item() * math.cos(1 / 3))
    mesh = extract_mesh(ball, W, resolution=32, step=STEP, level=0.0)
    assert body(mesh).is_watertight
    np.testing.assert_allclose(mesh.vertices.min(0), [-RADIUS, -0.12, -0.12], atol=1e-4)
    np.testing.assert_allclose(mesh.vertices.max(0), [RADIUS, 0.12, 0.12], atol=1e-4)
    assert body(mesh).volume == pytest.approx(2 * RADIUS * 0.24**2, rel=0.01)


def test_colours_are_the_nerfs_at_the_vertices(ball):
    """Colours are the auxiliary head's, here made a known function of x: grey at 0, red grows with x, blue falls."""
    field = ball.field
    with torch.no_grad():
        for parameter in [*field.colour.parameters(), *field.feature.parameters(), *ball.aux_rgb.parameters()]:
            parameter.zero_()
        # The trunk gives cos(x / (3 radius)) alone, which is even: colours depend on |x|.
        field.colour.weight[0, 0] = 1 / field.scales["gamma_offset"]
        field.feature.weight[0, 0] = 1
        ball.aux_rgb.weight[0, 0], ball.aux_rgb.weight[2, 0] = 1, -1
    mesh = extract_mesh(ball, W, resolution=24, step=STEP)
    value = np.tanh(np.sin(np.cos(mesh.vertices[:, 0] / (3 * RADIUS))))
    wanted = np.stack([value, 0 * value, -value], 1) * 127.5 + 127.5
    assert mesh.colours.dtype == np.uint8 and np.abs(mesh.colours - wanted).max() <= 0.51
    assert mesh.colours[:, 0].min() < mesh.colours[:, 0].max()


def test_chunks_change_nothing_and_bound_the_points(ball, monkeypatch):
    whole, seen = extract_mesh(ball, W, resolution=16, step=STEP), []
    monkeypatch.setattr(mesh_module, "POINTS_AT_A_TIME", 500)
    ball.field.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].shape[1]))
    steps = []
    parts = extract_mesh(ball, W, resolution=16, step=STEP, progress=lambda starts: steps.append(len(starts)) or starts)
    assert max(seen) == 500 and steps == [math.ceil(16**3 / 500)]
    for field, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(field, other, atol=1e-6)


@pytest.mark.parametrize("suffix", ["ply", "obj", "glb", "PLY"])
def test_files_can_be_read_again(tetrahedron, tmp_path, suffix):
    path = tmp_path / "new" / f"mesh.{suffix}"
    write_mesh(tetrahedron, path, "made with --seed 7")
    assert b"made with --seed 7" in path.read_bytes()
    read = trimesh.load_mesh(path, process=False, **({"skip_materials": True} if suffix == "glb" else {}))
    np.testing.assert_allclose(read.vertices, tetrahedron.vertices, atol=1e-7)
    assert np.array_equal(read.faces, tetrahedron.faces) and read.is_watertight and read.volume > 0
    wanted = (
        np.vectorize(LIGHT.get)(COLOURS) if suffix == "glb" else COLOURS
    )  # trimesh reads glTF's numbers as they are
    assert np.array_equal(read.visual.vertex_colors[:, :3], wanted)


def test_glb_is_no_metal(tetrahedron, tmp_path):
    """Without a material of its own it would be, and black in many viewers."""
    write_mesh(tetrahedron, tmp_path / "x.glb")
    material = trimesh.load_mesh(tmp_path / "x.glb", process=False).visual.material
    assert material.metallicFactor == 0 and material.roughnessFactor == 1


def test_what_cannot_be_meshed(ball, tetrahedron, tmp_path):
    for level in (1e6, -1e6, math.nan):
        with pytest.raises(ValueError, match=r"density is between -.* and .* nowhere .*; give a level between"):
            extract_mesh(ball, W, resolution=8, step=STEP, level=level)
    for resolution in (1, 1025):
        with pytest.raises(ValueError, match=f"resolution must be in 2 .. 1024, got {resolution}"):
            extract_mesh(ball, W, resolution=resolution, step=STEP)
    with pytest.raises(ValueError, match=r"must end in .ply, .obj, .glb, got x.stl"):
        write_mesh(tetrahedron, tmp_path / "x.stl")
    torch.nn.init.zeros_(ball.field.density.weight)
    for density in (-1.0, 1e6):
        torch.nn.init.constant_(ball.field.density.bias, density)
        with pytest.raises(ValueError, match="give a level between"):
            extract_mesh(ball, W, resolution=3, step=STEP)
