"""Data: batches, splits and the data sets that come with Fluxion (Flux: MLUtils, MLDatasets)."""

from fluxion.data import transforms
from fluxion.data.arrays import (
    batched_searchsorted,
    chunk,
    normalise,
    rescale,
    rpad_constant,
    stack,
    topk,
    unsqueeze,
    unstack,
)
from fluxion.data.balance import oversample, undersample
from fluxion.data.digits import digits
from fluxion.data.errors import CorruptFileError
from fluxion.data.folders import (
    FileDataset,
    audio_dataset_from_directory,
    image_dataset_from_directory,
    mask_dataset_from_directory,
    read_image,
    read_wav,
    text_dataset_from_directory,
)
from fluxion.data.folds import kfolds, leavepout, timeseries_kfolds
from fluxion.data.groups import group_counts, group_indices
from fluxion.data.loader import DataLoader
from fluxion.data.observations import Observations, batch, collate, eachobs, getobs, numobs, unbatch
from fluxion.data.sequences import batch_sequence, batchseq, pad_sequences
from fluxion.data.show import show_batch
from fluxion.data.splits import splitobs
from fluxion.data.tables import CsvFormat, Table, TableEncoder, csv_dataset, table
from fluxion.data.toy import make_moons, make_poly, make_sin, make_spiral
from fluxion.data.views import (
    ObsView,
    filterobs,
    groupobs,
    joinobs,
    mapobs,
    obsview,
    randobs,
    shuffleobs,
    slidingwindow,
)

__all__ = [
    "CorruptFileError",
    "CsvFormat",
    "DataLoader",
    "FileDataset",
    "ObsView",
    "Observations",
    "Table",
    "TableEncoder",
    "audio_dataset_from_directory",
    "batch",
    "batch_sequence",
    "batched_searchsorted",
    "batchseq",
    "chunk",
    "collate",
    "csv_dataset",
    "digits",
    "eachobs",
    "filterobs",
    "getobs",
    "group_counts",
    "group_indices",
    "groupobs",
    "image_dataset_from_directory",
    "joinobs",
    "kfolds",
    "leavepout",
    "make_moons",
    "make_poly",
    "make_sin",
    "make_spiral",
    "mapobs",
    "mask_dataset_from_directory",
    "normalise",
    "numobs",
    "obsview",
    "oversample",
    "pad_sequences",
    "randobs",
    "read_image",
    "read_wav",
    "rescale",
    "rpad_constant",
    "show_batch",
    "shuffleobs",
    "slidingwindow",
    "splitobs",
    "stack",
    "table",
    "text_dataset_from_directory",
    "timeseries_kfolds",
    "topk",
    "transforms",
    "unbatch",
    "undersample",
    "unsqueeze",
    "unstack",
]
