"""The data's way through CIPS-3D, one file a stage: rays, field, volume, inr, image.

`draws` holds the randomness of all of them; `trajectories` moves cameras and `video` writes what they saw.
"""

from cips3d.render.draws import Draws
from cips3d.render.rays import Camera, Rays, camera_rays

__all__ = ["Camera", "Draws", "Rays", "camera_rays"]
