"""All random numbers of one rendering as tensors, so that a picture can be repeated exactly, whole or in chunks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cips3d_ext import counter_uniform

JITTER_STREAM, U_STREAM = 0, 1  # of counter_uniform


@dataclass(frozen=True, eq=False)
class Draws:
    """Random numbers in image ray order (row-major from the top left); a field left None is drawn when rendering.

    With N samples a ray, M = 2N with hierarchical sampling and M = N without, each field of a shape that broadcasts to:

    jitter                [B,R,N] uniform in [0,1): depth += (jitter - 0.5) * spacing
    u                     [B,R,N] uniform in [0,1): where the importance samples fall (unsorted)
    density_noise_coarse  [B,R,N] standard normal, multiplied by density_noise_std, for the importance weights only
    density_noise         [B,R,M] the same for the final integration, indexed by increasing depth after merging
    permutation           [R] int64, shared by the batch: its first grad_rays entries are the rays that carry gradient
    layer_noise           [B,...] standard normal, for layers that take it (`BaseGenerator.noise_shapes`); never drawn
                          here: None is no noise
    """

    jitter: Tensor | None = None
    u: Tensor | None = None
    density_noise_coarse: Tensor | None = None
    density_noise: Tensor | None = None
    permutation: Tensor | None = None
    layer_noise: tuple[Tensor, ...] | None = None

    @classmethod
    def none(
        cls,
        batch: int = 1,
        rays: int = 1,
        samples: int = 12,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> Draws:
        """Nothing random: jitter 0.5, evenly spaced u, no density noise. `samples` must equal samples_per_ray.

        The fields are expanded views and take no memory of their own. The permutation stays None.
        """
        half, zero = torch.tensor([[0.5], [0.0]], device=device, dtype=dtype)
        steps = (torch.arange(samples, device=device, dtype=dtype) + 0.5) / samples
        return cls(
            jitter=half.expand(batch, rays, samples),
            u=steps.expand(batch, rays, samples),
            density_noise_coarse=zero.expand(batch, rays, 1),
            density_noise=zero.expand(batch, rays, 1),
        )

    @classmethod
    def from_seed(
        cls,
        seed: int,
        batch: int,
        rays: int,
        samples: int = 12,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> Draws:
        """jitter and u from `cips3d_ext.counter_uniform`, the same on every device; the other fields stay None."""

        def uniform(stream: int) -> Tensor:
            return counter_uniform(seed, batch, rays, samples, stream=stream, device=device, dtype=dtype)

        return cls(jitter=uniform(JITTER_STREAM), u=uniform(U_STREAM))

    def take(self, rays: slice | Tensor) -> Draws:
        """The draws of the chosen rays (indices along R), without the permutation and the layers' noise."""

        def chosen(field: Tensor | None) -> Tensor | None:
            return field if field is None or field.shape[1] == 1 else field[:, rays]

        return Draws(chosen(self.jitter), chosen(self.u), chosen(self.density_noise_coarse), chosen(self.density_noise))

    def of_images(self, images: slice) -> Draws:
        """The draws of the chosen images (indices along B), copied; the permutation belongs to all."""

        def chosen(field: Tensor | None) -> Tensor | None:
            return field if field is None or len(field) == 1 else field[images].clone()

        fields = chosen(self.jitter), chosen(self.u), chosen(self.density_noise_coarse), chosen(self.density_noise)
        layers = None if self.layer_noise is None else tuple(noise[images].clone() for noise in self.layer_noise)
        return Draws(*fields, permutation=self.permutation, layer_noise=layers)


def complete_draws(
    draws: Draws | None,
    generator: torch.Generator | None,
    *,
    batch: int,
    rays: int,
    samples: int,
    hierarchical: bool,
    noisy: bool,
    permuted: bool,
    device: torch.device,
    dtype: torch.dtype,
) -> Draws:
    """`draws` checked, moved to device and dtype, and its missing fields drawn; fields that are not needed become None.

    Drawn in the order jitter, permutation, density_noise_coarse, u, density_noise, on the generator's device.
    Raises ValueError for a field whose shape does not broadcast to the one in `Draws`.
    """
    draws = draws or Draws()
    source = device if generator is None else generator.device
    merged = 2 * samples if hierarchical else samples

    def numbers(name: str, wanted: bool, kind: type | object, count: int) -> Tensor | None:
        if not wanted:
            return None
        field = getattr(draws, name)
        shape = (batch, rays, count)
        if field is None:
            field = kind(shape, generator=generator, device=source, dtype=dtype)  # type: ignore[operator]
        elif field.ndim != 3 or any(seen not in (1, axis) for seen, axis in zip(field.shape, shape, strict=True)):
            raise ValueError(
                f"Draws: {name} must broadcast to [B,R,samples] = {list(shape)}, got {list(field.shape)}; "
                "leave it None to have it drawn"
            )
        return field.to(device, dtype)

    jitter = numbers("jitter", True, torch.rand, samples)
    permutation = _permutation(draws.permutation, generator, rays, source).to(device) if permuted else None
    coarse_noise = numbers("density_noise_coarse", hierarchical and noisy, torch.randn, samples)
    u = numbers("u", hierarchical, torch.rand, samples)
    noise = numbers("density_noise", noisy, torch.randn, merged)
    layers = None if draws.layer_noise is None else tuple(each.to(device, dtype) for each in draws.layer_noise)
    return Draws(jitter, u, coarse_noise, noise, permutation, layers)


def _permutation(
    permutation: Tensor | None, generator: torch.Generator | None, rays: int, source: torch.device
) -> Tensor:
    if permutation is None:
        return torch.randperm(rays, generator=generator, device=source)
    if permutation.shape != (rays,) or not torch.equal(permutation.sort()[0].cpu(), torch.arange(rays)):
        raise ValueError(
            f"Draws: permutation must hold each of 0 .. {rays - 1} once, got shape {list(permutation.shape)}"
        )
    return permutation.long()
