"""The released state dicts' names and shapes at their full widths; import and export of discriminators."""

import ast
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from cips3d.models.discriminator import Discriminator, DiscriminatorConfig
from cips3d.models.generator import Generator
from cips3d.models.generator_config import GeneratorConfig
from cips3d.models.official import export_official, load_official, official_gradients

FIXTURES = Path(__file__).parents[1] / "fixtures" / "official-cips3d"


def released_shapes(name: str) -> dict[str, tuple[int, ...]]:
    lines = (FIXTURES / name).read_text().splitlines()
    return {key: ast.literal_eval(shape) for key, shape in (line.split("\t") for line in lines)}


@pytest.mark.parametrize(
    ("keys", "make"),
    [
        ("keys_G.txt", lambda: Generator(GeneratorConfig())),
        ("keys_D.txt", lambda: Discriminator(DiscriminatorConfig())),
    ],
)
def test_export_has_the_released_keys(keys, make):
    """A model that never was official exports the released keys, in their order."""
    exported = export_official(make())
    assert {key: tuple(tensor.shape) for key, tensor in exported.items()} == released_shapes(keys)
    assert list(exported) == list(released_shapes(keys))


def test_released_generator_loads():
    state = {key: torch.zeros(shape) for key, shape in released_shapes("keys_G.txt").items()}
    model = load_official(state)
    assert model.config == GeneratorConfig()
    assert sum(tensor.numel() for tensor in export_official(model).values()) == 11_287_743


@pytest.mark.parametrize(
    ("file", "missing"),
    [
        ("keys_G.txt", "siren.network.0.linear.weight"),
        ("keys_G.txt", "siren.network.1.linear.weight"),
        ("keys_G.txt", "siren.color_layer_sine.linear.weight"),
        ("keys_G.txt", "mapping_network_nerf.base_net.0.weight"),
        ("keys_G.txt", "mapping_network_nerf.base_net.6.weight"),
        ("keys_G.txt", "mapping_network_inr.base_net.21.weight"),
        ("keys_G.txt", "inr_net.network.4.mod1.weight"),
        ("keys_G.txt", "inr_net.network.64.mod1.weight"),
        ("keys_G.txt", "inr_net.network.64.mod2.norm.bias"),
        ("keys_D.txt", "main_disc.conv_in.4.equal_conv.weight"),
        ("keys_D.txt", "aux_disc.conv_in.1024.equal_conv.weight"),
        ("keys_D.txt", "main_disc.final_conv.equal_conv.weight"),
    ],
)
def test_a_missing_tensor_is_named(file, missing):
    """Those, too, that widths and depths are read from."""
    state = {key: torch.empty(shape, device="meta") for key, shape in released_shapes(file).items() if key != missing}
    with pytest.raises(ValueError, match=re.escape(missing)):
        load_official(state)


def test_what_is_no_floating_point_tensor_is_named(state):
    with pytest.raises(ValueError, match="got G: dict, step: int"):
        load_official({"G": state, "step": 3})
    with pytest.raises(ValueError, match="got main_disc.out_linear.bias: torch.int64"):
        load_official({**state, "main_disc.out_linear.bias": torch.zeros(1, dtype=torch.int64)})


def test_a_file_of_something_else_is_named(tmp_path):
    (tmp_path / "text.pth").write_text("hello")
    torch.save(torch.nn.Linear(1, 1), tmp_path / "G_model.pth")
    (tmp_path / "empty.pth").touch()
    for name in ("text.pth", "G_model.pth", "empty.pth"):
        with pytest.raises(ValueError, match=f"{name} is no file of tensors alone"):
            load_official(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        load_official(tmp_path / "nothing.pth")


def test_paper_generator_has_no_official_form():
    config = GeneratorConfig(field_width=8, inr_width=8, inr_blocks=5, rgb_blocks=(0, 1, 2, 3, 4), skip_blocks=())
    with pytest.raises(ValueError, match=r"rgb_blocks=\(3, 4\) and skip_blocks=\(4,\)"):
        export_official(Generator(config))


@pytest.fixture
def state():
    with np.load(FIXTURES / "discriminator.npz", allow_pickle=False) as archive:
        layout, flat = json.loads(bytes(archive["layout_json"])), torch.from_numpy(archive["weights"])
    pieces = flat.split([math.prod(shape) for _, shape in layout])
    return {key: piece.view(shape) for (key, shape), piece in zip(layout, pieces, strict=True)}


def test_joint_discriminator(state):
    model = load_official(state)
    assert model.config == DiscriminatorConfig(main_channels=(8, 8, 8, 6), aux_channels=(6, 6, 6, 4))
    assert model.official.kind == "joint discriminator" and not model.official.unused and not model.training
    exported = export_official(model)
    assert list(exported) == list(state)
    assert all(torch.equal(exported[key], tensor) for key, tensor in state.items())


def test_main_discriminator_alone(state):
    main = {key.removeprefix("main_disc."): value for key, value in state.items() if key.startswith("main_disc.")}
    model = load_official(main)
    assert model.aux is None and model.official.kind == "main discriminator"
    images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model(images), load_official(state).main(images), rtol=0, atol=0)
    assert list(export_official(model)) == list(main)


def test_discriminator_gradients(state):
    model = load_official({key: tensor.double() for key, tensor in state.items()})
    model(torch.ones(2, 3, 8, 8, dtype=torch.float64), use_aux=True).sum().backward()
    gradients = official_gradients(model)
    assert list(gradients) == list(state)
    assert gradients["main_disc.convs.8.conv2.down_blur.kernel"] is None  # a buffer
    assert gradients["main_disc.conv_in.16.equal_conv.weight"] is None  # of another size
    for key in ("main_disc.conv_in.8.equal_conv.weight", "aux_disc.out_linear.bias"):
        assert gradients[key].shape == state[key].shape and gradients[key].abs().sum() > 0


def test_discriminators_the_configuration_lacks(state):
    aux = {key.removeprefix("aux_disc."): value for key, value in state.items() if key.startswith("aux_disc.")}
    with pytest.raises(ValueError, match="auxiliary discriminator alone"):
        load_official(aux)
    with pytest.raises(ValueError, match="minibatch statistics"):
        load_official({**state, "main_disc.final_conv.equal_conv.weight": torch.zeros(8, 9, 3, 3)})
    with pytest.raises(ValueError, match="must be the binomial kernel"):
        load_official({**state, "main_disc.convs.8.skip.down_blur.kernel": torch.ones(4, 4)})
    without = {key: value for key, value in state.items() if not key.startswith("aux_disc.")}
    with pytest.raises(ValueError, match=r"aux_disc.conv_in.4.equal_conv.weight must have 4 axes, got no such key"):
        load_official(without)
