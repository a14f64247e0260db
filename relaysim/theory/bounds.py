"""Convergence bounds: one function a theorem, each a `Bound` to lay on a history.

Two kinds, told apart by ``verified_constants``:

- *verified*: every constant is explicit and proved in the function's docstring. At a constant
  learning rate the curve lies above the expectation of its column (without noise: above the
  column).
- *shape only*: a published rate "T steps to accuracy ε" turned into a curve over T, with all hidden
  constants set to 1. Such a rate holds for a learning rate chosen for T, so that a run at one
  constant rate may level off above it. `Bound.fitted` scales it to the first third of a run. The
  constants that the papers give were not checked, and where a function says so, neither were some
  terms.

Everywhere f = (1/n) Σ f_i with minimiser x*, g_i is worker i's observed gradient, unbiased, with
E‖g_i − ∇f_i‖² ≤ σ², independent between workers and steps, and ζ² = (1/n) Σ ‖∇f_i(x*)‖².

>>> import relaysim as rs
>>> from relaysim.theory.bounds import bounds_for
>>> problem = rs.problems.random_quadratics(n=8, d=3, zeta2=1.0, seed=0)
>>> topology, algorithm = rs.topologies.ring(8), rs.algorithms.DPSGD()
>>> history = rs.simulate(problem, topology, algorithm, learning_rate=0.1, steps=60)
>>> column = history.frame.suboptimality
>>> for bound in bounds_for(problem, topology, algorithm, learning_rate=0.1):
...     above = bound.fitted(history.steps, column).curve(history.steps) >= column
...     print(f"{bound.label}: first third {above[:21].all()}, the rest {above[21:].all()}")
DP-SGD (gossip), strongly convex: first third True, the rest True
DP-SGD (gossip), strongly convex (shape only): first third True, the rest True
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.linalg import eigvalsh

from relaysim.checks import real_array, real_number, whole_number
from relaysim.mixing import as_sequence, metropolis
from relaysim.theory.relaysum import key_lemma
from relaysim.topologies import Topology

__all__ = [
    "Assumption",
    "Bound",
    "ConditionError",
    "Source",
    "all_reduce",
    "all_reduce_convex",
    "all_reduce_nonconvex",
    "bounds_for",
    "d2_rate",
    "dp_sgd",
    "dp_sgd_rate",
    "gradient_tracking_rate",
    "relay_sgd_equal_hessians",
    "relay_sgd_rate",
]

CASES = ("strongly convex", "convex", "nonconvex")
QUANTITIES = ("suboptimality", "distance")
NOT_VERIFIED = "number not verified"

# Symbol and statement of whatever a theorem assumes: first constants, then properties.
STATEMENTS = {
    "n": ("n", "there are n workers"),
    "smoothness": ("L", "every f_i is L-smooth"),
    "strong_convexity": ("μ", "every f_i is μ-strongly convex"),
    "mean_smoothness": ("L", "f is L-smooth (every f_i, if the workers start apart)"),
    "mean_strong_convexity": (
        "μ",
        "f is μ-strongly convex (every f_i, if the workers start apart)",
    ),
    "curvature": ("h", "every f_i has Hessian h I"),
    "learning_rate": ("γ", "the learning rate is γ in every step"),
    "sigma2": ("σ²", "E‖g_i − ∇f_i‖² ≤ σ², unbiased, independent between workers and steps"),
    "zeta2": ("ζ²", "(1/n) Σ_i ‖∇f_i(x*)‖² ≤ ζ²"),
    "initial_distance": ("R₀²", "(1/n) Σ_i ‖x_i⁰ − x*‖² ≤ R₀²"),
    "largest_initial_distance": ("R₀²", "‖x_i⁰ − x*‖² ≤ R₀² for every worker"),
    "initial_suboptimality": ("F₀", "f(x̄⁰) − f(x*) ≤ F₀"),
    "second_eigenvalue": ("λ₂", "the second largest eigenvalue of W is at most λ₂"),
    "smallest_eigenvalue": ("λ_n", "the smallest eigenvalue of W is at least λ_n"),
    "p": ("p", "τ rounds of mixing contract ‖X − X̄‖² by 1 − p"),
    "tau": ("τ", "the mixing matrices repeat after τ steps"),
    "c": ("c", "c = 1 − min(λ_n, 0)²"),
    "rho": ("ρ", "ρ = p/m of the key lemma"),
    "max_delay": ("τ_max", "no payload is older than τ_max"),
    "convex": ("", "f is convex"),
    "every_convex": ("", "every f_i is convex"),
    "common_start": ("", "all workers start at one point"),
    "symmetric": ("", "W is symmetric and doubly stochastic"),
    "step_then_mix": ("", "X ← W(X − γG)"),
    "mix_then_step": ("", "X ← WX − γG"),
    "doubly_stochastic": ("", "every W_t is doubly stochastic"),
    "stand_in": ("", "x_i⁰ stands in for workers not heard from"),
    "tuned_rate": ("", "the learning rate is constant and chosen for the number of steps T"),
    "weighted_average": (
        "",
        "published for an average of the iterates with growing weights; laid on the last one",
    ),
}

POSITIVE = (
    "smoothness",
    "strong_convexity",
    "mean_smoothness",
    "mean_strong_convexity",
    "curvature",
    "p",
    "c",
    "rho",
)
EIGENVALUES = ("second_eigenvalue", "smallest_eigenvalue")
FRACTIONS = ("p", "c", "rho")


class ConditionError(ValueError):
    """A theorem's condition on the learning rate or the mixing matrix does not hold."""


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


