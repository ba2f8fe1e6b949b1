"""Tables as data sets of arrays."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from fluxion.data.buffers import aligned_empty
from fluxion.data.checks import fraction, listed, one_of, whole_number
from fluxion.data.draws import shuffled
from fluxion.data.observations import Observations, getobs
from fluxion.data.tables.columns import CategoryColumn, category_kind, fit_categories, fit_numbers, prepared
from fluxion.data.tables.encoder import TableEncoder
from fluxion.data.tables.frames import frame_of, kind_of
from fluxion.data.tables.names import check_names
from fluxion.data.tables.reading import MISSING, CsvFormat, header, usual_separator
from fluxion.random import Generator

ONEHOT_LIMIT = 1000  # categories of a column that are taken for a name, an id or a text without being asked for
FUNCTION = "table"
SUBSETS = ("training", "validation", "both")


class Table(Observations):
    """Rows of a table as arrays; `fx.data.table`, `fx.data.csv_dataset` and `TableEncoder.encode` make it.

    An observation is `(features, target)`, or the features alone where there is no target.

    features  float32 `(N, features)`, named by `feature_names`; or, with `categorical_as="codes"`, a pair: `numeric`,
              float32 `(N, numbers)`, and `codes`, int32 `(N, columns of categories)`, for `Embedding` layers
    target    int32 `(N,)`, class numbers, named by `class_names`; or float32 `(N, targets)`

    `table[:]` is all of it as arrays. `encoder` is what made the arrays; `encode` makes such arrays of other rows.

    >>> flats = fx.data.table({"rooms": [2, 4], "town": ["Ulm", "Bonn"], "rent": [600, 900]}, target="rent")
    >>> flats.feature_names
    ['rooms', 'town=Bonn', 'town=Ulm']
    >>> features, rent = flats[0]
    >>> features.tolist(), rent.tolist()
    ([-1.0, 0.0, 1.0], [600.0])
    """

    made_by = "table"

    def __init__(
        self, numeric: np.ndarray, codes: np.ndarray, target: np.ndarray | None, encoder: TableEncoder
    ) -> None:
        self.numeric = numeric
        self.codes = codes
        self.target = target
        self.encoder = encoder

    @property
    def feature_names(self) -> list[str]:
        """The names of the features, in order."""
        return self.encoder.feature_names

    @property
    def class_names(self) -> tuple[Any, ...] | None:
        """The classes of the target, by class number; None where targets are numbers."""
        return self.encoder.class_names

    def encode(self, data: Any) -> Table:
        """Other rows as arrays, made with what was learnt from the rows of this table: see `TableEncoder.encode`."""
        return self.encoder.encode(data)

    def part(self, rows: np.ndarray) -> Table:
        """These rows, as a `Table` of their own."""
        target = None if self.target is None else self.target.take(rows, axis=0)
        return Table(self.numeric.take(rows, axis=0), self.codes.take(rows, axis=0), target, self.encoder)

    def __len__(self) -> int:
        return len(self.codes)

    def one(self, i: int) -> Any:
        features, target = self._features(np.array([i])), self.target
        features = getobs(features, 0)
        return features if target is None else (features, target[i])

    @property
    def batched(self) -> bool:
        return True

    def many(self, indices: np.ndarray) -> Any:
        features = self._features(indices)
        return features if self.target is None else (features, self.target.take(indices, axis=0))

    def _features(self, indices: np.ndarray) -> Any:
        # a third of the time of numeric[indices]
        numeric, codes = self.numeric.take(indices, axis=0), self.codes.take(indices, axis=0)
        if not self.encoder.onehot:
            return numeric, codes
        width, known = numeric.shape[1], codes > 0
        features = aligned_empty((len(codes), width + self._onehot_starts[-1]), np.float32)
        features[:, :width], features[:, width:] = numeric, 0
        places = np.arange(len(codes))[:, None] * features.shape[1] + (width - 1) + self._onehot_starts[:-1] + codes
        features.reshape(-1)[places[known]] = 1
        return features

    @cached_property
    def _onehot_starts(self) -> np.ndarray:
        return np.cumsum([0, *(len(column.categories) for column in self.encoder.category_columns)])

    def __repr__(self) -> str:
        targets = ", ".join(self.encoder.targets) if self.target is not None else "none"
        return f"Table of {len(self):_} rows: {len(self.feature_names)} features, target: {targets}"


def table(
    data: Any,
    *,
    target: str | Sequence[str] | None = None,
    numeric: Sequence[str] = (),
    categorical: Sequence[str] = (),
    drop: Sequence[str] = (),
    categorical_as: str = "onehot",
    max_categories: int | None = None,
    scale: str | None = "standard",
    missing: str = "mean",
    indicate_missing: bool = False,
    validation_split: float | None = None,
    subset: str | None = None,
    seed: int | None = None,
    csv: CsvFormat | None = None,
) -> Any:
    """The rows of a table as arrays that a model trains on: a `Table`, or with `subset="both"` two of them.

    data              the path of a .csv, .tsv or .parquet file, a table of Polars, pandas or PyArrow, or a dict of
                      columns. All columns but the targets and those in `drop` are features: numbers as numbers; text
                      and booleans as categories
    target            the column to predict, or several columns of numbers. Text and booleans are classes, numbers are
                      numbers, unless `categorical` names the column; they are not scaled
    numeric           columns to take as numbers: text that spells numbers, booleans, times (in days, dates since the
                      beginning of 1970)
    categorical       columns of whole numbers to take as categories
    drop              columns to leave out
    categorical_as    "onehot", a feature of 0s and 1s for each category; or "codes", numbers for `Embedding` layers
    max_categories    keeps only so many categories of a column, the most frequent ones, and missing
    scale             "standard", to mean 0 and standard deviation 1; "minmax", to 0 to 1; None, as they are
    missing           what a missing number becomes: the "mean" or the "median" of the column
    indicate_missing  adds a feature, 1 where a number is missing, for each column that lacks some
    validation_split  the part of the rows, from 0 to 1, that is kept for validation, at random
    subset            "training", "validation" or "both"
    seed              repeats the split; "training" and "validation" in two calls need the same one
    csv               a `CsvFormat`, how CSV files are written; `csv_dataset` makes one

    Means, scales and categories are learnt from the training rows alone, so the validation rows tell the model
    nothing; the classes are those of all rows. A missing category is a category of its own, an unknown one has the
    code 0, or no 1 at all. A constant column becomes 0. NaN is a missing number.

    Raises ValueError for names that are no columns, columns that are no features (times not named in `numeric`,
    lists; text with more than 1,000 values as "onehot"), infinite numbers, and targets that are missing;
    CorruptFileError for files that are damaged; ImportError where Polars is not installed.

    >>> houses = {"area": [50.0, 70.0], "town": ["Bonn", "Ulm"], "price": [100, 150]}
    >>> train = fx.data.table(houses, target="price")
    >>> train.feature_names
    ['area', 'town=Bonn', 'town=Ulm']
    >>> features, target = train[:2]
    >>> features.tolist(), target.tolist()
    ([[-1.0, 1.0, 0.0], [1.0, 0.0, 1.0]], [[100.0], [150.0]])
    >>> train.encode({"area": [60.0], "town": [None]})[0].tolist()
    [0.0, 0.0, 0.0]
    """
    csv = CsvFormat() if csv is None else csv
    one_of(FUNCTION, "categorical_as", categorical_as, ("onehot", "codes"))
    one_of(FUNCTION, "scale", scale, ("standard", "minmax", None))
    one_of(FUNCTION, "missing", missing, ("mean", "median"))
    if max_categories is not None:
        whole_number("max_categories", max_categories, 1)
    targets = _names("target", [target] if isinstance(target, str) else target or ())
    numeric, categorical, drop = _names("numeric", numeric), _names("categorical", categorical), _names("drop", drop)
    frame = frame_of(data, csv, drop, (), strict=True)
    training, validation = _split(len(frame), validation_split, subset, seed)
    numbers, categories, classes = _roles(frame, targets, numeric, categorical)
    kinds = {name: category_kind(frame[name]) for name in categories}
    frame = frame.with_columns(prepared(frame, numbers, kinds))
    learnt = frame if validation is None else frame[training]
    columns = fit_categories(learnt, kinds, max_categories)
    if categorical_as == "onehot":
        _refuse_names(columns)
    encoder = TableEncoder(
        number_columns=fit_numbers(learnt, numbers, scale, missing, indicate_missing),
        category_columns=columns,
        targets=targets,
        target_classes=_classes(frame, targets[0]) if classes else None,
        onehot=categorical_as == "onehot",
        dropped=drop,
        csv=csv,
    )
    return _parts(encoder.apply(frame), training, validation, subset)


def csv_dataset(
    path: str | os.PathLike[str],
    *,
    separator: str | None = None,
    null_values: Sequence[str] = MISSING,
    columns: Sequence[str] | None = None,
    drop: Sequence[str] = (),
    **options: Any,
) -> Any:
    """The rows of a CSV file as arrays that a model trains on; the same as `table`, whose options it takes.

    separator    the character between values; where it is None a comma, or a tab in files whose names end in .tsv
    null_values  what stands for a missing value
    columns      the columns to read, the target included; all but those in `drop` where it is None

    The first line names the columns. The file is UTF-8, and may be packed by gzip. `encode` of the result reads other
    files in the same way. Raises FileNotFoundError, and CorruptFileError, which names the line where it can, for
    lines with more or fewer values than the first one, an empty file, or two columns of one name; and what `table`
    raises.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "houses.csv"
    >>> _ = path.write_text("area;town;price\\n50;Bonn;100\\n70;Ulm;150\\n?;Ulm;120\\n60;Bonn;110\\n")
    >>> train, valid = fx.data.csv_dataset(
    ...     path, target="price", separator=";", null_values=["?"], validation_split=0.5, subset="both", seed=0
    ... )
    >>> train
    Table of 2 rows: 3 features, target: price
    """
    path = os.fspath(path)
    separator = usual_separator(path) or "," if separator is None else separator
    csv = CsvFormat(separator, tuple(null_values))
    if columns is not None:
        found = header(path, csv)
        check_names("columns=", columns, found)
        drop = [*drop, *(name for name in found if name not in columns)]
    return table(path, drop=drop, csv=csv, **options)


def _names(where: str, names: Any) -> tuple[str, ...]:
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"{where}= takes a list of names of columns, got {names!r}")
    return tuple(dict.fromkeys(names))


def _roles(
    frame: Any, targets: Sequence[str], numeric: Sequence[str], categorical: Sequence[str]
) -> tuple[list[str], list[str], bool]:
    """The features that are numbers, those that are categories, and whether the target is a class."""
    for where, names in (("target=", targets), ("numeric=", numeric), ("categorical=", categorical)):
        check_names(where, names, frame.columns)
    if both := [name for name in numeric if name in categorical]:
        raise ValueError(f"numeric= and categorical= both name {listed(both)}; a column is one or the other")
    roles = {name: _role(frame[name], name in numeric, name in categorical) for name in frame.columns}
    classes = [name for name in targets if roles[name] == "categories"]
    if classes and len(targets) > 1:
        raise ValueError(f"several targets are numbers, but {classes[0]!r} holds classes; take it as the only target")
    numbers = [name for name, role in roles.items() if role == "numbers" and name not in targets]
    categories = [name for name, role in roles.items() if role == "categories" and name not in targets]
    if not numbers and not categories:
        raise ValueError(f"no column is left for the features: the table has {listed(frame.columns)}")
    return numbers, categories, bool(classes)


def _role(column: Any, numeric: bool, categorical: bool) -> str:
    if numeric or categorical:
        return "numbers" if numeric else "categories"
    kind = kind_of(column.dtype)
    if kind == "time":
        raise ValueError(
            f"the column {column.name!r} holds times ({column.dtype}); name it in numeric= to count them in days, make "
            f"columns of their parts first, as in frame.with_columns(month=pl.col({column.name!r}).dt.month()), "
            f"or leave it out by drop=[{column.name!r}]"
        )
    if kind is None:
        raise ValueError(
            f"the column {column.name!r} holds values of {column.dtype}, which are neither numbers nor categories; "
            f"make columns of numbers of it first, or leave it out by drop=[{column.name!r}]"
        )
    return "numbers" if kind == "number" else "categories"


def _split(rows: int, part: float | None, subset: str | None, seed: int | None) -> tuple[np.ndarray, np.ndarray | None]:
    """The training and validation rows; the latter are None where the rows are not split."""
    if rows == 0:
        raise ValueError("the table has no rows to learn from")
    if (part is None) != (subset is None):
        raise ValueError(f"validation_split= and subset= go together, got {part!r} and {subset!r}")
    if part is None:
        return np.arange(rows), None
    one_of(FUNCTION, "subset", subset, SUBSETS)
    part = fraction("validation_split", part)
    if seed is None and subset != "both":
        raise ValueError(f"subset={subset!r} needs seed=, so that the other part, from another call, is the rest")
    order = shuffled(rows, None if seed is None else Generator(seed))
    count = round(part * rows)
    if not 0 < count < rows:
        raise ValueError(f"validation_split={part} of {rows} rows leaves a part without rows")
    return np.sort(order[count:]), np.sort(order[:count])


def _classes(frame: Any, target: str) -> CategoryColumn:
    """The classes of all rows; missing ones are refused when the target is encoded."""
    kinds = {target: category_kind(frame[target])}
    (classes,) = fit_categories(prepared(frame, [], kinds), kinds, None)
    return CategoryColumn(target, classes.kind, tuple(name for name in classes.categories if name is not None))


def _refuse_names(columns: Sequence[CategoryColumn]) -> None:
    for column in columns:
        if len(column.categories) > ONEHOT_LIMIT:
            raise ValueError(
                f"the column {column.name!r} has {len(column.categories)} different values, too many for one feature "
                f"each; leave it out by drop=[{column.name!r}], keep the most frequent ones by max_categories=100, "
                f"or take categorical_as='codes' and an Embedding; if it should hold numbers, "
                f"numeric=[{column.name!r}] finds the row that does not"
            )


def _parts(whole: Table, training: np.ndarray, validation: np.ndarray | None, subset: str | None) -> Any:
    if validation is None:
        return whole
    parts = {"training": training, "validation": validation}
    made = [whole.part(rows) for name, rows in parts.items() if subset in (name, "both")]
    return tuple(made) if subset == "both" else made[0]
