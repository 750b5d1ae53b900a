"""Sample calls of every op, one table for all contract tests: small, awkward sizes and every option at least once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

import cips3d_ext

# Kept away from kinks (relu at 0, ties of depths), so that finite differences and roundings see one branch.
KINK_MARGIN = 0.1
TEXEL_MARGIN = 0.05  # several times what rounding a coordinate to bfloat16 moves it on the small grids here
MODFC_KINK_MARGIN = 0.02  # several times what bfloat16 operands move sums of products of about 1


@dataclass(frozen=True)
class Case:
    """One call of a public op.

    make(generator) gives the float64 tensors by argument name; `differentiable` names those with a gradient; options
    are the remaining keywords.
    """

    op: str
    id: str
    make: Callable[[torch.Generator], dict[str, Tensor]]
    differentiable: tuple[str, ...]
    options: dict[str, Any] = field(default_factory=dict)

    def roundings(self) -> int:
        """Factors of a gradient that kernels on tensor cores round one after the other: in each sine layer of a field
        the weight, the cosine, and the gradient itself; along rays before that the weight and the input of the layers
        that give the samples."""
        layers = [name.removeprefix("weight_") for name in self.differentiable if name.startswith("weight_")]
        sine_layers = sum(layer.isdigit() or layer == "colour" for layer in layers)
        return {"siren_field": 3, "render_rays": 5}.get(self.op, 0) * sine_layers

    def tensors(
        self, dtype: torch.dtype, device: str | torch.device = "cpu", requires_grad: bool = False, seed: int = 0
    ) -> dict[str, Tensor]:
        made = self.make(torch.Generator().manual_seed(seed))
        tensors = {name: t.to(device=device, dtype=dtype) for name, t in made.items()}
        for name in self.differentiable:
            tensors[name].requires_grad_(requires_grad)
        return tensors

    def run(self, tensors: dict[str, Tensor], impl: str = "auto") -> tuple[Tensor, ...]:
        """The op's outputs as a flat tuple, without None."""
        if self.op == "merge_samples":
            names = ("feature_a", "feature_b"), ("density_a", "density_b")
            pairs = [(tensors[a], tensors[b]) for a, b in names if a in tensors]
            return cips3d_ext.merge_samples(tensors["z_a"], tensors["z_b"], *pairs, impl=impl)
        call = dict(tensors)
        if self.op in ("siren_field", "render_rays"):
            call = _with_field_arguments(call)
        if self.op == "volume_render":
            call.setdefault("features", None)  # type: ignore[arg-type]
        name = "modfc_with_rgb" if "to_rgb" in tensors else self.op
        outputs = getattr(cips3d_ext, name)(**call, **self.options, impl=impl)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        return tuple(output for output in outputs if output is not None)


def _away_from_zero(values: Tensor) -> Tensor:
    return values + KINK_MARGIN * torch.sign(values)


def _modfc(
    id: str,
    B: int,
    N: int,
    I: int,
    O: int,
    *,
    bias: bool = False,
    noise: tuple[int, ...] | None = None,
    skip: bool = False,
    colours: int = 0,
    **options: Any,
) -> Case:
    def make(generator: torch.Generator) -> dict[str, Tensor]:
        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        tensors = {"x": normal(B, N, I), "weight": normal(O, I) / max(I, 1) ** 0.5, "style": normal(B, I) + 1}
        if bias:
            tensors["bias"] = normal(O)
        if noise is not None:
            tensors["noise"] = 0.3 * normal(*noise)
        if skip:
            tensors["skip"] = normal(B, N, O)
        if colours:
            tensors["to_rgb"] = normal(colours, O) / O**0.5
        while (near := _modfc_near_kinks(tensors, options | {"channels_first": False})).any():
            tensors["x"][near] = normal(int(near.sum()), I)
        if options.get("channels_first"):
            tensors |= {n: tensors[n].mT.contiguous() for n in ("x", "noise", "skip") if n in tensors}
        return tensors

    names = ("x", "weight", "style") + ("bias",) * bias + ("noise",) * (noise is not None)
    names += ("skip",) * skip + ("to_rgb",) * (colours > 0)
    return Case("modfc", id, make, names, options)


