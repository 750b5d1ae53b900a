"""Second stage: the shallow NeRF, a FiLM-conditioned SIREN without view directions and positional encoding.

points, style w_shape -> features [B,R,S,C], raw density [B,R,S]          (paper section 3.1; official `SIREN` module)
"""

from __future__ import annotations

from cips3d_ext import SirenField


def make_field(
    style_dim: int, width: int, layers: int, colour_width: int, feature_dim: int, box_side: float, impl: str = "auto"
) -> SirenField:
    """`layers` shared sine layers, then the density (linear) and the features (another sine layer, then linear).

    box_side, in world units, is the side of the cube around the origin whose points the layers see as [-1,1].
    """
    return SirenField(style_dim, [width] * layers, colour_width, feature_dim, point_scale=2 / box_side, impl=impl)
