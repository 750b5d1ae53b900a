"""The public VolumeGAN generator, restated from its description: a state dict with its keys, and the picture of it.

Everything is written out: loops over samples, layers and bins, convolutions and grid_sample of torch, one style w for
all layers. The random numbers are arguments.
"""

import math

import torch
import torch.nn.functional as F

BOUNDS = torch.tensor([[-0.1886, -0.1671, -0.1956], [0.1887, 0.1692, 0.1872]], dtype=torch.float64)


def random_state(
    z=5, w=6, mapping=2, base=8, descriptor=3, stages=2, octaves=2, width=7, mlps=2, feature=6, nerf=4, sides=(5, 4)
):
    """Random float64 weights under the public keys; `sides`: channels of the renderer at 2, 4, ... times `nerf`."""
    state = {}

    def put(name, *shape):
        state[name] = torch.randn(shape, dtype=torch.float64)

    def dense(name, i, o):
        put(f"{name}.weight", o, i)
        put(f"{name}.bias", o)

    def modulated(name, i, o, side=None):
        put(f"{name}.weight", o, i, 1, 1)
        put(f"{name}.bias", o)
        dense(f"{name}.style", w, i)
        if side:
            put(f"{name}.noise_strength")
            put(f"{name}.noise", 1, 1, side, side)

    for k in range(mapping):
        dense(f"mapping.dense{k}", w if k else z, w)
    put("w_avg", w)
    put("nerfmlp.fv.const", 1, base, 4, 4, 4)
    channels = [base] + [max(base >> k, descriptor) for k in range(stages - 1)] + [descriptor]
    for k in range(stages):
        put(f"nerfmlp.fv.layer{k}.weight", channels[k + 1], channels[k], 3, 3, 3)
        put(f"nerfmlp.fv.layer{k}.bias", channels[k + 1])
    dense("nerfmlp.fv.mapping_network", w, 2 * sum(channels[1:]))
    for k in range(mlps):
        modulated(f"nerfmlp.fg_mlps.{k}", width if k else descriptor + 3 + 6 * octaves, width)
    dense("nerfmlp.fg_density", width, 1)
    state["nerfmlp.fg_density.bias"] += 20  # fog: rays meet something
    dense("nerfmlp.fg_color", width, feature)
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=torch.float64)
    state["synthesis.lod"] = torch.zeros((), dtype=torch.float64)
    state["synthesis.filter"] = low_pass = torch.outer(taps, taps) / 64
    before = feature
    for k, now in enumerate(sides, 1):
        modulated(f"synthesis.layer{2 * k - 1}", before, now, nerf << k)
        state[f"synthesis.layer{2 * k - 1}.filter"] = low_pass
        modulated(f"synthesis.layer{2 * k}", now, now, nerf << k)
        modulated(f"synthesis.output{k}", now, 3)
        before = now
    return state


def lrelu(x):
    return torch.where(x > 0, x, 0.2 * x) * math.sqrt(2)


def dense(state, name, x, lr=1.0):
    weight = state[f"{name}.weight"]
    return x @ weight.T * lr / math.sqrt(weight.shape[1]) + lr * state[f"{name}.bias"]


def mapped(state, z):
    x = z / (z.square().mean(1, keepdim=True) + 1e-8).sqrt()
    k = 0
    while f"mapping.dense{k}.weight" in state:
        x = lrelu(dense(state, f"mapping.dense{k}", x, 0.01))
        k += 1
    return x


def up(x, low_pass):
    """Zeros between the pixels, two before and one behind, and the low-pass with a gain of 4."""
    b, c, h, w = x.shape
    zeros = x.new_zeros(b, c, 2 * h, 2 * w)
    zeros[..., ::2, ::2] = x
    return F.conv2d(F.pad(zeros, (2, 1, 2, 1)), 4 * low_pass.flip(0, 1).expand(c, 1, 4, 4), groups=c)


def modulated(state, name, x, w, demodulate=True):
    """x [B,I,H,W] -> [B,O,H or 2H,W or 2W]."""
    weight = state[f"{name}.weight"]
    style = dense(state, f"{name}.style", w)
    if not demodulate:
        style = style / math.sqrt(weight.shape[1])
    x = F.conv2d(x * style[:, :, None, None], weight)
    if f"{name}.filter" in state:
        x = up(x, state[f"{name}.filter"])
    if demodulate:
        norms = (weight[None] * style[:, None, :, None, None]).square().sum((2, 3, 4))
        x = x / (norms + 1e-8).sqrt()[:, :, None, None]
    if f"{name}.noise" in state:
        x = x + state[f"{name}.noise"] * state[f"{name}.noise_strength"]
    x = x + state[f"{name}.bias"][:, None, None]
    return lrelu(x) if demodulate else x


