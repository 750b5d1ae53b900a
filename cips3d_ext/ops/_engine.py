"""What autograd's engine knows of the backward pass that runs."""

from typing import Any

import torch


def wanted_by_engine(ctx: Any) -> list[bool]:
    """For each argument of the forward, whether the backward pass that runs now goes on to it.

    ctx.needs_input_grad only says that one could: autograd.grad of a layer's input goes to none of its parameters.
    """
    edges = iter(ctx.next_functions)  # of the tensors among the arguments
    nodes = [next(edges)[0] if is_tensor else None for is_tensor in ctx.are_tensors]
    return [node is not None and _will_execute(node) for node in nodes]


def _will_execute(node: Any) -> bool:
    if torch.compiler.is_compiling():
        return True
    try:
        return bool(torch._C._will_engine_execute_node(node))
    except RuntimeError:  # what the engine says of a leaf that is among autograd.grad's inputs
        return True
