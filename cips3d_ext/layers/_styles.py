"""Styles shared by consecutive rows of a batch, as where samples are folded into the batch axis (StyleNeRF)."""

from torch import Tensor


def rows_per_style(layer: str, x: Tensor, w: Tensor, style_dim: int) -> int:
    """How many consecutive rows of x [B,*,I] share one row of w [B',style_dim].

    Raises ValueError unless w has that shape and B is a multiple of B'.
    """
    if w.dim() != 2 or w.shape[1] != style_dim:
        raise ValueError(f"{layer}: w must be [B',style_dim] = [any, {style_dim}], got {list(w.shape)}")
    batch, styles = x.shape[0], w.shape[0]
    if batch == styles:
        return 1
    if styles == 0 or batch % styles:
        raise ValueError(
            f"{layer}: the batch of x must be a multiple of the rows of w, got x {list(x.shape)}, w {list(w.shape)}; "
            "each row of w serves batch / rows consecutive rows of x"
        )
    return batch // styles


def fold(x: Tensor, rows: int) -> Tensor:
    """x [B,*,F] -> [B / rows, rows * points, F]: rows that share a style become points of one sample."""
    return x.reshape(x.shape[0] // rows, x.shape[1:-1].numel() * rows, x.shape[-1])