def _modfc_near_kinks(tensors: dict[str, Any], options: dict[str, Any]) -> Tensor:
    """Rows [B,N] with an output so close to a kink of activation or clamp that rounded operands may cross it."""

    activated = {name: t for name, t in tensors.items() if name not in ("skip", "to_rgb")}

    def run(**changes: Any) -> Tensor:
        return cips3d_ext.modfc(**(activated | options | changes), impl="reference")

    unlimited = run(clamp=None)
    distances = torch.full_like(unlimited, torch.inf)
    if options.get("activation") in ("relu", "lrelu"):
        distances = run(clamp=None, activation="linear", gain=1.0).abs()
    if options.get("clamp") is not None:
        distances = torch.minimum(distances, (unlimited.abs() - options["clamp"]).abs())
    return (distances < MODFC_KINK_MARGIN).any(-1)


def _film(shape: tuple[int, ...], O: int, *, bias: bool = True, film: bool = True) -> Any:
    def make(generator: torch.Generator) -> dict[str, Tensor]:
        def normal(*sizes: int) -> Tensor:
            return torch.randn(*sizes, generator=generator, dtype=torch.float64)

        tensors = {"x": normal(*shape), "weight": normal(O, shape[-1]) / max(shape[-1], 1) ** 0.5}
        if bias:
            tensors["bias"] = 0.1 * normal(O)
        if film:
            tensors |= {"gamma": 0.1 * normal(shape[0], O), "beta": normal(shape[0], O)}
        return tensors

    return make, ("x", "weight") + ("bias",) * bias + ("gamma", "beta") * film


def _rays(B: int, R: int, S: int, C: int | None, *, extra: tuple[str, ...] = ()) -> Any:
    def make(generator: torch.Generator) -> dict[str, Tensor]:
        def normal(*sizes: int) -> Tensor:
            return torch.randn(*sizes, generator=generator, dtype=torch.float64)

        steps = 0.2 + torch.rand(B, R, S, generator=generator, dtype=torch.float64)
        tensors = {"density": _away_from_zero(normal(B, R, S)), "depths": steps.cumsum(-1)}
        if C is not None:
            tensors["features"] = normal(B, R, S, C)
        if "noise" in extra:
            tensors["noise"] = 0.05 * torch.tanh(normal(B, R, S))  # smaller than KINK_MARGIN
        if "beta" in extra:
            tensors["beta"] = torch.full((1,), 0.7, dtype=torch.float64)
        if "ray_norm" in extra:
            tensors["ray_norm"] = 1 + torch.rand(B, R, generator=generator, dtype=torch.float64)
        return tensors

    return make, ("density", "depths") + ("features",) * (C is not None) + extra


def _pdf(shape: tuple[int, ...], bins: int, weights: int, n: int) -> Any:
    def make(generator: torch.Generator) -> dict[str, Tensor]:
        def uniform(size: int) -> Tensor:
            return torch.rand(*shape, size, generator=generator, dtype=torch.float64)

        return {"bins": (0.1 + uniform(bins)).cumsum(-1), "weights": uniform(weights), "u": uniform(n)}

    return make, ()


def _merge(shape: tuple[int, ...], a: int, b: int, C: int | None) -> Any:
    def make(generator: torch.Generator) -> dict[str, Tensor]:
        def normal(*sizes: int) -> Tensor:
            return torch.randn(*shape, *sizes, generator=generator, dtype=torch.float64)

        # a permutation of distinct depths, exact in every dtype
        depths = torch.rand(*shape, a + b, generator=generator).argsort(-1).double() / 8
        tensors = {"z_a": depths[..., :a], "z_b": depths[..., a:], "density_a": normal(a), "density_b": normal(b)}
        if C is not None:
            tensors |= {"feature_a": normal(a, C), "feature_b": normal(b, C)}
        return tensors

    names = ("z_a", "z_b", "density_a", "density_b") + ("feature_a", "feature_b") * (C is not None)
    return make, names


