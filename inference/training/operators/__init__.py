"""Operators of classical image processing, each a few lines of a graph: data names them, no code of a bundle's runs."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from inference.training.operators.edges import Laplacian, Sobel
from inference.training.operators.intensity import Histogram, Otsu
from inference.training.operators.morphology import BlackHat, TopHat
from inference.training.operators.texture import LocalBinaryPattern

AnyOperator = Annotated[
    Sobel | Laplacian | TopHat | BlackHat | LocalBinaryPattern | Histogram | Otsu, Field(discriminator="operator")
]
