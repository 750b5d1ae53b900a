"""pi-GAN's FiLM layer, and two of other repositories that are only called so."""

import torch
from torch import nn


class FiLMLayer(nn.Module):
    def __init__(self, input_dim, hidden_dim):
        super().__init__()
        self.layer = nn.Linear(input_dim, hidden_dim)

    def activate(self, freq, x, phase_shift):
        return torch.sin(freq * x + phase_shift)

    def forward(self, x, freq, phase_shift):
        x = self.layer(x)
        return self.activate(freq[:, None].expand_as(x), x, phase_shift[:, None].expand_as(x))


def look_alikes() -> list[nn.Module]:
    """FiLM layers of the same name and attributes, that compute something else."""

    class FiLMLayer(globals()["FiLMLayer"]):
        def activate(self, freq, x, phase_shift):
            return nn.functional.leaky_relu(freq * x + phase_shift)

    of_other_arguments = type("FiLMLayer", (nn.Module,), {"forward": lambda self, x: self.layer(x)})()
    of_other_arguments.layer = nn.Linear(2, 2)
    without_layer = type("FiLMLayer", (nn.Module,), {"forward": lambda self, x, freq, phase_shift: x})()
    return [FiLMLayer(3, 4), of_other_arguments, without_layer]


def stranger() -> nn.Module:
    """A layer of which nothing but the name is pi-GAN's."""
    return type("FiLMLayer", (nn.Linear,), {})(2, 3)


class WarpedFiLMLayer(FiLMLayer):
    """A user's, that goes on from the layer and leaves its forward."""

    def __init__(self, input_dim, hidden_dim, scale):
        super().__init__(input_dim, hidden_dim)
        self.scale = scale


class ShiftedFiLMLayer(FiLMLayer):
    """A user's, that computes more."""

    def forward(self, x, freq, phase_shift):
        return super().forward(x, freq, phase_shift) + 1
