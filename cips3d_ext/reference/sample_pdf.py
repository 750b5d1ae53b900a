"""Inverse transform sampling of depths from a piecewise constant density over bins (NeRF's hierarchical sampling).

Source: the `sample_pdf` that pi-GAN, CIPS-3D, VolumeGAN, StyleNeRF and EG3D share. Axes: P rays (any leading axes,
flattened), W weights, K bin edges, n new samples.
"""

import torch
from torch import Tensor

from ._precision import widen


def sample_pdf(bins: Tensor, weights: Tensor, u: Tensor, *, eps: float = 1e-5, right: bool = False) -> Tensor:
    """Depths [P,n] at the cumulative probabilities u in [0, 1).

    bins [P,K] with K >= W + 1 (later edges are never sampled), weights [P,W] not negative, u [P,n]. `eps` is added to
    every weight, and an interval of the cumulative distribution narrower than eps is taken as 1 wide. `right` as in
    torch.searchsorted: which side of a tie u falls on (False in pi-GAN, True in EG3D). No gradient.
    """
    dtype = bins.dtype
    bins, weights, u = widen(bins.detach()), widen(weights.detach()), widen(u.detach())
    weights = weights + eps
    pdf = weights / weights.sum(-1, keepdim=True)
    cdf = torch.cat([torch.zeros_like(pdf[..., :1]), pdf.cumsum(-1)], -1)

    index = torch.searchsorted(cdf, u.contiguous(), right=right)
    below = (index - 1).clamp(min=0)
    above = index.clamp(max=weights.shape[-1])
    cdf_below, bins_below = cdf.gather(-1, below), bins.gather(-1, below)
    width = cdf.gather(-1, above) - cdf_below
    width = torch.where(width < eps, 1.0, width)
    return (bins_below + (u - cdf_below) / width * (bins.gather(-1, above) - bins_below)).to(dtype)
