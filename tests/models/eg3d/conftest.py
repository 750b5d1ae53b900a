"""A generator of every part, every width as small as it goes, in float64."""

import pytest
import torch

from cips3d.config.training import TrainingConfig, load_training
from cips3d.models.eg3d import Eg3dGenerator


@pytest.fixture(scope="session")
def data_cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def tiny(data_cache: str, monkeypatch: pytest.MonkeyPatch) -> TrainingConfig:
    monkeypatch.setenv("XDG_CACHE_HOME", data_cache)
    return load_training("eg3d_tiny")


@pytest.fixture
def generator(tiny: TrainingConfig) -> Eg3dGenerator:
    torch.manual_seed(0)
    return Eg3dGenerator(tiny.generator, "reference").double()  # type: ignore[arg-type]
