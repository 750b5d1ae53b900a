"""The loop: what a run leaves behind, exact resumption, stopping, divergence, and what mistakes are told."""

import dataclasses
import json
import os
import re
import signal

import pytest
import torch

from cips3d.config import ConfigError
from cips3d.config.training import load_training, replace
from cips3d.data import TrainingBatches
from cips3d.training import loop
from cips3d.training.checkpoint import LATEST, CheckpointError, load_checkpoint
from cips3d.training.loop import TrainingStopped, open_images, train
from cips3d.training.trainer import Trainer

SECONDS = "seconds"  # in the name of what differs between equal runs: one entry of a state, times in the statistics


def assert_same(a, b, path=""):
    assert type(a) is type(b), path
    if isinstance(a, dict):
        assert a.keys() == b.keys(), path
        for key in a:
            if key != SECONDS:
                assert_same(a[key], b[key], f"{path}.{key}")
    elif isinstance(a, list | tuple):
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{path}[{i}]")
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b), path
    else:
        assert a == b, path


def rows(run_dir):
    return [json.loads(line) for line in (run_dir / "stats.jsonl").read_text().splitlines()]


def test_a_whole_run(tiny, tmp_path):
    config = tiny()
    result = train(config, tmp_path)
    assert (result.step, result.reason) == (6, "steps")
    assert sorted(p.name for p in (tmp_path / "samples").iterdir()) == ["000003.png", "000006.gif", "000006.png"]
    stats = rows(tmp_path)
    assert [row["step"] for row in stats] == [1, 2, 3, 4, 5, 6]
    assert [row["resolution"] for row in stats] == [8, 8, 8, 16, 16, 16]
    # The penalty is computed in every second step; what is not computed is not reported.
    assert ["r1" in row for row in stats] == [True, False, True, False, True, False]
    parts = [[row[f"{SECONDS}_{part}"] for part in ("data", "d", "g")] for row in stats]
    assert all(min(row) > 0 for row in parts)
    assert sum(map(sum, parts)) <= stats[-1][SECONDS]
    assert any((tmp_path / "tensorboard").iterdir())
    start = Trainer(config, FakeImages(), torch.device("cpu")).generator.state_dict()
    ended = load_checkpoint(result.checkpoint)["generator"]
    assert not torch.equal(start["aux_rgb.weight"], ended["aux_rgb.weight"])


class FakeImages:
    """For tests that never ask for an image."""


def test_resuming_repeats_the_uninterrupted_run(tiny, tmp_path):
    train(tiny(), tmp_path / "whole")
    # Interrupted after three of six steps: between two checkpoints, one step before the resolution changes.
    stop_after(3, tiny(), tmp_path / "parts")
    train(tiny(), tmp_path / "parts")
    latest = "checkpoints/latest.pt"
    assert_same(load_checkpoint(tmp_path / "whole" / latest), load_checkpoint(tmp_path / "parts" / latest))
    drop = [{k: v for k, v in row.items() if SECONDS not in k} for row in rows(tmp_path / "whole")]
    assert drop == [{k: v for k, v in row.items() if SECONDS not in k} for row in rows(tmp_path / "parts")]


def test_a_run_in_parts_is_the_whole_run(tiny, tmp_path):
    """The last step of each part moves no change of resolution, also beyond the schedule's steps."""
    for end in (2, 5, 8):
        assert train(replace(tiny(), "schedule", last_step=end), tmp_path / "parts").step == end
    train(replace(tiny(), "schedule", last_step=8), tmp_path / "whole")
    latest = "checkpoints/latest.pt"
    assert_same(load_checkpoint(tmp_path / "whole" / latest), load_checkpoint(tmp_path / "parts" / latest))
    assert [row["resolution"] for row in rows(tmp_path / "parts")] == [8, 8, 8, 16, 16, 16, 16, 16]


def stop_after(steps, config, run_dir, number=signal.SIGTERM):
    """Run the loop and send this process a signal during iteration `steps`."""
    iterate = Trainer.iterate

    def iterate_and_signal(trainer):
        if trainer.step == steps - 1:
            os.kill(os.getpid(), number)
        return iterate(trainer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "iterate", iterate_and_signal)
        return train(config, run_dir)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_save_and_stop(tiny, tmp_path, number):
    before = signal.getsignal(number)
    result = stop_after(3, tiny(), tmp_path, number)
    assert (result.step, result.reason) == (3, number.name)
    assert load_checkpoint(result.checkpoint)["step"] == 3
    assert signal.getsignal(number) is before


