"""Features that distances between sets of pictures compare: Inception's, or those of a small random network.

Both are feature extractors of torch-fidelity, which computes the distances: the optional extra `metrics`.
"""

from __future__ import annotations

import hashlib
import importlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from cips3d.metrics import small_features
from cips3d.metrics.small_features import SmallFeatures

INCEPTION = "inception-v3-compat"
LAYER = "2048"  # the pooled features that FID and KID are defined on
WEIGHTS_HASH = "6726825d"  # the SHA-256 of the weights that FID is defined by begins with it, as their file's name says
WEIGHTS = f"weights-inception-2015-12-05-{WEIGHTS_HASH}.pth"
INSTALL = (
    "install it with `pip install 'cips3d-ext[metrics]'` beside a torchvision that fits your torch: constrain torch to "
    "the version that is installed (-c constraints.txt)"
)
# Operators of torchvision that its Python part declares shapes for whether or not its binaries could be loaded.
TORCHVISION_OPS = ("nms", "qnms")


@dataclass(frozen=True)
class Extractor:
    """`features` of uint8 images [B,3,S,S]: float32 [B,D] on the CPU. `version` names the network and its weights."""

    version: str
    features: Callable[[Tensor], Tensor]


def torch_fidelity(module: str = "") -> ModuleType:
    """torch_fidelity, or its module of that name. Raises RuntimeError telling how to install it."""
    try:
        _import_torchvision()
        return importlib.import_module(f"torch_fidelity.{module}" if module else "torch_fidelity")
    except ImportError as error:
        raise RuntimeError(f"this metric needs torch-fidelity ({error}); {INSTALL}") from error


def small_extractor(device: torch.device | str = "cpu") -> Extractor:
    """The small network, registered with torch-fidelity under its own name."""
    register_small()
    return _create(small_features.NAME, small_features.LAYER, device, f"{small_features.NAME}-{small_features.VERSION}")


def inception_extractor(device: torch.device | str = "cpu", weights: Path | None = None) -> Extractor:
    """Inception v3 with the weights that FID is defined by: from a file, or from torch-fidelity's own download.

    Raises ValueError for a file of other weights, RuntimeError where they can be had neither way.
    """
    if weights is not None:
        _check_weights(weights)
    path = None if weights is None else str(weights)
    version = f"{INCEPTION}-{WEIGHTS_HASH}"
    try:
        return _create(INCEPTION, LAYER, device, version, feature_extractor_weights_path=path)
    except OSError as error:  # of the download
        url = torch_fidelity("feature_extractor_inceptionv3").URL_INCEPTION_V3
        raise RuntimeError(
            f"Inception's weights cannot be downloaded ({error}); fetch {url} on a machine that can and give "
            "--inception-weights FILE, or measure with --metrics fd_small kd_small pr_small, which need none"
        ) from error


def register_small() -> None:
    """Make `small_features.NAME` known to torch-fidelity, for its `calculate_metrics` too."""
    base, registry = torch_fidelity("feature_extractor_base"), torch_fidelity("registry")
    if small_features.NAME in registry.FEATURE_EXTRACTORS_REGISTRY:
        return

    class SmallExtractor(base.FeatureExtractorBase):  # type: ignore[name-defined]
        def __init__(self, name: str, features_list: list[str], **_: Any) -> None:
            super().__init__(name, features_list)
            self.network = SmallFeatures()

        @staticmethod
        def get_provided_features_list() -> tuple[str, ...]:
            return (small_features.LAYER,)

        @staticmethod
        def get_default_feature_layer_for_metric(metric: str) -> str:
            return small_features.LAYER

        @staticmethod
        def can_be_compiled() -> bool:
            return False

        def forward(self, images: Tensor) -> tuple[Tensor]:
            return (self.network(images),)

    registry.register_feature_extractor(small_features.NAME, SmallExtractor)


def _create(name: str, layer: str, device: torch.device | str, version: str, **options: Any) -> Extractor:
    create = torch_fidelity("utils").create_feature_extractor
    network = create(name, [layer], cuda=False, verbose=False, **options).to(device)

    @torch.no_grad()
    def features(images: Tensor) -> Tensor:
        return network(images.to(device))[0].float().cpu()

    return Extractor(version, features)


def _check_weights(path: Path) -> None:
    """Raises ValueError unless the file is the one that FID is defined by; so nothing else of it is ever unpickled."""
    if not path.is_file():
        raise ValueError(f"--inception-weights: there is no file {path}; wanted torch-fidelity's {WEIGHTS}")
    found = hash_of(path)
    if not found.startswith(WEIGHTS_HASH):
        raise ValueError(
            f"--inception-weights: {path} is not torch-fidelity's {WEIGHTS} (SHA-256 {found[:8]}...); FID is defined "
            "by those weights alone"
        )


def hash_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _import_torchvision() -> None:
    """Import torchvision, which torch-fidelity needs for resizing alone.

    A torchvision built for CUDA beside a CPU torch cannot load its operators, and then stops where it declares the
    shapes of two of them; once these exist by name it imports and does all that torch-fidelity asks of it.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in TORCHVISION_OPS:
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _KEPT.append(library)  # its definitions go when it does
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the binaries that do not load
            importlib.import_module("torchvision")


_KEPT: list[torch.library.Library] = []
