"""Operators of classical image processing, each a few lines of a graph: data names them, no code of a bundle's runs."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from inference.training.operators.edges import Laplacian, Sobel
from inference.training.operators.intensity import Histogram, Otsu
from inference.training.operators.lines import Canny, Skeleton
from inference.training.operators.morphology import BlackHat, TopHat
from inference.training.operators.spectrum import FourierNotch
from inference.training.operators.template import Template
from inference.training.operators.texture import LocalBinaryPattern
from inference.training.operators.tiles import Autocorrelation, Cooccurrence

AnyOperator = Annotated[
    Sobel
    | Laplacian
    | TopHat
    | BlackHat
    | LocalBinaryPattern
    | Histogram
    | Otsu
    | Cooccurrence
    | Autocorrelation
    | FourierNotch
    | Canny
    | Skeleton
    | Template,
    Field(discriminator="operator"),
]
