"""Data sets with names: found on this machine, downloaded and checked, or made up in their form."""

from fluxion.data.named.digits import digits
from fluxion.data.named.graphs import Cora
from fluxion.data.named.images import EMNIST, KMNIST, MNIST, FashionMNIST
from fluxion.data.named.omniglot import Omniglot
from fluxion.data.named.photos import CIFAR10, CIFAR100, SVHN
from fluxion.data.named.tables import BostonHousing, Iris, Titanic, Wine
from fluxion.data.named.texts import IMDB, TinyShakespeare

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "EMNIST",
    "IMDB",
    "KMNIST",
    "MNIST",
    "SVHN",
    "BostonHousing",
    "Cora",
    "FashionMNIST",
    "Iris",
    "Omniglot",
    "TinyShakespeare",
    "Titanic",
    "Wine",
    "digits",
]