def test_killed_run_forgets_what_its_checkpoint_does_not_know(tiny, tmp_path):
    def killed(trainer):
        raise KeyError("as if killed")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.Reporter, "samples", killed)  # in step 3, after the checkpoint of step 2
        with pytest.raises(KeyError):
            train(tiny(), tmp_path)
    assert [row["step"] for row in rows(tmp_path)] == [1, 2, 3]
    with open(tmp_path / "stats.jsonl", "a") as file:
        file.write('{"step": 4, "d_lo')
    train(tiny(), tmp_path)
    assert [row["step"] for row in rows(tmp_path)] == [1, 2, 3, 4, 5, 6]


def test_a_finished_run_can_be_lengthened(tiny, tmp_path):
    train(tiny("schedule.stages=[{resolution: 8}]"), tmp_path)
    assert train(tiny("schedule.stages=[{resolution: 8}]"), tmp_path).step == 6
    assert train(tiny("schedule.stages=[{resolution: 8}]", "schedule.steps=7"), tmp_path).step == 7


def test_time_budget(tiny, tmp_path):
    result = train(tiny("schedule.steps=1000000", "schedule.minutes=0.05"), tmp_path)
    assert result.reason == "minutes" and result.seconds >= 3
    assert load_checkpoint(result.checkpoint)["stage"] == 1


def test_divergence_stops_with_the_state_saved(tiny, tmp_path):
    with pytest.raises(
        TrainingStopped, match=r"(discriminator|generator)'s loss is (nan|inf).*diverged.pt.*lower learning rate"
    ):
        train(tiny("optimizer.d_lr=1e30"), tmp_path)
    assert load_checkpoint(tmp_path / "checkpoints" / "diverged.pt")["step"] < 6


def test_mistakes_are_told(tiny, tmp_path):
    train(tiny("schedule.steps=1"), tmp_path / "run")
    with pytest.raises(ConfigError, match="optimizer.batch_size: 2 there, 3 now"):
        train(tiny("optimizer.batch_size=3"), tmp_path / "run")
    checkpoint = tmp_path / "run" / "checkpoints" / "latest.pt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="latest.pt is damaged"):
        train(tiny(), tmp_path / "run")
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot write into the run folder"):
        train(tiny(), tmp_path / "file")


def test_bf16_stays_near_full_precision(tiny, tmp_path):
    train(tiny("schedule.steps=1"), tmp_path / "full")
    train(tiny("schedule.steps=1", "optimizer.precision=bf16"), tmp_path / "bf16")
    full, bf16 = rows(tmp_path / "full")[0], rows(tmp_path / "bf16")[0]
    assert full["d_loss"] != bf16["d_loss"]
    # bfloat16 keeps 8 bits; logits of order 1 move the loss by about 2^-8 each.
    assert full["d_loss"] == pytest.approx(bf16["d_loss"], rel=0.05)


def test_channels_last_is_a_layout_alone(tiny, tmp_path):
    states = []
    for layout in ("false", "true"):
        config = tiny("schedule.steps=2", f"optimizer.channels_last={layout}")
        trainer = Trainer(config, TrainingBatches(open_images(config), 2, seed=0), torch.device("cpu"))
        trainer.iterate()
        states.append(trainer.discriminator.state_dict())
    weights = [state["main.blocks.16.conv1.conv.weight"] for state in states]
    assert [w.is_contiguous(memory_format=torch.channels_last) for w in weights] == [False, True]
    for name, value in states[0].items():
        # Adam's first step is its learning rate, 2e-3, whatever the gradient: roundings of a small one may turn it.
        torch.testing.assert_close(states[1][name], value, rtol=0, atol=1e-6)


def test_the_bar_counts_what_ends_the_run(tiny, tmp_path, capsys):
    train(tiny(), tmp_path / "steps")
    assert "6/6 [" in capsys.readouterr().err
    train(replace(tiny(), "schedule", minutes=0.05), tmp_path / "minutes")
    shown = capsys.readouterr().err
    assert re.search(r"/3 s, step=\d+, it/s=", shown) and "it/s, px" not in shown


def test_learning_rates_follow_the_stage(tiny, tmp_path):
    config = tiny("schedule.stages=[{resolution: 8}, {resolution: 16, g_lr: 1e-5}]")
    rates = config.optimizer.g_lr, config.optimizer.d_lr
    for steps, wanted in ((3, rates), (4, (1e-5, rates[1])), (6, (1e-5, rates[1]))):  # in parts: also after resuming
        state = load_checkpoint(train(replace(config, "schedule", last_step=steps), tmp_path).checkpoint)
        assert wanted == tuple(state[name]["param_groups"][0]["lr"] for name in ("g_optimizer", "d_optimizer"))


