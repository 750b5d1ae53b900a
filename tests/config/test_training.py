"""Training presets: each loads, can be overridden everywhere, and a changed one is told apart from the one of a run."""

import dataclasses

import pytest

import cips3d_ext
from cips3d.config import ConfigError, preset_names
from cips3d.config.training import StageConfig, check_same_run, load_training, read_training, replace, write_training


@pytest.mark.parametrize("name", preset_names("training"))
def test_presets_load_and_survive_writing(name, tmp_path):
    config = load_training(name)
    write_training(config, tmp_path / "config.yaml")
    assert read_training(tmp_path / "config.yaml") == config
    check_same_run(config, tmp_path / "config.yaml")


def test_released_values():
    config = load_training("released_ffhq_32")
    assert (config.optimizer.g_lr, config.optimizer.d_lr, config.optimizer.betas) == (2e-4, 2e-3, (0.0, 0.999))
    assert config.generator.inr_width == 512 and config.discriminator.max_size == 1024
    assert config.loss.r1_weight == 10 and config.schedule.steps == 80_000


def test_overrides_reach_defaults_and_the_generator():
    config = load_training("tiny", ["generator.inr_width=16", "output.log_every=7", "optimizer.precision=bf16"])
    assert (config.generator.inr_width, config.output.log_every, config.optimizer.precision) == (16, 7, "bf16")
    assert load_training("tiny", ["generator=demo"]).generator == load_training("demo").generator


@pytest.mark.parametrize(
    "assignment, message",
    [
        ("optimiser.g_lr=1", r"unknown key 'optimiser' \(did you mean 'optimizer'\?\)"),
        ("optimizer.glr=1", r"unknown key 'glr' in optimizer \(did you mean 'g_lr'\?\)"),
        ("optimizer.g_lr=fast", "optimizer.g_lr must be a number, got 'fast'"),
        ("generator=dmeo", r"no generator preset 'dmeo' \(did you mean 'demo'\?\)"),
        ("discriminator.aux_channels=[]", "use_aux is true but discriminator.aux_channels is empty"),
        ("schedule.stages=[{resolution: 8}, {resolution: 64}]", "goes up to 64"),
        ("schedule.stages=[]", "at least one, of growing resolutions, got \\[\\]"),
        ("schedule.stages=[{resolution: 16}, {resolution: 8}]", r"growing resolutions, got \[16, 8\]"),
        ("schedule.stages=[{resolution: 8, share: 0}]", "must be > 0, got 8 and 0"),
        (
            "schedule.stages=[{resolution: 8, fade: 3}]",
            r"unknown key 'fade' in schedule.stages\[0\] \(did you mean 'fade_",
        ),
    ],
)
def test_mistakes(assignment, message):
    with pytest.raises(ConfigError, match=message):
        load_training("tiny", [assignment])


def test_unknown_preset():
    with pytest.raises(ConfigError, match=r"no training preset 'tyni' \(did you mean 'tiny'\?\); there are: "):
        load_training("tyni")


def test_stages():
    stages = tuple(StageConfig(side, share) for side, share in ((4, 10), (8, 5), (16, 5)))
    schedule = replace(load_training("tiny"), "schedule", stages=stages).schedule
    assert [schedule.stage_at(p) for p in (0.0, 0.49, 0.5, 0.74, 0.76, 1.0)] == [0, 0, 1, 1, 2, 2]
    assert schedule.resolution == 16


def test_a_stage_takes_the_place_of_the_runs_values():
    config = load_training("released_ffhq")
    last = config.at_stage(3)
    assert (last.optimizer.g_lr, last.optimizer.d_lr) == (1e-4, 5e-4)
    assert (last.loss.use_aux, last.loss.diff_augment) == (False, True)
    assert config.at_stage(0) == replace(config, "render", density_noise_steps=5000)
    assert [stage.resolution for stage in config.schedule.stages] == [32, 64, 128, 256]
    # 80k + 200k steps of 1,880k are the first two stages.
    assert [config.schedule.stage_at(step / config.schedule.steps) for step in (79_999, 80_001, 280_001)] == [0, 1, 2]


def test_a_preset_may_rest_on_another():
    whole, first = load_training("released_ffhq"), load_training("released_ffhq_32")
    assert first.schedule.stages[0].resolution == 32 and len(first.schedule.stages) == 1
    assert dataclasses.replace(first, schedule=whole.schedule) == whole
    transfer = load_training("released_cartoon")  # of one that rests on another itself
    assert transfer.optimizer == dataclasses.replace(whole.optimizer, ema_start=100)


