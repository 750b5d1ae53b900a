"""Work that processes do ahead of time, handed out in order."""

import signal
import warnings
from collections.abc import Callable, Generator, Iterable
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int = 0, seed: int = 0, pin: bool = False
) -> Generator[Result, None, None]:
    """function(item) of one item after the other, which `workers` processes compute ahead (0: this one, when asked).

    The results do not depend on `workers`. A ValueError or OSError of `function` is raised here, as it was, when its
    turn comes. `pin` puts tensors into page-locked memory. Random numbers of worker w are seeded by (seed, w). Closing
    the generator ends the workers; if this process is killed they end by themselves within seconds.
    """
    if workers < 0:
        raise ValueError(f"workers must be at least 0, got {workers}")
    loader: DataLoader = DataLoader(
        _Outcomes(function),
        sampler=items,
        batch_size=None,
        num_workers=workers,
        collate_fn=_unchanged,
        pin_memory=pin,
        worker_init_fn=_leave_signals_to_the_parent if workers else None,
        generator=torch.Generator().manual_seed(seed),  # seeds the workers, and leaves the global generator alone
    )
    with warnings.catch_warnings():
        # Python 3.12 warns of forking beside threads; what the workers do here takes no lock of torch's threads.
        warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
        outcomes = iter(loader)
    try:
        for result, error in outcomes:
            if error is not None:
                raise error
            yield result
    finally:
        del outcomes  # ends the workers


class _Outcomes(Dataset):
    """Item -> (function(item), None), or (None, what it raised), since the loader would rewrite the message."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function

    def __getitem__(self, item: Any) -> tuple[Any, Exception | None]:
        try:
            return self.function(item), None
        except (ValueError, OSError) as error:
            return None, error


def _unchanged(outcome: Any) -> Any:
    return outcome


def _leave_signals_to_the_parent(worker: int) -> None:
    """Ctrl-C and many a SIGTERM reach the whole process group, but the parent needs batches to finish its iteration.

    A second SIGTERM ends a worker: a parent that ends sends it to one that hangs.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: signal.signal(number, signal.SIG_DFL))
