"""Distances between generated and real pictures: Frechet, kernel, precision and recall, computed by torch-fidelity.

The paper's protocol: 50,000 generated pictures with random codes and training poses against all training pictures,
each once and not mirrored. Both are uint8 in memory, as a PNG would keep them; a lossy format never comes in between.
With Inception's features they are FID (Heusel et al. 2017), KID (Binkowski et al. 2018; times 1000 as is usual) and
improved precision and recall (Kynkaanniemi et al. 2019, there on VGG features).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cips3d import distributed
from cips3d.data import ImageDataset, to_uint8
from cips3d.data.synthetic import default_cache_dir
from cips3d.files import written_whole
from cips3d.metrics.extractors import Extractor, small_extractor, torch_fidelity
from cips3d.training.trained import TrainedModel

PAPER_COUNT = 50_000  # generated pictures of the paper's FID and KID
CHUNK = 64  # pictures that are generated together; each chunk has a seed of its own, so that processes can share them
KID_SUBSETS, KID_SUBSET_SIZE = 100, 1000  # torch-fidelity's, and of the papers that report KID
NEIGHBOURS = 3  # of precision and recall
DISTANCES_AT_A_TIME = 1000  # rows of the matrix of distances that are in memory
FINGERPRINT_PICTURES = 64

Progress = Callable[[range, str], Iterable[int]]  # goes around the chunks, with a word for what they are


@dataclass(frozen=True)
class Distances:
    """frechet; kernel, 1000 times the mean over subsets, and its standard deviation; precision; recall; the counts."""

    frechet: float
    kernel: float
    kernel_std: float
    precision: float
    recall: float
    generated: int
    real: int
    extractor: str


def _quiet(chunks: range, _: str) -> Iterator[int]:
    return iter(chunks)


def measure_small_distance(model: TrainedModel, images: ImageDataset, count: int = 256, seed: int = 0) -> Distances:
    """Distances by the small extractor of `count` new pictures to all of `images`, whose features are cached."""
    return measure_distances(model, images, small_extractor(model.device), count, seed)


def measure_distances(
    model: TrainedModel,
    images: ImageDataset,
    extractor: Extractor,
    count: int = PAPER_COUNT,
    seed: int = 0,
    cache: Path | None = None,
    progress: Progress = _quiet,
) -> Distances:
    """Distances of `count` new pictures to all of `images` (of the model's resolution).

    The real pictures' features are kept in `cache` (default: a folder of the user's cache). Where several processes
    call this, each generates and looks at its part, and all get the result.
    """
    fakes = generated_features(model, extractor, count, seed, progress)
    reals = real_features(images, extractor, cache or default_cache_dir() / "features", progress)
    return distributed.from_main(lambda: feature_distances(fakes, reals, extractor.version))


def feature_distances(fakes: Tensor, reals: Tensor, extractor: str) -> Distances:
    """Distances of features [M,D] of generated and [N,D] of real pictures. ValueError for fewer than 4 of either."""
    few = min(len(fakes), len(reals))
    if few <= NEIGHBOURS:
        raise ValueError(
            f"distances need more than {NEIGHBOURS} generated and real pictures, got {len(fakes)} and {len(reals)}"
        )
    fid, kid, prc = (torch_fidelity(f"metric_{name}") for name in ("fid", "kid", "prc"))
    statistics = [fid.fid_features_to_statistics(features) for features in (fakes, reals)]
    kernel = kid.kid_features_to_metric(
        fakes, reals, kid_subsets=KID_SUBSETS, kid_subset_size=min(KID_SUBSET_SIZE, few), verbose=False
    )
    # The form that holds only a part of the matrix of distances.
    nearby = prc.prc_features_to_metric(
        fakes,
        reals,
        prc_neighborhood=NEIGHBOURS,
        prc_batch_size=DISTANCES_AT_A_TIME,
        save_cpu_ram=True,
        verbose=False,
    )
    return Distances(
        frechet=fid.fid_statistics_to_metric(*statistics, False)[fid.KEY_METRIC_FID],
        kernel=1e3 * kernel[kid.KEY_METRIC_KID_MEAN],
        kernel_std=1e3 * kernel[kid.KEY_METRIC_KID_STD],
        precision=nearby[prc.KEY_METRIC_PRECISION],
        recall=nearby[prc.KEY_METRIC_RECALL],
        generated=len(fakes),
        real=len(reals),
        extractor=extractor,
    )


def generated_features(
    model: TrainedModel, extractor: Extractor, count: int, seed: int = 0, progress: Progress = _quiet
) -> Tensor:
    """Features [count,D] of new heads in training poses: equal for equal seeds, however many processes share them."""
    seeds = torch.randint(2**62, (-(-count // CHUNK), 2), generator=torch.Generator().manual_seed(seed)).tolist()

    def features(chunk: int) -> Tensor:
        number = min(CHUNK, count - chunk * CHUNK)
        of_codes, of_poses = seeds[chunk]
        poses = model.poses(number, of_poses)
        images = model.images(*model.codes(number, of_codes), poses, pose=poses)
        return extractor.features(to_uint8(images))

    return _shared(len(seeds), features, progress, "generated")


def real_features(images: ImageDataset, extractor: Extractor, cache: Path, progress: Progress = _quiet) -> Tensor:
    """Features [N,D] of all items of `images`, from the folder `cache` if they are there, else kept there."""
    path = cache / f"{extractor.version}-r{images.resolution}-n{len(images)}-{_fingerprint(images)}.npy"
    cached = distributed.from_main(lambda: _load(path))
    if cached is not None:
        return cached

    def features(chunk: int) -> Tensor:
        items = range(chunk * CHUNK, min((chunk + 1) * CHUNK, len(images)))
        return extractor.features(torch.stack([images[item] for item in items]))

    result = _shared(-(-len(images) // CHUNK), features, progress, "real")
    distributed.from_main(lambda: _save(result, path))
    return result


def _shared(chunks: int, features: Callable[[int], Tensor], progress: Progress, what: str) -> Tensor:
    """The features of all chunks in their order; each process does a stretch of them."""
    each, rank = -(-chunks // distributed.world_size()), distributed.rank()
    own = range(min(rank * each, chunks), min((rank + 1) * each, chunks))
    parts = [features(chunk) for chunk in progress(own, what)]
    # A process without chunks has no rows, but must know how long rows are.
    return distributed.gather(torch.cat(parts) if parts else features(0)[:0])


def _fingerprint(images: ImageDataset) -> str:
    """Of the pictures themselves, evenly chosen: a data set may move or be copied, and may change in its place."""
    digest = hashlib.sha256()
    for place in np.linspace(0, len(images) - 1, min(FINGERPRINT_PICTURES, len(images))).round().astype(int):
        digest.update(images[int(place)].numpy().tobytes())
    return digest.hexdigest()[:16]


def _load(path: Path) -> Tensor | None:
    try:
        return torch.from_numpy(np.load(path, allow_pickle=False))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, EOFError) as error:
        print(f"{path}: the cached features cannot be read ({error}); computing them anew")
        return None


def _save(features: Tensor, path: Path) -> None:
    with written_whole(path, apart=True) as file:
        np.save(file, features.numpy(), allow_pickle=False)
