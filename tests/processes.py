"""Real processes for tests: ranks that work together, and a process that may be killed.

They are forked from a server that has imported training once: they start in a moment, and no thread has run in it.
Functions are named, not sent: they must stand at the top of a test module.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import traceback
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from typing import Any

import pytest
import torch
import torch.distributed as dist

from cips3d import distributed

PATIENCE = 300  # seconds; only a deadlock takes so long, however busy the machine


@cache
def server() -> Any:
    """The multiprocessing context whose server has imported training."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["cips3d.training.loop", "pytest"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # it gets no other word of where our modules are
        forkserver.ensure_running()
    return context


def run_ranks(function: Callable[..., Any], *arguments: Any, ranks: int = 2) -> list[Any]:
    """`function(*arguments)` in `ranks` processes that know each other; their results in the order of ranks."""
    # The store is served from here on a port that the system chose, so that no other process can take it in between.
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    environment = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "WORLD_SIZE": str(ranks)}
    # So torchrun tells rank 0 that it need not serve one.
    environment |= {**os.environ, "TORCHELASTIC_USE_AGENT_STORE": "True"}
    with ProcessPoolExecutor(ranks, mp_context=server()) as pool:
        own = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(ranks)]
        futures = [pool.submit(_as_rank, environment | numbers, function, arguments) for numbers in own]
        return [future.result(PATIENCE) for future in futures]


def _as_rank(environment: dict[str, str], function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    _settle(environment)
    with distributed.joined("cpu"):
        return function(*arguments)


def start(function: Callable[..., Any], *arguments: Any) -> BaseProcess:
    """A process that runs `function(*arguments)`: to be killed, or joined."""
    process = server().Process(target=_alone, args=(dict(os.environ), function, arguments))
    process.start()
    return process


def _alone(environment: dict[str, str], function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    _settle(environment)
    try:
        function(*arguments)
    except Exception:
        traceback.print_exc()
        raise


def _settle(environment: dict[str, str]) -> None:
    """The server keeps the environment that it was started in."""
    os.environ.update(environment)
    torch.set_num_threads(1)
