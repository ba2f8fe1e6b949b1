"""Readers of the files that data sets are published as: they refuse damaged ones, and run nothing that is in them."""

from fluxion.data.formats.idx import read_idx
from fluxion.data.formats.mat import read_mat
from fluxion.data.formats.parquet import read_parquet

__all__ = ["read_idx", "read_mat", "read_parquet"]
