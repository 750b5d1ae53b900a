"""EG3D's public generator restated from its state dict: per-sample weights, inserted zeros, F.grid_sample, loops.

Shares no code with the package. `state` has the public code's names; labels c [B,25] are cam2world and intrinsics in
OpenCV's axes. Everything runs in the dtype of the state.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

State = dict[str, Tensor]


@dataclass(frozen=True)
class Rendering:
    """What the public code's rendering_kwargs say."""

    ray_start: float
    ray_end: float
    box_warp: float
    samples: int
    raw_side: int
    sr_start: int
    sr_up_first: bool
    sr_clamp: float | None
    white_back: bool = False


def dense(state: State, name: str, x: Tensor, lr: float = 1.0) -> Tensor:
    weight = state[f"{name}.weight"]
    return x @ (weight * (lr / math.sqrt(weight.shape[1]))).T + state[f"{name}.bias"] * lr


def normalised(x: Tensor) -> Tensor:
    return x / (x.square().mean(1, keepdim=True) + 1e-8).sqrt()


def mapping(state: State, z: Tensor, c: Tensor) -> Tensor:
    x = torch.cat([normalised(z), normalised(dense(state, "backbone.mapping.embed", c))], 1)
    layer = 0
    while f"backbone.mapping.fc{layer}.weight" in state:
        x = F.leaky_relu(dense(state, f"backbone.mapping.fc{layer}", x, 0.01), 0.2) * math.sqrt(2)
        layer += 1
    return x


def low_passed(x: Tensor, before: int, after: int, gain: float) -> Tensor:
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=x.dtype)
    kernel = gain * torch.outer(taps, taps) / 64
    x = F.pad(x, (before, after, before, after))
    return F.conv2d(x, kernel.expand(x.shape[1], 1, 4, 4), groups=x.shape[1])


def doubled(x: Tensor) -> Tensor:
    wide = x.new_zeros(*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])
    wide[..., ::2, ::2] = x
    return low_passed(wide, 2, 1, 4.0)


def styled(state: State, name: str, x: Tensor, w: Tensor, up: bool, noisy: bool, clamp: float | None) -> Tensor:
    style = dense(state, f"{name}.affine", w)
    weights = state[f"{name}.weight"][None] * style[:, None, :, None, None]
    weights = weights / (weights.square().sum((2, 3, 4), keepdim=True) + 1e-8).sqrt()
    rows = []
    for sample, weight in zip(x, weights, strict=True):
        if up:
            wide = F.conv_transpose2d(sample[None], weight.transpose(0, 1), stride=2)
            rows.append(low_passed(wide, 1, 1, 4.0))
        else:
            rows.append(F.conv2d(sample[None], weight, padding=1))
    y = torch.cat(rows)
    if noisy:
        y = y + state[f"{name}.noise_const"] * state[f"{name}.noise_strength"]
    y = F.leaky_relu(y + state[f"{name}.bias"][:, None, None], 0.2) * math.sqrt(2)
    return y if clamp is None else y.clamp(-clamp, clamp)


def colours(state: State, name: str, x: Tensor, w: Tensor, clamp: float | None) -> Tensor:
    weight = state[f"{name}.weight"][:, :, 0, 0]
    style = dense(state, f"{name}.affine", w) / math.sqrt(weight.shape[1])
    y = torch.einsum("oi,bi,bihw->bohw", weight, style, x) + state[f"{name}.bias"][:, None, None]
    return y if clamp is None else y.clamp(-clamp, clamp)


def planes(state: State, w: Tensor) -> Tensor:
    side, prefix = 4, "backbone.synthesis.b"
    x = state[f"{prefix}4.const"].expand(len(w), -1, -1, -1)
    image: Tensor | None = None
    while f"{prefix}{side}.conv1.weight" in state:
        name = f"{prefix}{side}"
        if side > 4:
            x = styled(state, f"{name}.conv0", x, w, True, True, None)
        x = styled(state, f"{name}.conv1", x, w, False, True, None)
        y = colours(state, f"{name}.torgb", x, w, None)
        image = y if image is None else doubled(image) + y
        side *= 2
    assert image is not None
    return image.unflatten(1, (3, -1))


