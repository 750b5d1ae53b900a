"""Data sets: synthetic heads, folders, zips and shards of photographs, and the order in which training sees them."""

from cips3d.data.base import ImageDataset
from cips3d.data.batches import TrainingBatches
from cips3d.data.datasets import open_dataset
from cips3d.data.images import CorruptImageError, image_grid, to_float, to_uint8
from cips3d.data.photographs import ImageFolder, StyleGANZip
from cips3d.data.sampler import InfiniteSampler
from cips3d.data.synthetic import SyntheticHeads
from cips3d.data.tar_shards import WebShards
from cips3d.data.tools import check, convert, inspect, make_lfw, make_synthetic, open_as_stored
from cips3d.data.writers import write_images

__all__ = [
    "CorruptImageError",
    "ImageDataset",
    "ImageFolder",
    "InfiniteSampler",
    "StyleGANZip",
    "SyntheticHeads",
    "TrainingBatches",
    "WebShards",
    "check",
    "convert",
    "image_grid",
    "inspect",
    "make_lfw",
    "make_synthetic",
    "open_as_stored",
    "open_dataset",
    "to_float",
    "to_uint8",
    "write_images",
]
