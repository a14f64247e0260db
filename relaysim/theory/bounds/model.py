"""What a bound is: a curve with assumptions, a source, and constants that are verified or not."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from relaysim.bibliography import reference
from relaysim.support.checks import real_array
from relaysim.support.display import html_table

__all__ = ["Assumption", "Bound", "Source"]


#: Of a curve, at steps ``(records,)``.
Shape = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Assumption:
    """One assumption of a theorem, and the constant with which it holds.

    Attributes:
        key: the argument of the theorem's function, or the name of a property without a constant.
        symbol: as in the formula; empty for a property.
        statement: in words.
        value: the constant, None for a property.

    >>> Assumption("smoothness", "L", "every f_i is L-smooth", 1.0).value
    1.0
    """

    key: str
    symbol: str
    statement: str
    value: float | None = None


@dataclass(frozen=True)
class Source:
    """Where a theorem stands; what is not known is None.

    >>> print(Source("A title", authors=("A. Author",), venue="NeurIPS", year=2021, theorem="1"))
    A. Author, "A title", NeurIPS 2021, theorem 1
    """

    title: str
    authors: tuple[str, ...] = ()
    venue: str | None = None
    year: int | None = None
    arxiv: str | None = None
    theorem: str | None = None
    references: tuple[str, ...] = ()

    @classmethod
    def published(cls, key: str, theorem: str | None = None) -> Source:
        """A theorem of a publication, by its key in `relaysim.bibliography`.

        >>> print(Source.published("vogels2021relaysum", "I"))
        Vogels, He, Koloskova, Karimireddy, Lin, Stich, Jaggi, "RelaySum for ...", NeurIPS 2021, ...
        """
        found = reference(key)
        where = found.venue, found.year, found.arxiv
        return cls(found.title, found.authors, *where, theorem=theorem, references=(key,))

    def __str__(self) -> str:
        parts = [
            ", ".join(self.authors),
            f'"{self.title}"',
            f"{self.venue or ''} {self.year or ''}",
        ]
        if self.arxiv:
            parts.append(f"arXiv {self.arxiv}")
        if self.theorem:
            parts.append(f"theorem {self.theorem}")
        return ", ".join(part.strip() for part in parts if part.strip())


@dataclass(frozen=True)
class Bound:
    """An upper bound on one column of a history, as a curve over steps.

    Attributes:
        name: the function that made it.
        method: label of the algorithm.
        case: "strongly convex", "convex" or "nonconvex".
        quantity: the column of ``history.frame`` that it bounds, in expectation.
        averaged: the bound at step T is on the mean of that column over the steps 0, …, T − 1.
        assumptions: what the theorem assumes, with constants.
        source: where it stands.
        formula: the curve, as text.
        verified_constants: whether the constants are proved; else the curve is a shape.
        constant: by which the shape is multiplied; 1 until it is fitted.
        fitted_until: the last step that a shape was fitted to; infinite where nothing was fitted.

    >>> from relaysim.theory.bounds import all_reduce
    >>> bound = all_reduce(n=4, mean_smoothness=1.0, mean_strong_convexity=0.5, learning_rate=1.0,
    ...                    initial_distance=8.0)
    >>> bound.label, bound.curve([0, 1, 2]).tolist()
    ('All-reduce, strongly convex', [4.0, 1.0, 0.25])
    >>> bound.constants["mean_strong_convexity"]
    0.5
    """

    name: str
    method: str
    case: str
    quantity: str
    averaged: bool
    assumptions: tuple[Assumption, ...]
    source: Source
    formula: str
    verified_constants: bool
    shape: Shape = dataclasses.field(repr=False, compare=False)
    constant: float = 1.0
    fitted_until: float = math.inf

    def _repr_html_(self) -> str:
        of = f"mean of the {self.quantity} so far" if self.averaged else self.quantity
        rows = [
            ("bounds", of.replace("_", " ")),
            ("formula", self.formula),
            ("constants", "verified" if self.verified_constants else "not verified: a shape"),
            *((a.symbol or a.key, a.value) for a in self.assumptions if a.value is not None),
            ("assumes", "; ".join(a.statement for a in self.assumptions) or "nothing"),
            ("source", str(self.source)),
        ]
        return html_table(f"{self.name}: {self.label}", rows)

    @property
    def label(self) -> str:
        """For legends: method and case, and whether it is a shape, where constants are not verified."""
        shape = "shape, fitted" if math.isfinite(self.fitted_until) else "shape only"
        return f"{self.method}, {self.case}" + ("" if self.verified_constants else f" ({shape})")

    @property
    def constants(self) -> dict[str, float]:
        """The constants that enter, by the key of their assumption."""
        return {a.key: a.value for a in self.assumptions if a.value is not None}

    def curve(self, steps: ArrayLike) -> np.ndarray:
        """The bound at these steps, ``(records,)``; infinite where it says nothing (1/T at T = 0).

        Raises:
            ValueError: a negative step.
        """
        t = real_array(steps, "steps")
        if not (t >= 0).all():
            raise ValueError(f"steps must be at least 0; {t.min()} was given")
        return self.constant * self.shape(t)

    def measured(self, steps: ArrayLike, values: ArrayLike) -> np.ndarray:
        """What lies under the curve: the column itself, or its running mean if ``averaged``.

        Args:
            steps: increasing, ``(records,)``; for a running mean 0, 1, 2, …
            values: the column of one replica, or its mean over replicas, ``(records,)``.

        Raises:
            ValueError: shapes that differ, or steps left out of a running mean.

        A running mean over the steps 0, …, T − 1 is NaN at T = 0.
        """
        t, y = real_array(steps, "steps"), real_array(values, "values")
        if t.ndim != 1 or t.shape != y.shape or not t.size:
            raise ValueError(
                f"steps and values must have one shape (records,), not {t.shape} and {y.shape}; "
                f"give one replica, or the mean over replicas"
            )
        if not self.averaged:
            return y
        if not np.array_equal(t, np.arange(len(t))):
            raise ValueError(
                f"this bounds the mean of {self.quantity} over all steps so far, and some are "
                f"missing; record every step"
            )
        return np.concatenate([[np.nan], np.cumsum(y)[:-1] / t[1:]])

    def fitted(self, steps: ArrayLike, values: ArrayLike) -> Bound:
        """The bound with the smallest constant that puts it above the first third of a run.

        The first third are the records up to a third of the last step; later ones have no
        influence, so that there the curve can turn out wrong: ``fitted_until`` tells where they begin. A
        bound with verified constants is returned as it is.

        Args:
            steps, values: as for `measured`: the column ``quantity``, not its running mean.

        Raises:
            ValueError: values in the first third that are not finite, or that no constant covers.

        >>> from relaysim.theory.bounds import relay_sgd_rate
        >>> rate = relay_sgd_rate(case="strongly convex", n=4, smoothness=1.0, strong_convexity=0.5,
        ...                       rho=0.1, max_delay=2, initial_distance=1.0)
        >>> fit = rate.fitted([0, 10, 20, 30], [0.5, 0.6, 0.1, 0.0])
        >>> fit.label, round(float(fit.curve(10)), 12)
        ('RelaySGD, strongly convex (shape, fitted)', 0.6)
        """
        if self.verified_constants:
            return self
        y = self.measured(steps, values)
        t = real_array(steps, "steps")
        shape = self.shape(t)
        used = (t <= t[-1] / 3) & np.isfinite(shape)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios = y[used] / shape[used]
        constant = ratios.max() if used.any() else np.nan
        if not np.isfinite(constant):
            raise ValueError(
                f"no constant puts {self.label!r} above the first third of this run; it needs "
                f"records there, after step 0, with finite values (largest ratio: {constant})"
            )
        until = float(t[t <= t[-1] / 3].max())
        return dataclasses.replace(self, constant=float(constant), fitted_until=until)
