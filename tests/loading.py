"""Data sets of the tests of the loader, and what they ask of it."""

import threading
import time

import numpy as np

from fluxion.data import CorruptFileError
from fluxion.data.observations import Observations


class Squares:
    """Only a length and [i], as users write data sets."""

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, i):
        assert type(i) is int
        if not 0 <= i < self.count:
            raise IndexError(i)
        return np.full(2, i, np.float32), i * i


class Files(Observations):
    """Observations of made-up files, some of which are damaged."""

    made_by = "Files"

    def __init__(self, count, damaged=(), seconds=0.0):
        self.count, self.damaged, self.seconds = count, damaged, seconds

    def __len__(self):
        return self.count

    def one(self, i):
        time.sleep(self.seconds)
        if i in self.damaged:
            raise CorruptFileError(self.source(i), "it is empty")
        return np.full(3, i, np.float32), i

    def source(self, i):
        return f"{i}.jpg"


class Counting:
    """A stream that can be read again and again."""

    def __init__(self, count):
        self.count = count

    def __iter__(self):
        return iter(range(self.count))


def order(loader):
    return np.concatenate(list(loader)).tolist()


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "fluxion-data"]
