"""Tables: from a CSV file or a data frame to normalised arrays (Flux: DataFrames.jl with MLJ's encoders)."""

from fluxion.data.tables.dataset import Table, csv_dataset, table
from fluxion.data.tables.encoder import TableEncoder
from fluxion.data.tables.reading import CsvFormat

__all__ = ["CsvFormat", "Table", "TableEncoder", "csv_dataset", "table"]
