"""What every data set is to training: numbered square uint8 pictures of one resolution."""

from abc import ABC, abstractmethod

from torch import Tensor
from torch.utils.data import Dataset


class ImageDataset(Dataset, ABC):
    """Items are uint8 [3,R,R]. With `xflip` the set has twice the pictures: item originals + i is item i mirrored."""

    def __init__(self, resolution: int, xflip: bool = False) -> None:
        if resolution < 1:
            raise ValueError(f"resolution must be at least 1, got {resolution}")
        self.resolution = resolution
        self.xflip = xflip

    @property
    @abstractmethod
    def originals(self) -> int:
        """Number of pictures without mirrored ones."""

    @abstractmethod
    def original(self, index: int) -> Tensor:
        """Picture `index` in [0, originals), not mirrored."""

    def __len__(self) -> int:
        return self.originals * (2 if self.xflip else 1)

    def __getitem__(self, index: int) -> Tensor:
        if not 0 <= index < len(self):
            raise IndexError(f"{type(self).__name__}: index {index} is outside [0, {len(self)})")
        if index < self.originals:
            return self.original(index)
        return self.original(index - self.originals).flip(-1)

    def pose(self, index: int) -> tuple[float, float] | None:
        """(yaw, pitch) in rad of item `index` where it is known, for evaluation only."""
        return None
