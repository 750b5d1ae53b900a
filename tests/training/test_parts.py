"""Losses, EMA and checkpoints, each on its own."""

import math
import re
import subprocess

import pytest
import torch
from torch import nn

from cips3d.training import checkpoint
from cips3d.training.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from cips3d.training.ema import Ema
from cips3d.training.losses import discriminator_loss, generator_loss, r1_gradient_norm
from cips3d.training.steps import best_part


def test_losses_at_known_logits():
    zero, three = torch.zeros(2, 1), torch.full((2, 1), 3.0)
    assert generator_loss(zero).item() == pytest.approx(math.log(2))
    assert discriminator_loss(three, zero).item() == pytest.approx(math.log(2) + math.log1p(math.exp(-3)))


def test_the_generator_learns_from_the_best_part_alone():
    """A half of five, rounded up, in a batch of its own: the losses of the three best, and no gradient of the rest."""
    logits = torch.tensor([[0.3], [-2.0], [1.0], [0.1], [-0.5]], requires_grad=True)
    weights = best_part(logits, 0.5)
    assert weights.flatten().tolist() == pytest.approx([5 / 3, 0, 5 / 3, 5 / 3, 0])
    loss = generator_loss(logits, weights)
    assert loss.item() == pytest.approx(generator_loss(logits[[0, 2, 3]]).item())
    loss.backward()
    assert (logits.grad.flatten() != 0).tolist() == [True, False, True, True, False]


def test_r1_of_a_quadratic():
    x = torch.randn(3, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    a = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    norm = r1_gradient_norm((a * x.square()).sum(dim=(1, 2, 3)).unsqueeze(1), x)
    expected = (2 * a * x).square().sum(dim=(1, 2, 3)).detach()
    torch.testing.assert_close(norm.detach(), expected)
    (grad_a,) = torch.autograd.grad(norm.sum(), a)  # d/da of 4 a^2 |x|^2
    assert grad_a.item() == pytest.approx(8 * 2.0 * x.square().sum().item(), rel=1e-5)


def test_ema_follows_then_averages():
    source = nn.Linear(2, 2)
    ema = Ema(source, decay=0.9, start=2)
    with torch.no_grad():
        source.weight.fill_(1.0)
        ema.update(source, step=2)
        source.weight.fill_(2.0)
        ema.update(source, step=3)
    torch.testing.assert_close(ema.module.weight, torch.full((2, 2), 1.1))
    assert not any(p.requires_grad for p in ema.module.parameters())


def test_checkpoint_round_trip(tmp_path):
    path = tmp_path / "checkpoints" / "latest.pt"
    save_checkpoint(path, {"step": 3, "weights": {"a": torch.arange(4.0)}, "rng": torch.Generator().get_state()})
    state = load_checkpoint(path)
    assert state["step"] == 3 and torch.equal(state["weights"]["a"], torch.arange(4.0))
    assert [p.name for p in path.parent.iterdir()] == ["latest.pt"]


def test_interrupted_write_keeps_the_old_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "latest.pt"
    save_checkpoint(path, {"step": 1})

    def half_a_file(state, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.torch, "save", half_a_file)
    with pytest.raises(CheckpointError, match="No space left"):
        save_checkpoint(path, {"step": 2})
    assert load_checkpoint(path)["step"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["latest.pt"]


@pytest.mark.parametrize("keep", [0, 1, 100, 600])
def test_truncated_checkpoint(tmp_path, keep):
    path = tmp_path / "latest.pt"
    save_checkpoint(path, {"weights": torch.zeros(1000)})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="damaged or not a checkpoint"):
        load_checkpoint(path)


def test_a_damaged_checkpoint_has_a_way_out(tmp_path):
    path = tmp_path / "latest.pt"
    for step in (1, 2, 3):
        save_checkpoint(path, {"step": step})
    save_checkpoint(tmp_path / "diverged.pt", {"step": 4})
    path.write_bytes(b"")
    with pytest.raises(CheckpointError, match="damaged.*go on from the one before it with `mv ") as error:
        load_checkpoint(path)
    subprocess.run(re.findall("`(.*)`", str(error.value))[0], shell=True, check=True)
    assert load_checkpoint(path)["step"] == 2


def test_a_checkpoint_of_a_newer_version_says_so(tmp_path, monkeypatch):
    path = tmp_path / "latest.pt"
    with monkeypatch.context() as newer:
        newer.setattr(checkpoint, "FORMAT", 2)
        newer.setattr(checkpoint.cips3d_ext, "__version__", "7.1")
        save_checkpoint(path, {"step": 1})
    with pytest.raises(CheckpointError, match=r"written by version 7.1 .* in format 2; .* reads format 1"):
        load_checkpoint(path)


def test_foreign_files(tmp_path):
    path = tmp_path / "other.pt"
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        load_checkpoint(path)
    torch.save({"a": 1}, path)
    with pytest.raises(CheckpointError, match="not a training checkpoint"):
        load_checkpoint(path)
    torch.save({"module": nn.Linear(1, 1)}, path)  # a pickled module could run code: refused
    with pytest.raises(CheckpointError, match="damaged or not a checkpoint"):
        load_checkpoint(path)
