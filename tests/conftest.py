"""What all tests share."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _same_random_numbers():
    """Whatever ran before: a test's random numbers do not depend on the order of tests."""
    torch.manual_seed(0)
