"""Latents come back as they were saved; other and damaged files are named."""

import pytest
import torch
from safetensors.torch import save_file

from cips3d.inversion import Latents, load_latents, save_latents

LATENTS = Latents(torch.arange(6.0)[None], torch.arange(8.0)[None] / 3, torch.tensor([1.5]), torch.tensor([1.4]))


def test_round_trip(model, tmp_path):
    path = tmp_path / "new" / "latents.safetensors"
    save_latents(path, LATENTS, "how")
    for read, saved in zip(load_latents(path, model), LATENTS, strict=True):
        assert torch.equal(read, saved)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"w_shape": torch.zeros(1, 7)}, r"w_shape must be finite float32 \[1, 6\].*got torch.float32 \[1, 7\]"),
        ({"yaw": torch.tensor([torch.inf])}, "yaw must be finite"),
        ({"pitch": torch.zeros(1, dtype=torch.int64)}, "pitch must be finite float32"),
    ],
)
def test_latents_of_another_model(model, tmp_path, change, message):
    save_latents(tmp_path / "x.safetensors", LATENTS._replace(**change), "")
    with pytest.raises(ValueError, match=message):
        load_latents(tmp_path / "x.safetensors", model)


def test_files_that_are_something_else(model, tmp_path):
    save_file(LATENTS._asdict(), tmp_path / "other.safetensors", {"format": "x"})
    with pytest.raises(ValueError, match="other.safetensors holds no latents .*got x"):
        load_latents(tmp_path / "other.safetensors", model)
    save_file({"yaw": torch.zeros(1)}, tmp_path / "part.safetensors", {"format": "cips3d-latents-1"})
    (tmp_path / "damaged.safetensors").write_bytes(b"\xff" * 100)
    for name in ("part", "damaged", "missing"):
        with pytest.raises(ValueError, match=f"{name}.safetensors cannot be read or are damaged"):
            load_latents(tmp_path / f"{name}.safetensors", model)
