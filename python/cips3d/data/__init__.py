"""Data sets: synthetic heads, folders and zips of photographs, and the order in which training sees them."""

from cips3d.data.base import ImageDataset
from cips3d.data.batches import TrainingBatches
from cips3d.data.datasets import open_dataset
from cips3d.data.images import CorruptImageError, image_grid, to_float, to_uint8
from cips3d.data.photographs import ImageFolder, StyleGANZip
from cips3d.data.sampler import InfiniteSampler
from cips3d.data.synthetic import SyntheticHeads
from cips3d.data.tools import inspect, make_lfw_zip, make_synthetic, write_zip

__all__ = [
    "CorruptImageError",
    "ImageDataset",
    "ImageFolder",
    "InfiniteSampler",
    "StyleGANZip",
    "SyntheticHeads",
    "TrainingBatches",
    "image_grid",
    "inspect",
    "make_lfw_zip",
    "make_synthetic",
    "open_dataset",
    "to_float",
    "to_uint8",
    "write_zip",
]
