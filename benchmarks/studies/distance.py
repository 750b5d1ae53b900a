"""The distance argument about mirror symmetry (the CIPS-3D paper's Proposition 1, in our words), as numbers and a plot.

  python benchmarks/studies/distance.py

A pixel's sample keeps its place before the camera. When the camera turns by a yaw difference D about the vertical axis,
the sample's point x in the world moves by

  |x - x'| = 2 rho |sin(D / 2)|        rho: the point's distance from the axis, at most half the box's side in the box

and its ray's direction by 2 rho_d |sin(D / 2)| with rho_d the direction's horizontal part, almost 1. So the middle of
the picture is made of the same points from every side: a field of points alone cannot paint it anew for each view,
whereas directions differ there as everywhere, and by more than any point in the box does (in units of half its side). A
network that sees directions can tell views apart where the points are the same: it can draw one picture for the left
and
its mirror image for the right. A fixed encoding with high octaves does much the same to points: after it, points that
are a few hundredths apart differ almost as much as any two.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib
import torch
from torch import Tensor

from cips3d.models import GeneratorConfig
from cips3d.render import Camera, Rays, camera_rays
from cips3d.render.field import make_field

FIGURE = Path(__file__).with_name("distance.png")
RESOLUTION, SAMPLES = 15, 13  # odd: one pixel and one sample lie on the axis
LARGEST = 0.9  # rad: three standard deviations of yaw to either side of the front
STYLES = 16


def turned(yaw: float, config: GeneratorConfig) -> tuple[Tensor, Tensor]:
    """Points [R,S,3] in half sides of the box and ray directions [R,3] of a camera turned by `yaw` from the front."""
    rays: Rays = camera_rays(Camera.from_angles(torch.tensor([torch.pi / 2 + yaw]), torch.pi / 2), RESOLUTION)
    depths = torch.linspace(config.near, config.far, SAMPLES)
    points = rays.origins[0, :, None] + rays.directions[0, :, None] * depths[:, None]
    return points * 2 / config.box_side, rays.directions[0]


def moved(points: Tensor, difference: float) -> Tensor:
    """The formula above: how far points [...,3] move when they turn with the camera."""
    return 2 * points[..., (0, 2)].norm(dim=-1) * abs(torch.sin(torch.tensor(difference / 2)))


def encoded(points: Tensor, config: GeneratorConfig) -> Tensor:
    """The first layer's output [N,P,C] for P points [P,3] (in half sides of the box) and N random styles."""
    field = make_field(config, impl="reference")
    w = torch.randn(STYLES, config.shape_style_dim)
    with torch.no_grad():
        return field.layers[0](points.expand(STYLES, -1, -1), w)


def main() -> None:
    matplotlib.use("Agg")
    from matplotlib import pyplot

    torch.manual_seed(0)
    learnable = GeneratorConfig()
    fixed = GeneratorConfig(positional_encoding="fixed")
    differences = torch.linspace(0, LARGEST, 46).tolist()
    figure, (raw, encodings) = pyplot.subplots(1, 2, figsize=(10, 3.6), layout="constrained")

    direction = torch.tensor([0.0, 0.0, -1.0])
    raw.plot(differences, [moved(direction, d) for d in differences], "k--", label="view direction")
    for share in (1.0, 0.5, 0.1, 0.0):
        point = torch.tensor([share, 0.0, 0.0])
        raw.plot(differences, [moved(point, d) for d in differences], label=f"point, {share:g} of the half side away")
    raw.set(title="what the field sees", xlabel="yaw difference, rad", ylabel="distance")
    raw.legend(frameon=False, fontsize=8)

    for name, config in (("learnable, at the start", learnable), ("fixed", fixed)):
        for share, style in ((0.5, "-"), (0.1, ":")):
            radius = torch.tensor([[share, 0.0, 0.0]])
            turns = torch.tensor([[[torch.cos(d), 0, -torch.sin(d)]] for d in torch.tensor(differences)]) * share
            codes = encoded(torch.cat([radius, turns.flatten(0, 1)]), config)
            distance = (codes[:, 1:] - codes[:, :1]).square().mean(-1).sqrt().mean(0)
            encodings.plot(differences, distance, style, label=f"{name}, {share:g}")
    encodings.set(title="after the positional encoding (RMS)", xlabel="yaw difference, rad")
    encodings.legend(frameon=False, fontsize=8)
    figure.savefig(FIGURE, dpi=100)
    print(FIGURE)


if __name__ == "__main__":
    main()
