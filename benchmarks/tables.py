"""A CSV file to normalised, shuffled batches, beside pandas with scikit-learn's ColumnTransformer.

The file has 1,000,000 rows: 14 columns of numbers, every other one with gaps, 6 of text with 2 to 200 categories, and a
target. Both sides read it, learn means, deviations and categories, and go once through all batches of 1,024 rows in
float32: with each category as a feature of its own, and with categories as codes. scikit-learn keeps the former as a
sparse matrix, its default, of which each batch is made dense: that is much faster, and smaller, than a dense matrix.
Memory is the most that a fresh process takes beyond what it took after its imports; pages of the file count.
"""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np

import fluxion as fx
from benchmarks import memory
from benchmarks.peers import peer
from benchmarks.processes import run_fresh
from benchmarks.table import Table, Target
from benchmarks.timing import Contender, race

ROWS, BATCH, LEAST = 1_000_000, 1024, 5.0
NUMBERS = [f"number {i}" for i in range(14)]
CATEGORIES = {f"category {i}": count for i, count in enumerate((2, 5, 10, 20, 50, 200))}
CODE = """
import sys
from benchmarks import memory, tables
print(memory.growth(tables.contender(*sys.argv[1:])))
"""


def write(path: str) -> None:
    """Writes the file."""
    import polars as pl

    rng = np.random.default_rng(0)
    columns: dict[str, Any] = {}
    for i, name in enumerate(NUMBERS):
        numbers = rng.normal(10 * i, 1 + i, ROWS).round(4)
        columns[name] = pl.Series(np.where(rng.random(ROWS) < 0.05 * (i % 2), np.nan, numbers)).fill_nan(None)
    for name, count in CATEGORIES.items():
        columns[name] = np.array([f"{name} {i}" for i in range(count)])[rng.integers(0, count, ROWS)]
    pl.DataFrame({**columns, "target": rng.normal(size=ROWS).round(5)}).write_csv(path)


def ours(path: str, categorical_as: str) -> None:
    """All batches by Fluxion."""
    data = fx.data.csv_dataset(path, target="target", categorical_as=categorical_as)
    for _ in fx.DataLoader(data, BATCH, shuffle=True):
        pass


def theirs(path: str, categorical_as: str) -> None:
    """All batches by pandas, scikit-learn and NumPy."""
    import pandas as pd
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

    frame = pd.read_csv(path)
    onehot = OneHotEncoder(handle_unknown="ignore", dtype=np.float32)
    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    categories = onehot if categorical_as == "onehot" else codes
    transform = ColumnTransformer([("numbers", numbers, NUMBERS), ("categories", categories, list(CATEGORIES))])
    features = transform.fit_transform(frame).astype(np.float32)
    target = frame["target"].to_numpy(np.float32)
    order = np.random.default_rng(0).permutation(len(target))
    for start in range(0, len(target), BATCH):
        rows = order[start : start + BATCH]
        _dense(features[rows]), target[rows]


def _dense(batch: Any) -> np.ndarray:
    return batch.toarray() if hasattr(batch, "toarray") else batch


def contender(path: str, side: str, categorical_as: str) -> Callable[[], None]:
    """One run of "ours" or "theirs", its packages imported."""
    for name in ("polars",) if side == "ours" else ("pandas", "sklearn.compose"):
        __import__(name)
    return functools.partial({"ours": ours, "theirs": theirs}[side], path, categorical_as)


def run() -> Table:
    """Times both sides, and measures their memory."""
    header = ["", "Fluxion s", "pandas, scikit-learn s", "ratio", "best rounds", "Fluxion MiB", "pandas MiB"]
    table = Table(f"A CSV file of {ROWS:,} rows to normalised, shuffled batches", header)
    if not all([peer("polars"), peer("pandas"), peer("sklearn")]):
        return table
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "rows.csv")
        write(path)
        for categorical_as in ("onehot", "codes"):
            _compare(table, path, categorical_as)
    return table


def _compare(table: Table, path: str, categorical_as: str) -> None:
    mine, other = (Contender(side, contender(path, side, categorical_as)) for side in ("ours", "theirs"))
    race([mine, other], rounds=5, warm=0)
    ratio, best = other.over(mine), other.least_over(mine)
    sizes = ["", ""]
    if memory.available():
        sizes = [f"{float(run_fresh(CODE, path, side, categorical_as)[1]):.0f}" for side in ("ours", "theirs")]
    times = [f"{one.median:.2f}" for one in (mine, other)]
    table.rows.append([f"categories as {categorical_as}", *times, f"{ratio:.2f}", f"{best:.2f}", *sizes])
    what = f"pandas and scikit-learn / Fluxion: {categorical_as}"
    table.targets.append(Target(what, ratio, LEAST, at_least=True, best=best))
