"""A proved bound for methods that are affine maps: C r^t, with C from all powers of the map."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.linalg import eigvalsh, null_space

from relaysim.algorithms.events import Algorithm
from relaysim.algorithms.fit import check_compatible, matrices_for
from relaysim.mixing.sequences import Mixing
from relaysim.problems import Problem
from relaysim.support.checks import real_number, true_or_false
from relaysim.theory.affine import AffineStep
from relaysim.theory.bounds.constants import ConditionError, assumptions, checked
from relaysim.theory.bounds.model import Bound
from relaysim.theory.bounds.proved import from_distance
from relaysim.topologies import Topology, TreePair

__all__ = ["MapConstants", "linear_map", "map_constants"]

# States up to which the powers of the map are looked at.
MOST_STATES = 256
# Steps after which the constants have to be known.
MOST_STEPS = 1 << 12
# In so many it is asked each step whether they are, later once in as many.
FIRST_STEPS = 16
# Powers below this add nothing more.
TINY = 1e-100
# r = ρ^0.85: at ρ itself there need not be a constant.
NEAR = 0.85
# Of norms, and of what solves a linear system.
ROUNDING = 1e-7


class MapConstants(NamedTuple):
    """What `map_constants` finds.

    Attributes:
        rate: r.
        start_factor, zeta_factor: C₀ and C₁, the least with which the bound holds at this r.
    """

    rate: float
    start_factor: float
    zeta_factor: float


def linear_map(
    *,
    n: int,
    smoothness: float,
    rate: float,
    start_factor: float,
    zeta_factor: float,
    zeta2: float,
    initial_distance: float,
    quantity: str = "suboptimality",
) -> Bound:
    """An exact method on quadratics as the affine map that it is: constants verified, computed for the map.

    D_t ≤ r^{2t}(C₀R₀ + C₁ζ)² for the distance D_t = (1/n) Σ ‖x_i − x*‖² without noise, of all quadratics with
    these Hessians, whatever their optima, and all starts; f(x̄) − f(x*) ≤ (L/2) D_t.

    Proof: X_t − X* = M_t(X_0 − X*) + N_t G* with matrices that depend on Hessians, graph and γ only, G* being
    the gradients at X*. C₀ = sup_t ‖M_t‖ r^{−t} and C₁ = sup_t ‖N_t‖ r^{−t} are found up to a step T from the
    method's own steps. From there on X_{T+k} − X* = E A^k z with the map A of the whole state, and
    ‖E A^k z‖² ≤ r^{2k} zᵀPz, where P = EᵀE + AᵀPA/r² by one Lyapunov equation; T is large enough that this is
    below C r^{T+k}. So the powers of a map that is far from normal, as RelaySGD's, count in full.

    Args:
        n: workers.
        smoothness: L, over all f_i.
        rate, start_factor, zeta_factor: r, C₀, C₁, from `relaysim.theory.map_constants`.
        zeta2: ζ² = (1/n) Σ_i ‖∇f_i(x*)‖².
        initial_distance: R₀² = (1/n) Σ_i ‖x_i⁰ − x*‖².
        quantity: the column bounded: "suboptimality" or "distance".

    Raises:
        ValueError: constants out of range.

    >>> bound = linear_map(n=4, smoothness=1.0, rate=0.5, start_factor=1.0, zeta_factor=0.5, zeta2=4.0,
    ...                    initial_distance=1.0, quantity="distance")
    >>> bound.curve([0, 1, 2]).tolist()
    [4.0, 1.0, 0.25]
    """
    constants = checked(
        n=n,
        smoothness=smoothness,
        rate=rate,
        start_factor=start_factor,
        zeta_factor=zeta_factor,
        zeta2=zeta2,
        initial_distance=initial_distance,
    )
    amplitude = (start_factor * np.sqrt(initial_distance) + zeta_factor * np.sqrt(zeta2)) ** 2

    def distance(t: np.ndarray) -> np.ndarray:
        return rate ** (2 * t) * amplitude

    return from_distance(
        "linear_map",
        "An exact method",
        quantity,
        "r^{2t}(C₀R₀ + C₁ζ)²",
        assumptions("quadratic", "exact_gradients", **constants),
        distance,
        smoothness,
    )


def map_constants(
    problem: Problem,
    topology: Topology | TreePair,
    algorithm: Algorithm,
    learning_rate: float,
    mixing: Mixing | None = None,
    common_start: bool = True,
) -> MapConstants:
    """The constants of `linear_map` for a problem's Hessians: the least with which it holds at r = ρ^0.85.

    Args:
        problem: quadratic; of its optima nothing is used.
        topology, mixing: as for `relaysim.simulate`; one matrix.
        algorithm: one that is exact and affine, such as `relaysim.algorithms.D2`.
        learning_rate: γ, at which it converges.
        common_start: whether all workers start at one point, which makes C₀ smaller.

    Raises:
        ConditionError: it does not converge to x*, or so slowly that it would take over 4096 steps, or
            the state has more than 256 numbers.
        TypeError: as `relaysim.theory.linearize`.

    >>> import relaysim as rs
    >>> problem = rs.problems.random_quadratics(n=4, d=2, zeta2=1.0, seed=0)
    >>> found = map_constants(problem, rs.topologies.chain(4), rs.algorithms.RelaySGD(), 0.5)
    >>> [round(constant, 3) for constant in found]
    [0.905, 1.0, 0.223]
    """
    check_compatible(problem, topology, algorithm)
    gamma = real_number(learning_rate, "learning_rate", 0)
    true_or_false(common_start, "common_start")
    matrices = matrices_for(algorithm, topology, mixing)
    n, d = problem.n, problem.d
    if n * d > MOST_STATES:
        raise _too_large(n * d)
    step = AffineStep(problem, topology, algorithm, gamma, matrices, np.zeros((n, d)))
    if step.states > MOST_STATES:
        raise _too_large(step.states)
    if step.period > 1:
        raise ConditionError(
            f"{algorithm!r} repeats after {step.period} steps; this theorem is about one map"
        )
    # Orthonormal bases: of starts, and of gradients at x* = 0, which sum to 0.
    ones = np.full((n, 1), n**-0.5)
    apart = null_space(ones.T)
    starts, gradients = (
        np.kron(workers, np.eye(d)).reshape(n, d, -1)
        for workers in (ones if common_start else np.eye(n), apart)
    )
    x0 = np.concatenate([starts, np.zeros(gradients.shape)], axis=2)
    at_zero = np.concatenate([np.zeros(starts.shape), gradients], axis=2)
    iterates, y = step.begun(x0, at_zero)
    A, conserved = step.matrices[0].toarray(), step.conserved.toarray()
    # Where each run ends: a fixed point that keeps what a step keeps.
    push = step.noise[0].toarray() @ at_zero.reshape(n * d, -1)
    system = np.concatenate([np.eye(len(A)) - A, conserved])
    end = np.linalg.lstsq(system, np.concatenate([push, conserved @ y]), rcond=None)[0]
    missed = system @ end - np.concatenate([push, conserved @ y])
    if np.abs(missed).max() > ROUNDING or np.abs(end[: n * d]).max() > ROUNDING:
        raise ConditionError(
            f"{algorithm!r} does not end at x* here whatever the optima; this theorem is about exact methods"
        )
    moving = null_space(conserved) if len(conserved) else np.eye(len(A))
    A, z, E = moving.T @ A @ moving, y - end, moving[: n * d]
    radius = float(np.abs(np.linalg.eigvals(A)).max())
    if not radius < 1 - ROUNDING:
        raise ConditionError(
            f"learning_rate {gamma:g} is outside what this theorem allows: the map has spectral radius "
            f"{radius:.6g}; choose one of relaysim.theory.stable_learning_rates"
        )
    r = max(radius, 1e-3) ** NEAR
    # So many steps until what P allows for the rest of a lone slowest mode is below what it began with.
    needed = -np.log1p(-((radius / r) ** 2)) / (2 * np.log(r / max(radius, 1e-300)))
    if not needed < MOST_STEPS:
        raise ConditionError(
            f"the constants of this theorem would take {needed:.0f} steps, more than {MOST_STEPS}: the "
            f"method is too slow at learning rate {gamma:g}; take a higher one"
        )
    P = moving @ _sum_of_squares(A / r, E) @ moving.T
    A = moving @ A @ moving.T  # rounding in what a step keeps would never decay
    z = moving @ (moving.T @ z)
    columns = starts.shape[2]
    factors = [
        _supremum(
            [each.reshape(n * d, -1)[:, block] for each in iterates], z[:, block], n * d, A, P, r
        )
        for block in (slice(None, columns), slice(columns, None))
        if z[:, block].size
    ]
    return MapConstants(r, *factors, *([0.0] * (2 - len(factors))))


def _sum_of_squares(M: np.ndarray, E: np.ndarray) -> np.ndarray:
    """Σ_k (E M^k)ᵀ E M^k, by doubling: nothing cancels, however far M is from normal."""
    found = E.T @ E
    while np.abs(M).max(initial=0) > TINY:
        found, M = found + M.T @ found @ M, M @ M
    return found


def _supremum(
    begin: list[np.ndarray], z: np.ndarray, seen: int, A: np.ndarray, P: np.ndarray, r: float
) -> float:
    """sup_t ‖X_t‖ r^{−t} of X_t as in ``begin``, and of the first rows of A^k z after these."""
    largest = 0.0
    for t in range(len(begin) + 2 * MOST_STEPS):
        later = t >= len(begin)
        X = z[:seen] if later else begin[t]
        scale = float(np.float64(r) ** -t)
        # The eighth power of a norm that is not below the largest singular value.
        gram = X.T @ X if X.shape[1] < len(X) else X @ X.T
        if np.linalg.norm(gram @ gram) ** 0.25 * scale > largest:
            largest = max(largest, float(np.sqrt(eigvalsh(gram)[-1].clip(0))) * scale)
        since = t - len(begin)
        if later and (since < FIRST_STEPS or since % FIRST_STEPS == 0):
            rest = float(np.sqrt(eigvalsh(z.T @ P @ z)[-1].clip(0))) * scale
            if rest <= largest:
                return largest * (1 + ROUNDING)
        if later:
            z = A @ z
    raise ConditionError(
        f"the constants of this theorem are not known after {2 * MOST_STEPS} steps: the method is too slow "
        f"at this learning rate"
    )


def _too_large(states: int) -> ConditionError:
    return ConditionError(
        f"a state of {states} numbers is more than the {MOST_STATES} of which the powers of the map are "
        f"looked at; take fewer workers or parameters"
    )
