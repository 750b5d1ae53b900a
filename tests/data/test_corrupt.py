"""A corrupt picture stops, or is named once and replaced by a rule that needs no memory; never silently."""

from itertools import islice

import numpy as np
import pytest
import torch

from cips3d.data import CorruptImageError, ImageDataset, TrainingBatches


class Damaged(ImageDataset):
    """Picture i is filled with i on its left side; some cannot be decoded."""

    originals = 10

    def __init__(self, bad, on_corrupt="skip", originals=10):
        super().__init__(2, True, on_corrupt)
        self.bad, self.originals = bad, originals

    def original(self, index):
        if index in self.bad:
            raise CorruptImageError(f"set.zip: {index}.png: damaged")
        image = torch.zeros(3, 2, 2, dtype=torch.uint8)
        image[..., 0] = index
        return image


def numbers(images):
    return [int(image.max()) for image in images]


def test_stopping_names_the_picture_and_the_way_out():
    dataset = Damaged({3}, "stop")
    assert numbers([dataset[2]]) == [2]
    with pytest.raises(CorruptImageError, match="^set.zip: 3.png: damaged; .*data.corrupt=skip or --on-corrupt skip$"):
        dataset[3]
    with pytest.raises(CorruptImageError, match="3.png"):
        list(islice(TrainingBatches(dataset, 5, seed=0), 4))


def test_the_next_good_picture_takes_the_place_and_is_mirrored_alike(capsys):
    dataset = Damaged({3, 4, 9})
    assert numbers(dataset[i] for i in range(10)) == [0, 1, 2, 5, 5, 5, 6, 7, 8, 0]
    assert torch.equal(dataset[13], dataset[5].flip(-1))
    assert numbers(dataset[i] for i in range(10)) == [0, 1, 2, 5, 5, 5, 6, 7, 8, 0]
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"corrupt, another picture takes its place: set.zip: {index}.png: damaged" for index in (3, 4, 9)]
    assert sorted(dataset.corrupt) == [3, 4, 9]


def test_the_place_depends_on_nothing_that_was_read_before():
    fresh, used = Damaged({3, 4}), Damaged({3, 4})
    list(used)
    assert torch.equal(fresh[3], used[3])


@pytest.mark.parametrize("workers", [0, 2])
def test_ranks_workers_and_resume_agree_on_replacements(workers, capsys):
    whole = TrainingBatches(Damaged({2, 3, 8}), 4, seed=0)
    ranks = [TrainingBatches(Damaged({2, 3, 8}), 4, 0, rank, 2, workers) for rank in range(2)]
    for step in range(12):
        if step == 5:
            ranks[0].load_state_dict(ranks[1].state_dict())
        assert torch.equal(next(whole), torch.cat([next(rank) for rank in ranks]))
    for each in (whole, *ranks):
        each.close()
        assert sorted(each.dataset.corrupt) == [2, 3, 8]
    assert len(capsys.readouterr().err.splitlines()) == 9  # three names a process that reports


def test_too_many_stop():
    dataset = Damaged(set(range(1, 10)))
    with pytest.raises(ValueError, match="9 of the 10 pictures are corrupt, more than half"):
        dataset[1]
    with pytest.raises(ValueError, match="10 pictures in a row cannot be decoded, the last: set.zip: 4.png: damaged"):
        Damaged(set(range(10)))[5]
    with pytest.raises(ValueError, match="100 pictures in a row cannot be decoded"):
        Damaged(set(np.arange(150)), originals=1000)[0]
    assert numbers([Damaged(set(range(5)))[0]]) == [5]
