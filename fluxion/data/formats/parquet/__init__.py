"""A reader of Parquet files."""

from fluxion.data.formats.parquet.reader import read_parquet

__all__ = ["read_parquet"]
