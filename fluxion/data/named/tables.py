"""The data sets that are tables: Iris, Wine, Boston's houses, the Titanic's passengers."""

from __future__ import annotations

import os
from importlib.resources import as_file, files
from typing import Any, ClassVar

import numpy as np

from fluxion.data.errors import CorruptFileError
from fluxion.data.formats.delimited import csv_columns
from fluxion.data.formats.npz import npz_arrays
from fluxion.data.named.base import SplitData, class_labels, every_fifth, float_type
from fluxion.data.named.download import RemoteFile

Table = tuple[np.ndarray, np.ndarray]


class _Bundled(SplitData):
    """A table of numbers and classes that comes with Fluxion."""

    file: ClassVar[str]
    feature_names: ClassVar[tuple[str, ...]]
    sizes: ClassVar[tuple[int, int]]

    def __init__(self, *, dtype: Any = np.float32) -> None:
        super().__init__(download=False)
        self.dtype = float_type(dtype)

    def part(self, part: str) -> Table:
        types = dict.fromkeys(self.feature_names, float) | {"class": int}
        with as_file(files("fluxion.data").joinpath("files", self.file)) as path:
            columns = csv_columns(path, types)
        labels = columns.pop("class")
        there = every_fifth(labels, part)
        return np.stack(list(columns.values()), axis=1)[there].astype(self.dtype), labels[there]

    def where(self) -> str:
        return "come with Fluxion"

    def facts(self) -> list[tuple[str, str]]:
        form = f"rows of {len(self.feature_names)} {self.dtype}, labels int32"
        return [(part, f"{size} {form}") for part, size in zip(("train", "test"), self.sizes, strict=True)]


class Iris(_Bundled):
    """150 irises of three species, by the length and width of their sepals and petals in centimetres; comes along.

    x  `(N, 4)` in a `dtype` of floats, the columns `feature_names`
    y  int32 `(N,)`, the species in `class_names`

    There is no official split: of each species the 5th, 10th, ... flower is in `test`, 30 of them, the other 120 in
    `train`, in the order of the source, which is by species. `(x, y), (x_test, y_test) = Iris()`.

    Source: R. A. Fisher 1936, UCI Machine Learning Repository, doi 10.24432/C56C76, licence CC BY 4.0; two flowers have
    the values of the paper, as in R and scikit-learn (MLDatasets: `Iris`).

    >>> (x, y), (x_test, y_test) = fx.data.Iris()
    >>> x.shape, x_test.shape, np.bincount(y).tolist()
    ((120, 4), (30, 4), [40, 40, 40])
    """

    title = "irises of three species"
    source = "https://doi.org/10.24432/C56C76"
    licence = "CC BY 4.0"
    citation = "R. A. Fisher 1936, Iris, UCI Machine Learning Repository, doi 10.24432/C56C76"
    class_names = ("setosa", "versicolor", "virginica")
    feature_names = ("sepal_length", "sepal_width", "petal_length", "petal_width")
    file = "iris.csv"
    sizes = (120, 30)


class Wine(_Bundled):
    """178 wines of three cultivators by 13 results of their chemical analysis; comes along.

    x  `(N, 13)` in a `dtype` of floats, the columns `feature_names`, of very different sizes
    y  int32 `(N,)`, the cultivator

    There is no official split: of each cultivator the 5th, 10th, ... wine is in `test`, 34 of them, the other 144 in
    `train`, in the order of the source, which is by cultivator.

    Source: S. Aeberhard, M. Forina 1991, UCI Machine Learning Repository, doi 10.24432/C5PC7J, licence CC BY 4.0
    (MLDatasets: `Wine`).

    >>> (x, y), (x_test, y_test) = fx.data.Wine(dtype=np.float64)
    >>> x.shape, x.dtype, x_test.shape
    ((144, 13), dtype('float64'), (34, 13))
    """

    title = "wines of three cultivators"
    source = "https://doi.org/10.24432/C5PC7J"
    licence = "CC BY 4.0"
    citation = "S. Aeberhard, M. Forina 1991, Wine, UCI Machine Learning Repository, doi 10.24432/C5PC7J"
    class_names = ("cultivator 1", "cultivator 2", "cultivator 3")
    feature_names = (
        *("alcohol", "malic_acid", "ash", "alcalinity_of_ash", "magnesium", "total_phenols", "flavanoids"),
        *("nonflavanoid_phenols", "proanthocyanins", "color_intensity", "hue", "od280_od315_of_diluted_wines"),
        "proline",
    )
    file = "wine.csv"
    sizes = (144, 34)


