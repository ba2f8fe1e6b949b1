"""Data sets of files in folders: images, masks, texts, sounds, and whatever a function of yours reads."""

from fluxion.data.folders.audio import audio_dataset_from_directory
from fluxion.data.folders.decode import read_image
from fluxion.data.folders.files import FileDataset
from fluxion.data.folders.images import image_dataset_from_directory
from fluxion.data.folders.masks import mask_dataset_from_directory
from fluxion.data.folders.text import text_dataset_from_directory
from fluxion.data.folders.wav import read_wav

__all__ = [
    "FileDataset",
    "audio_dataset_from_directory",
    "image_dataset_from_directory",
    "mask_dataset_from_directory",
    "read_image",
    "read_wav",
    "text_dataset_from_directory",
]
