"""Native kernels against the references: the same rounded inputs, the reference in float64."""

import torch
from torch import Tensor

# Relative L2 error of each output. float32: the kernels sum up to some thousand products in another order, and
# film_sine's frequency (up to 50 here) multiplies that error. Half types: one rounding of the result, half a unit in
# the last place (2^-9, 2^-12), and of sums that partly cancel.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5, torch.bfloat16: 6e-3, torch.float16: 1e-3}
# The same for kernels with bfloat16 dot products: the operands of each product are rounded beside its result, and a
# sine takes the argument that comes of it.
BFLOAT16_PRODUCTS_TOLERANCE = 1.2e-2


def assert_close(found: Tensor, wanted: Tensor, dtype: torch.dtype, what: str, tolerance: float | None = None) -> None:
    assert found.dtype == dtype and found.is_contiguous(), what
    assert found.shape == wanted.shape, f"{what}: {list(found.shape)} != {list(wanted.shape)}"
    error = (found.double() - wanted).norm()
    norm = wanted.norm()
    assert error <= (tolerance or TOLERANCE[dtype]) * norm, f"{what}: relative error {error / norm}"


def assert_gradients(names, found, leaves: dict, wanted, cotangents, dtype: torch.dtype) -> None:
    """Gradients `found`, one for each of `names`, against autograd's of the outputs `wanted` for the `leaves` of these
    names; an empty one for a name without a leaf."""
    grads = torch.autograd.grad(wanted, list(leaves.values()), [c.double() for c in cotangents], materialize_grads=True)
    expected = dict(zip(leaves, grads, strict=True))
    for name, grad in zip(names, found, strict=True):
        if name in expected:
            assert_close(grad, expected[name], dtype, f"gradient of {name}")
        else:
            assert grad.shape == (0,)


def as_tuple(results) -> tuple[Tensor, ...]:
    return results if isinstance(results, tuple) else (results,)


def check_op(
    op: str,
    reference,
    tensors,
    options: dict,
    dtype: torch.dtype,
    keep: str | None = None,
    tolerance: float | None = None,
    kept_results: tuple[int, ...] = (),
    used: tuple[bool, ...] = (True,),
) -> None:
    """Forward and every gradient of `torch.ops.cips3d_ext.<op>` against autograd through `reference`.

    keep: for an op with residuals, what its forward is told to keep for the backward.
    kept_results: the results that its backward takes between the gradients of the results and the residuals.
    used: which results have a gradient. One that the reference gives as [0] is absent, and has none.
    """
    native, backward = (getattr(torch.ops.cips3d_ext, name) for name in (op, f"{op}_backward"))
    tensors = [None if t is None else t.to(dtype) for t in tensors]
    leaves = [None if t is None else t.double().requires_grad_() for t in tensors]
    wanted = as_tuple(reference(*leaves, **options))
    found = as_tuple(native(*tensors, *options.values(), *([] if keep is None else [keep])))
    results, residuals = found[: len(wanted)], found[len(wanted) :]
    for position, (result, want) in enumerate(zip(results, wanted, strict=True)):
        assert_close(result, want.detach(), dtype, f"{op} result {position}", tolerance)

    cotangents = [
        torch.randn(want.shape, dtype=torch.float64).to(dtype) if use and want.shape != (0,) else None
        for want, use in zip(wanted, used, strict=True)
    ]
    pairs = [(want, c.double()) for want, c in zip(wanted, cotangents, strict=True) if c is not None]
    present = [leaf for leaf in leaves if leaf is not None]
    grads = iter(torch.autograd.grad([w for w, _ in pairs], present, [c for _, c in pairs], allow_unused=True))
    kept = [results[i] for i in kept_results]
    found_grads = backward(*cotangents, *kept, *residuals, *tensors, *options.values(), (1 << len(tensors)) - 1)
    for index, (tensor, grad) in enumerate(zip(tensors, found_grads, strict=True)):
        if tensor is None:
            assert grad.shape == (0,)
            continue
        wanted_grad = next(grads)
        if wanted_grad is None:
            wanted_grad = torch.zeros(tensor.shape, dtype=torch.float64)
        assert_close(grad, wanted_grad, dtype, f"{op} gradient {index}", tolerance)