class BostonHousing(SplitData):
    """506 districts of Boston in 1970 by 13 numbers, and the median price of their houses in thousands of dollars.

    x  `(N, 13)` in a `dtype` of floats, the columns `feature_names`
    y  `(N,)` of the same type, from 5 to 50

    There is no official split: the 5th, 10th, ... district is in `test`, 101 of them, the other 405 in `train`. One of
    the columns, B, is made of the share of black residents under an assumption on segregation and prices; the data set
    is here to reproduce older results, not to be built on.

    `root`, `download`, `synthetic`, `progress` and the errors are those of `MNIST`; the file is the one of Keras.

    Source: D. Harrison, D. L. Rubinfeld 1978, "Hedonic prices and the demand for clean air"; no licence is stated
    (MLDatasets: `BostonHousing`).

    >>> x, y = fx.data.BostonHousing(synthetic=100).train
    >>> x.shape, y.shape
    ((100, 13), (100,))
    """

    title = "prices of houses in Boston, 1970"
    source = "http://lib.stat.cmu.edu/datasets/boston"
    licence = "not stated"
    citation = (
        "D. Harrison, D. L. Rubinfeld 1978, Hedonic prices and the demand for clean air, Journal of Environmental "
        "Economics and Management 5"
    )
    synthetic_size = 405
    feature_names = tuple(
        ["CRIM", "ZN", "INDUS", "CHAS", "NOX", "RM", "AGE", "DIS", "RAD", "TAX", "PTRATIO", "B", "LSTAT"]
    )
    file = RemoteFile(
        "boston_housing.npz",
        (
            "https://storage.googleapis.com/tensorflow/tf-keras-datasets/boston_housing.npz",
            "https://s3.amazonaws.com/keras-datasets/boston_housing.npz",
        ),
        "f553886a1f8d56431e820c5b82552d9d95cfcb96d1e678153f8839538947dff5",
    )

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        *,
        dtype: Any = np.float32,
        download: bool = True,
        synthetic: bool | int = False,
        progress: bool = True,
    ) -> None:
        super().__init__(root, download=download, synthetic=synthetic, progress=progress)
        self.dtype = float_type(dtype)

    def part(self, part: str) -> Table:
        x, y = self.read(part) if self.made is None else self.make(part)
        return x.astype(self.dtype), y.astype(self.dtype)

    def read(self, part: str) -> Table:
        """The rows of a part, out of the file."""
        (path,) = self.paths(self.file)
        arrays = npz_arrays(path)
        x, y = arrays.get("x"), arrays.get("y")
        if x is None or y is None or x.shape[1:] != (len(self.feature_names),) or y.shape != x.shape[:1]:
            raise CorruptFileError(path, f"no arrays x (N, {len(self.feature_names)}) and y (N,)")
        there = every_fifth(np.zeros(len(x)), part)
        return x[there], y[there]

    def make(self, part: str) -> Table:
        """Made-up districts, whose prices follow from the columns, and noise."""
        weights = self.rng("weights").normal(size=len(self.feature_names))
        rng = self.rng(part)
        x = rng.uniform(0, 1, (self.made_size(part), len(weights)))
        y = 25 + 8 * (x - 0.5) @ weights + rng.normal(0, 0.5, len(x))
        return x, y.clip(5, 50)

    def facts(self) -> list[tuple[str, str]]:
        sizes = (405, 101) if self.made is None else (self.made, self.made_size("test"))
        form = f"rows of {len(self.feature_names)} {self.dtype}, prices {self.dtype}"
        return [("train", f"{sizes[0]} {form}"), ("test", f"{sizes[1]} {form}")]


Columns = dict[str, np.ndarray]


