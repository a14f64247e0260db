"""The theorems about a run, with the constants of its problem and topology."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from scipy.linalg import eigvalsh

from relaysim.algorithms.fit import check_compatible, matrices_for
from relaysim.support.checks import real_array, real_number
from relaysim.support.starts import starting_points
from relaysim.theory.bounds.constants import ConditionError
from relaysim.theory.bounds.model import Bound
from relaysim.theory.bounds.proved import (
    all_reduce,
    all_reduce_convex,
    all_reduce_nonconvex,
    dp_sgd,
    relay_sgd_equal_hessians,
)
from relaysim.theory.bounds.published import (
    d2_rate,
    dp_sgd_rate,
    gradient_tracking_rate,
    relay_sgd_rate,
)
from relaysim.theory.relaysum import key_lemma
from relaysim.topologies import Topology

__all__ = ["bounds_for"]


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
    check_compatible(problem, topology, algorithm)
    matrices = matrices_for(algorithm, topology, mixing)
    learning_rate = real_number(learning_rate, "learning_rate", 0)
    candidates = _CANDIDATES.get(algorithm.label)
    optimum, smoothness = getattr(problem, "optimum", None), getattr(problem, "smoothness", None)
    if candidates is None or optimum is None or smoothness is None:
        return ()
    if getattr(algorithm, "momentum", 0) or not isinstance(topology, Topology):
        return ()
    points = starting_points(None if x0 is None else real_array(x0, "x0"), problem, None)
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
