"""Data: batches, splits and the data sets that come with Fluxion (Flux: MLUtils, MLDatasets)."""

from fluxion.data.digits import digits
from fluxion.data.loader import DataLoader
from fluxion.data.observations import collate, getobs, numobs
from fluxion.data.splits import splitobs

__all__ = ["DataLoader", "collate", "digits", "getobs", "numobs", "splitobs"]
