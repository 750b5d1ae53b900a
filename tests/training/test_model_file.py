"""Model files hold a generator, nothing that runs, and are refused when they are damaged."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from cips3d.config.loader import ConfigError, build, load_preset, to_mapping
from cips3d.config.training import load_training
from cips3d.models import Generator, GeneratorConfig
from cips3d.training.model_file import FORMAT, ModelConfig
from cips3d.training.trained import TrainedModel, load_model


@pytest.fixture(scope="module")
def model():
    training = load_training("tiny")
    generator = Generator(build(GeneratorConfig, load_preset("generator", "tiny"), "tiny")).eval()
    return TrainedModel(generator, training.camera, training.render, 16)


@pytest.fixture
def path(model, tmp_path):
    model.save(tmp_path / "new" / "model.safetensors", "made by a test")
    return tmp_path / "new" / "model.safetensors"


def rewritten(path, config=None, **metadata):
    """The file at `path` with other metadata."""
    full = {"format": FORMAT, "config": json.dumps(config or {}), **metadata}
    save_file(load_file(path), path, full)
    return path


def test_a_saved_model_shows_the_same_heads(model, path):
    again = load_model(path)
    assert (again.camera, again.render, again.resolution) == (model.camera, model.render, model.resolution)
    inputs = *model.codes(2, 0), model.poses(2, 0)
    assert torch.equal(again.images(*inputs), model.images(*inputs))
    assert not any(p.requires_grad for p in again.generator.parameters())
    assert sorted(file.name for file in path.parent.iterdir()) == [path.name]


def test_a_failed_save_keeps_the_file_that_was_there(model, path, monkeypatch):
    before = path.read_bytes()
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        model.save(path)
    assert path.read_bytes() == before and len(list(path.parent.iterdir())) == 1


def test_a_truncated_file_is_refused(path):
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ConfigError, match="cannot be read or is damaged"):
        load_model(path)


def test_a_file_of_something_else_is_refused(path):
    with pytest.raises(ConfigError, match="wanted format cips3d-model-1, got other"):
        load_model(rewritten(path, format="other"))


def test_an_unknown_key_is_refused(model, path):
    config = ModelConfig(model.generator.config, model.camera, model.render, 16)
    with pytest.raises(ConfigError, match="unknown key 'newer'"):
        load_model(rewritten(path, to_mapping(config) | {"newer": 1}))


@pytest.mark.parametrize(
    ("change", "message"),
    [({"inr_blocks": 10**9}, "layers and has"), ({"field_width": 10**9}, "do not fit its configuration")],
)
def test_a_configuration_that_the_weights_do_not_fit_takes_no_memory(model, path, change, message):
    config = to_mapping(ModelConfig(model.generator.config, model.camera, model.render, 16))
    config["generator"] |= change
    with pytest.raises(ConfigError, match=message):
        load_model(rewritten(path, config))
