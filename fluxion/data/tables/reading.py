"""CSV files as frames of Polars."""

from __future__ import annotations

import csv
import dataclasses
import gzip
import io
import os
import zlib
from collections.abc import Collection, Iterator
from typing import IO, Any

import numpy as np

from fluxion.data.checks import listed
from fluxion.data.errors import CorruptFileError
from fluxion.data.tables.names import check_names

SAMPLE = 10_000  # rows that the types of columns are guessed from; the others are read with these types
BLOCK = 1 << 24
FIRST = 100  # rows that show which columns hold dates, which are slow to tell from text
MISSING = ("", "NA", "N/A", "NaN", "nan", "null", "NULL")


def polars() -> Any:
    """The package that tables are read with."""
    try:
        import polars
    except ImportError:
        raise ImportError("tables need Polars: pip install 'fluxion-ml[tabular]'") from None
    return polars


@dataclasses.dataclass(frozen=True)
class CsvFormat:
    """How a CSV file is written: what stands between values, and what stands for a value that is missing.

    Without a separator it is a comma, and a tab in files whose names end in .tsv.

    >>> fx.data.CsvFormat(";", ("?",))
    CsvFormat(separator=';', null_values=('?',))
    """

    separator: str | None = None
    null_values: tuple[str, ...] = MISSING

    def __post_init__(self) -> None:
        if self.separator is not None and (not isinstance(self.separator, str) or len(self.separator.encode()) != 1):
            raise ValueError(f"separator= is one ASCII character, as in separator=';', got {self.separator!r}")
        if not all(isinstance(value, str) for value in self.null_values):
            raise TypeError(f"null_values= are strings as they stand in the file, got {self.null_values!r}")

    def of(self, path: str) -> CsvFormat:
        """The format with the usual separator of files named so, where none was given."""
        separator = self.separator or usual_separator(path)
        if separator is None:
            raise ValueError(
                f"{path} ends neither in .csv or .tsv (or these with .gz) nor in .parquet; "
                f"fx.data.csv_dataset(path, separator=...) reads text files of any name"
            )
        return dataclasses.replace(self, separator=separator)

    def options(self) -> dict[str, Any]:
        """The format in the words of Polars."""
        return {"separator": self.separator, "null_values": list(self.null_values)}


def usual_separator(path: str) -> str | None:
    """What stands between values in files whose names end like this; None where that is not usual."""
    return {".csv": ",", ".tsv": "\t"}.get(os.path.splitext(path.lower().removesuffix(".gz"))[1])


def header(path: str, form: CsvFormat) -> list[str]:
    """The names of the columns of a CSV file, which must differ; CorruptFileError where the file has no first line."""
    try:
        names = next((record for _, record in _records(path, form) if record), None)
    except (csv.Error, OSError, EOFError, zlib.error) as error:
        raise _corrupt(path, form, error) from None
    if names is None:
        raise CorruptFileError(path, "the file is empty; its first line should name the columns")
    for name in names:
        if names.count(name) > 1:
            raise CorruptFileError(
                path, f"{names.count(name)} columns are named {name!r} in the first line; rename them"
            )
    return names


def read_csv(path: str, form: CsvFormat, drop: Collection[str], text: Collection[str], strict: bool) -> Any:
    """The columns of a CSV file but those in `drop`, which must be there if `strict`; those in `text` hold text.

    Types are guessed from the first rows; where a later row does not fit, or a column had no value in them, from all
    rows. Whole numbers become floats, since a later row may hold a fraction; blank lines are left out.

    Raises CorruptFileError for lines with more or fewer values than the first one, and bytes that are not UTF-8.
    """
    pl = polars()
    names = header(path, form)
    if strict:
        check_names("drop=", drop, names)
    options = {**form.options(), "columns": [name for name in names if name not in drop]}
    if not options["columns"]:
        raise ValueError(f"no column of {path} is left to be read: {names}")
    try:
        frame = _typed(path, _types(path, options, text), options)
        if frame is None or any(_came_late(frame[name]) for name in frame.columns if name not in text):
            given = {name: pl.Categorical for name in text if name in options["columns"]}
            frame = pl.read_csv(path, infer_schema_length=None, schema_overrides=given, **options)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise _corrupt(path, form, error) from None
    return _without_blank_lines(path, form, frame, len(names))