def test_initial_weights_follow_the_configuration(tiny):
    def initial(*assignments):
        config = tiny(*assignments)
        batches = TrainingBatches(open_images(config), config.optimizer.batch_size, seed=0)
        return Trainer(config, batches, torch.device("cpu")).generator.state_dict()

    plain = initial()
    changed = initial("init.density_bias=3", "init.density_gain=2", "init.shape_gain=0.5")
    different = {name: (plain[name], value) for name, value in changed.items() if not torch.equal(plain[name], value)}
    last = max(name for name in plain if name.startswith("shape_mapping.linears") and name.endswith("weight"))
    expected = {"field.density.bias": lambda b: b + 3, "field.density.weight": lambda w: 2 * w, last: lambda w: w / 2}
    assert set(different) == set(expected)
    for name, (before, after) in different.items():
        torch.testing.assert_close(after, expected[name](before))


NERF = ("shape_mapping", "field", "aux_rgb")
FROZEN = "{resolution: 16, freeze_nerf: true, use_aux: false, diff_augment: false}"


def test_a_frozen_nerf_takes_its_average_and_stays(tiny, tmp_path):
    config = tiny(f"schedule.stages=[{{resolution: 8}}, {FROZEN}]")
    states = [
        load_checkpoint(train(replace(config, "schedule", last_step=steps), tmp_path).checkpoint) for steps in (3, 4, 6)
    ]
    before, *frozen = states
    for state in frozen:  # the second after resuming
        for name, value in state["generator"].items():
            if name.startswith(NERF):
                torch.testing.assert_close(value, before["ema"][name], rtol=0, atol=0)
    assert not torch.equal(
        frozen[0]["generator"]["inr.blocks.0.first.weight"], frozen[1]["generator"]["inr.blocks.0.first.weight"]
    )
    aux = [state["discriminator"]["aux.output.weight"] for state in states]
    assert torch.equal(aux[0], aux[2]), "without use_aux the auxiliary discriminator rests"


def test_density_noise_begins_anew_with_a_stage_that_says_so(tiny):
    stages = "[{resolution: 8}, {resolution: 8, density_noise_steps: 10}, {resolution: 8, density_noise_steps: 0}]"
    config = tiny(f"schedule.stages={stages}", "render.density_noise_steps=4", "schedule.steps=9")
    trainer = Trainer(config, TrainingBatches(open_images(config), 2, seed=0), torch.device("cpu"))
    seen = []
    for _ in range(9):
        trainer.iterate()
        trainer.step -= 1  # as during the step
        seen.append(trainer.density_noise_std)
        trainer.step += 1
    assert seen == pytest.approx([1, 0.75, 0.5, 1, 0.9, 0.8, 0, 0, 0])


def test_a_run_can_begin_with_the_networks_of_another(tiny, tmp_path, capsys):
    ended = load_checkpoint(train(tiny(), tmp_path / "first").checkpoint)
    config = tiny(f"schedule.stages=[{FROZEN}]", "seed=5")
    state = load_checkpoint(train(config, tmp_path / "second", start_from=tmp_path / "first").checkpoint)
    for name, value in state["generator"].items():
        if name.startswith(NERF):
            assert torch.equal(value, ended["ema"][name]), name
    assert "starting with the networks of" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="cannot start from .*: generator.inr_width: 8 there, 24 here; use a preset"):
        train(tiny("generator.inr_width=24"), tmp_path / "third", start_from=tmp_path / "first" / LATEST)
    with pytest.raises(ConfigError, match="there is no run .*nothing; wanted a run folder"):
        train(tiny(), tmp_path / "fourth", start_from=tmp_path / "nothing")


@pytest.mark.parametrize(("base", "transfer"), [("synthetic_heads", "toon_transfer"), ("demo", "toon_transfer_demo")])
def test_toon_transfer_moves_the_appearance_alone(data_cache, monkeypatch, tmp_path, base, transfer):
    """The presets themselves, on small networks and small pictures."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(data_cache))
    small = ["generator=tiny", "data.size=16", "optimizer.batch_size=2", "schedule.minutes=null"]
    small += ["discriminator.main_channels=[8, 4]", "render.samples_per_ray=3", "output.sample_rows=1"]
    if base == "synthetic_heads":
        small.append("discriminator.aux_channels=[4, 4]")

    def short(preset, steps):
        stages = (dataclasses.replace(s, resolution=8) for s in load_training(preset).schedule.stages)
        config = load_training(preset, [*small, "schedule.stages=[{resolution: 8}]", f"schedule.steps={steps}"])
        return replace(config, "schedule", stages=tuple(stages))

    before = load_checkpoint(train(short(base, 1), tmp_path / "heads").checkpoint)
    run = train(short(transfer, 3), tmp_path / "toons", start_from=tmp_path / "heads")
    after = load_checkpoint(run.checkpoint)
    for part in ("generator", "ema"):
        for name, value in after[part].items():
            moved = not torch.equal(value, before["ema"][name])
            assert moved != name.startswith(NERF), f"{part}: {name}"
