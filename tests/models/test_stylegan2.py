"""The shared pieces of StyleGAN2's generator against their formulas, in float64."""

import pytest
import torch
import torch.nn.functional as F

from cips3d.models.stylegan2 import StyleMapping, upsample


def test_upsampling_is_zeros_between_pixels_and_the_binomial_low_pass():
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    zeros = x.new_zeros(2, 3, 8, 10)
    zeros[..., ::2, ::2] = x
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=torch.float64) / 4  # of sum 2: keeps the mean
    kernel = torch.outer(taps, taps).expand(3, 1, 4, 4)
    wanted = F.conv2d(F.pad(zeros, (2, 1, 2, 1)), kernel, groups=3)
    torch.testing.assert_close(upsample(x), wanted, rtol=1e-12, atol=1e-12)


def test_upsampling_has_second_derivatives():
    x = torch.randn(1, 2, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: upsample(x).square(), (x,))


def normed(x):
    return x / (x.square().mean(1, keepdim=True) + 1e-8).sqrt()


@pytest.mark.parametrize("condition_dim", [0, 2])
def test_mapping_against_its_formula(condition_dim):
    torch.manual_seed(0)
    mapping = StyleMapping(5, 8, 3, condition_dim).double()
    z = torch.randn(4, 5, dtype=torch.float64)
    condition = torch.randn(4, 2, dtype=torch.float64) if condition_dim else None
    x = normed(z)
    if condition is not None:
        label = condition @ mapping.embed.weight.T / 2**0.5 + mapping.embed.bias
        x = torch.cat([x, normed(label)], 1)
    for layer in (mapping.fc0, mapping.fc1, mapping.fc2):
        x = F.leaky_relu(x @ layer.weight.T * 0.01 / layer.weight.shape[1] ** 0.5 + 0.01 * layer.bias, 0.2) * 2**0.5
    torch.testing.assert_close(mapping(z, condition), x, rtol=1e-12, atol=1e-12)


def test_mapping_wants_its_condition():
    with pytest.raises(ValueError, match=r"condition must be \[B,condition_dim\], got None"):
        StyleMapping(5, 8, 1, 2)(torch.randn(4, 5))
