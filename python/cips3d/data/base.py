"""What every data set is to training: numbered square uint8 pictures of one resolution."""

import sys
from abc import ABC, abstractmethod
from collections.abc import Collection
from typing import Literal

from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from cips3d.data.images import CorruptImageError
from cips3d.render.labels import mirrored_labels

OnCorrupt = Literal["stop", "skip"]
LONGEST_GAP = 100  # so many corrupt pictures in a row are a corrupt data set
MOST_CORRUPT = 0.5  # and so is one of which more than this part is


class ImageDataset(Dataset, ABC):
    """Items are uint8 [3,R,R]. With `xflip` the set has twice the pictures: item originals + i is item i mirrored.

    A picture that cannot be decoded raises CorruptImageError, which names it, or, with on_corrupt="skip", is reported
    once and replaced by the next picture of the set that can be decoded (after the last comes the first), mirrored or
    not as it was asked for. So what item i is depends on the files alone, not on what was read before or by whom.
    """

    def __init__(self, resolution: int, xflip: bool = False, on_corrupt: OnCorrupt = "stop") -> None:
        if resolution < 1:
            raise ValueError(f"resolution must be at least 1, got {resolution}")
        self.resolution = resolution
        self.xflip = xflip
        self.on_corrupt = on_corrupt
        self.corrupt: dict[int, str] = {}  # the corrupt pictures met so far: number, without mirroring -> what is wrong

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
        image, corrupt = self.fetch(index)
        self.report(corrupt)
        return image

    def fetch(self, index: int) -> tuple[Tensor, dict[int, str]]:
        """Item `index` and the corrupt pictures that were met on the way to it; nothing is recorded or printed."""
        if not 0 <= index < len(self):
            raise IndexError(f"{type(self).__name__}: index {index} is outside [0, {len(self)})")
        mirrored, first = divmod(index, self.originals)
        corrupt: dict[int, str] = {}
        for step in range(min(self.originals, LONGEST_GAP)):
            place = (first + step) % self.originals
            try:
                image = self.original(place)
            except CorruptImageError as error:
                if self.on_corrupt == "stop":
                    raise CorruptImageError(
                        f"{error}; to put other pictures in the place of such: data.corrupt=skip or --on-corrupt skip"
                    ) from error
                corrupt[place] = str(error)
            else:
                return (image.flip(-1) if mirrored else image), corrupt
        raise ValueError(f"{len(corrupt)} pictures in a row cannot be decoded, the last: {corrupt[place]}")

    def report(self, corrupt: dict[int, str]) -> None:
        """Take note of corrupt pictures and name each once. ValueError if more than half of the set is corrupt."""
        for index in sorted(corrupt.keys() - self.corrupt.keys()):
            tqdm.write(f"corrupt, another picture takes its place: {corrupt[index]}", file=sys.stderr)
        self.corrupt |= corrupt
        if len(self.corrupt) > self.originals * MOST_CORRUPT:
            raise ValueError(
                f"{len(self.corrupt)} of the {self.originals} pictures are corrupt, more than half; "
                "is this the right data?"
            )

    def pose(self, index: int) -> tuple[float, float] | None:
        """(yaw, pitch) in rad of item `index` where it is known, for evaluation only."""
        return None

    def camera_label(self, index: int, corrupt: Collection[int] = ()) -> Tensor:
        """Label [25] (`cips3d.render.labels`) of the camera of item `index`; `corrupt` as `fetch` gave it.

        Raises ValueError where the set does not know its cameras.
        """
        mirrored, first = divmod(index, self.originals)
        label = self.original_label((first + len(corrupt)) % self.originals)
        if label is None:
            raise ValueError(
                "the discriminator or camera.from_data wants the poses of real images, but the data set has none; give "
                "synthetic-heads, or images whose dataset.json holds EG3D's labels, 25 numbers for each"
            )
        return mirrored_labels(label[None])[0] if mirrored else label

    def original_label(self, index: int) -> Tensor | None:
        """Label [25] of the camera of picture `index`, not mirrored, where it is known."""
        return None
