"""The paper's figures, one module each: settings, run, picture.

Every entry of `FIGURES` is a function ``(quick=False, seed=…, progress=None)`` that returns a
`Result`: a matplotlib Figure, a DataFrame with the numbers in it, and a caption.
"""

from __future__ import annotations

from collections.abc import Callable

from relaysim.figures.heterogeneity import heterogeneity
from relaysim.figures.result import Result

__all__ = ["FIGURES", "Result", "heterogeneity"]

FIGURES: dict[str, Callable[..., Result]] = {"heterogeneity": heterogeneity}
