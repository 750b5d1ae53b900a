"""One tiny trained run, shared by the tests of the command line, and what a mistake looks like."""

from collections.abc import Callable
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


@pytest.fixture
def mistake(run_dir, capsys, tmp_path, monkeypatch) -> Callable[[list[str]], str]:
    """Runs words ("{run}": the trained run) in an empty folder; returns the error message that they must end with."""

    def run(words: list[str]) -> str:
        monkeypatch.chdir(tmp_path)
        with pytest.raises(SystemExit) as exit:
            main([word.format(run=run_dir) for word in words])
        assert exit.value.code == 2
        error = capsys.readouterr().err
        assert "Traceback" not in error
        return error

    return run
