"""VGG-16's maps from a state dict named as torchvision names it, and files that are none."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cips3d.models.vgg import Vgg16Features, load_vgg16

CONVOLUTIONS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21)  # torchvision's vgg16().features, up to relu4_3


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A state dict with torchvision's names and shapes, random, and its file."""
    network = Vgg16Features()
    state = {name: value.clone() for name, value in network.state_dict().items()}
    assert sorted(state) == sorted(f"features.{i}.{part}" for i in CONVOLUTIONS for part in ("weight", "bias"))
    path = tmp_path_factory.mktemp("vgg") / "vgg16.pth"
    torch.save(state | {"features.24.bias": torch.zeros(512), "classifier.6.bias": torch.zeros(1000)}, path)
    return state, path


def test_the_maps_are_the_layers_of_the_file(weights):
    state, path = weights
    network, images = load_vgg16(path), torch.rand(2, 3, 16, 16) * 2 - 1
    maps = network(images)
    assert [tuple(each.shape[1:]) for each in maps] == [(64, 16, 16), (128, 8, 8), (256, 4, 4), (512, 2, 2)]
    x = (images / 2 + 0.5 - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor(
        [0.229, 0.224, 0.225]
    ).view(3, 1, 1)
    for index in CONVOLUTIONS[:2]:
        x = F.relu(F.conv2d(x, state[f"features.{index}.weight"], state[f"features.{index}.bias"], padding=1))
    torch.testing.assert_close(maps[0], x)
    x = F.max_pool2d(x, 2)
    for index in CONVOLUTIONS[2:4]:
        x = F.relu(F.conv2d(x, state[f"features.{index}.weight"], state[f"features.{index}.bias"], padding=1))
    torch.testing.assert_close(maps[1], x)
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_files_that_are_no_vgg(weights, tmp_path):
    state, path = weights[0], tmp_path / "other.pth"
    with pytest.raises(ValueError, match="other.pth is no state dict: .*No such file"):
        load_vgg16(path)
    torch.save(nn.Linear(1, 1), path)  # a pickled module could run code: refused
    with pytest.raises(ValueError, match="other.pth is no state dict"):
        load_vgg16(path)
    torch.save({name: value for name, value in state.items() if name != "features.5.bias"}, path)
    with pytest.raises(ValueError, match=r"wanted features.5.bias \[128\] of torchvision's vgg16, got nothing"):
        load_vgg16(path)
    torch.save(state | {"features.0.weight": torch.zeros(64, 1, 3, 3)}, path)
    with pytest.raises(ValueError, match=r"wanted features.0.weight \[64, 3, 3, 3\] .* got \[64, 1, 3, 3\]"):
        load_vgg16(path)