def _texels(
    op: str, id: str, shape: tuple[int, ...], N: int, axes: tuple[tuple[int, ...], ...], **options: Any
) -> Case:
    """A grid of `shape`, sampled along `axes`. Points reach beyond it; none comes near the centre of a texel, where
    gradients jump."""
    grid = "planes" if op == "sample_planes" else "volume"
    point_scale, aligned = options.get("point_scale", 1.0), options.get("align_corners", False)

    def near_kinks(points: Tensor) -> Tensor:
        near = torch.zeros(len(points), dtype=torch.bool)
        for axis, size in ((a, s) for of_grid in axes for a, s in zip(of_grid, reversed(shape), strict=False)):
            x = points[:, axis] * point_scale
            position = (x + 1) / 2 * (size - 1) if aligned else ((x + 1) * size - 1) / 2
            near |= (position - position.round()).abs() < TEXEL_MARGIN
        return near

    def make(generator: torch.Generator) -> dict[str, Tensor]:
        def draw(count: int) -> Tensor:
            return (2.6 * torch.rand(count, 3, generator=generator, dtype=torch.float64) - 1.3) / point_scale

        points = draw(shape[0] * N)
        while (near := near_kinks(points)).any():
            points[near] = draw(int(near.sum()))
        values = torch.randn(shape, generator=generator, dtype=torch.float64)
        return {grid: values, "points": points.reshape(shape[0], N, 3)}

    return Case(op, id, make, (grid, "points"), options | ({"axes": axes} if op == "sample_planes" else {}))


def _siren(
    shape: tuple[int, ...],
    widths: tuple[int, ...],
    colour: int = 0,
    C: int = 0,
    *,
    gamma: bool = True,
    beta: bool = True,
    rays: int = 0,
) -> Any:
    """points `shape`; weight and bias "density", "feature", ... and "0", "1", ... of the trunk; rays: of directions."""

    def make(generator: torch.Generator) -> dict[str, Tensor]:
        def normal(*sizes: int) -> Tensor:
            return torch.randn(*sizes, generator=generator, dtype=torch.float64)

        maps = {str(k): size for k, size in enumerate(zip(widths, (3, *widths), strict=False))}
        sines = [*maps] + ["colour"] * (colour > 0)
        maps["density"] = (1, widths[-1])
        if colour:
            maps["colour"] = (colour, widths[-1] + 3 * (rays > 0))
        if C:
            maps["feature"] = (C, colour or widths[-1])
        tensors = {"points": normal(*shape) / 2}
        for name, (O, I) in maps.items():
            tensors |= {f"weight_{name}": normal(O, I) / I**0.5, f"bias_{name}": 0.3 * normal(O)}
        for name in sines:
            if gamma:
                tensors[f"gamma_{name}"] = 0.3 * normal(shape[0], maps[name][0])
            if beta:
                tensors[f"beta_{name}"] = normal(shape[0], maps[name][0])
        if rays:
            tensors["directions"] = normal(shape[0], rays, 3)
        return tensors

    return make, tuple(make(torch.Generator()))


def _render(rays: tuple[int, int], samples: tuple[int, int], field: Any, *, noise: bool = False) -> Any:
    """B, R rays of S, F samples (F 0: not hierarchical) through the field of `_siren`."""
    (B, R), (S, F) = rays, samples
    make_field, names = field

    def make(generator: torch.Generator) -> dict[str, Tensor]:
        def normal(*sizes: int) -> Tensor:
            return torch.randn(*sizes, generator=generator, dtype=torch.float64)

        def uniform(*sizes: int) -> Tensor:
            return torch.rand(*sizes, generator=generator, dtype=torch.float64)

        forward = torch.tensor([0.0, 0.0, -1.0], dtype=torch.float64)
        tensors = {"origins": 0.1 * normal(B, R, 3) - forward, "directions": forward + 0.2 * normal(B, R, 3)}
        tensors |= {"jitter": uniform(B, R, S)}
        if F:
            tensors["u"] = uniform(B, R, F)
        if noise:
            tensors["noise"] = 0.3 * normal(B, R, S + F)
        if noise and F:
            tensors["noise_coarse"] = 0.3 * normal(B, R, S)
        made = make_field(generator)
        return tensors | {n: made[n] for n in names if n not in ("points", "directions")}

    differentiable = tuple(n for n in names if n not in ("points", "directions"))
    return make, ("origins", "directions", *differentiable)


