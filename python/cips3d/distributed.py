"""Several processes that work on one model, as `torchrun` starts them: one a GPU, on one machine or many, or on CPUs.

A process alone is number 0 of 1; then every function here does nothing or gives back what it got, so that no caller
needs a second path. Where there are several, all of them must make the same calls in the same order.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")
# How long a process waits for the others before it gives up: longer than process 0 ever writes pictures or evaluates
# while the others wait, or another machine makes its own copy of a data set.
PATIENCE = timedelta(minutes=30)


class PeerError(RuntimeError):
    """Another process failed or is gone; the message says what is known of it, and the way out."""


def launched() -> bool:
    """Whether torchrun started several processes, of which this is one."""
    return "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def rank() -> int:
    """The number of this process."""
    return dist.get_rank() if _several() else 0


def world_size() -> int:
    """How many processes there are."""
    return dist.get_world_size() if _several() else 1


def is_main() -> bool:
    """Whether this is process 0, the one that writes."""
    return rank() == 0


def own_device(device: str) -> str:
    """The device of this process: under torchrun "cuda" means the GPU of its local rank.

    Raises ValueError where a certain GPU is asked for, or where a machine has fewer GPUs than processes.
    """
    if not launched() or torch.device(device).type != "cuda":
        return device
    local, processes = int(os.environ["LOCAL_RANK"]), os.environ.get("LOCAL_WORLD_SIZE", "several")
    if torch.device(device).index not in (None, local):
        raise ValueError(f"--device {device}: under torchrun every process takes its own GPU; give --device cuda")
    if local >= torch.cuda.device_count():
        raise ValueError(
            f"torchrun started {processes} processes on a machine with {torch.cuda.device_count()} GPUs; "
            "give --nproc-per-node that number, or --device cpu"
        )
    return f"cuda:{local}"


@contextmanager
def joined(device: str) -> Iterator[None]:
    """Within the block the processes that torchrun started know each other (nccl on CUDA devices, else gloo).

    `device` is this process's own. Alone, nothing happens. Raises PeerError if the others do not come.
    """
    if not launched():
        yield
        return
    own = torch.device(device)
    on_gpu = own.type == "cuda"
    if on_gpu:
        torch.cuda.set_device(own)
    with _or_peer_error():
        dist.init_process_group("nccl" if on_gpu else "gloo", timeout=PATIENCE, device_id=own if on_gpu else None)
    try:
        yield
    finally:
        dist.destroy_process_group()


def own_rows(batch: int) -> slice:
    """Which rows of a batch are this process's: an equal part each, in the order of ranks.

    Raises ValueError if the batch has no equal parts.
    """
    part, rest = divmod(batch, world_size())
    if rest or not part:
        raise ValueError(
            f"a batch of {batch} images has no equal parts for {world_size()} processes; give a multiple of "
            f"{world_size()} (optimizer.batch_size counts the images of all processes), or another --nproc-per-node"
        )
    return slice(rank() * part, (rank() + 1) * part)


def barrier() -> None:
    """Wait until all processes are here. Raises PeerError if one will not come."""
    if _several():
        with _or_peer_error():
            dist.barrier()


def gather(rows: Tensor) -> Tensor:
    """The rows [n,...] of all processes, one after the other in the order of ranks, in all of them.

    Numbers of rows may differ, other sizes and dtypes may not. On the device of `rows`; without gradient.
    """
    if not _several():
        return rows.detach()
    rows, device = rows.detach(), rows.device
    local = rows.to(_meeting_device())
    counts = [int(count) for count in _all_gather(torch.tensor([len(rows)], device=local.device))]
    padded = local.new_zeros(max(counts), *local.shape[1:])
    padded[: len(rows)] = local
    parts = [part[:count] for part, count in zip(_all_gather(padded), counts, strict=True)]
    return torch.cat(parts).to(device)


@torch.no_grad()
def average_(tensors: Sequence[Tensor]) -> None:
    """Replace each tensor by its mean over all processes, bit for bit the same in all of them; one exchange for all.

    Shapes must agree; all tensors of a call are on one device, that of `joined`.
    """
    if not _several():
        return
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    with _or_peer_error():
        dist.all_reduce(flat)
    flat /= world_size()
    for tensor, mean in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(mean.view(tensor.shape))


def from_main(work: Callable[[], T]) -> T:
    """Do `work` in process 0 alone; its result (anything that pickles) is everybody's.

    An exception of `work` is raised in process 0, and as a PeerError in the others.
    """
    if not _several():
        return work()
    error: Exception | None = None
    outcome: list[Any] = [None, None]  # result, what went wrong
    if is_main():
        try:
            outcome[0] = work()
        except Exception as caught:
            error, outcome[1] = caught, f"{type(caught).__name__}: {caught}"
    with _or_peer_error():
        dist.broadcast_object_list(outcome)
    if error is not None:
        raise error
    if outcome[1] is not None:
        raise PeerError(f"process 0 stopped: {outcome[1]}")
    return cast(T, outcome[0])


def check_same(value: Any, what: str) -> None:
    """Raises ValueError, in all processes, unless `value` (anything that pickles) is equal in all of them."""
    if not _several():
        return
    values: list[Any] = [None] * world_size()
    with _or_peer_error():
        dist.all_gather_object(values, value)
    different = [str(number) for number, other in enumerate(values) if other != values[0]]
    if different:
        raise ValueError(
            f"{what} of process {', '.join(different)} differs from process 0's; start all machines with the same "
            "command and the same data"
        )


def _several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _meeting_device() -> torch.device:
    """Where nccl or gloo wants its tensors."""
    return torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else torch.device("cpu")


def _all_gather(tensor: Tensor) -> list[Tensor]:
    parts = [torch.empty_like(tensor) for _ in range(world_size())]
    with _or_peer_error():
        dist.all_gather(parts, tensor)
    return parts


@contextmanager
def _or_peer_error() -> Iterator[None]:
    """Around an exchange: what torch raises when another process is gone becomes a readable PeerError."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise PeerError(
            f"another process is gone or cannot be reached ({reason}); the one that failed first says why, and the "
            "same command goes on from the last checkpoint"
        ) from error
