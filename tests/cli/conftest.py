"""One tiny trained run, shared by the tests of the command line."""

from pathlib import Path

import pytest

from cips3d.cli import main


@pytest.fixture(scope="session")
def run_dir(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "tiny"
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(cache))
        main(["train", "--preset", "tiny", "--run-dir", str(folder), "--steps", "2"])
    return folder
