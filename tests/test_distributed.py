"""Processes that work together: what each function gives in two of them, and that alone nothing changes."""

import pytest
import torch

from cips3d import distributed
from cips3d.distributed import PeerError

from .processes import run_ranks


def exchange():
    rank = distributed.rank()
    rows = torch.arange(2 + rank) + 10 * rank  # two rows here, three there
    tensors = [torch.full((2, 1), 1.0 + 2 * rank), torch.tensor(float(rank))]
    distributed.average_(tensors)
    distributed.barrier()
    return {
        "rank": rank,
        "size": distributed.world_size(),
        "main": distributed.is_main(),
        "rows": distributed.own_rows(6),
        "gathered": distributed.gather(rows).tolist(),
        "averaged": [tensor.tolist() for tensor in tensors],
        "from main": distributed.from_main(lambda: f"written by {rank}"),
    }


def test_two_processes_exchange():
    results = run_ranks(exchange)
    own = [(result.pop("rank"), result.pop("main"), result.pop("rows")) for result in results]
    assert own == [(0, True, slice(0, 3)), (1, False, slice(3, 6))]
    shared = {"size": 2, "gathered": [0, 1, 10, 11, 12], "averaged": [[[2.0], [2.0]], 0.5]}
    assert results == [shared | {"from main": "written by 0"}] * 2


def test_alone_nothing_changes():
    tensor = torch.tensor([3.0])
    distributed.average_([tensor])
    with distributed.joined("cpu"):
        distributed.barrier()
        distributed.check_same(1, "it")
    assert tensor.item() == 3 and torch.equal(distributed.gather(tensor), tensor)
    assert (distributed.rank(), distributed.world_size(), distributed.own_rows(5)) == (0, 1, slice(0, 5))
    assert distributed.from_main(lambda: "mine") == "mine" and distributed.own_device("cuda:1") == "cuda:1"
    assert distributed.is_main()


def mistakes():
    def fail():
        raise OSError("the disk is full")

    seen = []
    for call in (
        lambda: distributed.from_main(fail),
        lambda: distributed.check_same(distributed.rank(), "the configuration"),
        lambda: distributed.own_rows(3),
    ):
        try:
            call()
        except Exception as error:
            seen.append((type(error), str(error)))
    return seen


def test_mistakes_reach_every_process():
    first, second = run_ranks(mistakes)
    assert first[0] == (OSError, "the disk is full")
    assert second[0] == (PeerError, "process 0 stopped: OSError: the disk is full")
    for kind, message in (first[1], second[1]):
        assert kind is ValueError and "the configuration of process 1 differs from process 0's" in message
    assert "a batch of 3 images has no equal parts for 2 processes; give a multiple of 2" in first[2][1]


def lose_the_other():
    if distributed.rank() == 1:
        return "gone"
    try:
        distributed.gather(torch.zeros(1))
    except PeerError as error:
        return str(error)


def test_a_lost_process_is_told():
    message, _ = run_ranks(lose_the_other)
    assert "another process is gone" in message and "same command goes on" in message


@pytest.mark.parametrize(
    "device, gpus, message",
    [("cuda", 1, "2 processes on a machine with 1 GPUs; give --nproc-per-node that"), ("cuda:0", 2, "--device cuda:0")],
)
def test_every_process_takes_its_own_gpu(monkeypatch, device, gpus, message):
    for name, value in {"RANK": "1", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert distributed.own_device("cuda") == "cuda:1" and distributed.own_device("cpu") == "cpu"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    with pytest.raises(ValueError, match=message):
        distributed.own_device(device)
