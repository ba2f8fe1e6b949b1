"""Random changes of images and of what belongs to them, by NumPy on the host or compiled on the device.

Augmentor's and DataAugmentation's transforms, those of torchvision, and the policies made of them. `Transform` tells
how they are called.
"""

from fluxion.data.transforms.base import Transform
from fluxion.data.transforms.colour import (
    Brightness,
    ColorJitter,
    Contrast,
    Gamma,
    Greyscale,
    Hue,
    Invert,
    Normalize,
    Posterise,
    Saturation,
    Solarise,
    ToFloat,
)
from fluxion.data.transforms.combine import Compose, Either, Maybe, OneOf
from fluxion.data.transforms.fields import namespace
from fluxion.data.transforms.filters import Cutout, ElasticDistortion, Erase, GaussianBlur, GaussianNoise, Sharpen
from fluxion.data.transforms.geometry import (
    FlipX,
    FlipY,
    Identity,
    Perspective,
    Rotate,
    Rotate90,
    ShearX,
    ShearY,
    Translate,
    Zoom,
)
from fluxion.data.transforms.levels import AutoContrast, Equalise, Quantise
from fluxion.data.transforms.mixing import CutMix, MixUp
from fluxion.data.transforms.policies import AugMix, RandAugment, TrivialAugment
from fluxion.data.transforms.sizes import CenterCrop, Crop, PadTo, RandomCrop, RandomResizedCrop, Resize, Scale

__all__ = [
    "AugMix",
    "AutoContrast",
    "Brightness",
    "CenterCrop",
    "ColorJitter",
    "Compose",
    "Contrast",
    "Crop",
    "CutMix",
    "Cutout",
    "Either",
    "ElasticDistortion",
    "Equalise",
    "Erase",
    "FlipX",
    "FlipY",
    "Gamma",
    "GaussianBlur",
    "GaussianNoise",
    "Greyscale",
    "Hue",
    "Identity",
    "Invert",
    "Maybe",
    "MixUp",
    "Normalize",
    "OneOf",
    "PadTo",
    "Perspective",
    "Posterise",
    "Quantise",
    "RandAugment",
    "RandomCrop",
    "RandomResizedCrop",
    "Resize",
    "Rotate",
    "Rotate90",
    "Saturation",
    "Scale",
    "Sharpen",
    "ShearX",
    "ShearY",
    "Solarise",
    "ToFloat",
    "Transform",
    "Translate",
    "TrivialAugment",
    "Zoom",
    "namespace",
]
