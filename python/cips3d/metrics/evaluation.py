"""All metrics of a model by name, with what each needs of the data made once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from cips3d import distributed
from cips3d.data import ImageDataset, SyntheticHeads, to_float
from cips3d.metrics.distances import PAPER_COUNT, Distances, measure_distances
from cips3d.metrics.extractors import Extractor, inception_extractor, small_extractor
from cips3d.metrics.geometry import measure_geometry
from cips3d.metrics.identity import measure_head_identity, measure_identity
from cips3d.metrics.mirror import measure_mirror_symmetry
from cips3d.metrics.pose import measure_pose_control
from cips3d.metrics.regressor import shrink
from cips3d.metrics.reprojection import measure_reprojection
from cips3d.training.trained import TrainedModel

LEARNT_FROM = 4000  # real images, at most, that a regressor learns from
LEARNT_DEPTHS = 1000  # and the same where their depth must be rendered anew, some thirty a second
HEADS = 128  # new heads that the 3D metrics look at


@dataclass
class Evaluation:
    """What is measured: a model, the data set it is compared with (if any), and how many heads."""

    model: TrainedModel
    images: ImageDataset | None = None
    count: int = PAPER_COUNT  # generated pictures of the distances
    heads: int = HEADS
    seed: int = 0
    inception_weights: Path | None = None
    progress: bool = True
    _extractors: dict[str, Extractor] = field(default_factory=dict)
    _distances: dict[str, Distances] = field(default_factory=dict)

    def measure(self, names: Iterable[str]) -> dict[str, dict[str, Any]]:
        """The numbers of each metric by name, with what was counted and how.

        Processes share the work on distances; the other metrics are done by process 0. Raises ValueError for a metric
        that the data set does not allow, RuntimeError where an extractor of features cannot be had.
        """
        names, results = list(names), {}
        for name in names:
            self.check(name)
        for kind in {METRICS[name].features for name in names} - {""}:
            self.extractor(kind)  # what cannot be had is told before the first metric takes its minutes
        for name in tqdm(names, desc="metrics", disable=not self.progress or distributed.rank() > 0):
            metric = METRICS[name]
            shared = metric.needs == DISTANCE
            results[name] = metric.measure(self) if shared else distributed.from_main(partial(metric.measure, self))
        return results

    def check(self, name: str) -> None:
        """Raises ValueError unless the metric is known and the data set has what it needs."""
        if name not in METRICS:
            raise ValueError(f"there is no metric {name}; wanted some of {', '.join(METRICS)}")
        if METRICS[name].needs not in self.provides:
            given = "no data set is given" if self.images is None else f"{type(self.images).__name__} has none"
            raise ValueError(f"the metric {name} needs {METRICS[name].needs}, but {given}; give another --data")

    def metrics_3d(self) -> list[str]:
        """All that the data set allows, except distances."""
        return [name for name, metric in METRICS.items() if metric.needs in self.provides - {DISTANCE}]

    @property
    def provides(self) -> set[str]:
        """Which needs of metrics the data set meets."""
        met = {NOTHING}
        if self.images is not None:
            met.add(DISTANCE)
            if self.images.pose(0) is not None:
                met.add(POSES)
            if isinstance(self.images, SyntheticHeads):
                met.add(HEADS_KNOWN)
        return met

    def extractor(self, kind: str) -> Extractor:
        """Of "inception" or of "small" features, made once."""
        if kind not in self._extractors:
            device = self.model.device
            inception = kind == "inception"
            made = inception_extractor(device, self.inception_weights) if inception else small_extractor(device)
            self._extractors[kind] = made
        return self._extractors[kind]

    def distances(self, kind: str) -> Distances:
        """By an extractor's features, computed once for all metrics that read from it."""
        if kind not in self._distances:
            assert self.images is not None
            self._distances[kind] = measure_distances(
                self.model, self.images, self.extractor(kind), self.count, self.seed, progress=self._bar
            )
        return self._distances[kind]

    @cached_property
    def learning(self) -> Tensor:
        """Real images [N,3,S,S] in [-1,1] to learn from."""
        assert self.images is not None
        items = range(min(LEARNT_FROM, self.images.originals))
        return torch.cat([shrink(to_float(self.images[item][None])) for item in items])

    def _bar(self, chunks: range, what: str) -> Iterable[int]:
        return tqdm(chunks, desc=f"features, {what}", unit="batch", disable=not self.progress or distributed.rank() > 0)


@dataclass(frozen=True)
class Metric:
    """What a metric is called in words, what it needs of the data set, how it is measured, and on which features."""

    title: str
    needs: str
    measure: Callable[[Evaluation], dict[str, Any]]
    features: str = ""


NOTHING, DISTANCE, POSES, HEADS_KNOWN = "nothing", "real images", "known poses", "synthetic heads, whose truth is known"


def _distance(title: str, features: str, *fields: str) -> Metric:
    """A metric that is some fields of the distances by an extractor's features, beside what was counted."""

    def measure(evaluation: Evaluation) -> dict[str, Any]:
        found = asdict(evaluation.distances(features))
        return {name: found[name] for name in (*fields, "generated", "real", "extractor")}

    return Metric(title, DISTANCE, measure, features)


def _pose(evaluation: Evaluation) -> dict[str, Any]:
    images, real = evaluation.images, evaluation.learning
    assert images is not None
    poses = torch.tensor([images.pose(item) for item in range(len(real))])
    return asdict(measure_pose_control(evaluation.model, real, poses, evaluation.heads, seed=evaluation.seed))


def _geometry(evaluation: Evaluation) -> dict[str, Any]:
    assert isinstance(evaluation.images, SyntheticHeads)
    real = evaluation.learning[:LEARNT_DEPTHS]
    heads, count, seed = evaluation.images, evaluation.heads, evaluation.seed
    return asdict(measure_geometry(evaluation.model, real, heads, count, seed=seed, progress=evaluation.progress))


def _identity(evaluation: Evaluation) -> dict[str, Any]:
    model, heads, seed = evaluation.model, evaluation.heads, evaluation.seed
    if isinstance(evaluation.images, SyntheticHeads):
        return asdict(measure_head_identity(model, evaluation.learning, evaluation.images, heads, seed=seed))
    return asdict(measure_identity(model, heads, seed))


METRICS: Mapping[str, Metric] = {
    "mirror": Metric("mirror symmetry", NOTHING, lambda e: asdict(measure_mirror_symmetry(e.model, e.heads, e.seed))),
    "reprojection": Metric(
        "reprojection error", NOTHING, lambda e: asdict(measure_reprojection(e.model, e.heads, e.seed))
    ),
    "identity": Metric("identity over yaw", NOTHING, _identity),
    "pose": Metric("pose control", POSES, _pose),
    "geometry": Metric("depth against the picture's", HEADS_KNOWN, _geometry),
    "fid": _distance("FID", "inception", "frechet"),
    "kid": _distance("KID x 1000", "inception", "kernel", "kernel_std"),
    "pr": _distance("precision, recall", "inception", "precision", "recall"),
    "fd_small": _distance("Frechet distance, small features", "small", "frechet"),
    "kd_small": _distance("kernel distance x 1000, small features", "small", "kernel", "kernel_std"),
    "pr_small": _distance("precision, recall, small features", "small", "precision", "recall"),
}
