"""The state of a training run and one iteration of it: a discriminator step, a generator step, the moving average."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cips3d.config.training import StageConfig, TrainingConfig
from cips3d.data import TrainingBatches
from cips3d.distributed import average_, own_rows
from cips3d.models.augment import AugmentDraws
from cips3d.models.registry import make_discriminator, make_generator
from cips3d.render.draws import Draws, complete_draws
from cips3d.render.image import RenderOutput
from cips3d.render.labels import at_distance_one, label_camera
from cips3d.render.rays import Camera
from cips3d.training.ema import Ema
from cips3d.training.path_length import PathLength, differentiable
from cips3d.training.regularisers import Codes, Regularisers
from cips3d.training.steps import Judge, discriminator_step, generator_step

PRECISIONS = {"off": None, "bf16": torch.bfloat16}


class Trainer:
    """Networks, optimisers, moving average, random numbers and counters of one run.

    `images` yields real batches [B,3,S,S] float32 in [-1,1], S the last resolution of the schedule. All other random
    numbers come from `self.rng`, so `state_dict` holds everything that the rest of the run depends on: on the CPU a
    resumed run repeats the uninterrupted one bit for bit (unless a time budget ends its stages).

    Of several processes (`cips3d.distributed`) each draws the random numbers of the whole batch and takes its rows of
    them, so `rng`, and with it the state, is the same in all, and N processes do what one does but for the rounding of
    sums, whatever N is, also after a resumption with another N. B is the whole batch in what follows, b a part of it.
    """

    def __init__(
        self, config: TrainingConfig, images: TrainingBatches, device: torch.device, impl: str = "auto"
    ) -> None:
        self.config, self.images, self.device = config, images, device
        with torch.random.fork_rng():  # the initial weights depend on the seed alone
            torch.manual_seed(config.seed)
            self.generator = make_generator(config.generator, impl).to(device)
            self.discriminator = make_discriminator(config.discriminator, config.optimizer.channels_last).to(device)
            self.regularisers = Regularisers(config, device)
        self.path_length = PathLength(config.regularisers, device)
        if self.discriminator.labelled:
            images.with_labels = True
        init = config.init
        self.generator.adjust_init(init.density_bias, init.density_gain, init.shape_gain)
        optimizer = config.optimizer
        self.ema = Ema(self.generator, optimizer.ema_decay, optimizer.ema_start)
        self.g_optimizer = torch.optim.Adam(self.generator.parameters(), lr=optimizer.g_lr, betas=optimizer.betas)
        self.d_optimizer = torch.optim.Adam(self.discriminator.parameters(), lr=optimizer.d_lr, betas=optimizer.betas)
        self.rng = torch.Generator(device=device).manual_seed(config.seed)
        self.batch_size = optimizer.batch_size
        self.step = 0  # iterations done
        self.shown = 0  # real images seen in them
        self.seconds = 0.0  # time spent in them
        self.stage = 0  # index into schedule.stages
        self.stage_start = 0  # step at which the stage began
        self._follow_stage()

    @property
    def stage_config(self) -> StageConfig:
        return self.config.schedule.stages[self.stage]

    @property
    def resolution(self) -> int:
        """Side of the images being trained on, in pixels."""
        return self.stage_config.resolution

    @property
    def progress(self) -> float:
        """The part of the schedule that is done, in [0,1]: of its steps or its minutes, whichever is further."""
        schedule = self.config.schedule
        by_steps = self.step / schedule.steps if schedule.steps else 1.0
        return min(1.0, max(by_steps, self._progress_in_time))

    @property
    def done(self) -> bool:
        return self.step >= self.config.schedule.end or self._progress_in_time >= 1.0

    @property
    def _progress_in_time(self) -> float:
        minutes = self.config.schedule.minutes
        return self.seconds / (60.0 * minutes) if minutes else 0.0

    @property
    def rows(self) -> slice:
        """This process's part of a batch."""
        return own_rows(self.batch_size)

    @property
    def density_noise_std(self) -> float:
        """max(0, 1 - step / density_noise_steps): early noise keeps the NeRF from settling on thin fog."""
        anew = self.stage_config.density_noise_steps is not None
        steps, passed = self.now.render.density_noise_steps, self.step - (self.stage_start if anew else 0)
        return max(0.0, 1.0 - passed / steps) if steps else 0.0

    @property
    def fade_alpha(self) -> float:
        """Weight of the newest discriminator layers; the first stage has no older ones to fade from."""
        steps = self.stage_config.fade_steps
        return 1.0 if self.stage == 0 or not steps else min(1.0, (self.step - self.stage_start) / steps)

    def iterate(self) -> dict[str, float]:
        """One iteration; returns its scalars, with the seconds that data, D step and G step took.

        Raises NonFiniteError before the failing step changes a weight.
        """
        self._enter_stage()
        seconds: dict[str, float] = {}
        with _seconds_of("data", seconds):
            real, labels = self._real_batch()
        # Both give numbers that were read from the device, so they end when the device has done their work.
        with _seconds_of("d", seconds):
            scalars = self._discriminate(real, labels)
        with _seconds_of("g", seconds):
            scalars |= self._generate()
        self.step += 1
        self.shown += self.batch_size
        self.ema.update(self.generator, self.step)
        scalars |= seconds
        means = torch.tensor(list(scalars.values()), dtype=torch.float64, device=self.device)
        average_([means])
        return dict(zip(scalars, means.tolist(), strict=True))

    def render(self, grad_rays: int | None, codes: Codes | None = None) -> RenderOutput:
        """b training images from `codes`, or fresh ones, and fresh draws."""
        codes = codes or self.sample_inputs()
        draws = self._draws(grad_rays, codes.z_shape.dtype)
        with self._autocast():
            return self._synthesise(self._styles(codes), codes.camera, draws, grad_rays)

    def sample_inputs(self) -> Codes:
        """Fresh codes [b,Z], [b,Z'] and cameras."""
        batch = self.batch_size
        z_shape, z_appearance = (
            torch.randn(batch, size, generator=self.rng, device=self.device)
            for size in (self.config.generator.z_shape_dim, self.config.generator.z_appearance_dim)
        )
        camera = self._sample_cameras(batch)
        condition = self.generator.condition(camera, self.shown, self.rng)
        mixing = self.generator.draw_mixing(batch, self.rng)
        return Codes(z_shape, z_appearance, camera, condition, mixing).of_images(self.rows)

    def _sample_cameras(self, count: int) -> Camera:
        """Poses of the configured distribution, or of random images."""
        pose = self.config.camera
        if pose.from_data:
            labels = at_distance_one(self.images.sample_labels(count, self.rng))
            return label_camera(labels, self.config.schedule.resolution)
        return Camera.sample(
            count,
            pose.yaw_mean,
            pose.yaw_std,
            pose.pitch_mean,
            pose.pitch_std,
            pose.distribution,
            generator=self.rng,
            fov_deg=pose.fov_deg,
        )

    def _autocast(self) -> torch.autocast:
        precision = PRECISIONS[self.config.optimizer.precision]
        return torch.autocast(self.device.type, dtype=precision, enabled=precision is not None)

    def _styles(self, codes: Codes) -> tuple[Tensor, Tensor]:
        return self.generator.map_training(codes.z_shape, codes.z_appearance, codes.pose, codes.mixing)

    def _synthesise(
        self, styles: tuple[Tensor, Tensor], camera: Camera, draws: Draws, grad_rays: int | None = None
    ) -> RenderOutput:
        """Training images of the present stage."""
        render = self.now.render
        return self.generator.synthesise(
            *styles,
            camera,
            resolution=self.resolution,
            samples_per_ray=render.samples_per_ray,
            hierarchical=render.hierarchical,
            draws=draws,
            density_noise_std=self.density_noise_std,
            last_back=render.last_back,
            white_back=render.white_back,
            grad_rays=grad_rays,
            alpha=self.fade_alpha,
            shown=self.shown,
        )

    def _path_length(self) -> tuple[Tensor, Tensor] | None:
        """The path length term of a part of a fresh batch, weighed and by itself, in steps that have one."""
        if not self.path_length.due(self.step):
            return None
        codes = self.sample_inputs()
        part = self.path_length.images
        draws = self._draws(None, codes.z_shape.dtype).of_images(part)
        shape = self.batch_size, 3, self.resolution, self.resolution
        normal = torch.randn(shape, generator=self.rng, device=self.device)[self.rows][part]
        codes = codes.of_images(part)
        with self._autocast():
            styles = differentiable(self.generator.by_layer(*self._styles(codes)))
            images = self._synthesise(styles, codes.camera, draws).image
        return self.path_length(images.to(torch.promote_types(images.dtype, torch.float32)), styles, normal)

    def _draws(self, grad_rays: int | None, dtype: torch.dtype) -> Draws:
        """The random numbers of b images: nothing of them is left to be drawn."""
        render, rays = self.now.render, self.generator.ray_side(self.resolution, self.shown) ** 2
        shapes = self.generator.noise_shapes(self.resolution)
        layers = [
            torch.randn(self.batch_size, *shape, generator=self.rng, device=self.device, dtype=dtype)
            for shape in shapes
        ]
        drawn = complete_draws(
            Draws(layer_noise=tuple(layers)) if layers else None,
            self.rng,
            batch=self.batch_size,
            rays=rays,
            samples=render.samples_per_ray,
            hierarchical=render.hierarchical,
            noisy=self.density_noise_std > 0,
            permuted=grad_rays is not None and grad_rays < rays,
            device=self.device,
            dtype=dtype,
        )
        return drawn.of_images(self.rows)

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values: what `load_state_dict` needs to go on as if nothing had happened."""
        return {
            "generator": self.generator.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "ema": self.ema.module.state_dict(),
            "g_optimizer": self.g_optimizer.state_dict(),
            "d_optimizer": self.d_optimizer.state_dict(),
            "regularisers": self.regularisers.state_dict(),
            "path_length": self.path_length.mean,
            "rng": self.rng.get_state(),
            "images": self.images.state_dict(),
            "step": self.step,
            "shown": self.shown,
            "seconds": self.seconds,
            "stage": self.stage,
            "stage_start": self.stage_start,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        self.generator.load_state_dict(state["generator"])
        self.discriminator.load_state_dict(state["discriminator"])
        self.ema.module.load_state_dict(state["ema"])
        self.g_optimizer.load_state_dict(state["g_optimizer"])
        self.d_optimizer.load_state_dict(state["d_optimizer"])
        self.regularisers.load_state_dict(state.get("regularisers", {}))  # older checkpoints have none
        self.path_length.mean = torch.as_tensor(state.get("path_length", 0.0), device=self.device)
        self.rng.set_state(state["rng"].cpu())
        self.images.load_state_dict(state["images"])
        self.step, self.seconds = state["step"], state["seconds"]
        self.shown = state.get("shown", self.step * self.config.optimizer.batch_size)  # older checkpoints have none
        self.stage, self.stage_start = state["stage"], state["stage_start"]
        self._follow_stage()

    def adopt(self, state: dict[str, Any]) -> None:
        """Begin with the networks of another run's `state_dict`, and nothing else of it."""
        self.generator.load_state_dict(state["generator"])
        self.discriminator.load_state_dict(state["discriminator"])
        self.ema.module.load_state_dict(state["ema"])
        self._settle_frozen_nerf()

    def _enter_stage(self) -> None:
        """Go to the stage that this step belongs to. Everything is handed on: weights, averages, optimiser states."""
        stage = self.config.schedule.stage_at(self.progress)
        if stage > self.stage:
            self.stage, self.stage_start = stage, self.step
            self._follow_stage()
            self._settle_frozen_nerf()

    @torch.no_grad()
    def _settle_frozen_nerf(self) -> None:
        """A NeRF that will not move takes its averaged weights (the released scripts' load_nerf_ema)."""
        if self.stage_config.freeze_nerf:
            for ours, averaged in zip(self.generator.nerf_parameters(), self.ema.module.nerf_parameters(), strict=True):
                ours.copy_(averaged)

    def _follow_stage(self) -> None:
        """What the present stage's configuration decides."""
        self.now = self.config.at_stage(self.stage)
        rates = self.now.optimizer
        for optimizer, rate in ((self.g_optimizer, rates.g_lr), (self.d_optimizer, rates.d_lr)):
            for group in optimizer.param_groups:
                group["lr"] = rate
        for parameter in self.generator.nerf_parameters():
            parameter.requires_grad_(not self.stage_config.freeze_nerf)
        if rates.batch_size != self.batch_size:
            self.batch_size = rates.batch_size
            self.images.resize(rates.batch_size)

    def _discriminate(self, real: Tensor, labels: Tensor | None) -> dict[str, float]:
        loss, optimizer = self.now.loss, self.now.optimizer
        judge = Judge(self.fade_alpha, loss.use_aux, self.shown)
        codes = self.sample_inputs()
        with torch.no_grad():
            rendered = self.render(None, codes)
            fake = self.discriminator.fakes(rendered, loss.use_aux)
            real = self.discriminator.reals(real, rendered, loss.use_aux, self.shown)
        penalised = self.step % loss.r1_every == 0
        result = discriminator_step(
            self.discriminator,
            self.d_optimizer,
            real,
            fake,
            judge,
            # A lazy penalty keeps its strength on average (StyleGAN2, section 3.1).
            r1_weight=loss.r1_weight * loss.r1_every if penalised else 0.0,
            clip_norm=optimizer.clip_norm,
            augments=(self._augment(real), self._augment(fake)) if loss.diff_augment else None,
            labels=(labels, self.discriminator.labels(codes.camera)),
            precision=PRECISIONS[optimizer.precision],
        )
        scalars = {
            "d_loss": result.loss.item(),
            "d_grad_norm": result.grad_norm.item(),
            "real_logit": result.real_logits.mean().item(),
            "fake_logit": result.fake_logits.mean().item(),
        }
        return scalars | ({"r1": result.r1.mean().item()} if penalised else {})

    def _generate(self) -> dict[str, float]:
        loss, optimizer = self.now.loss, self.now.optimizer
        judge = Judge(self.fade_alpha, loss.use_aux, self.shown)
        codes = self.sample_inputs()
        rendered = self.render(self.now.render.grad_rays, codes)
        penalty = self.regularisers(self.generator, codes, rendered, self.rng)
        terms = {} if penalty is None else {name: term.item() for name, term in penalty.terms.items()}
        total = None if penalty is None else penalty.total
        if (path := self._path_length()) is not None:
            total = path[0] if total is None else total + path[0]
            terms["path_length"] = path[1].item()
        fake = self.discriminator.fakes(rendered, loss.use_aux)
        result = generator_step(
            self.generator,
            self.discriminator,
            self.g_optimizer,
            fake,
            judge,
            clip_norm=optimizer.clip_norm,
            augment=self._augment(fake) if loss.diff_augment else None,
            labels=self.discriminator.labels(codes.camera),
            kept=loss.kept(self.step),
            precision=PRECISIONS[optimizer.precision],
            penalty=total,
        )
        self.regularisers.learn()
        scalars = {"g_loss": result.loss.item(), "g_grad_norm": result.grad_norm.item()}
        return scalars | {f"regulariser_{name}": term for name, term in terms.items()}

    def _real_batch(self) -> tuple[Tensor, Tensor | None]:
        """Images [b,3,S,S], and the labels [b,L] of their poses for a discriminator that is told them."""
        images = next(self.images).to(self.device)
        labels = self.images.labels if self.discriminator.labelled else None
        # Earlier stages see area averages of the same images.
        images = images if images.shape[-1] == self.resolution else F.adaptive_avg_pool2d(images, self.resolution)
        return images, labels

    def _augment(self, images: Tensor) -> AugmentDraws:
        """Draws for b images, or for b of the main and b of the auxiliary discriminator."""
        batch, rows = self.batch_size, self.rows
        kinds = len(images) // (rows.stop - rows.start)
        own = torch.arange(kinds * batch, device=self.device).view(kinds, batch)[:, rows].flatten()
        return AugmentDraws.sample(kinds * batch, images.shape[-2], self.rng)[own]


@contextmanager
def _seconds_of(part: str, seconds: dict[str, float]) -> Iterator[None]:
    """Sets seconds["seconds_<part>"] to the wall time of its block."""
    started = time.perf_counter()
    yield
    seconds[f"seconds_{part}"] = time.perf_counter() - started