UNIFIED = Source(
    title="A Unified Theory of Decentralized SGD with Changing Topology and Local Updates",
    authors=("Koloskova", "Loizou", "Boreiri", "Jaggi", "Stich"),
    venue="ICML",
    year=2020,
    arxiv="2003.10422",
    theorem=NOT_VERIFIED,
)
RELAYSUM = Source(
    title="RelaySum for Decentralized Deep Learning on Heterogeneous Data",
    authors=("Vogels", "He", "Koloskova", "Karimireddy", "Lin", "Stich", "Jaggi"),
    venue="NeurIPS",
    year=2021,
    arxiv="2110.04175",
    theorem="I",
)
TRACKING = Source(
    title="An Improved Analysis of Gradient Tracking for Decentralized Machine Learning",
    authors=("Koloskova", "Lin", "Stich"),
    venue="NeurIPS",
    year=2021,
    arxiv="2202.03836",
    theorem=NOT_VERIFIED,
)
D_SQUARED = Source(
    title="D²: Decentralized Training over Decentralized Data",
    authors=("Tang", "Lian", "Yan", "Zhang", "Liu"),
    venue="ICML",
    year=2018,
    arxiv="1803.07068",
    theorem=NOT_VERIFIED,
)


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
    shape: Callable[[np.ndarray], np.ndarray] = dataclasses.field(repr=False, compare=False)
    constant: float = 1.0

    @property
    def label(self) -> str:
        """For legends: method and case, and "shape only" where constants are not verified."""
        return f"{self.method}, {self.case}" + ("" if self.verified_constants else " (shape only)")

    @property
    def constants(self) -> dict[str, float]:
        """The constants that enter, by the key of their assumption."""
        return {a.key: a.value for a in self.assumptions if a.value is not None}

    def curve(self, steps) -> np.ndarray:
        """The bound at these steps, ``(records,)``; infinite where it says nothing (1/T at T = 0).

        Raises:
            ValueError: a negative step.
        """
        t = real_array(steps, "steps")
        if not (t >= 0).all():
            raise ValueError(f"steps must be at least 0; {t.min()} was given")
        return self.constant * self.shape(t)

    def measured(self, steps, values) -> np.ndarray:
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

    def fitted(self, steps, values) -> Bound:
        """The bound with the smallest constant that puts it above the first third of a run.

        The first third are the records up to a third of the last step; later ones have no
        influence, so that there the curve can turn out wrong. A bound with verified constants is
        returned as it is.

        Args:
            steps, values: as for `measured`: the column ``quantity``, not its running mean.

        Raises:
            ValueError: values in the first third that are not finite, or that no constant covers.

        >>> rate = relay_sgd_rate(case="strongly convex", n=4, smoothness=1.0, strong_convexity=0.5,
        ...                       rho=0.1, max_delay=2, initial_distance=1.0)
        >>> fit = rate.fitted([0, 10, 20, 30], [0.5, 0.6, 0.1, 0.0])
        >>> fit.label, round(float(fit.curve(10)), 12)
        ('RelaySGD, strongly convex (shape only)', 0.6)
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
        return dataclasses.replace(self, constant=float(constant))


# -- verified: constants proved here ---------------------------------------------------------------


def all_reduce(
    *,
    n: int,
    mean_smoothness: float,
    mean_strong_convexity: float,
    learning_rate: float,
    initial_distance: float,
    sigma2: float = 0.0,
    quantity: str = "suboptimality",
) -> Bound:
    """Centralised SGD, strongly convex, at a constant rate γ ≤ 2/L: constants verified.

    D_t ≤ q^{2t} R₀² + (γ²σ²/n) Σ_{k<t} q^{2k} for the distance D_t = E‖x_t − x*‖², with
    q = max(|1 − γμ|, |1 − γL|) = 1 − min(γμ, 2 − γL), and f(x_t) − f(x*) ≤ (L/2) D_t.

    Proof: x − γ∇f(x) is Lipschitz with constant q and leaves x* in place, and what the noise adds
    has mean zero and variance at most γ²σ²/n. If workers start apart, the first step averages n
    such maps of the f_i, so that L and μ must hold for each of them. Equality for n equal
    quadratics in one dimension.

    Args:
        n: workers.
        mean_smoothness, mean_strong_convexity: L and μ > 0, of f itself; those over all f_i if the
            workers do not start at one point.
        learning_rate: γ in (0, 2/L].
        initial_distance: R₀² = (1/n) Σ_i ‖x_i⁰ − x*‖².
        sigma2: σ².
        quantity: the column bounded: "suboptimality" or "distance".

    Raises:
        ConditionError: a learning rate outside (0, 2/L].
        ValueError: other constants out of range.

    >>> bound = all_reduce(n=4, mean_smoothness=1.0, mean_strong_convexity=0.5, learning_rate=0.5,
    ...                    initial_distance=1.0, sigma2=0.4, quantity="distance")
    >>> bound.curve([0, 1]).round(4).tolist()
    [1.0, 0.5875]
    """
    constants = _checked(
        n=n,
        mean_smoothness=mean_smoothness,
        mean_strong_convexity=mean_strong_convexity,
        learning_rate=learning_rate,
        initial_distance=initial_distance,
        sigma2=sigma2,
    )
    L, mu, rate = mean_smoothness, mean_strong_convexity, learning_rate
    _require_rate(rate, L)
    q = 1 - min(rate * mu, 2 - rate * L)

    def distance(t):
        return q ** (2 * t) * initial_distance + rate**2 * sigma2 / n * _partial_sum(q * q, t)

    return _from_distance(
        "all_reduce",
        "All-reduce",
        quantity,
        "q^{2t} R₀² + (γ²σ²/n)(1 − q^{2t})/(1 − q²), q = 1 − min(γμ, 2 − γL)",
        _assumptions(**constants),
        distance,
        L,
    )


def all_reduce_convex(
    *,
    n: int,
    mean_smoothness: float,
    learning_rate: float,
    initial_distance: float,
    sigma2: float = 0.0,
) -> Bound:
    """Centralised SGD, convex, at a constant rate γ < 2/L: constants verified; an average.

    (1/T) Σ_{t<T} E f(x_t) − f(x*) ≤ (R₀²/(γT) + γσ²/n) / (2 min(1, 2 − γL)).

    Proof: ‖x_{t+1} − x*‖² = ‖x_t − x*‖² − 2γ⟨∇f, x_t − x*⟩ + γ²‖∇f‖² + noise of at most γ²σ²/n.
    With ⟨∇f, x − x*⟩ ≥ f(x) − f(x*) + ‖∇f‖²/(2L) and 0 ≤ ‖∇f‖² ≤ 2L(f(x) − f(x*)) each step takes
    off at least 2γ min(1, 2 − γL)(f(x_t) − f(x*)); sum over t < T.

    Args:
        n: workers, all starting at one point.
        mean_smoothness: L of f, which is convex.
        learning_rate: γ in (0, 2/L).
        initial_distance: R₀² = ‖x⁰ − x*‖².
        sigma2: σ².

    Raises:
        ConditionError: a learning rate outside (0, 2/L).
        ValueError: other constants out of range.

    >>> all_reduce_convex(n=4, mean_smoothness=1.0, learning_rate=0.5, initial_distance=1.0,
    ...                   sigma2=0.4).curve([0, 10]).round(6).tolist()
    [inf, 0.125]
    """
    constants = _checked(
        n=n,
        mean_smoothness=mean_smoothness,
        learning_rate=learning_rate,
        initial_distance=initial_distance,
        sigma2=sigma2,
    )
    L, rate = mean_smoothness, learning_rate
    _require_rate(rate, L, open_end=True)
    gain = 2 * min(1.0, 2 - rate * L)
    return _verified(
        "all_reduce_convex",
        "All-reduce",
        "convex",
        "suboptimality",
        "(R₀²/(γT) + γσ²/n) / (2 min(1, 2 − γL))",
        _assumptions("convex", "common_start", **constants),
        lambda t: (_over(initial_distance / rate, t) + rate * sigma2 / n) / gain,
    )


def all_reduce_nonconvex(
    *,
    n: int,
    mean_smoothness: float,
    learning_rate: float,
    initial_suboptimality: float,
    sigma2: float = 0.0,
) -> Bound:
    """Centralised SGD, nonconvex, at a constant rate γ < 2/L: constants verified; an average.

    (1/T) Σ_{t<T} E‖∇f(x_t)‖² ≤ (2F₀/(γT) + γLσ²/n) / (2 − γL).

    Proof: E f(x_{t+1}) ≤ f(x_t) − γ(1 − γL/2)‖∇f(x_t)‖² + γ²Lσ²/(2n) by smoothness; sum over t < T.

    Args:
        n: workers, all starting at one point.
        mean_smoothness: L of f.
        learning_rate: γ in (0, 2/L).
        initial_suboptimality: F₀ = f(x⁰) − min f.
        sigma2: σ².

    Raises:
        ConditionError: a learning rate outside (0, 2/L).
        ValueError: other constants out of range.

    >>> all_reduce_nonconvex(n=4, mean_smoothness=1.0, learning_rate=1.0, sigma2=0.4,
    ...                      initial_suboptimality=1.0).curve([10]).round(6).tolist()
    [0.3]
    """
    constants = _checked(
        n=n,
        mean_smoothness=mean_smoothness,
        learning_rate=learning_rate,
        initial_suboptimality=initial_suboptimality,
        sigma2=sigma2,
    )
    L, rate = mean_smoothness, learning_rate
    _require_rate(rate, L, open_end=True)

    def shape(t):
        return (_over(2 * initial_suboptimality / rate, t) + rate * L * sigma2 / n) / (2 - rate * L)

    return _verified(
        "all_reduce_nonconvex",
        "All-reduce",
        "nonconvex",
        "gradient_norm",
        "(2F₀/(γT) + γLσ²/n) / (2 − γL)",
        _assumptions("common_start", **constants),
        shape,
    )


def dp_sgd(
    *,
    n: int,
    smoothness: float,
    strong_convexity: float,
    learning_rate: float,
    second_eigenvalue: float,
    smallest_eigenvalue: float,
    zeta2: float,
    initial_distance: float,
    sigma2: float = 0.0,
    overlap: bool = False,
    quantity: str = "suboptimality",
) -> Bound:
    """DP-SGD, strongly convex, at a constant rate: constants verified, not tight.

    √D_t ≤ √(q^{2t}(R₀ + δ)² + γ²σ²ν Σ_{k<t} q^{2k}) + δ for D_t = (1/n) Σ E‖x_i − x*‖², and
    f(x̄) − f(x*) ≤ (L/2) D_t. With W symmetric and doubly stochastic, |λ| = max(|λ₂|, |λ_n|) and
    q = 1 − κ:

    - X ← W(X − γG): γ < 2/L, κ = min(γμ, 2 − γL), δ = γζ min(s(1 + γL/κ), |λ|/κ) with
      s = max |λ_i|/(1 − λ_i) over λ₂ and λ_n, ν = (1 + (n − 1)λ²)/n;
    - ``overlap``, X ← WX − γG: γ < (1 + λ_n)/L, κ = min(γμ, 1 + λ_n − γL),
      δ = γζ min((1 + γL/κ)/(1 − λ₂), 1/κ), ν = 1.

    Proof: one step F contracts by q in the Frobenius norm: X − γG does, and ‖W‖₂ = 1; with overlap
    F is a step down Σ f_i + ‖X‖²_{I−W}/(2γ), whose Hessian lies between μ and L + (1 − λ_n)/γ.
    Hence the noise-free fixed point X∞ is approached by q, and the noise, independent of the past,
    adds at most nγ²σ²ν a step. How far is X∞ from X* = 1x*ᵀ, where the gradients G* sum to 0? With
    (I − W)V = WG* (overlap: G*, s = 1/(1 − λ₂)) Z = X* − γV has ‖Z − X*‖ ≤ γs√n ζ, and
    F(Z) − Z = −γW(G(Z) − G*) (overlap: without W) has norm at most γL‖Z − X*‖, so that ‖X∞ − Z‖ is
    at most 1/κ times that. Taking X* for Z gives the other term of the minimum.

    Args:
        n: workers.
        smoothness, strong_convexity: L and μ > 0, over all f_i.
        learning_rate: γ > 0.
        second_eigenvalue, smallest_eigenvalue: λ₂ and λ_n of W; both 0 for one worker.
        zeta2: ζ² = (1/n) Σ_i ‖∇f_i(x*)‖².
        initial_distance: R₀² = (1/n) Σ_i ‖x_i⁰ − x*‖².
        sigma2: σ².
        overlap: mix first, then step.
        quantity: the column bounded: "suboptimality" or "distance".

    Raises:
        ConditionError: a learning rate at or above its limit.
        ValueError: other constants out of range.

    >>> bound = dp_sgd(n=4, smoothness=1.0, strong_convexity=0.5, learning_rate=0.1, zeta2=1.0,
    ...                second_eigenvalue=0.5, smallest_eigenvalue=0.0, initial_distance=1.0)
    >>> bound.curve([0, 1000]).round(4).tolist()  # δ = 0.3
    [1.28, 0.045]
    """
    constants = _checked(
        n=n,
        smoothness=smoothness,
        strong_convexity=strong_convexity,
        learning_rate=learning_rate,
        zeta2=zeta2,
        initial_distance=initial_distance,
        sigma2=sigma2,
        second_eigenvalue=second_eigenvalue,
        smallest_eigenvalue=smallest_eigenvalue,
    )
    L, mu, rate = smoothness, strong_convexity, learning_rate
    second, smallest = second_eigenvalue, smallest_eigenvalue
    if smallest > second:
        raise ValueError(f"smallest_eigenvalue {smallest} exceeds second_eigenvalue {second}")
    largest = max(abs(second), abs(smallest))
    to_second = np.inf if second == 1 else 1 / (1 - second)
    if overlap:
        limit = 1 + smallest
        spread, kick, noise = to_second, 1.0, 1.0
    else:
        limit = 2.0
        spread = max(abs(second) * to_second, abs(smallest) / (1 - smallest)) if largest else 0.0
        kick, noise = largest, (1 + (n - 1) * largest**2) / n
    _require_rate(rate, L, limit, open_end=True)
    gap = min(rate * mu, limit - rate * L)
    q = 1 - gap
    offset = rate * np.sqrt(zeta2) * min(spread * (1 + rate * L / gap), kick / gap)
    start = np.sqrt(initial_distance) + offset

    def distance(t):
        around = (q**t * start) ** 2 + rate**2 * sigma2 * noise * _partial_sum(q * q, t)
        return (np.sqrt(around) + offset) ** 2

    if overlap:
        formula = "κ = min(γμ, 1 + λ_n − γL), δ = γζ min((1 + γL/κ)/(1 − λ₂), 1/κ), ν = 1"
    else:
        formula = (
            "κ = min(γμ, 2 − γL), δ = γζ min(s(1 + γL/κ), |λ|/κ), s = max |λ_i|/(1 − λ_i), "
            "ν = (1 + (n − 1)λ²)/n"
        )
    return _from_distance(
        "dp_sgd",
        "DP-SGD (gossip)",
        quantity,
        "(√(q^{2t}(R₀ + δ)² + γ²σ²ν(1 − q^{2t})/(1 − q²)) + δ)², q = 1 − κ, " + formula,
        _assumptions("symmetric", "mix_then_step" if overlap else "step_then_mix", **constants),
        distance,
        L,
    )


def relay_sgd_equal_hessians(
    *,
    n: int,
    curvature: float,
    learning_rate: float,
    max_delay: int,
    zeta2: float,
    largest_initial_distance: float,
    sigma2: float = 0.0,
    quantity: str = "suboptimality",
) -> Bound:
    """RelaySGD on quadratics f_i = (h/2)‖x − c_i‖² at γh ≤ 2: constants verified, not tight.

    D_t ≤ r^{2⌊t/(τ_max + 1)⌋}(R₀ + b)² + (γ²σ²/n)((1 − r^t)/(1 − r))² with r = |1 − γh|, for the
    distance E‖x_i − x*‖² of every worker, and f(x̄) − f(x*) ≤ (h/2) D_t. The start-up costs
    b = γζ max_u √(u(1 − u))/(1 − r(1 − u)), u = 1/n, …, (n − 1)/n being the share of workers not
    heard from (0 if τ_max = 0); it depends on ζ, the rate does not.

    Proof: the errors e_i = x_i − x* obey e_i^{t+1} = (1/n) Σ_j (1 − γh) e_j^{t−τ_ij} once t ≥
    τ_max, since Σ c_j = n x*. So the largest norm over all workers and the last τ_max + 1 steps
    never grows, and shrinks by r in τ_max + 1 steps. Before that the workers S not heard from, a
    share u, are replaced by x_i⁰, which adds u e_i⁰ + (γ/n) Σ_{j∈S} ∇f_j(x*). As all gradients sum
    to 0, the sum is (γ/n) Σ_j (1_S − u)_j ∇f_j(x*), at most γζ√(u(1 − u)); b is the least with
    which R₀ + b is never exceeded. The noise enters as an average over n workers, of L²-norm at
    most γσ/√n a step, and obeys the same recursion.

    Args:
        n: workers.
        curvature: h > 0.
        learning_rate: γ in (0, 2/h].
        max_delay: τ_max = max(0, diameter − 1); the diameter with ``overlap=True``.
        zeta2: ζ² = (1/n) Σ_i ‖∇f_i(x*)‖².
        largest_initial_distance: R₀² = max_i ‖x_i⁰ − x*‖².
        sigma2: σ².
        quantity: the column bounded: "suboptimality" or "distance".

    Raises:
        ConditionError: a learning rate outside (0, 2/h].
        ValueError: other constants out of range.

    >>> bound = relay_sgd_equal_hessians(n=2, curvature=1.0, learning_rate=0.5, max_delay=1,
    ...                                  zeta2=0.0, largest_initial_distance=4.0)
    >>> bound.curve(range(6)).tolist()
    [2.0, 2.0, 0.5, 0.5, 0.125, 0.125]
    """
    constants = _checked(
        n=n,
        curvature=curvature,
        learning_rate=learning_rate,
        zeta2=zeta2,
        largest_initial_distance=largest_initial_distance,
        sigma2=sigma2,
    )
    h, rate, delay = curvature, learning_rate, whole_number(max_delay, "max_delay", 0)
    _require_rate(rate, h)
    r = abs(1 - rate * h)
    missing = np.arange(1, n) / n if delay else np.empty(0)
    lost = np.sqrt(missing * (1 - missing)) / (1 - r * (1 - missing))
    startup = lost.max(initial=0.0)
    start = np.sqrt(largest_initial_distance) + rate * np.sqrt(zeta2) * startup

    def distance(t):
        noise = rate**2 * sigma2 / n * _partial_sum(r, t) ** 2
        return (r ** np.floor(t / (delay + 1)) * start) ** 2 + noise

    return _from_distance(
        "relay_sgd_equal_hessians",
        "RelaySGD",
        quantity,
        "r^{2⌊t/(τ_max + 1)⌋}(R₀ + b)² + (γ²σ²/n)((1 − r^t)/(1 − r))², r = |1 − γh|, "
        "b = γζ max_u √(u(1 − u))/(1 − r(1 − u))",
        _assumptions("stand_in", **constants, max_delay=delay),
        distance,
        h,
    )


# -- shape only: published rates, constants set to 1 -----------------------------------------------


def dp_sgd_rate(
    *,
    case: str,
    n: int,
    smoothness: float,
    p: float,
    zeta2: float,
    sigma2: float = 0.0,
    tau: int = 1,
    strong_convexity: float | None = None,
    initial_distance: float | None = None,
    initial_suboptimality: float | None = None,
) -> Bound:
    """DP-SGD, X ← W_t(X − γG), for mixing matrices that may change: shape only.

    Steps to accuracy ε, with b = (ζτ + σ√(pτ))/p and a = τ/p (see `relay_sgd_rate` for how they
    become a curve):

    - strongly convex σ²/(μnε) + √L b/(μ√ε) + (La/μ) log 1/ε;
    - convex (σ²/(nε²) + √L b/ε^{3/2} + La/ε) R₀², for the mean of f(x̄) − f(x*);
    - nonconvex (σ²/(nε²) + b/ε^{3/2} + a/ε) L F₀, for the mean of ‖∇f(x̄)‖².

    Only the nonconvex form, at τ = 1, was found in a second place; the others are not verified.

    Args:
        case: "strongly convex", "convex" or "nonconvex".
        n: workers.
        smoothness: L over all f_i.
        p: 1 − ‖W_{τ−1} ⋯ W_0 − 11ᵀ/n‖₂², in (0, 1]; 1 − max_{i≥2} λ_i² for one symmetric W.
        zeta2, sigma2: ζ², σ².
        tau: τ, the period of the mixing matrices.
        strong_convexity: μ, for the strongly convex case.
        initial_distance: R₀², for the convex ones.
        initial_suboptimality: F₀, for the nonconvex one.

    Raises:
        ValueError: an unknown case, constants missing or out of range.

    Source: Koloskova et al., ICML 2020, arXiv 2003.10422; theorem number not verified.

    >>> dp_sgd_rate(case="nonconvex", n=4, smoothness=1.0, p=0.5, zeta2=0.0,
    ...             initial_suboptimality=1.0).curve([10]).tolist()
    [0.2]
    """
    constants = _checked(
        n=n,
        smoothness=smoothness,
        p=p,
        zeta2=zeta2,
        sigma2=sigma2,
        **_case_constants(case, strong_convexity, initial_distance, initial_suboptimality),
    )
    constants["tau"] = tau = whole_number(tau, "tau", 1)
    b = (np.sqrt(zeta2) * tau + np.sqrt(sigma2 * p * tau)) / p
    return _published(
        "dp_sgd_rate",
        "DP-SGD (gossip)",
        UNIFIED,
        case,
        constants,
        ("doubly_stochastic",),
        a=tau / p,
        b=b,
        where="a = τ/p, b = (ζτ + σ√(pτ))/p",
    )


def relay_sgd_rate(
    *,
    case: str,
    n: int,
    smoothness: float,
    rho: float,
    max_delay: int,
    sigma2: float = 0.0,
    strong_convexity: float | None = None,
    initial_distance: float | None = None,
    initial_suboptimality: float | None = None,
) -> Bound:
    """RelaySGD on a tree, whatever the heterogeneity: shape only.

    Every term of the steps to accuracy ε is solved for ε at T steps, and the curve is their sum:

    - strongly convex σ²/(μnε) + √L b/(μ√ε) + (La/μ) log 1/ε
      gives σ²/(μnT) + L b²/(μT)² + L R₀² exp(−μT/(La));
    - convex (σ²/(nε²) + √L b/ε^{3/2} + La/ε) R₀²
      gives (σ²R₀²/(nT))^{1/2} + (√L b R₀²/T)^{2/3} + L a R₀²/T, for the mean of f(x̄) − f(x*);
    - nonconvex (σ²/(nε²) + b/ε^{3/2} + a/ε) L F₀
      gives (σ²LF₀/(nT))^{1/2} + (b L F₀/T)^{2/3} + a L F₀/T, for the mean of ‖∇f(x̄)‖²;

    with a = 1/ρ, b = σ/ρ where convex, a = √(τ_max + 1)/ρ, b = σ √(τ_max + 1)/(ρ√n) where not.

    Verified in a second place: the first term, and that ζ does not occur. The other terms are not
    verified (the constant C(W) in them is set to 1).

    Args:
        case: "strongly convex", "convex" or "nonconvex".
        n: workers.
        smoothness: L over all f_i.
        rho: ρ = p/m of `relaysim.theory.key_lemma`, in (0, 1]. The paper's figures compute it for
            the delays "hops", while the algorithm's are "received"; which of them its theorem means
            is not verified.
        max_delay: τ_max.
        sigma2: σ².
        strong_convexity: μ, for the strongly convex case.
        initial_distance: R₀², for the convex ones.
        initial_suboptimality: F₀, for the nonconvex one.

    Raises:
        ValueError: an unknown case, constants missing or out of range.

    Source: Vogels et al., NeurIPS 2021, arXiv 2110.04175, theorem I.

    >>> relay_sgd_rate(case="convex", n=4, smoothness=1.0, rho=0.1, max_delay=2,
    ...                initial_distance=1.0).curve([100]).round(12).tolist()
    [0.1]
    """
    constants = _checked(
        n=n,
        smoothness=smoothness,
        rho=rho,
        sigma2=sigma2,
        **_case_constants(case, strong_convexity, initial_distance, initial_suboptimality),
    )
    constants["max_delay"] = whole_number(max_delay, "max_delay", 0)
    longest = np.sqrt(max_delay + 1) if case == "nonconvex" else 1.0
    workers = np.sqrt(n) if case == "nonconvex" else 1.0
    return _published(
        "relay_sgd_rate",
        "RelaySGD",
        RELAYSUM,
        case,
        constants,
        (),
        a=longest / rho,
        b=np.sqrt(sigma2) * longest / (rho * workers),
        where="a = √(τ_max + 1)/ρ, b = σ√(τ_max + 1)/(ρ√n)"
        if case == "nonconvex"
        else "a = 1/ρ, b = σ/ρ",
    )


def gradient_tracking_rate(
    *,
    case: str,
    n: int,
    smoothness: float,
    p: float,
    c: float,
    sigma2: float = 0.0,
    strong_convexity: float | None = None,
    initial_distance: float | None = None,
    initial_suboptimality: float | None = None,
) -> Bound:
    """Gradient tracking, whatever the heterogeneity: shape only.

    The forms of `relay_sgd_rate` with a = 1/(pc) and b = σ/(√p c). These two are the paper's
    abstract; c = 1 − min(λ_n, 0)² and the convex and nonconvex forms are not verified.

    Args:
        case: "strongly convex", "convex" or "nonconvex".
        n: workers.
        smoothness: L over all f_i.
        p: 1 − max_{i≥2} λ_i² of a symmetric W, in (0, 1].
        c: in (0, 1], at least p.
        sigma2: σ².
        strong_convexity: μ, for the strongly convex case.
        initial_distance: R₀², for the convex ones.
        initial_suboptimality: F₀, for the nonconvex one.

    Raises:
        ValueError: an unknown case, constants missing or out of range.

    Source: Koloskova, Lin, Stich, NeurIPS 2021, arXiv 2202.03836; theorem number not verified.

    >>> gradient_tracking_rate(case="convex", n=4, smoothness=1.0, p=0.5, c=0.8,
    ...                        initial_distance=1.0).curve([10]).tolist()
    [0.25]
    """
    constants = _checked(
        n=n,
        smoothness=smoothness,
        p=p,
        c=c,
        sigma2=sigma2,
        **_case_constants(case, strong_convexity, initial_distance, initial_suboptimality),
    )
    return _published(
        "gradient_tracking_rate",
        "Gradient tracking",
        TRACKING,
        case,
        constants,
        ("symmetric",),
        a=1 / (p * c),
        b=np.sqrt(sigma2 / p) / c,
        where="a = 1/(pc), b = σ/(√p c)",
    )


def d2_rate(
    *,
    n: int,
    smoothness: float,
    smallest_eigenvalue: float,
    initial_suboptimality: float,
    sigma2: float = 0.0,
) -> Bound:
    """D², nonconvex, whatever the heterogeneity: shape only, and only its leading terms.

    (σ²LF₀/(nT))^{1/2} + L F₀/T, for the mean of ‖∇f(x̄)‖². How the later terms depend on W and σ is
    not verified.

    Args:
        n: workers.
        smoothness: L over all f_i.
        smallest_eigenvalue: λ_n of a symmetric W, above −1/3 (for exact diffusion: of (W + I)/2).
        initial_suboptimality: F₀.
        sigma2: σ².

    Raises:
        ConditionError: λ_n ≤ −1/3.
        ValueError: other constants out of range.

    Source: Tang et al., ICML 2018, arXiv 1803.07068; theorem number not verified.

    >>> d2_rate(n=4, smoothness=1.0, smallest_eigenvalue=0.0, initial_suboptimality=1.0,
    ...         sigma2=0.4).curve([10]).round(12).tolist()
    [0.2]
    """
    constants = _checked(
        n=n,
        smoothness=smoothness,
        smallest_eigenvalue=smallest_eigenvalue,
        initial_suboptimality=initial_suboptimality,
        sigma2=sigma2,
    )
    if smallest_eigenvalue <= -1 / 3 + 1e-12:  # an even ring of weights 1/3 sits on it
        raise ConditionError(
            f"D² needs a smallest eigenvalue above −1/3, not {smallest_eigenvalue:.6g}; take "
            f"relaysim.mixing.lazy(W), or exact diffusion, which does"
        )
    return _published(
        "d2_rate",
        "D²",
        D_SQUARED,
        "nonconvex",
        constants,
        ("symmetric",),
        a=1.0,
        b=0.0,
        where="a = 1, b = 0",
    )


# -- from a problem and a topology -----------------------------------------------------------------


def bounds_for(
    problem,
    topology: Topology,
    algorithm,
    learning_rate: float,
    sigma2: float = 0.0,
    x0: np.ndarray | None = None,
    mixing=None,
) -> tuple[Bound, ...]:
    """The bounds on a run's column, with the constants of its problem and topology; verified first.

    Args:
        problem: with ``optimum`` and ``smoothness``. With ``strong_convexity`` above 0 the strongly
            convex case of each theorem is taken, at 0 the convex one, without it the nonconvex one.
        topology: as for `relaysim.simulate`.
        algorithm: by its label.
        learning_rate: γ, one number.
        sigma2: σ² of the oracle.
        x0: ``(d,)`` or ``(n, d)``; zeros by default.
        mixing: as for `relaysim.simulate`.

    Returns:
        The theorems whose conditions hold, possibly none: momentum, other methods, a pair of trees
        and problems without known constants have no theorem here. Call a theorem's function to be
        told why its condition fails.

    Raises:
        ValueError: numbers of workers that differ, a matrix that does not fit, or no tree for
            RelaySGD.

    For RelaySGD ρ comes from `relaysim.theory.key_lemma` with the delays "hops", as in the paper's
    figures: seconds for a chain of 32 workers, and the square of n times the diameter in memory.

    >>> import relaysim as rs
    >>> problem = rs.problems.random_quadratics(n=8, d=3, zeta2=1.0, mu=1.0, seed=0)
    >>> for bound in bounds_for(problem, rs.topologies.star(8), rs.algorithms.RelaySGD(), 0.5):
    ...     print(bound.name, bound.quantity, bound.verified_constants)
    relay_sgd_equal_hessians suboptimality True
    relay_sgd_rate suboptimality False
    """
    if problem.n != topology.n:
        raise ValueError(
            f"the problem has {problem.n} workers and {topology!r} has {topology.n}; "
            f"make them equal"
        )
    if mixing is not None and algorithm.uses != "mixing":
        raise ValueError(f"{algorithm.label} does not use a mixing matrix; leave mixing out")
    learning_rate = real_number(learning_rate, "learning_rate", 0)
    candidates = _CANDIDATES.get(algorithm.label)
    optimum, smoothness = getattr(problem, "optimum", None), getattr(problem, "smoothness", None)
    if candidates is None or optimum is None or smoothness is None:
        return ()
    if getattr(algorithm, "momentum", 0) or not isinstance(topology, Topology):
        return ()
    start = np.zeros(problem.d) if x0 is None else real_array(x0, "x0")
    if start.shape not in ((problem.d,), (problem.n, problem.d)):
        raise ValueError(f"x0 must have shape (d,) or (n, d), not {start.shape}")
    points = np.broadcast_to(start, (problem.n, problem.d))
    matrices = ()
    if algorithm.uses == "mixing":
        matrices = as_sequence(metropolis(topology) if mixing is None else mixing, topology)
    setting = _Setting(
        problem=problem,
        topology=topology,
        algorithm=algorithm,
        learning_rate=learning_rate,
        matrices=tuple(matrix.toarray() for matrix in matrices),
        strong_convexity=getattr(problem, "strong_convexity", None),
        common_start=bool((points == points[0]).all()),
        squared_distances=((points - optimum) ** 2).sum(axis=1),
        basic={"n": problem.n, "smoothness": smoothness, "sigma2": sigma2},
        zeta2=float((problem.gradient(np.tile(optimum, (problem.n, 1))) ** 2).sum() / problem.n),
        excess=max(float(problem.value(points.mean(axis=0)) - problem.value(optimum)), 0.0),
    )
    found = []
    for theorem, constants in candidates(setting):
        try:
            found.append(dataclasses.replace(theorem(**constants), method=algorithm.label))
        except ConditionError:
            continue
    return tuple(found)


class _Setting(NamedTuple):
    """What the theorems need of a problem, a topology and an algorithm."""

    problem: object
    topology: Topology
    algorithm: object
    learning_rate: float
    matrices: tuple[np.ndarray, ...]
    strong_convexity: float | None
    common_start: bool
    squared_distances: np.ndarray
    basic: dict
    zeta2: float
    excess: float

    @property
    def distance(self) -> float:
        return float(self.squared_distances.mean())

    @property
    def case(self) -> str:
        if self.strong_convexity is None:
            return "nonconvex"
        return "strongly convex" if self.strong_convexity > 0 else "convex"

    @property
    def of_case(self) -> dict:
        """What the published theorems ask for."""
        return self.basic | {
            "case": self.case,
            "strong_convexity": self.strong_convexity,
            "initial_distance": self.distance,
            "initial_suboptimality": self.excess,
        }

    @property
    def eigenvalues(self) -> tuple[float, float] | None:
        """λ₂ and λ_n, both 0 for one worker; None unless there is one W, symmetric, of norm 1."""
        if len(self.matrices) != 1 or not np.allclose(self.matrices[0], self.matrices[0].T):
            return None
        values = eigvalsh(self.matrices[0])[:-1] if self.basic["n"] > 1 else np.zeros(1)
        if values[0] < -1 - 1e-9 or values[-1] > 1 + 1e-9:
            return None
        return min(float(values[-1]), 1.0), max(float(values[0]), -1.0)

    @property
    def contraction(self) -> float:
        """p of a period of doubly stochastic matrices; 0 if it does not contract."""
        product = np.eye(self.basic["n"])
        for matrix in self.matrices:
            if not np.allclose(matrix.sum(axis=0), 1):
                return 0.0
            product = matrix @ product
        p = 1 - float(np.linalg.norm(product - 1 / len(product), 2)) ** 2
        return p if p > 1e-12 else 0.0


Candidates = Iterator[tuple[Callable[..., Bound], dict]]


def _for_all_reduce(setting: _Setting) -> Candidates:
    problem, basic, rate = setting.problem, setting.basic, setting.learning_rate
    common = {"n": basic["n"], "sigma2": basic["sigma2"], "learning_rate": rate}
    smoothness, strong_convexity = basic["smoothness"], setting.strong_convexity
    if setting.common_start:
        smoothness = getattr(problem, "mean_smoothness", smoothness)
        strong_convexity = getattr(problem, "mean_strong_convexity", strong_convexity)
    common["mean_smoothness"] = smoothness
    if strong_convexity:
        common["mean_strong_convexity"] = strong_convexity
        yield all_reduce, common | {"initial_distance": setting.distance}
    elif setting.common_start and setting.case == "nonconvex":
        yield all_reduce_nonconvex, common | {"initial_suboptimality": setting.excess}
    elif setting.common_start:
        yield all_reduce_convex, common | {"initial_distance": setting.distance}


def _for_dp_sgd(setting: _Setting) -> Candidates:
    overlap, eigenvalues = setting.algorithm.overlap, setting.eigenvalues
    if eigenvalues is not None and setting.case == "strongly convex":
        yield (
            dp_sgd,
            setting.basic
            | {
                "strong_convexity": setting.strong_convexity,
                "learning_rate": setting.learning_rate,
                "second_eigenvalue": eigenvalues[0],
                "smallest_eigenvalue": eigenvalues[1],
                "zeta2": setting.zeta2,
                "initial_distance": setting.distance,
                "overlap": overlap,
            },
        )
    p = setting.contraction
    if p > 0 and not overlap:
        mixing = {"p": p, "tau": len(setting.matrices), "zeta2": setting.zeta2}
        yield dp_sgd_rate, setting.of_case | mixing


def _for_relay_sgd(setting: _Setting) -> Candidates:
    algorithm, topology = setting.algorithm, setting.topology
    n, h = topology.n, setting.basic["smoothness"]
    delay = topology.diameter if algorithm.overlap else max(0, topology.diameter - 1)
    equal = setting.strong_convexity is not None and abs(setting.strong_convexity - h) <= 1e-12 * h
    if equal and algorithm.unheard == "initial":
        yield (
            relay_sgd_equal_hessians,
            {
                "n": n,
                "curvature": h,
                "learning_rate": setting.learning_rate,
                "max_delay": delay,
                "zeta2": setting.zeta2,
                "largest_initial_distance": float(setting.squared_distances.max()),
                "sigma2": setting.basic["sigma2"],
            },
        )
    m, p = key_lemma(topology) if n > 1 else (1, 1.0)
    yield relay_sgd_rate, setting.of_case | {"rho": p / m, "max_delay": delay}


def _for_gradient_tracking(setting: _Setting) -> Candidates:
    if setting.eigenvalues is not None and setting.contraction > 0:
        c = 1 - min(setting.eigenvalues[1], 0.0) ** 2
        yield gradient_tracking_rate, setting.of_case | {"p": setting.contraction, "c": c}


def _for_d2(setting: _Setting, lazy: bool = False) -> Candidates:
    if setting.eigenvalues is not None:
        smallest = setting.eigenvalues[1]
        yield (
            d2_rate,
            setting.basic
            | {
                "smallest_eigenvalue": (smallest + 1) / 2 if lazy else smallest,
                "initial_suboptimality": setting.excess,
            },
        )


_CANDIDATES: dict[str, Callable[[_Setting], Candidates]] = {
    "All-reduce": _for_all_reduce,
    "DP-SGD (gossip)": _for_dp_sgd,
    "RelaySGD": _for_relay_sgd,
    "Gradient tracking": _for_gradient_tracking,
    "D²": _for_d2,
    "Exact diffusion": lambda setting: _for_d2(setting, lazy=True),
}


# -- what theorems have in common ------------------------------------------------------------------


def _verified(name, method, case, quantity, formula, assumptions, shape) -> Bound:
    return Bound(
        name=name,
        method=method,
        case=case,
        quantity=quantity,
        averaged=case != "strongly convex",
        assumptions=assumptions,
        source=Source(f"derived in the documentation of relaysim.theory.bounds.{name}"),
        formula=formula,
        verified_constants=True,
        shape=shape,
    )


def _from_distance(name, method, quantity, formula, assumptions, distance, smoothness) -> Bound:
    """A bound on the distance, or on the suboptimality ≤ (L/2) · distance."""
    if quantity not in QUANTITIES:
        raise ValueError(f"quantity must be 'suboptimality' or 'distance', not {quantity!r}")
    shape = distance
    if quantity == "suboptimality":
        formula = f"(L/2) [{formula}]"

        def shape(t):
            return smoothness / 2 * distance(t)

    return _verified(name, method, "strongly convex", quantity, formula, assumptions, shape)


def _published(name, method, source, case, constants, properties, *, a, b, where) -> Bound:
    """The curve of a published rate; see `relay_sgd_rate` for its terms."""
    n, L, sigma2 = constants["n"], constants["smoothness"], constants["sigma2"]
    if case == "strongly convex":
        mu, scale = constants["strong_convexity"], L * constants["initial_distance"]
        formula = "σ²/(μnT) + L b²/(μT)² + L R₀² exp(−μT/(La))"
        properties = (*properties, "weighted_average")

        def shape(t):
            noise = _over(sigma2 / (mu * n), t) + L * _over(b / mu, t) ** 2
            return noise + scale * np.exp(-mu * t / (L * a))

    else:
        if case == "convex":
            unit, steep = constants["initial_distance"], np.sqrt(L)
            formula = "(σ²R₀²/(nT))^{1/2} + (√L b R₀²/T)^{2/3} + L a R₀²/T"
            properties = (*properties, "every_convex")
        else:
            unit, steep = L * constants["initial_suboptimality"], 1.0
            formula = "(σ²LF₀/(nT))^{1/2} + (b L F₀/T)^{2/3} + a L F₀/T"
        last = steep**2 * a * unit

        def shape(t):
            noise = _over(sigma2 * unit / n, t) ** (1 / 2) + _over(steep * b * unit, t) ** (2 / 3)
            return noise + _over(last, t)

    return Bound(
        name=name,
        method=method,
        case=case,
        quantity="gradient_norm" if case == "nonconvex" else "suboptimality",
        averaged=case != "strongly convex",
        assumptions=_assumptions(*properties, "tuned_rate", **constants),
        source=source,
        formula=f"{formula}, {where}",
        verified_constants=False,
        shape=shape,
    )


def _case_constants(case, strong_convexity, initial_distance, initial_suboptimality) -> dict:
    """The constants that a case needs."""
    if case not in CASES:
        raise ValueError(f"case must be one of {', '.join(map(repr, CASES))}, not {case!r}")
    needed = {
        "strongly convex": {
            "strong_convexity": strong_convexity,
            "initial_distance": initial_distance,
        },
        "convex": {"initial_distance": initial_distance},
        "nonconvex": {"initial_suboptimality": initial_suboptimality},
    }[case]
    for key, value in needed.items():
        if value is None:
            raise ValueError(f"the {case} case needs {key}: {STATEMENTS[key][1]}")
    return needed


def _checked(n: int | None = None, **constants: float) -> dict[str, float]:
    """The constants of a theorem, after a look at their range."""
    checked = {} if n is None else {"n": whole_number(n, "n", 1)}
    for key, value in constants.items():
        least = -1.0 if key in EIGENVALUES else 0.0
        most = 1.0 if key in FRACTIONS + EIGENVALUES else np.inf
        checked[key] = real_number(value, key, least, most)
        if key in POSITIVE and checked[key] == 0:
            raise ValueError(f"{key} must be positive; the theorem says nothing at 0")
    for prefix in ("", "mean_"):
        mu, L = checked.get(f"{prefix}strong_convexity", 0.0), checked.get(f"{prefix}smoothness")
        if L is not None and mu > L * (1 + 1e-9):
            raise ValueError(f"{prefix}strong_convexity {mu} exceeds {prefix}smoothness {L}")
    return checked


def _assumptions(*properties: str, **constants: float) -> tuple[Assumption, ...]:
    values = constants | dict.fromkeys(properties)
    return tuple(Assumption(key, *STATEMENTS[key], value) for key, value in values.items())


def _require_rate(rate: float, L: float, limit: float = 2.0, open_end: bool = False) -> None:
    if not 0 < rate * L <= limit or (open_end and rate * L == limit):
        allowed = "below" if open_end else "up to"
        raise ConditionError(
            f"learning_rate {rate:g} is outside what this theorem allows: a positive one {allowed} "
            f"{max(limit, 0):g}/{L:g} = {max(limit, 0) / L:g}; choose such a rate"
        )


def _partial_sum(q: float, t: np.ndarray) -> np.ndarray:
    """Σ_{k<t} q^k."""
    return t * 1.0 if q == 1 else (1 - q**t) / (1 - q)


def _over(coefficient: float, t: np.ndarray) -> np.ndarray:
    """coefficient / t, infinite at t = 0 unless the coefficient is 0."""
    if coefficient == 0:
        return np.zeros_like(t)
    with np.errstate(divide="ignore"):
        return coefficient / t
