"""Results come in order, whatever the workers do; workers are seeded, and end with their parent."""

import os
import random
import signal
import subprocess
import sys
import time
from itertools import count, islice

import numpy as np
import pytest
import torch

from cips3d.data.workers import in_order


def square(number):
    if number == 5:
        raise ValueError("five.png: damaged")
    return number**2


def slow_at_first(number):
    time.sleep(0.2 if number == 0 else 0)
    return number


def draw(item):
    return random.random(), float(np.random.rand()), torch.rand(()).item()


@pytest.mark.parametrize("workers", [0, 2])
def test_results_come_in_order_and_errors_in_their_turn(workers):
    results = in_order(square, count(), workers)
    assert list(islice(results, 5)) == [0, 1, 4, 9, 16]
    with pytest.raises(ValueError, match="^five.png: damaged$"):
        next(results)
    assert list(in_order(slow_at_first, range(6), workers)) == list(range(6))


def test_workers_are_seeded_and_leave_the_global_generator_alone():
    before = torch.random.get_rng_state()
    draws = [list(in_order(draw, range(4), workers=2, seed=seed)) for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]
    assert len({value for item in draws[0] for value in item}) == 12
    assert torch.equal(torch.random.get_rng_state(), before)


def pid_of_worker(item):
    return os.getpid()


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_closing_ends_the_workers():
    results = in_order(pid_of_worker, count(), workers=2)
    pids = {next(results) for _ in range(4)}
    assert len(pids) == 2 and os.getpid() not in pids and all(map(is_alive, pids))
    results.close()
    assert not any(map(is_alive, pids))


def test_ctrl_c_and_the_first_sigterm_are_the_parents():
    results = in_order(pid_of_worker, count(), workers=1)
    pid = next(results)
    os.kill(pid, signal.SIGINT)
    os.kill(pid, signal.SIGTERM)
    assert all(next(results) == pid for _ in range(5))
    results.close()


def test_a_worker_that_dies_is_an_error():
    results = in_order(pid_of_worker, count(), workers=1)
    os.kill(next(results), signal.SIGKILL)
    with pytest.raises(RuntimeError, match="worker .*(Killed|exited unexpectedly)"):
        list(islice(results, 20))


def test_a_negative_number_of_workers_is_refused():
    with pytest.raises(ValueError, match="workers must be at least 0, got -1"):
        next(in_order(square, range(3), workers=-1))


PARENT = """
import os, time
from itertools import count
from cips3d.data.workers import in_order

def pid(item):
    return os.getpid()

results = in_order(pid, count(), workers=2)
print(*sorted({next(results) for _ in range(4)}), flush=True)
time.sleep(60)
"""


@pytest.mark.long
def test_workers_do_not_outlive_a_killed_parent():
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    pids = [int(word) for word in parent.stdout.readline().split()]
    parent.kill()
    parent.communicate()
    assert len(pids) == 2
    deadline = time.monotonic() + 30
    while any(map(is_alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not any(map(is_alive, pids))
