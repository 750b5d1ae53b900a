"""What a closed-form backward hands back: each wanted gradient in its input's dtype."""

from collections.abc import Callable

from torch import Tensor

ALL_GRADIENTS = -1  # a grad_mask with every bit set
Gradient = Tensor | Callable[[], Tensor | None] | None


def select_gradients(
    gradients: tuple[Gradient, ...], inputs: tuple[Tensor | None, ...], grad_mask: int
) -> tuple[Tensor | None, ...]:
    """gradients[i] in the dtype of inputs[i], or None where that input is absent or bit i of grad_mask is not set.

    A gradient given as a function is computed only where it is wanted.
    """
    return tuple(
        _in_dtype_of(value, gradient) if value is not None and grad_mask >> i & 1 else None
        for i, (gradient, value) in enumerate(zip(gradients, inputs, strict=True))
    )


def _in_dtype_of(value: Tensor, gradient: Gradient) -> Tensor | None:
    gradient = gradient() if callable(gradient) else gradient
    return None if gradient is None else gradient.to(value.dtype)