def _types(path: str, options: dict[str, Any], text: Collection[str]) -> dict[str, Any]:
    """The types to read the columns with, guessed from the first rows."""
    pl = polars()
    form = {name: value for name, value in options.items() if name != "columns"}
    sample = pl.scan_csv(path, infer_schema_length=SAMPLE, **form).collect_schema()
    lacking = [name for name in options["columns"] if name not in sample]
    if lacking:  # broken quotes, which Python's parser takes in another way
        raise pl.exceptions.ColumnNotFoundError(f"the quotes in its first line make no sense at {listed(lacking)}")
    first = pl.scan_csv(path, infer_schema_length=FIRST, try_parse_dates=True, **form).collect_schema()
    types = {}
    for name in options["columns"]:
        if name not in text and first[name].is_temporal():
            types[name] = first[name]
        elif name in text or sample[name] == pl.String:
            types[name] = pl.Categorical  # each text is kept once, and a row takes four bytes
        else:
            types[name] = pl.Float64 if sample[name].is_integer() else sample[name]
    return types


def _came_late(column: Any) -> bool:
    """True for a column with no value in the rows that types are guessed from, but some in later rows."""
    return column.null_count() < len(column) and column.head(SAMPLE).null_count() == SAMPLE


def _typed(path: str, types: dict[str, Any], options: dict[str, Any]) -> Any:
    """The file read with these types; None where a value does not fit."""
    pl = polars()
    try:
        return pl.read_csv(path, schema_overrides=types, **options)
    except pl.exceptions.ComputeError as error:
        if "could not parse" in str(error):
            return None
        raise


def _without_blank_lines(path: str, form: CsvFormat, frame: Any, fields: int) -> Any:
    """`frame` without rows of blank lines; an error where a line was too short, which Polars fills up."""
    if fields == 1 or frame[frame.columns[-1]].null_count() == 0 or _regular(path, form, len(frame), fields):
        return frame
    problem, blank = _look(path, form)
    if problem:
        raise CorruptFileError(path, _foreign_line(path) or problem)
    return frame[np.delete(np.arange(len(frame)), blank)] if blank else frame


def _regular(path: str, form: CsvFormat, rows: int, fields: int) -> bool:
    """True where counting bytes shows that no line is too short; False where that cannot be told so fast."""
    separator, found = str(form.separator).encode(), 0
    with _opened(path) as file:
        while block := file.read(BLOCK):
            if b'"' in block:
                return False
            found += block.count(separator)
    return found == (rows + 1) * (fields - 1)


def _look(path: str, form: CsvFormat) -> tuple[str | None, list[int]]:
    """What is wrong with the first line that has more or fewer values than the first one, and the rows left blank."""
    wanted, blank = None, []
    for number, (line, record) in enumerate(_records(path, form), start=-1):
        wanted = wanted or len(record)
        if not record:
            blank.append(number)
        elif len(record) != wanted:
            hint = "put quotes around values that hold a separator" if len(record) > wanted else "is the file complete?"
            return f"line {line} has {len(record)} values, the first line has {wanted}; {hint}", []
    return None, blank


def _records(path: str, form: CsvFormat) -> Iterator[tuple[int, list[str]]]:
    """The last line of each record, counted from 1, and its values."""
    with io.TextIOWrapper(_opened(path), encoding="utf-8-sig", errors="replace", newline="") as lines:
        reader = csv.reader(lines, delimiter=str(form.separator))
        for record in reader:
            yield reader.line_num, record


def _corrupt(path: str, form: CsvFormat, error: BaseException) -> BaseException:
    """An error that names the line, where it can be found; `error` itself where the system cannot read the file."""
    if isinstance(error, OSError) and error.errno is not None:
        return error
    try:
        found = _foreign_line(path) or _look(path, form)[0]
    except (csv.Error, OSError, EOFError, zlib.error) as problem:
        found = str(problem)
    return CorruptFileError(path, found or f"this is no CSV file that Polars reads: {str(error).partition(chr(10))[0]}")


def _foreign_line(path: str) -> str | None:
    """What is wrong with the first line that is not UTF-8."""
    with _opened(path) as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as problem:
                byte = line[problem.start]
                return f"line {number} is not UTF-8 text (byte {byte:#04x}); save the file as UTF-8"
    return None


def _opened(path: str) -> IO[bytes]:
    return gzip.open(path) if path.lower().endswith(".gz") else open(path, "rb")  # type: ignore[return-value]