def _with_field_arguments(tensors: dict[str, Tensor]) -> dict[str, Any]:
    """The arguments of `siren_field` and `render_rays` from tensors named as by `_siren`."""
    maps = {
        n.removeprefix("weight_"): (t, tensors[n.replace("weight", "bias")])
        for n, t in tensors.items()
        if "weight_" in n
    }
    films = {film: [t for n, t in tensors.items() if n.startswith(film)] or None for film in ("gamma", "beta")}
    heads: dict[str, Any] = {name: maps.pop(name, None) for name in ("density", "colour", "feature")}
    rest = {n: t for n, t in tensors.items() if n.split("_")[0] not in ("weight", "bias", "gamma", "beta")}
    return {"layers": [*maps.values()], **heads, **films, **rest}


def _case(op: str, id: str, made: Any, **options: Any) -> Case:
    return Case(op, id, made[0], made[1], options)


CASES = (
    _modfc("plain", 2, 5, 7, 3),
    _modfc("cips3d", 2, 9, 35, 37, style_offset=1.0, activation="lrelu"),
    _modfc("one_row", 5, 1, 33, 17, bias=True, activation="lrelu", gain=2**0.5),
    _modfc("to_rgb", 2, 6, 19, 3, bias=True, demodulate=False, scale=0.2, clamp=1.5),
    _modfc("noise", 2, 6, 8, 5, bias=True, noise=(2, 6, 1), activation="relu", gain=1.3, clamp=2.0),
    _modfc("shared_noise", 3, 4, 5, 6, noise=(4, 6), activation="sin", scale=0.7, eps=1e-3),
    _modfc("many_rows", 2, 131, 20, 24, bias=True, style_offset=1.0, activation="lrelu", alpha=0.1),
    _modfc("many_points", 2, 259, 17, 9, bias=True, style_offset=1.0, activation="lrelu", clamp=1.2),
    _modfc("skip", 2, 9, 35, 37, skip=True, style_offset=1.0, activation="lrelu", clamp=1.2),
    _modfc("rgb", 3, 5, 17, 33, colours=1, noise=(3, 5, 1), activation="sin"),
    _modfc("skip_and_rgb", 2, 9, 35, 37, skip=True, colours=3, style_offset=1.0, activation="lrelu"),
    _modfc("rgb_of_many_points", 2, 259, 17, 19, bias=True, skip=True, colours=4, activation="lrelu", clamp=1.2),
    _modfc("channels_first", 2, 9, 35, 37, bias=True, noise=(2, 9, 1), skip=True, style_offset=1.0, activation="lrelu",
           clamp=1.2, channels_first=True),
    _modfc("channels_first_sine", 2, 5, 17, 3, noise=(2, 5, 3), activation="sin", channels_first=True),
    _modfc("channels_first_of_many_points", 2, 259, 17, 9, bias=True, activation="lrelu", channels_first=True),
    _case("film_sine", "plain", _film((2, 5, 4), 6, film=False, bias=False)),
    _case("film_sine", "siren", _film((2, 3, 4, 35), 37), gamma_scale=15.0, gamma_offset=30.0, beta_scale=0.25),
    _case("film_sine", "positions", _film((2, 11, 3), 16), gamma_scale=15.0, gamma_offset=30.0),
    _case("film_sine", "no_points", _film((4, 95), 33, film=False)),
    _case("film_sine", "wide", _film((1, 50, 259), 19)),
    _case("volume_render", "cips3d", _rays(2, 3, 8, 32)),
    _case("volume_render", "finite_last", _rays(1, 2, 5, 3, extra=("noise",)), last_delta=0.7),
    _case("volume_render", "last_back", _rays(2, 2, 6, 5), last_delta=0.1, last_back=True, white_back=2),
    _case("volume_render", "eg3d", _rays(1, 4, 7, 35), rule="midpoint", activation="softplus", shift=-1.0,
          white_back=True, depth="expected", feature_scale=2.0, feature_shift=-1.0),
    _case("volume_render", "stylesdf", _rays(1, 3, 6, 37, extra=("beta", "ray_norm")), activation="sdf", last_delta=0.3,
          last_back=True),
    _case("volume_render", "stylenerf", _rays(1, 3, 5, 4, extra=("ray_norm",)), norm_last=False, last_alpha=1.0),
    _case("volume_render", "volumegan", _rays(2, 2, 4, 6), activation="softplus", far=9.0),
    _case("volume_render", "no_dist", _rays(2, 2, 4, 6), unit_delta=True, activation="none"),
    _case("volume_render", "one_sample", _rays(1, 1, 1, 1), last_delta=0.5),
    _case("volume_render", "weights_alone", _rays(1, 2, 33, None), last_delta=0.1),
    _case("volume_render", "many_samples", _rays(1, 2, 70, 2), last_delta=0.1),
    _case("sample_pdf", "hierarchical", _pdf((3, 4), 11, 10, 12), n=12),
    _case("sample_pdf", "eg3d", _pdf((5,), 7, 5, 9), n=9, right=True),
    _case("sample_pdf", "one_weight", _pdf((2,), 2, 1, 3), n=3, eps=1e-3),
    _case("siren_field", "cips3d", _siren((2, 7, 5, 3), (35, 37), 19, 6), point_scale=1.5, gamma_offset=1.0),
    _case("siren_field", "pigan", _siren((2, 12, 3), (16, 16, 16), 16, 3, rays=4), gamma_scale=2.0, gamma_offset=1.0,
          beta_scale=0.25),
    _case("siren_field", "nine_layers", _siren((1, 50, 3), (9, 8, 7, 8, 9, 10, 9, 8), 5, 2)),
    _case("siren_field", "trunk_features", _siren((3, 40, 3), (17, 33), 0, 33)),
    _case("siren_field", "density_alone", _siren((2, 3, 3), (5,), beta=False)),
    _case("siren_field", "no_film", _siren((2, 131, 3), (8, 6), 7, 4, gamma=False, beta=False, rays=1)),
    _case("siren_field", "one_point", _siren((1, 3), (6,), 4, 1, gamma=False)),
    _case("render_rays", "two_passes", _render((2, 5), (6, 6), _siren((2, 0, 3), (35, 37), 19, 6), noise=True),
          near=0.5, far=3.0, point_scale=1.5, gamma_offset=1.0),
    _case("render_rays", "pigan", _render((2, 4), (4, 7), _siren((2, 0, 3), (16, 16, 16), 16, 3, rays=1)), near=0.5,
          far=2.5, view_directions=True, gamma_scale=2.0, gamma_offset=1.0, beta_scale=0.25, activation="softplus",
          last_back=True, white_back=True),
    _case("render_rays", "one_pass", _render((1, 21), (5, 0), _siren((1, 0, 3), (9,), 0, 17, beta=False), noise=True),
          near=0.2, far=4.0, activation="softplus", white_back=2),
    _case("render_rays", "many_samples", _render((1, 2), (70, 50), _siren((1, 0, 3), (6, 7), 5, 2, gamma=False)),
          near=0.2, far=4.0, last_back=True),
    _case("merge_samples", "plain", _merge((2, 3), 4, 5, 7)),
    _case("merge_samples", "depths_and_densities", _merge((3,), 6, 1, None)),
    _texels("sample_planes", "eg3d", (2, 3, 32, 6, 7), 37, ((0, 1), (0, 2), (2, 0)), point_scale=1.25),
    _texels("sample_planes", "aligned_sum", (2, 2, 5, 4, 5), 19, ((1, 2), (0, 0)), align_corners=True, reduce="sum"),
    _texels("sample_planes", "every_border", (1, 4, 35, 3, 6), 18, ((0, 1), (2, 1), (1, 0), (0, 2)), padding="border",
            reduce="none"),
    _texels("sample_planes", "aligned_border", (2, 1, 70, 5, 3), 9, ((2, 1),), align_corners=True, padding="border"),
    _texels("sample_volume", "volumegan", (2, 32, 4, 5, 6), 33, ((0, 1, 2),), point_scale=0.8, align_corners=True,
            padding="border"),
    _texels("sample_volume", "zeros", (2, 5, 5, 3, 4), 21, ((0, 1, 2),)),
    _texels("sample_volume", "aligned_zeros", (1, 67, 2, 4, 3), 17, ((0, 1, 2),), align_corners=True),
    _texels("sample_volume", "border", (2, 3, 3, 1, 5), 18, ((0, 1, 2),), padding="border"),
)  # fmt: skip


def cases_of(op: str) -> list[Case]:
    return [case for case in CASES if case.op == op]
