from itertools import islice

import pytest
import torch

from cips3d.data import ImageDataset, InfiniteSampler, TrainingBatches
from cips3d.data.images import CorruptImageError


class Numbers(ImageDataset):
    """Picture i is filled with i."""

    originals = 7

    def original(self, index):
        return torch.full((3, 2, 2), index, dtype=torch.uint8)


def test_batches_are_in_network_range_and_resume():
    batches = TrainingBatches(Numbers(2, xflip=True), batch_size=4, seed=0)
    first = next(batches)
    assert first.shape == (4, 3, 2, 2) and first.dtype == torch.float32
    expected = [Numbers(2, xflip=True)[index].float() / 127.5 - 1 for index in islice(InfiniteSampler(14, 0), 4)]
    assert torch.equal(first, torch.stack(expected))
    state = batches.state_dict()
    resumed = TrainingBatches(Numbers(2, xflip=True), batch_size=4, seed=0)
    resumed.load_state_dict(state)
    for _ in range(9):
        assert torch.equal(next(batches), next(resumed))


@pytest.mark.parametrize("world", [1, 2, 3])
def test_ranks_side_by_side_are_one_process(world):
    whole = TrainingBatches(Numbers(2), 6, seed=3)
    ranks = [TrainingBatches(Numbers(2), 6, seed=3, rank=rank, world=world) for rank in range(world)]
    for _ in range(4):
        parts = [next(rank) for rank in ranks]
        assert all(part.shape[0] == 6 // world for part in parts)
        assert torch.equal(torch.cat(parts), next(whole))
    assert all(rank.state_dict() == whole.state_dict() for rank in ranks)
    alone = TrainingBatches(Numbers(2), 6, seed=3)
    alone.load_state_dict(ranks[-1].state_dict())
    assert torch.equal(next(alone), next(whole))


def test_impossible_splits_are_refused():
    with pytest.raises(ValueError, match="a multiple of the 4 ranks, got 6"):
        TrainingBatches(Numbers(2), 6, seed=0, world=4)
    with pytest.raises(ValueError, match=r"rank must be in \[0, 2\), got 2"):
        TrainingBatches(Numbers(2), 6, seed=0, rank=2, world=2)
    with pytest.raises(ValueError, match="workers must be at least 0, got -1"):
        TrainingBatches(Numbers(2), 6, seed=0, workers=-1)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_of_another_size_go_on_with_the_next_picture(workers):
    whole, ranks = TrainingBatches(Numbers(2), 2, seed=3), []
    wanted = torch.cat([next(whole) for _ in range(5)])
    ranks = [TrainingBatches(Numbers(2), 2, 3, rank, 2, workers) for rank in range(2)]
    found = [torch.cat([next(rank) for rank in ranks])]
    for rank in ranks:
        rank.resize(4)
    found += [torch.cat([next(rank) for rank in ranks]) for _ in range(2)]
    assert torch.equal(torch.cat(found), wanted)
    with pytest.raises(ValueError, match="a multiple of the 2 ranks, got 3"):
        ranks[0].resize(3)


def test_workers_change_nothing():
    plain = TrainingBatches(Numbers(2, xflip=True), 4, seed=1)
    ahead = TrainingBatches(Numbers(2, xflip=True), 4, seed=1, workers=2)
    for _ in range(5):
        assert torch.equal(next(plain), next(ahead))
    assert plain.state_dict() == ahead.state_dict() == {"size": 14, "seed": 1, "position": 20}  # not what lies ahead
    resumed = TrainingBatches(Numbers(2, xflip=True), 4, seed=1, workers=1)
    resumed.load_state_dict(ahead.state_dict())
    ahead.close()
    for _ in range(3):
        assert torch.equal(next(resumed), next(plain))
    resumed.load_state_dict(ahead.state_dict())  # back, while workers are at work on what would have come
    assert torch.equal(next(resumed), next(ahead))
    resumed.close()
    ahead.close()


def test_a_batch_that_fails_is_asked_for_again():
    class Flaky(Numbers):
        broken = True

        def original(self, index):
            if self.broken:
                raise OSError("the disk is gone")
            return super().original(index)

    dataset = Flaky(2)
    batches = TrainingBatches(dataset, 4, seed=0)
    with pytest.raises(OSError, match="^the disk is gone$"):
        next(batches)
    dataset.broken = False
    assert torch.equal(next(batches), next(TrainingBatches(Numbers(2), 4, seed=0)))


class Posed(Numbers):
    """Picture i has the label of 25 times i; picture 3 is corrupt."""

    def original(self, index):
        if index == 3:
            raise CorruptImageError("3")
        return super().original(index)

    def original_label(self, index):
        return torch.full((25,), float(index))


@pytest.mark.parametrize("workers", [0, 2])
def test_labels_are_those_of_the_pictures_given(workers):
    batches = TrainingBatches(
        Posed(2, on_corrupt="skip"), 6, seed=0, rank=1, world=2, workers=workers, with_labels=True
    )
    for _ in range(4):
        images = next(batches)
        assert batches.labels.shape == (3, 25)
        assert torch.equal(batches.labels[:, 0], ((images[:, 0, 0, 0] + 1) * 127.5).round())
    batches.close()


def test_label_of_a_mirror_image_is_the_mirrored_pose():
    dataset = Posed(2, xflip=True)
    mirrored = dataset.camera_label(9).unflatten(0, (5, 5))  # picture 2
    assert mirrored[0, 0] == 2 and mirrored[0, 1] == -2 and mirrored[4, 4] == 2
    assert torch.equal(dataset.camera_label(2), torch.full((25,), 2.0))


def test_a_set_without_cameras_cannot_give_labels():
    with pytest.raises(ValueError, match="give synthetic-heads, or images whose dataset.json holds EG3D's labels"):
        next(TrainingBatches(Numbers(2), 4, seed=0, with_labels=True))
