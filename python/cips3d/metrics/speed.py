"""Fused kernels against references, forward and backward, at the shapes of a small CIPS-3D."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

import cips3d_ext
from cips3d.config import build, load_preset
from cips3d.models import Generator, GeneratorConfig
from cips3d.render import Camera, Draws

BATCH, RESOLUTION, SAMPLES = 4, 32, 12
IMPLS = ("reference", "fused")


class Speed(NamedTuple):
    """Median seconds of forward and backward together."""

    name: str
    reference: float
    fused: float

    @property
    def ratio(self) -> float:
        return self.reference / self.fused


def compare(device: str = "cpu", rounds: int = 7) -> list[Speed]:
    """The ops and the `demo` generator; the implementations alternate, medians of `rounds`."""
    return [_measure(name, make(device), rounds) for name, make in _SUBJECTS.items()]


def speed_table(speeds: Sequence[Speed]) -> str:
    """Text table: milliseconds and ratio."""
    rows = [f"{'forward + backward':<20}{'reference':>12}{'fused':>12}{'speed-up':>10}"]
    for speed in speeds:
        milliseconds = f"{1e3 * speed.reference:>9.2f} ms{1e3 * speed.fused:>9.2f} ms"
        rows.append(f"{speed.name:<20}{milliseconds}{speed.ratio:>9.2f}x")
    return "\n".join(rows)


Step = Callable[[str], Tensor]  # impl -> output, to be differentiated with respect to the inputs


def _measure(name: str, subject: tuple[Step, list[Tensor]], rounds: int) -> Speed:
    step, inputs = subject
    times: dict[str, list[float]] = {impl: [] for impl in IMPLS}
    for position in range(rounds + 1):
        for impl in IMPLS:
            started = time.perf_counter()
            torch.autograd.grad(step(impl).square().sum(), inputs)
            if inputs[0].is_cuda:
                torch.cuda.synchronize()
            if position:  # the first round warms up
                times[impl].append(time.perf_counter() - started)
    return Speed(name, *(statistics.median(times[impl]) for impl in IMPLS))


def _leaves(device: str, *tensors: Tensor) -> list[Tensor]:
    return [tensor.to(device).requires_grad_() for tensor in tensors]


def _modfc(device: str) -> tuple[Step, list[Tensor]]:
    inputs = _leaves(device, torch.randn(BATCH, RESOLUTION**2, 128), torch.randn(128, 128), torch.randn(BATCH, 128))
    return lambda impl: cips3d_ext.modfc(*inputs, style_offset=1.0, activation="lrelu", impl=impl), inputs


def _film_sine(device: str) -> tuple[Step, list[Tensor]]:
    points = BATCH, RESOLUTION**2 * SAMPLES, 64
    inputs = _leaves(
        device,
        torch.randn(points),
        torch.randn(64, 64) / 8,
        torch.randn(64),
        torch.randn(BATCH, 64),
        torch.randn(BATCH, 64),
    )
    return lambda impl: cips3d_ext.film_sine(*inputs, gamma_offset=30.0, impl=impl), inputs


def _volume_render(device: str) -> tuple[Step, list[Tensor]]:
    rays = BATCH, RESOLUTION**2, 2 * SAMPLES
    depths = torch.linspace(0.88, 1.12, 2 * SAMPLES, device=device).expand(rays).contiguous()
    density, features = _leaves(device, torch.randn(rays), torch.randn(*rays, 32))

    def step(impl: str) -> Tensor:
        feature = cips3d_ext.volume_render(density, features, depths, impl=impl).feature
        assert feature is not None
        return feature

    return step, [density, features]


def _generator(device: str) -> tuple[Step, list[Tensor]]:
    config = build(GeneratorConfig, load_preset("generator", "demo"), "preset demo")
    models = {impl: Generator(config, impl=impl).to(device) for impl in IMPLS}
    models["fused"].load_state_dict(models["reference"].state_dict())
    z_shape, z_appearance = _leaves(
        device, torch.randn(BATCH, config.z_shape_dim), torch.randn(BATCH, config.z_appearance_dim)
    )
    camera = Camera.from_angles(torch.full((BATCH,), torch.pi / 2), torch.pi / 2)
    draws = Draws.none(samples=SAMPLES, device=torch.device(device))

    def step(impl: str) -> Tensor:
        model = models[impl]
        out = model.render(z_shape, z_appearance, camera, RESOLUTION, SAMPLES, draws=draws)
        return out.image

    return step, [z_shape, z_appearance]


_SUBJECTS = {
    "modfc": _modfc,
    "film_sine": _film_sine,
    "volume_render": _volume_render,
    "generator 32x32": _generator,
}
