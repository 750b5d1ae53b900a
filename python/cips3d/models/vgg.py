"""VGG-16's feature maps for perceptual distances (Simonyan & Zisserman 2014; Johnson et al. 2016, section 3.2).

The layers are those of torchvision's `vgg16`, whose published state dict (vgg16-397923af.pth, trained on ImageNet)
fits. Only tensors are read from the file, so that a foreign one can run no code.
"""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import torch
from torch import Tensor, nn

WIDTHS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512))  # of the convolutions between poolings
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's colours in [0,1]
PREFIX = "features."  # of the convolutions in torchvision's state dict; the classifier is not needed


class Vgg16Features(nn.Module):
    """The maps relu1_2, relu2_2, relu3_3 and relu4_3 of images [B,3,S,S] in [-1,1], S at least 8. Frozen."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        self.taps: list[int] = []  # indices of the layers whose outputs are returned
        channels = 3
        for block in WIDTHS:
            if layers:
                layers.append(nn.MaxPool2d(2))
            for width in block:
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
                channels = width
            self.taps.append(len(layers) - 1)
        self.features = nn.Sequential(*layers)
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(3, 1, 1), persistent=False)
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> list[Tensor]:
        x, maps = ((images + 1) / 2 - self.mean) / self.std, []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self.taps:
                maps.append(x)
        return maps


def load_vgg16(path: Path) -> Vgg16Features:
    """The network with the weights of torchvision's state dict at `path`. Raises ValueError naming what is wrong."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        kept = {name: value for name, value in state.items() if name.startswith(PREFIX)}
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile, AttributeError) as error:
        raise ValueError(
            f"{path} is no state dict: {str(error).splitlines()[0]}; wanted torchvision's vgg16"
        ) from error
    network = Vgg16Features()
    wanted = {name: value.shape for name, value in network.state_dict().items()}
    for name, shape in wanted.items():
        if not isinstance(kept.get(name), Tensor) or kept[name].shape != shape:
            seen = list(kept[name].shape) if isinstance(kept.get(name), Tensor) else "nothing"
            raise ValueError(f"{path}: wanted {name} {list(shape)} of torchvision's vgg16, got {seen}")
    network.load_state_dict({name: kept[name] for name in wanted})
    return network
