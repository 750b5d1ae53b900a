"""What a closed-form backward hands back: each wanted gradient in its input's dtype."""

from torch import Tensor

ALL_GRADIENTS = -1  # a grad_mask with every bit set


def select_gradients(
    gradients: tuple[Tensor | None, ...], inputs: tuple[Tensor | None, ...], grad_mask: int
) -> tuple[Tensor | None, ...]:
    """gradients[i] in the dtype of inputs[i], or None where that input is absent or bit i of grad_mask is not set."""
    return tuple(
        None if gradient is None or value is None or not grad_mask >> i & 1 else gradient.to(value.dtype)
        for i, (gradient, value) in enumerate(zip(gradients, inputs, strict=True))
    )
