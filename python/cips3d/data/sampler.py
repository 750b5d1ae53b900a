"""The order in which training sees a data set: endless, shuffled, and a function of (seed, position) alone."""

from collections.abc import Iterator

import numpy as np


class InfiniteSampler:
    """Endless indices in [0, size): one fresh permutation after the other, the e-th drawn from (seed, e)."""

    def __init__(self, size: int, seed: int) -> None:
        if size < 1:
            raise ValueError(f"InfiniteSampler: size must be at least 1, got {size}")
        self.size, self.seed, self.position = size, seed, 0
        self._epoch, self._order = -1, np.empty(0, dtype=np.int64)

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        epoch, place = divmod(self.position, self.size)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, np.random.default_rng((self.seed, epoch)).permutation(self.size)
        self.position += 1
        return int(self._order[place])

    def state_dict(self) -> dict[str, int]:
        return {"size": self.size, "seed": self.seed, "position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue where `state` was taken. ValueError if it belongs to another data set size or seed."""
        for name in ("size", "seed"):
            if state[name] != getattr(self, name):
                raise ValueError(
                    f"InfiniteSampler: the saved {name} is {state[name]}, this run's is {getattr(self, name)}; "
                    "resume with the data set and seed that the run began with, or start a new run directory"
                )
        self.position = state["position"]
