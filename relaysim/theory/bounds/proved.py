"""Theorems whose constants are proved, in the docstrings of their functions."""

from __future__ import annotations

import numpy as np

from relaysim.support.checks import whole_number
from relaysim.theory.bounds.constants import QUANTITIES, assumptions, checked, over, require_rate
from relaysim.theory.bounds.model import Assumption, Bound, Shape, Source

__all__ = [
    "all_reduce",
    "all_reduce_convex",
    "all_reduce_nonconvex",
    "dp_sgd",
    "from_distance",
    "relay_sgd_equal_hessians",
]


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
    constants = checked(
        n=n,
        mean_smoothness=mean_smoothness,
        mean_strong_convexity=mean_strong_convexity,
        learning_rate=learning_rate,
        initial_distance=initial_distance,
        sigma2=sigma2,
    )
    L, mu, rate = mean_smoothness, mean_strong_convexity, learning_rate
    require_rate(rate, L)
    q = 1 - min(rate * mu, 2 - rate * L)

    def distance(t: np.ndarray) -> np.ndarray:
        return q ** (2 * t) * initial_distance + rate**2 * sigma2 / n * _partial_sum(q * q, t)

    return from_distance(
        "all_reduce",
        "All-reduce",
        quantity,
        "q^{2t} R₀² + (γ²σ²/n)(1 − q^{2t})/(1 − q²), q = 1 − min(γμ, 2 − γL)",
        assumptions(**constants),
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
    constants = checked(
        n=n,
        mean_smoothness=mean_smoothness,
        learning_rate=learning_rate,
        initial_distance=initial_distance,
        sigma2=sigma2,
    )
    L, rate = mean_smoothness, learning_rate
    require_rate(rate, L, open_end=True)
    gain = 2 * min(1.0, 2 - rate * L)
    return _verified(
        "all_reduce_convex",
        "All-reduce",
        "convex",
        "suboptimality",
        "(R₀²/(γT) + γσ²/n) / (2 min(1, 2 − γL))",
        assumptions("convex", "common_start", **constants),
        lambda t: (over(initial_distance / rate, t) + rate * sigma2 / n) / gain,
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
    constants = checked(
        n=n,
        mean_smoothness=mean_smoothness,
        learning_rate=learning_rate,
        initial_suboptimality=initial_suboptimality,
        sigma2=sigma2,
    )
    L, rate = mean_smoothness, learning_rate
    require_rate(rate, L, open_end=True)

    def shape(t: np.ndarray) -> np.ndarray:
        return (over(2 * initial_suboptimality / rate, t) + rate * L * sigma2 / n) / (2 - rate * L)

    return _verified(
        "all_reduce_nonconvex",
        "All-reduce",
        "nonconvex",
        "gradient_norm",
        "(2F₀/(γT) + γLσ²/n) / (2 − γL)",
        assumptions("common_start", **constants),
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
    """DP-SGD, strongly convex, at a constant rate: constants verified, nearly tight.

    D_t ≤ q^{2t}R₀² + γ²(λ²ζ²/(1 − λ²) + σ²ν) Σ_{k<t} q^{2k} and
    √D_t ≤ √(q^{2t}(R₀ + γcζ)² + γ²σ²ν Σ_{k<t} q^{2k}) + γζ(c + k(1 − q^t)/κ) for D_t = (1/n) Σ E‖x_i − x*‖²,
    and f(x̄) − f(x*) ≤ (L/2) D_t. With W symmetric and doubly stochastic, |λ| = max(|λ₂|, |λ_n|) and
    q = 1 − κ:

    - X ← W(X − γG): γ < 2/L, κ = min(γμ, 2 − γL), (c, k) = (0, |λ|) and (s, γLs) with
      s = max |λ_i|/(1 − λ_i) over λ₂ and λ_n, ν = (1 + (n − 1)λ²)/n;
    - ``overlap``, X ← WX − γG: γ < (1 + λ_n)/L, κ = min(γμ, 1 + λ_n − γL), without the first line,
      (c, k) = (0, 1) and (s, γLs) with s = 1/(1 − λ₂), ν = 1.

    At each t the least of these. Of three workers on a chain the curve is at most 1.3 times the worst case of
    all functions of the class for γ ≤ 1/L.

    Proof: one step F contracts by q in the Frobenius norm: X − γG does, and ‖W‖₂ = 1; with overlap
    F is a step down Σ f_i + ‖X‖²_{I−W}/(2γ), whose Hessian lies between μ and L + (1 − λ_n)/γ. Let
    X* = 1x*ᵀ, where the gradients G* sum to 0. First line: X' − X* = W(E − γG*) with ‖E‖ ≤ q‖X − X*‖. Let y
    be the norm of E less its mean. W leaves the mean as it is and shrinks the rest by λ, so that
    ‖X' − X*‖² ≤ ‖E‖² − y² + λ²(y + γ√n ζ)², at most ‖E‖² + λ²γ²nζ²/(1 − λ²) for any y. Second line: if
    ‖F(Z) − Z‖ ≤ γk√n ζ, then ‖X' − Z‖ ≤ q‖X − Z‖ + γk√n ζ; this is so of Z = X*, and of Z = X* − γV with
    (I − W)V = WG* (overlap: G*), ‖Z − X*‖ ≤ γs√n ζ: there F(Z) − Z = −γW(G(Z) − G*) (overlap: without W),
    at most γL‖Z − X*‖. The noise is independent of the past, and adds at most nγ²σ²ν to the square in a step;
    with a² + b² under the root, (qa + r)² + b² ≤ (√(q²a² + b²) + r)².

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
    >>> bound.curve([0, 1000]).round(4).tolist()
    [0.5, 0.0171]
    """
    constants = checked(
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
    require_rate(rate, L, limit, open_end=True)
    gap = min(rate * mu, limit - rate * L)
    q = 1 - gap
    z = rate * np.sqrt(zeta2)
    around = [(0.0, kick), (spread, rate * L * spread)] if z and spread < np.inf else [(0.0, kick)]

    def distance(t: np.ndarray) -> np.ndarray:
        powers = _partial_sum(q * q, t)
        of_noise = rate**2 * sigma2 * noise * powers
        found = np.full(t.shape, np.inf)
        if kick < 1:  # mean and deviation told apart
            added = kick**2 * z**2 / (1 - kick**2) * powers
            found = q ** (2 * t) * initial_distance + added + of_noise
        for c, k in around:
            start = np.sqrt(initial_distance) + c * z
            root = np.sqrt((q**t * start) ** 2 + of_noise) + z * (c + k * (1 - q**t) / gap)
            found = np.minimum(found, root**2)
        return found

    if overlap:
        constants_text = (
            "κ = min(γμ, 1 + λ_n − γL), (c, k) = (0, 1), (s, γLs), s = 1/(1 − λ₂), ν = 1"
        )
    else:
        constants_text = (
            "κ = min(γμ, 2 − γL), (c, k) = (0, |λ|), (s, γLs), s = max |λ_i|/(1 − λ_i), "
            "ν = (1 + (n − 1)λ²)/n"
        )
    first = "" if overlap else "q^{2t}R₀² + γ²(λ²ζ²/(1 − λ²) + σ²ν)(1 − q^{2t})/(1 − q²), "
    return from_distance(
        "dp_sgd",
        "DP-SGD (gossip)",
        quantity,
        f"min({first}(√(q^{{2t}}(R₀ + γcζ)² + γ²σ²ν(1 − q^{{2t}})/(1 − q²)) + γζ(c + k(1 − q^t)/κ))²), "
        f"q = 1 − κ, {constants_text}",
        assumptions("symmetric", "mix_then_step" if overlap else "step_then_mix", **constants),
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
    constants = checked(
        n=n,
        curvature=curvature,
        learning_rate=learning_rate,
        zeta2=zeta2,
        largest_initial_distance=largest_initial_distance,
        sigma2=sigma2,
    )
    h, rate, delay = curvature, learning_rate, whole_number(max_delay, "max_delay", 0)
    require_rate(rate, h)
    r = abs(1 - rate * h)
    missing = np.arange(1, n) / n if delay else np.empty(0)
    lost = np.sqrt(missing * (1 - missing)) / (1 - r * (1 - missing))
    startup = lost.max(initial=0.0)
    start = np.sqrt(largest_initial_distance) + rate * np.sqrt(zeta2) * startup

    def distance(t: np.ndarray) -> np.ndarray:
        noise = rate**2 * sigma2 / n * _partial_sum(r, t) ** 2
        return (r ** np.floor(t / (delay + 1)) * start) ** 2 + noise

    return from_distance(
        "relay_sgd_equal_hessians",
        "RelaySGD",
        quantity,
        "r^{2⌊t/(τ_max + 1)⌋}(R₀ + b)² + (γ²σ²/n)((1 − r^t)/(1 − r))², r = |1 − γh|, "
        "b = γζ max_u √(u(1 − u))/(1 − r(1 − u))",
        assumptions("stand_in", **constants, max_delay=delay),
        distance,
        h,
    )


def _verified(
    name: str,
    method: str,
    case: str,
    quantity: str,
    formula: str,
    assumptions: tuple[Assumption, ...],
    shape: Shape,
) -> Bound:
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


def from_distance(
    name: str,
    method: str,
    quantity: str,
    formula: str,
    assumptions: tuple[Assumption, ...],
    distance: Shape,
    smoothness: float,
) -> Bound:
    """A bound on the distance, or on the suboptimality ≤ (L/2) · distance."""
    if quantity not in QUANTITIES:
        raise ValueError(f"quantity must be 'suboptimality' or 'distance', not {quantity!r}")

    def above_suboptimality(t: np.ndarray) -> np.ndarray:
        return smoothness / 2 * distance(t)

    shape = distance
    if quantity == "suboptimality":
        formula, shape = f"(L/2) [{formula}]", above_suboptimality
    return _verified(name, method, "strongly convex", quantity, formula, assumptions, shape)


def _partial_sum(q: float, t: np.ndarray) -> np.ndarray:
    """Σ_{k<t} q^k."""
    return t * 1.0 if q == 1 else (1 - q**t) / (1 - q)
