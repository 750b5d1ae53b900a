"""Distances by torch-fidelity on a small extractor: its own numbers, ordered as they should be, cached, repeatable."""

import dataclasses
import sys

import numpy as np
import pytest
import torch

from cips3d.data import ImageDataset
from cips3d.metrics import extractors
from cips3d.metrics.distances import (
    feature_distances,
    generated_features,
    measure_distances,
    measure_small_distance,
    real_features,
)
from cips3d.metrics.extractors import inception_extractor, register_small, small_extractor, torch_fidelity
from cips3d.metrics.small_features import FEATURES, SmallFeatures

COUNT = 80
EXPECTED = [
    [0.6047966480255127, 0.5291826725006104, -0.1874147355556488, 0.6556771397590637],
    [0.4939199984073639, 0.3635525703430176, 0.22997494041919708, 0.08197128772735596],
]


class Pictures(ImageDataset):
    """Noise of some scale around a picture, smooth enough to have structure."""

    def __init__(self, seed=0, scale=40.0, count=COUNT):
        super().__init__(16)
        source = torch.Generator().manual_seed(seed)
        coarse = torch.randn(count, 3, 4, 4, generator=source) * scale + 128
        self.images = torch.nn.functional.interpolate(coarse, 16).clamp(0, 255).to(torch.uint8)
        self.read = 0

    @property
    def originals(self):
        return len(self.images)

    def original(self, index):
        self.read += 1
        return self.images[index]


@pytest.fixture(scope="module")
def small():
    return small_extractor()


def test_small_features_are_the_same_everywhere():
    """Values of another process and machine: a change of them needs another version."""
    pictures = torch.arange(2 * 3 * 8 * 8).remainder(251).to(torch.uint8).view(2, 3, 8, 8)
    seen = SmallFeatures()(pictures)
    assert seen.shape == (2, FEATURES) and seen.dtype == torch.float32
    torch.testing.assert_close(seen[:, :4], torch.tensor(EXPECTED), rtol=1e-4, atol=1e-5)


def test_distances_are_those_of_torch_fidelity(small):
    register_small()
    ones, others = Pictures(0), Pictures(1, scale=60.0)
    found = feature_distances(*(small.features(p.images) for p in (ones, others)), "small")
    wanted = torch_fidelity().calculate_metrics(
        input1=Items(ones.images),
        input2=Items(others.images),
        feature_extractor="cips3d-small",
        fid=True,
        kid=True,
        prc=True,
        kid_subset_size=COUNT,
        cuda=False,
        cache=False,
        verbose=False,
        save_cpu_ram=True,
    )
    assert found.frechet == pytest.approx(wanted["frechet_inception_distance"], rel=1e-5)
    assert found.kernel == pytest.approx(1e3 * wanted["kernel_inception_distance_mean"], rel=1e-5)
    assert (found.precision, found.recall) == (wanted["precision"], wanted["recall"])


class Items(torch.utils.data.Dataset):
    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index]


def test_worse_pictures_are_farther(small):
    reals, equals, darker = Pictures(0), Pictures(1), Pictures(1)
    darker.images = darker.images // 2
    near, far = (feature_distances(*map(small.features, (p.images, reals.images)), "s") for p in (equals, darker))
    assert near.frechet < 0.5 * far.frechet and near.kernel < 0.5 * far.kernel
    assert near.precision > far.precision and 0 < near.recall <= 1
    few = Pictures(1, count=4)
    few.images = few.images.repeat(COUNT // 4, 1, 1, 1)
    assert feature_distances(*map(small.features, (few.images, reals.images)), "s").recall < 0.5 * near.recall


def test_real_features_are_cached_and_whole(small, tmp_path, capsys):
    pictures = Pictures()
    first = real_features(pictures, small, tmp_path)
    (path,) = tmp_path.iterdir()
    assert "cips3d-small-1-r16-n80-" in path.name and np.load(path).shape == (COUNT, FEATURES)
    pictures.read = 0
    assert torch.equal(real_features(pictures, small, tmp_path), first)
    assert pictures.read <= 64  # what tells the data set, not all of it
    assert not torch.equal(real_features(Pictures(2), small, tmp_path), first)  # other pictures, other features
    path.write_bytes(path.read_bytes()[:100])
    assert torch.equal(real_features(pictures, small, tmp_path), first)
    assert "cannot be read" in capsys.readouterr().out
    assert np.load(path).shape == (COUNT, FEATURES) and len(list(tmp_path.iterdir())) == 2


def test_equal_seeds_give_equal_features_and_more_begin_as_fewer(small, painted_ball):
    model = dataclasses.replace(painted_ball, resolution=8)
    more, fewer, other = (generated_features(model, small, n, seed) for n, seed in ((70, 1), (64, 1), (64, 2)))
    assert more.shape == (70, FEATURES)
    torch.testing.assert_close(more[:64], fewer)
    assert not torch.allclose(fewer, other)


def test_measuring_a_model(painted_ball, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = measure_small_distance(painted_ball, Pictures(), count=8)
    assert (found.generated, found.real, found.extractor) == (8, COUNT, "cips3d-small-1")
    assert found.frechet > 0 and list((tmp_path / "cips3d" / "features").iterdir())
    with pytest.raises(ValueError, match="more than 3 generated and real pictures, got 2 and 80"):
        measure_distances(painted_ball, Pictures(), small_extractor(), 2, cache=tmp_path)


def test_without_torch_fidelity_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(RuntimeError, match=r"needs torch-fidelity .*pip install 'cips3d-ext\[metrics\]'"):
        torch_fidelity()


def test_other_weights_are_no_inception(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({}, path)
    with pytest.raises(ValueError, match=r"is not torch-fidelity's weights-inception-2015-12-05-6726825d.pth"):
        inception_extractor(weights=path)
    with pytest.raises(ValueError, match="there is no file"):
        inception_extractor(weights=tmp_path / "nothing")


def test_inception_offline_names_the_ways_out(monkeypatch, tmp_path):
    module = torch_fidelity("feature_extractor_inceptionv3")

    def refuse(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(module, "load_state_dict_from_url", refuse)
    with pytest.raises(RuntimeError, match="no network.*fetch http.*--inception-weights FILE.*fd_small"):
        inception_extractor()


@pytest.mark.long
def test_inception_reads_its_weights_from_a_file(monkeypatch, tmp_path):
    """With the hash of random weights in the place of the true ones: loading, layer and dtype are what FID uses."""
    module = torch_fidelity("feature_extractor_inceptionv3")
    monkeypatch.setattr(module, "load_state_dict_from_url", lambda *_, **__: {})
    monkeypatch.setattr(module.FeatureExtractorInceptionV3, "load_state_dict", lambda *_, **__: None)
    network = module.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"])
    monkeypatch.undo()
    path = tmp_path / "weights.pth"
    torch.save(network.state_dict(), path)
    monkeypatch.setattr(extractors, "WEIGHTS_HASH", extractors.hash_of(path)[:8])
    pictures = Pictures(count=2).images
    found = inception_extractor(weights=path)
    assert found.version == f"inception-v3-compat-{extractors.WEIGHTS_HASH}"
    torch.testing.assert_close(found.features(pictures), network(pictures)[0])
