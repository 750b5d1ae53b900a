import pytest

from cips3d.data import InfiniteSampler


def take(iterator, count):
    return [next(iterator) for _ in range(count)]


def test_every_epoch_is_another_permutation():
    indices = take(InfiniteSampler(50, seed=0), 150)
    epochs = [indices[:50], indices[50:100], indices[100:]]
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert take(InfiniteSampler(50, seed=1), 50) != epochs[0]
    assert take(InfiniteSampler(50, seed=0), 150) == indices


@pytest.mark.parametrize("position", [0, 3, 7, 20])
def test_resume_continues_exactly(position):
    whole = InfiniteSampler(7, seed=4)
    take(whole, position)
    resumed = InfiniteSampler(7, seed=4)
    resumed.load_state_dict(whole.state_dict())
    assert take(resumed, 30) == take(whole, 30)


def test_another_set_or_seed_is_refused():
    state = InfiniteSampler(7, seed=4).state_dict()
    with pytest.raises(ValueError, match="the saved size is 7, this run's is 8"):
        InfiniteSampler(8, seed=4).load_state_dict(state)
    with pytest.raises(ValueError, match="the saved seed is 4, this run's is 5"):
        InfiniteSampler(7, seed=5).load_state_dict(state)
    with pytest.raises(ValueError, match="size must be at least 1"):
        InfiniteSampler(0, seed=0)