def test_cats_go_the_authors_way():
    config = load_training("released_cats")
    assert (config.generator.near, config.generator.far) == (0.8, 1.2)
    assert dataclasses.replace(config.generator, near=0.88, far=1.12) == load_training("released_ffhq").generator
    assert (config.camera.yaw_std, config.camera.pitch_std, config.camera.distribution) == (0.5, 0.4, "gaussian")
    assert config.render.samples_per_ray == 24
    stage_at = config.schedule.stage_at
    sides = [config.schedule.stages[stage_at(progress)].resolution for progress in (0.0, 0.399, 0.401, 0.599, 0.601)]
    assert sides == [64, 64, 128, 128, 256]
    stages = [config.at_stage(index) for index in range(3)]
    assert [(stage.optimizer.g_lr, stage.optimizer.d_lr) for stage in stages] == [
        (2e-4, 2e-3),
        (1e-4, 1e-3),
        (1e-4, 5e-4),
    ]
    assert [stage.render.density_noise_steps for stage in stages] == [5000, 0, 0]
    assert [(stage.loss.use_aux, stage.loss.diff_augment) for stage in stages] == [
        (True, False),
        (True, False),
        (False, True),
    ]
    assert [stage.freeze_nerf for stage in config.schedule.stages] == [False, False, True]


@pytest.mark.parametrize("name", ["metfaces", "bitmoji"])
def test_transfers_to_other_faces(name):
    """As the released transfer to cartoons, without its density noise; it can begin with the FFHQ run's networks."""
    cartoon, config = load_training("released_cartoon"), load_training(name)
    assert config.data == dataclasses.replace(cartoon.data, source=f"{name}.zip")
    (stage,), (released,) = config.schedule.stages, cartoon.schedule.stages
    assert stage == dataclasses.replace(released, density_noise_steps=None) and stage.freeze_nerf
    assert config.at_stage(0).render.density_noise_steps == 0
    same = dataclasses.replace(cartoon, data=config.data, schedule=config.schedule)
    assert config == same and config.schedule.steps == 100_000
    ffhq = load_training("released_ffhq")
    assert (config.generator, config.discriminator) == (ffhq.generator, ffhq.discriminator)


def test_a_run_keeps_its_configuration(tmp_path):
    config, path = load_training("tiny"), tmp_path / "config.yaml"
    write_training(config, path)
    check_same_run(replace(config, "schedule", steps=100), path)
    with pytest.raises(ConfigError, match=r"optimizer.g_lr: 0.0002 there, 0.1 now\).*another --run-dir"):
        check_same_run(replace(config, "optimizer", g_lr=0.1), path)


def test_a_configuration_of_a_newer_version_says_so(tmp_path):
    path = tmp_path / "config.yaml"
    write_training(load_training("tiny"), path)
    text = path.read_text()
    assert text.startswith(f"version: {cips3d_ext.__version__}\n")
    path.write_text(text.replace(cips3d_ext.__version__, "7.10.0", 1))
    assert read_training(path) == load_training("tiny")  # nothing in it that is not known here
    path.write_text(path.read_text() + "telepathy: true\n")
    with pytest.raises(ConfigError, match=r"written by version 7.10.0 .*unknown key 'telepathy'.*; install"):
        read_training(path)
    path.write_text(text + "telepathy: true\n")
    with pytest.raises(ConfigError, match="config.yaml: unknown key 'telepathy'"):
        read_training(path)


def test_a_section_of_another_model_begins_afresh():
    tiny, pigan = load_training("tiny"), load_training("pigan_tiny")
    assert (tiny.generator.model, pigan.generator.model, pigan.discriminator.model) == ("cips3d", "pigan", "pigan")
    assert tiny.discriminator.main_channels and not hasattr(pigan.discriminator, "main_channels")
    assert pigan.optimizer == tiny.optimizer


def test_networks_without_a_name_are_cips3ds(tmp_path):
    """Runs and models that were written before there were others."""
    path = tmp_path / "config.yaml"
    write_training(load_training("tiny"), path)
    older = path.read_text().replace("  model: cips3d\n", "")
    assert older.count("model:") == 0
    path.write_text(older)
    assert read_training(path) == load_training("tiny")


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("generator.model=pigann", r"there is no model 'pigann' in generator \(did you mean 'pigan'\?\)"),
        ("generator.model=pigan", "unknown key .* in generator"),
        ("loss.topk_least=0", r"topk_least must be in \(0,1\]"),
        ("loss.use_aux=true", "use_aux is true but"),
    ],
)
def test_mistakes_in_other_models(assignment, message):
    name = "pigan_tiny" if assignment.startswith("loss") else "tiny"
    with pytest.raises(ConfigError, match=message):
        load_training(name, [assignment])


def test_the_authors_curriculum_of_cars():
    """Batches, sampling and rates change from stage to stage (CARLA in pi-GAN's curriculums.py)."""
    config = load_training("pigan_carla")
    stages = [config.at_stage(index) for index in range(3)]
    assert [stage.optimizer.batch_size for stage in stages] == [30, 14, 10]
    assert [stage.optimizer.g_lr for stage in stages] == [4e-5, 2e-5, 1e-5]
    assert config.loss.kept(10**6) == 1.0 and load_training("pigan_cats").loss.kept(10**6) == 0.6
    assert load_training("pigan_celeba").loss.kept(2000) == pytest.approx(0.99)
