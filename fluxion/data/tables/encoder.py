"""What turns tables into arrays: learnt from training rows, applied to any others."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fluxion.data.checks import listed
from fluxion.data.tables.columns import CategoryColumn, NumberColumn, matrix, prepared
from fluxion.data.tables.frames import frame_of
from fluxion.data.tables.reading import CsvFormat, polars

if TYPE_CHECKING:
    from fluxion.data.tables.dataset import Table


@dataclasses.dataclass(frozen=True)
class TableEncoder:
    """Turns the rows of tables with the same columns into arrays, with what `fx.data.table` learnt from training rows.

    number_columns    the columns of numbers, each with what is filled in, subtracted and divided by
    category_columns  the columns of categories, each with its categories
    targets           the names of the targets, none where the table has no target
    target_classes    the target's classes as a column of categories, None where targets are numbers
    onehot            whether categories become 0s and 1s among the features, or numbers of their own
    dropped           the columns that are left out
    csv               how CSV files are written

    `encode` applies it, `to_json` and `from_json` keep it in a file. Printing shows the columns.

    >>> train = fx.data.table({"area": [50.0, 70.0], "town": ["Bonn", "Ulm"], "price": [1, 2]}, target="price")
    >>> train.encoder
    TableEncoder(
      area: (x - 60) / 10, 60 where missing
      town: 2 categories: 'Bonn', 'Ulm'
      target price: numbers
    )  # 3 features
    >>> train.encoder.encode({"area": [60.0], "town": ["Paris"]})[:].tolist()
    [[0.0, 0.0, 0.0]]
    """

    number_columns: tuple[NumberColumn, ...]
    category_columns: tuple[CategoryColumn, ...]
    targets: tuple[str, ...]
    target_classes: CategoryColumn | None
    onehot: bool
    dropped: tuple[str, ...]
    csv: CsvFormat

    @property
    def columns(self) -> tuple[NumberColumn | CategoryColumn, ...]:
        """The columns of the features."""
        return (*self.number_columns, *self.category_columns)

    @property
    def feature_names(self) -> list[str]:
        """The names of the features, in order: numbers, what is missing of them, and categories."""
        names = [column.name for column in self.number_columns]
        names += [f"{column.name} is missing" for column in self.number_columns if column.indicator]
        if not self.onehot:
            return names + [column.name for column in self.category_columns]
        return names + [
            f"{column.name} is missing" if value is None else f"{column.name}={value}"
            for column in self.category_columns
            for value in column.categories
        ]

    @property
    def categories(self) -> dict[str, tuple[Any, ...]]:
        """The categories of each column that has some; those at place i have the code i + 1, None is missing."""
        return {column.name: column.categories for column in self.category_columns}

    @property
    def cardinalities(self) -> dict[str, int]:
        """How many codes each column of categories has, 0 (unknown) included: the first size of an `Embedding`."""
        return {column.name: column.cardinality for column in self.category_columns}

    @property
    def class_names(self) -> tuple[Any, ...] | None:
        """The classes of the target; class number i is the one at place i. None where the targets are numbers."""
        return None if self.target_classes is None else self.target_classes.categories

    def encode(self, data: Any) -> Table:
        """The rows of another table, a file or a frame as `fx.data.table` takes, as a `Table`.

        The table needs the same columns, in any order; it may lack the targets, as it does where these are to be
        predicted. Categories that are not known get the code 0. Raises ValueError for columns that are lacking, that
        were not there in training, or hold another kind of values, and for classes of the target that are not known.
        """
        text = [column.name for column in self._coded() if column.kind == "text"]
        frame = frame_of(data, self.csv, self.dropped, text, strict=False)
        self._check_columns(frame)
        return self.apply(frame)

    def apply(self, frame: Any) -> Table:
        """`encode` for a frame of Polars with the right columns."""
        from fluxion.data.tables.dataset import Table

        labelled = all(name in frame.columns for name in self.targets)
        numbers = [column.name for column in self.number_columns]
        kinds = {column.name: column.kind for column in self.category_columns}
        ready = prepared(frame, numbers, kinds) if self.columns else frame
        numeric = matrix(ready, self._number_expressions(), np.float32)
        codes = matrix(ready, [column.expression() for column in self.category_columns], np.int32)
        return Table(numeric, codes, self._target(frame) if labelled and self.targets else None, self)

    def decode(self, numbers: Any) -> list[Any]:
        """The classes with these numbers, as `argmax` of a model's output gives them.

        Raises ValueError where the target has no classes or a number is that of none.

        >>> flowers = fx.data.table({"size": [1, 2], "kind": ["iris", "rose"]}, target="kind")
        >>> flowers.encoder.decode([1, 0, 1])
        ['rose', 'iris', 'rose']
        """
        if self.class_names is None:
            raise ValueError("there are no classes to decode: the targets are numbers")
        places, count = np.asarray(numbers), len(self.class_names)
        if places.dtype.kind not in "iu" or places.ndim != 1 or not ((places >= 0) & (places < count)).all():
            raise ValueError(f"decode takes a whole number from 0 to {count - 1} for each row, got {numbers!r}")
        return [self.class_names[place] for place in places.tolist()]

    def to_json(self) -> str:
        """The encoder as text, for a file beside the model's weights.

        >>> encoder = fx.data.table({"x": [1.0, 3.0]}).encoder
        >>> fx.data.TableEncoder.from_json(encoder.to_json()) == encoder
        True
        """
        return json.dumps(dataclasses.asdict(self), indent=1, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> TableEncoder:
        """The encoder that `to_json` wrote; ValueError for other text."""
        try:
            fields = json.loads(text)
            classes = fields["target_classes"]
            return cls(
                number_columns=tuple(NumberColumn(**column) for column in fields["number_columns"]),
                category_columns=tuple(_category_column(column) for column in fields["category_columns"]),
                targets=tuple(fields["targets"]),
                target_classes=None if classes is None else _category_column(classes),
                onehot=fields["onehot"],
                dropped=tuple(fields["dropped"]),
                csv=CsvFormat(fields["csv"]["separator"], tuple(fields["csv"]["null_values"])),
            )
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"this is not the text of TableEncoder.to_json: {error!r}") from None

    def __repr__(self) -> str:
        lines = [f"{column.name}: {column}" for column in self.columns]
        if self.target_classes is not None:
            lines.append(
                f"target {self.targets[0]}: {len(self.class_names or ())} classes: {listed(self.class_names or ())}"
            )
        elif self.targets:
            lines.append(f"target {', '.join(self.targets)}: numbers")
        body = "".join(f"\n  {line}" for line in lines)
        return f"TableEncoder({body}\n)  # {len(self.feature_names)} features"

    def _coded(self) -> Sequence[CategoryColumn]:
        return self.category_columns if self.target_classes is None else (*self.category_columns, self.target_classes)

    def _check_columns(self, frame: Any) -> None:
        features = [column.name for column in self.columns]
        lacking = [name for name in features if name not in frame.columns]
        if lacking:
            raise ValueError(f"the table lacks columns that were there in training: {listed(lacking)}")
        extra = [name for name in frame.columns if name not in (*features, *self.targets)]
        if extra:
            raise ValueError(f"the table has columns that were not there in training: {listed(extra)}; drop them")
        present = [name for name in self.targets if name in frame.columns]
        if present and len(present) < len(self.targets):
            raise ValueError(
                f"of the targets {listed(self.targets)} the table has only {listed(present)}; give all or none"
            )

    def _number_expressions(self) -> list[Any]:
        pl = polars()
        gaps = [pl.col(column.name).is_null().cast(pl.Float32) for column in self.number_columns if column.indicator]
        return [column.expression() for column in self.number_columns] + gaps

    def _target(self, frame: Any) -> np.ndarray:
        """Class numbers of shape (N,) or numbers of shape (N, targets); an error where a row has none."""
        for name in self.targets:
            _refuse_gaps(
                name, frame[name].is_null() | (frame[name].is_nan() if frame[name].dtype.is_float() else False)
            )
        classes = self.target_classes
        if classes is None:
            ready = prepared(frame, self.targets, {})
            return matrix(ready, [polars().col(name) for name in self.targets], np.float32)
        ready = prepared(frame, [], {classes.name: classes.kind})
        numbers = matrix(ready, [classes.expression()], np.int32)[:, 0] - np.int32(1)
        if (numbers < 0).any():
            row = int(np.argmax(numbers < 0))
            raise ValueError(
                f"the target {classes.name!r} is {frame[classes.name][row]!r} in row {row}, which was no class in "
                f"training; the classes are {listed(classes.categories)}"
            )
        return numbers


def _category_column(fields: dict[str, Any]) -> CategoryColumn:
    return CategoryColumn(fields["name"], fields["kind"], tuple(fields["categories"]))


def _refuse_gaps(name: str, gaps: Any) -> None:
    if gaps.any():
        raise ValueError(
            f"the target {name!r} is missing in {gaps.sum()} rows, the first is row {gaps.arg_max()}; "
            f"leave these rows out, as in frame.drop_nulls({name!r})"
        )
