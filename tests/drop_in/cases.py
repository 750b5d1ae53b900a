"""One case a kind of layer that `accelerate` knows."""

import torch

from tests.drop_in.checks import Case
from tests.drop_in.hosts import pigan

B, N = 2, 6


def randn(*shape: int) -> torch.Tensor:
    return torch.randn(shape)


def film_inputs(inputs: int, outputs: int):
    # as pi-GAN: frequencies of all layers in one tensor, of which a layer gets a slice
    return lambda: (randn(B, N, inputs), 30 + 3 * randn(B, 2 * outputs)[:, outputs:], randn(B, outputs))


CASES = [
    Case("pi-GAN-first", lambda: pigan.FiLMLayer(3, 16), film_inputs(3, 16), "film_sine"),
    Case("pi-GAN-colour", lambda: pigan.FiLMLayer(35, 16), film_inputs(35, 16), "film_sine"),
]