def volume(state, w):
    affine = w @ state["nerfmlp.fv.mapping_network.weight"].T + state["nerfmlp.fv.mapping_network.bias"]
    scales, shifts = affine.chunk(2, 1)
    x, k, start = state["nerfmlp.fv.const"].repeat(len(w), 1, 1, 1, 1), 0, 0
    while f"nerfmlp.fv.layer{k}.weight" in state:
        if k:
            x = x.repeat_interleave(2, 2).repeat_interleave(2, 3).repeat_interleave(2, 4)
        x = F.conv3d(x, state[f"nerfmlp.fv.layer{k}.weight"], state[f"nerfmlp.fv.layer{k}.bias"], padding=1)
        x = x - x.mean((2, 3, 4), keepdim=True)
        x = x / (x.square().mean((2, 3, 4), keepdim=True) + 1e-8).sqrt()
        end = start + x.shape[1]
        x = x * scales[:, start:end, None, None, None] + shifts[:, start:end, None, None, None]
        x = torch.where(x > 0, x, 0.2 * x)
        k, start = k + 1, end
    return x


def field(state, w, features, points, octaves):
    """points [B,P,3] -> colours [B,P,C], densities [B,P]."""
    places = (points - BOUNDS[0]) / (BOUNDS[1] - BOUNDS[0]) * 2 - 1
    descriptor = F.grid_sample(features, places[:, None, None], padding_mode="border", align_corners=True)[:, :, 0, 0]
    parts = [points]
    for k in range(octaves):
        parts += [torch.sin(points * 2**k), torch.cos(points * 2**k)]
    x = torch.cat([descriptor, torch.cat(parts, -1).mT], 1)[..., None]
    k = 0
    while f"nerfmlp.fg_mlps.{k}.weight" in state:
        x = modulated(state, f"nerfmlp.fg_mlps.{k}", x, w)
        k += 1
    x = x[..., 0].mT
    return dense(state, "nerfmlp.fg_color", x), dense(state, "nerfmlp.fg_density", x)[..., 0]


def weights_of(density, depths):
    left, weights = torch.ones_like(density[..., 0]), []
    for k in range(depths.shape[-1]):
        delta = depths[..., k + 1] - depths[..., k] if k + 1 < depths.shape[-1] else 1e10
        alpha = 1 - torch.exp(-delta * density[..., k].clamp(min=0))
        weights.append(alpha * left)
        left = left * (1 - alpha + 1e-10)
    return torch.stack(weights, -1)


def fine_depths(depths, weights, u):
    """Of one ray: depths [N], weights [N], u [N]."""
    bins, inner = (depths[1:] + depths[:-1]) / 2, (weights + 1e-5)[1:-1] + 1e-5
    cdf, result = [0.0], []
    for weight in inner / inner.sum():
        cdf.append(cdf[-1] + weight)
    for number in u:
        above = sum(1 for c in cdf if c < number)
        below, above = max(above - 1, 0), min(above, len(inner))
        step = cdf[above] - cdf[below]
        place = (number - cdf[below]) / (step if step >= 1e-5 else 1.0)
        result.append(bins[below] + place * (bins[above] - bins[below]))
    return torch.stack(result)


def feature_map(state, w, origins, directions, jitter, u, near, far):
    """Rays [B,R,3], jitter and u [B,R,N] -> features [B,C,s,s]."""
    b, rays, count = jitter.shape
    descriptor = state["nerfmlp.fv.layer0.weight"].shape[0]
    features = volume(state, w)
    descriptor = features.shape[1]
    octaves = (state["nerfmlp.fg_mlps.0.weight"].shape[1] - descriptor) // 6

    def at(depths):
        points = origins[:, :, None] + directions[:, :, None] * depths[..., None]
        colour, density = field(state, w, features, points.reshape(b, -1, 3), octaves)
        return colour.reshape(b, rays, -1, colour.shape[-1]), density.reshape(b, rays, -1)

    even = torch.linspace(near, far, count, dtype=torch.float64)
    coarse = even + (jitter - 0.5) * (even[1] - even[0])
    colour, density = at(coarse)
    weights = weights_of(density, coarse)
    fine = torch.stack(
        [torch.stack([fine_depths(coarse[i, r], weights[i, r], u[i, r]) for r in range(rays)]) for i in range(b)]
    )
    more_colour, more_density = at(fine)
    depths, order = torch.cat([fine, coarse], -1).sort(-1)
    density = torch.cat([more_density, density], -1).gather(-1, order)
    colour = torch.cat([more_colour, colour], -2)
    colour = colour.gather(-2, order[..., None].expand(-1, -1, -1, colour.shape[-1]))
    side = math.isqrt(rays)
    return (weights_of(density, depths)[..., None] * colour).sum(-2).mT.reshape(b, -1, side, side)


def picture(state, z, origins, directions, jitter, u, near=0.8, far=1.2):
    """The image [B,3,S,S] with constant noise."""
    w = mapped(state, z)
    x = feature_map(state, w, origins, directions, jitter, u, near, far)
    image = x[:, :3]
    if "synthesis.rgb_init_res.weight" in state:
        weight = state["synthesis.rgb_init_res.weight"]
        image = F.conv2d(x, weight / math.sqrt(weight.shape[1]), state["synthesis.rgb_init_res.bias"])
    k = 1
    while f"synthesis.output{k}.weight" in state:
        x = modulated(state, f"synthesis.layer{2 * k - 1}", x, w)
        x = modulated(state, f"synthesis.layer{2 * k}", x, w)
        image = modulated(state, f"synthesis.output{k}", x, w, demodulate=False) + up(image, state["synthesis.filter"])
        k += 1
    return image