def rays(c: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Origins and directions [B,side^2,3] through pixel centres."""
    pose, intrinsics = c[:, :16].view(-1, 4, 4), c[:, 16:].view(-1, 3, 3)
    centres = (torch.arange(side, dtype=c.dtype) + 0.5) / side
    directions = []
    for row in centres:
        for column in centres:
            x = (column - intrinsics[:, 0, 2]) / intrinsics[:, 0, 0]
            y = (row - intrinsics[:, 1, 2]) / intrinsics[:, 1, 1]
            local = torch.stack([x, y, torch.ones_like(x)], 1)
            directions.append(F.normalize((pose[:, :3, :3] @ local[..., None])[..., 0], dim=1))
    stacked = torch.stack(directions, 1)
    return pose[:, None, :3, 3].expand_as(stacked), stacked


def field(state: State, grids: Tensor, points: Tensor, box: float) -> tuple[Tensor, Tensor]:
    """Colours and raw densities at points [B,N,3]: the planes xy, xz and zx of the published code."""
    p = points * (2 / box)
    read = [
        F.grid_sample(grids[:, k], p[:, None, :, list(pair)], padding_mode="zeros", align_corners=False)[:, :, 0].mT
        for k, pair in enumerate(((0, 1), (0, 2), (2, 0)))
    ]
    hidden = F.softplus(dense(state, "decoder.net.0", torch.stack(read).mean(0)))
    y = dense(state, "decoder.net.2", hidden)
    return torch.sigmoid(y[..., 1:]) * 1.002 - 0.001, y[..., 0]


def march(rgb: Tensor, density: Tensor, depth: Tensor, white: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Midpoint rule over [B,R,S,...]: colours in [-1,1], expected depth, weights."""
    steps = depth[..., 1:] - depth[..., :-1]
    rgb, density, middle = ((v[:, :, 1:] + v[:, :, :-1]) / 2 for v in (rgb, density, depth))
    alpha = 1 - torch.exp(-F.softplus(density - 1) * steps)
    left = torch.ones_like(alpha)
    for k in range(1, alpha.shape[2]):
        left[..., k] = left[..., k - 1] * (1 - alpha[..., k - 1] + 1e-10)
    weights = alpha * left
    total = weights.sum(2)
    picture = (weights[..., None] * rgb).sum(2) + ((1 - total)[..., None] if white else 0)
    expected = ((weights * middle).sum(2) / total).nan_to_num(torch.inf).clamp(depth.min(), depth.max())
    return 2 * picture - 1, expected, weights


def importance(depth: Tensor, weights: Tensor, u: Tensor) -> Tensor:
    """Depths [B,R,N] of one ray after the other."""
    result = torch.empty_like(u)
    for b in range(len(depth)):
        for r in range(depth.shape[1]):
            wide = F.max_pool1d(weights[b, r][None], 2, 1, padding=1)
            w = F.avg_pool1d(wide, 2, 1)[0] + 0.01
            middle = (depth[b, r, 1:] + depth[b, r, :-1]) / 2
            pdf = w[1:-1] + 1e-5
            cdf = torch.cat([pdf.new_zeros(1), torch.cumsum(pdf / pdf.sum(), 0)])
            for n, value in enumerate(u[b, r]):
                above = int((cdf <= value).sum())
                low, high = max(above - 1, 0), min(above, len(pdf))
                step = cdf[high] - cdf[low]
                share = (value - cdf[low]) / (step if step >= 1e-5 else 1.0)
                result[b, r, n] = middle[low] + share * (middle[high] - middle[low])
    return result


def volume(state: State, grids: Tensor, c: Tensor, how: Rendering, jitter: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """Features [B,C,r,r] and depth [B,r,r]."""
    origins, directions = rays(c, how.raw_side)

    def evaluate(depth: Tensor) -> tuple[Tensor, Tensor]:
        points = origins[:, :, None] + directions[:, :, None] * depth[..., None]
        rgb, density = field(state, grids, points.flatten(1, 2), how.box_warp)
        return rgb.unflatten(1, depth.shape[1:]), density.unflatten(1, depth.shape[1:])

    spacing = (how.ray_end - how.ray_start) / (how.samples - 1)
    depth = how.ray_start + spacing * (torch.arange(how.samples, dtype=c.dtype) + jitter)
    rgb, density = evaluate(depth)
    fine = importance(depth, march(rgb, density, depth, False)[2], u)
    fine_rgb, fine_density = evaluate(fine)
    depth, order = torch.cat([depth, fine], 2).sort(dim=2)
    rgb = torch.cat([rgb, fine_rgb], 2).gather(2, order[..., None].expand(-1, -1, -1, rgb.shape[-1]))
    density = torch.cat([density, fine_density], 2).gather(2, order)
    picture, expected, _ = march(rgb, density, depth, how.white_back)
    square = (how.raw_side, how.raw_side)
    return picture.mT.unflatten(2, square), expected.unflatten(1, square)


def super_resolution(state: State, features: Tensor, w: Tensor, how: Rendering) -> Tensor:
    if features.shape[-1] != how.sr_start:
        square = (how.sr_start, how.sr_start)
        features = F.interpolate(features, size=square, mode="bilinear", align_corners=False, antialias=True)
    x, image = features, features[:, :3]
    for block, up in (("block0", how.sr_up_first), ("block1", True)):
        name = f"superresolution.{block}"
        x = styled(state, f"{name}.conv0", x, w, up, False, how.sr_clamp)
        x = styled(state, f"{name}.conv1", x, w, False, False, how.sr_clamp)
        image = (doubled(image) if up else image) + colours(state, f"{name}.torgb", x, w, how.sr_clamp)
    return image


def generate(
    state: State, z: Tensor, condition: Tensor, c: Tensor, how: Rendering, jitter: Tensor, u: Tensor
) -> dict[str, Tensor]:
    """image [B,3,S,S], image_raw [B,3,r,r] and image_depth [B,r,r] of codes mapped with `condition`, seen from c."""
    w = mapping(state, z, condition)
    features, depth = volume(state, planes(state, w), c, how, jitter, u)
    image = super_resolution(state, features, w, how)
    return {"image": image, "image_raw": features[:, :3], "image_depth": depth}