class Titanic(SplitData):
    """1,309 passengers of the Titanic in 13 columns, and whether they survived.

    x  a dict of columns of N values each: `pclass`, `sibsp` and `parch` int32; `age`, `fare` and `body` float32, NaN
       where missing; `name`, `sex`, `ticket`, `cabin`, `embarked`, `boat` and `home.dest` objects, text or None
    y  int32 `(N,)`, 1 for those who survived

    `boat` and `body` tell the answer: a model should not have them. There is no official split: of those who died and
    of those who survived the 5th, 10th, ... is in `test`, 261 of them, the other 1,048 in `train`.

    `root`, `download`, `synthetic`, `progress` and the errors are those of `MNIST`; the file is the one of OpenML.

    Source: F. E. Harrell Jr., T. Cason, "titanic3", after the Encyclopedia Titanica; OpenML 40945, public
    (MLDatasets: `Titanic`, of which these are more passengers).

    >>> x, y = fx.data.Titanic(synthetic=100).train
    >>> sorted(x)[:4], x["age"].dtype, len(y)
    (['age', 'boat', 'body', 'cabin'], dtype('float32'), 100)
    """

    title = "passengers of the Titanic"
    source = "https://www.openml.org/d/40945"
    licence = "public"
    citation = "F. E. Harrell Jr., T. Cason 2017, Titanic dataset, https://www.openml.org/d/40945"
    class_names = ("died", "survived")
    synthetic_size = 1048
    types: ClassVar[dict[str, type]] = {
        **{"pclass": int, "name": str, "sex": str, "age": float, "sibsp": int, "parch": int, "ticket": str},
        **{"fare": float, "cabin": str, "embarked": str, "boat": str, "body": float, "home.dest": str},
    }
    feature_names = tuple(types)
    file = RemoteFile(
        "titanic.csv",
        (
            "https://www.openml.org/data/get_csv/16826755/phpMYEkMl",
            "https://api.openml.org/data/get_csv/16826755/phpMYEkMl",
        ),
        "c617db2c7470716250f6f001be51304c76bcc8815527ab8bae734bdca0735737",
        117743,
    )

    def part(self, part: str) -> tuple[Columns, np.ndarray]:
        if self.made is not None:
            return self.make(part)
        (path,) = self.paths(self.file)
        columns = csv_columns(path, {**self.types, "survived": int}, missing="?")
        survived = columns.pop("survived")
        return self.rows(columns, class_labels(self, survived, len(survived), path), part)

    def rows(self, columns: Columns, survived: np.ndarray, part: str) -> tuple[Columns, np.ndarray]:
        """The rows of a part, with float32 for float64."""
        there = every_fifth(survived, part)
        narrow = {np.dtype(np.float64): np.dtype(np.float32)}
        return {
            name: values[there].astype(narrow.get(values.dtype, values.dtype)) for name, values in columns.items()
        }, survived[there]

    def make(self, part: str) -> tuple[Columns, np.ndarray]:
        """Made-up passengers: women and the first class survive more often; a fifth of the ages is missing."""
        rng, count = self.rng(part), self.made_size(part)
        pclass = rng.choice(np.array([1, 2, 3], np.int32), count, p=[0.25, 0.2, 0.55])
        sex = rng.choice(np.array(["female", "male"], object), count, p=[0.35, 0.65])
        age = rng.gamma(6, 5, count).astype(np.float32)
        age[rng.random(count) < 0.2] = np.nan
        survived = (rng.random(count) < 0.9 - 0.2 * (pclass - 1) - 0.45 * (sex == "male")).astype(np.int32)
        cabin = np.array([f"C{number}" if number < 40 else None for number in rng.integers(0, 180, count)], object)
        boat = rng.choice(np.array(["2", "9", "14"], object), count)
        boat[survived == 0] = None
        columns = {
            "pclass": pclass,
            "name": np.array([f"Passenger {part} {i}" for i in range(count)], object),
            "sex": sex,
            "age": age,
            "sibsp": rng.poisson(0.5, count).astype(np.int32),
            "parch": rng.poisson(0.4, count).astype(np.int32),
            "ticket": np.array([str(number) for number in rng.integers(1000, 400000, count)], object),
            "fare": (rng.gamma(2, 8, count) * (4 - pclass)).astype(np.float32),
            "cabin": cabin,
            "embarked": rng.choice(np.array(["C", "Q", "S", None], object), count, p=[0.2, 0.09, 0.7, 0.01]),
            "boat": boat,
            "body": np.where((survived == 0) & (rng.random(count) < 0.15), np.arange(count), np.nan).astype(np.float32),
            "home.dest": rng.choice(np.array(["New York, NY", "London", None], object), count, p=[0.3, 0.3, 0.4]),
        }
        return columns, survived

    def facts(self) -> list[tuple[str, str]]:
        sizes = (1048, 261) if self.made is None else (self.made, self.made_size("test"))
        form = f"rows of {len(self.types)} columns, labels int32"
        return [("train", f"{sizes[0]:,} {form}"), ("test", f"{sizes[1]:,} {form}")]
