"""StyleGAN2's layers against sums over every index, grouped convolutions and hand-written resampling, in float64."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cips3d.models.discriminator import Blur
from cips3d.models.eg3d.layers import StyledConv, ToColours, modulated_conv2d
from cips3d.models.eg3d.synthesis import Backbone, SuperResolution
from cips3d.models.stylegan2 import upsample

TAPS = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=torch.float64) / 8


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def per_sample_weights(weight: Tensor, style: Tensor) -> Tensor:
    """Demodulated weights [B,O,I,3,3], written out."""
    modulated = weight[None] * style[:, None, :, None, None]
    return modulated / (modulated.square().sum((2, 3, 4), keepdim=True) + 1e-8).sqrt()


def zero_inserted(x: Tensor) -> Tensor:
    """[B,C,H,W] -> [B,C,2H,2W] with zeros after every pixel."""
    wide = x.new_zeros(*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])
    wide[..., ::2, ::2] = x
    return wide


def low_pass(x: Tensor, padding: tuple[int, int]) -> Tensor:
    """The taps 1 3 3 1 along both axes, after padding (before, after), with the gain 4 of upsampling by 2."""
    kernel = 4 * torch.outer(TAPS, TAPS).expand(x.shape[1], 1, 4, 4)
    return F.conv2d(F.pad(x, (*padding, *padding)), kernel, groups=x.shape[1])


def test_convolution_equals_a_sum_over_every_index() -> None:
    x, weight, style = randn(2, 3, 4, 5), randn(2, 3, 3, 3, seed=1), randn(2, 3, seed=2)
    weights = per_sample_weights(weight, style)
    padded = F.pad(x, (1, 1, 1, 1))
    wanted = torch.zeros(2, 2, 4, 5, dtype=torch.float64)
    for b in range(2):
        for o in range(2):
            for row in range(4):
                for column in range(5):
                    window = padded[b, :, row : row + 3, column : column + 3]
                    wanted[b, o, row, column] = (window * weights[b, o]).sum()
    torch.testing.assert_close(modulated_conv2d(x, weight, style, False, Blur(padding=1)), wanted)


def test_upsampling_convolution_is_zeros_then_convolution_then_low_pass() -> None:
    x, weight, style = randn(2, 3, 4, 4), randn(2, 3, 3, 3, seed=1), randn(2, 3, seed=2)
    wanted = []
    for sample, weights in zip(x, per_sample_weights(weight, style), strict=True):
        # As a correlation with the flipped kernel: the public code runs the transposed convolution unflipped. Its
        # output has one row and column more than the zero-inserted picture, at the far side.
        wide = F.conv2d(F.pad(zero_inserted(sample[None]), (2, 1, 2, 1)), weights.flip(2, 3))
        wanted.append(low_pass(wide, (1, 1)))
    torch.testing.assert_close(
        modulated_conv2d(x, weight, style, True, Blur(padding=1).double()), torch.cat(wanted), check_dtype=True
    )


@pytest.mark.parametrize("doubled", [False, True])
def test_derivatives_of_both_orders(doubled: bool) -> None:
    x, weight, style = (t.requires_grad_() for t in (randn(1, 2, 3, 3), randn(2, 2, 3, 3), randn(1, 2)))
    blur = Blur(padding=1).double()

    def convolve(*tensors: Tensor) -> Tensor:
        return modulated_conv2d(*tensors, doubled, blur)

    assert torch.autograd.gradcheck(convolve, (x, weight, style))
    assert torch.autograd.gradgradcheck(convolve, (x, weight, style))


def test_styled_convolution_adds_noise_then_bias_and_clamps() -> None:
    layer = StyledConv(3, 2, 4, 5, clamp=0.7).double()
    torch.nn.init.normal_(layer.bias)
    torch.nn.init.constant_(layer.noise_strength, 0.3)
    x, w, noise = randn(2, 3, 5, 5), randn(2, 4, seed=1), randn(2, 1, 5, 5, seed=2)
    plain = modulated_conv2d(x, layer.weight, layer.affine(w), False, layer.blur)
    wanted = F.leaky_relu(plain + 0.3 * noise + layer.bias[:, None, None], 0.2) * math.sqrt(2)
    assert wanted.abs().max() > 0.7
    torch.testing.assert_close(layer(x, w, noise), wanted.clamp(-0.7, 0.7))
    assert not torch.equal(layer(x, w, None), layer(x, w, noise))


def test_colours_are_a_modulated_1x1_convolution() -> None:
    layer = ToColours(3, 6, 4, None, "reference").double()
    torch.nn.init.normal_(layer.bias)
    x, w = randn(2, 3, 5, 5), randn(2, 4, seed=1)
    style = F.linear(w, layer.affine.weight / 2, layer.affine.bias)
    weights = layer.weight[None, :, :, 0, 0] * style[:, None] / math.sqrt(3)
    wanted = torch.einsum("boi,bihw->bohw", weights, x) + layer.bias[:, None, None]
    torch.testing.assert_close(layer(x, w), wanted)


def test_reference_and_fused_colours_agree() -> None:
    torch.manual_seed(0)
    layer = ToColours(16, 12, 8, 256.0, "reference")
    x, w = torch.randn(2, 16, 8, 8), torch.randn(2, 8)
    reference = layer(x, w)
    layer.impl = "fused"
    torch.testing.assert_close(layer(x, w), reference)


def test_backbone_with_its_own_noise_is_repeatable_and_drawn_noise_changes_it() -> None:
    torch.manual_seed(0)
    backbone = Backbone(8, 16, 6, 64, 8, "reference")
    for conv in backbone.convolutions():
        torch.nn.init.constant_(conv.noise_strength, 0.5)
    w = torch.randn(2, 8)
    planes = backbone(w)
    assert planes.shape == (2, 6, 16, 16)
    assert torch.equal(planes, backbone(w))
    sides = [conv.resolution for conv in backbone.convolutions()]
    assert sides == [4, 8, 8, 16, 16]
    drawn = [torch.randn(2, 1, side, side) for side in sides]
    assert not torch.equal(planes, backbone(w, drawn))


@pytest.mark.parametrize(("start", "resolution"), [(4, 8), (4, 16)])
def test_super_resolution_adds_to_the_raw_image(start: int, resolution: int) -> None:
    torch.manual_seed(0)
    network = SuperResolution(5, (4, 3), 8, start, resolution, 256.0, "reference")
    features, w = torch.randn(2, 5, start, start), torch.randn(2, 8)
    image = network(features, w)
    assert image.shape == (2, 3, resolution, resolution)
    for block in (network.block0, network.block1):
        torch.nn.init.zeros_(block.torgb.weight)
    raw = features[:, :3]
    while raw.shape[-1] < resolution:
        raw = upsample(raw)
    torch.testing.assert_close(network(features, w), raw)
    # Features of another side are resized first.
    assert network(torch.randn(2, 5, 2 * start, 2 * start), w).shape == image.shape


def test_super_resolution_of_another_factor_is_refused() -> None:
    with pytest.raises(ValueError, match="resolution must be 2 or 4 times sr_start"):
        SuperResolution(5, (4, 3), 8, 4, 12, None, "reference")
