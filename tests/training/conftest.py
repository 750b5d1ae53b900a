"""A tiny configuration and its data set, rendered once for all training tests."""

import pytest

from cips3d.config.training import load_training


@pytest.fixture(scope="session")
def data_cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def tiny(data_cache, monkeypatch):
    """Makes the `tiny` training configuration, with overrides."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(data_cache))

    def make(*assignments):
        return load_training("tiny", assignments)

    return make
