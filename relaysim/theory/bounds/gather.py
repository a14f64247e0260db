"""The theorems about a run, with the constants of its problem and topology."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import eigvalsh

from relaysim.algorithms.base import Method
from relaysim.algorithms.claims import theorems_of
from relaysim.algorithms.corrected import D2, GradientTracking
from relaysim.algorithms.events import Algorithm
from relaysim.algorithms.fit import check_compatible, matrices_for
from relaysim.algorithms.global_average import AllReduce
from relaysim.algorithms.gossip import DPSGD
from relaysim.algorithms.relay import RelaySGD
from relaysim.mixing.sequences import Mixing
from relaysim.problems import Problem
from relaysim.problems.problem import knows_optimum
from relaysim.support.checks import real_array, real_number
from relaysim.support.starts import starting_points
from relaysim.theory.bounds.constants import ConditionError
from relaysim.theory.bounds.model import Bound
from relaysim.theory.bounds.powers import linear_map, map_constants
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
from relaysim.topologies import Topology, TreePair

__all__ = ["bounds_for"]


def bounds_for(
    problem: Problem,
    topology: Topology | TreePair,
    algorithm: Algorithm,
    learning_rate: float,
    sigma2: float = 0.0,
    x0: ArrayLike | None = None,
    mixing: Mixing | None = None,
) -> tuple[Bound, ...]:
    """The bounds on a run's column, with the constants of its problem and topology; verified first.

    Args:
        problem: with ``optimum`` and ``smoothness``. With ``strong_convexity`` above 0 the strongly
            convex case of each theorem is taken, at 0 the convex one, without it the nonconvex one.
        topology: as for `relaysim.simulate`.
        algorithm: what its class itself states in ``theorems``; a subclass does not inherit it.
        learning_rate: γ, one number.
        sigma2: σ² of the oracle.
        x0: ``(d,)`` or ``(n, d)``; zeros by default.
        mixing: as for `relaysim.simulate`.

    Returns:
        The theorems whose conditions hold, possibly none: momentum, other methods, a pair of trees
        and problems without known constants, such as the exponential loss, have no theorem here. Call
        a theorem's function to be told why its condition fails.

    Raises:
        TypeError: the class states a theorem about another method.
        ValueError: numbers of workers that differ, a matrix that does not fit, no tree for RelaySGD,
            or the class states what is no theorem here.

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
    theorems = _theorems_about(algorithm)
    smoothness = getattr(problem, "smoothness", None)
    if not (theorems and knows_optimum(problem) and isinstance(topology, Topology)):
        return ()
    if smoothness is None:
        return ()
    optimum = problem.optimum
    points = starting_points(None if x0 is None else real_array(x0, "x0"), problem, None)
    setting = _Setting(
        problem=problem,
        topology=topology,
        learning_rate=learning_rate,
        matrices=tuple(matrix.toarray() for matrix in matrices),
        strong_convexity=getattr(problem, "strong_convexity", None),
        common_start=bool((points == points[0]).all()),
        squared_distances=((points - optimum) ** 2).sum(axis=1),
        basic={"n": problem.n, "smoothness": smoothness, "sigma2": sigma2},
        zeta2=float((problem.gradient(np.tile(optimum, (problem.n, 1))) ** 2).sum() / problem.n),
        excess=max(float(problem.value(points.mean(axis=0))) - float(problem.value(optimum)), 0.0),
    )
    found = []
    for theorem in theorems:
        constants = theorem.constants(setting, algorithm)
        if constants is not None:
            with contextlib.suppress(ConditionError):
                bound = theorem.bound(**constants)
                found.append(dataclasses.replace(bound, method=algorithm.label))
    return tuple(sorted(found, key=lambda bound: not bound.verified_constants))


class _Setting(NamedTuple):
    """What the theorems need of a problem, a topology and a learning rate."""

    problem: Problem
    topology: Topology
    learning_rate: float
    matrices: tuple[np.ndarray, ...]
    strong_convexity: float | None
    common_start: bool
    squared_distances: np.ndarray
    basic: dict[str, Any]
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
    def of_case(self) -> dict[str, Any]:
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


# Each function below has the constants with which a theorem holds of a method of the type that it is
# declared for, or None where the method's options or the problem are not the theorem's.


def _of_all_reduce(
    setting: _Setting, algorithm: AllReduce, case: str, **of_start: float
) -> dict[str, Any] | None:
    """The constants, if the case is this one.

    L and μ are those of f itself if the workers start at one point. If not, only the strongly convex
    theorem holds, with those over all f_i.
    """
    problem, smoothness = setting.problem, setting.basic["smoothness"]
    strong_convexity = setting.strong_convexity
    if setting.common_start:
        smoothness = getattr(problem, "mean_smoothness", smoothness)
        strong_convexity = getattr(problem, "mean_strong_convexity", strong_convexity)
    constants = {
        "n": setting.basic["n"],
        "sigma2": setting.basic["sigma2"],
        "learning_rate": setting.learning_rate,
        "mean_smoothness": smoothness,
    }
    if strong_convexity:
        found = "strongly convex"
        constants["mean_strong_convexity"] = strong_convexity
    else:
        found = "nonconvex" if setting.case == "nonconvex" else "convex"
    if algorithm.momentum or case != found or not (strong_convexity or setting.common_start):
        return None
    return constants | of_start


def _all_reduce(setting: _Setting, algorithm: AllReduce) -> dict[str, Any] | None:
    start = {"initial_distance": setting.distance}
    return _of_all_reduce(setting, algorithm, "strongly convex", **start)


def _all_reduce_convex(setting: _Setting, algorithm: AllReduce) -> dict[str, Any] | None:
    return _of_all_reduce(setting, algorithm, "convex", initial_distance=setting.distance)


def _all_reduce_nonconvex(setting: _Setting, algorithm: AllReduce) -> dict[str, Any] | None:
    return _of_all_reduce(setting, algorithm, "nonconvex", initial_suboptimality=setting.excess)


def _is_plain(algorithm: DPSGD) -> bool:
    """Whether it is the rule of the theorems: no momentum, and all of W."""
    return algorithm.momentum == 0 and algorithm.consensus == 1


def _dp_sgd(setting: _Setting, algorithm: DPSGD) -> dict[str, Any] | None:
    eigenvalues = setting.eigenvalues
    if not _is_plain(algorithm) or eigenvalues is None or setting.case != "strongly convex":
        return None
    return setting.basic | {
        "strong_convexity": setting.strong_convexity,
        "learning_rate": setting.learning_rate,
        "second_eigenvalue": eigenvalues[0],
        "smallest_eigenvalue": eigenvalues[1],
        "zeta2": setting.zeta2,
        "initial_distance": setting.distance,
        "overlap": algorithm.overlap,
    }


def _dp_sgd_rate(setting: _Setting, algorithm: DPSGD) -> dict[str, Any] | None:
    p = setting.contraction
    if not _is_plain(algorithm) or algorithm.overlap or p == 0:
        return None
    return setting.of_case | {"p": p, "tau": len(setting.matrices), "zeta2": setting.zeta2}


def _relay_delay(topology: Topology, algorithm: RelaySGD) -> int:
    diameter = int(topology.diameter)
    return diameter if algorithm.overlap else max(0, diameter - 1)


def _relay_sgd_equal_hessians(setting: _Setting, algorithm: RelaySGD) -> dict[str, Any] | None:
    h, least = setting.basic["smoothness"], setting.strong_convexity
    equal = least is not None and abs(least - h) <= 1e-12 * h
    if algorithm.momentum or algorithm.unheard != "initial" or not equal:
        return None
    return {
        "n": setting.basic["n"],
        "curvature": h,
        "learning_rate": setting.learning_rate,
        "max_delay": _relay_delay(setting.topology, algorithm),
        "zeta2": setting.zeta2,
        "largest_initial_distance": float(setting.squared_distances.max()),
        "sigma2": setting.basic["sigma2"],
    }


def _relay_sgd_rate(setting: _Setting, algorithm: RelaySGD) -> dict[str, Any] | None:
    if algorithm.momentum:
        return None
    topology = setting.topology
    m, p = key_lemma(topology) if topology.n > 1 else (1, 1.0)
    return setting.of_case | {"rho": p / m, "max_delay": _relay_delay(topology, algorithm)}


def _gradient_tracking_rate(
    setting: _Setting, algorithm: GradientTracking
) -> dict[str, Any] | None:
    other = algorithm.form != "next" or algorithm.momentum > 0
    if other or setting.eigenvalues is None or setting.contraction == 0:
        return None
    c = 1 - min(setting.eigenvalues[1], 0.0) ** 2
    return setting.of_case | {"p": setting.contraction, "c": c}


def _d2_rate(setting: _Setting, algorithm: D2) -> dict[str, Any] | None:
    if setting.eigenvalues is None:
        return None
    smallest = setting.eigenvalues[1]
    return setting.basic | {
        "smallest_eigenvalue": (smallest + 1) / 2 if algorithm.lazy else smallest,
        "initial_suboptimality": setting.excess,
    }


def _linear_map(setting: _Setting, algorithm: Method) -> dict[str, Any] | None:
    """Where gradients are exact and Hessians differ: if they do not, more is proved of RelaySGD."""
    L, least = setting.basic["smoothness"], setting.strong_convexity
    equal = least is not None and abs(least - L) <= 1e-12 * L
    if setting.basic["sigma2"] > 0 or setting.case != "strongly convex" or equal:
        return None
    given = (setting.problem, setting.topology, algorithm, setting.learning_rate)
    mixing = setting.matrices if algorithm.uses == "mixing" else None
    try:
        found = map_constants(*given, mixing, setting.common_start)
    except (ConditionError, TypeError):
        return None
    zeta2, distance = setting.zeta2, setting.distance
    constants = {"n": setting.basic["n"], "smoothness": L, "zeta2": zeta2}
    return found._asdict() | constants | {"initial_distance": distance}


class _Theorem(NamedTuple):
    """What makes the bound, the type that it is about, and the constants with which it holds there."""

    bound: Callable[..., Bound]
    about: type
    constants: Callable[[_Setting, Any], dict[str, Any] | None]


_THEOREMS = {
    theorem.bound.__name__: theorem
    for theorem in (
        _Theorem(all_reduce, AllReduce, _all_reduce),
        _Theorem(all_reduce_convex, AllReduce, _all_reduce_convex),
        _Theorem(all_reduce_nonconvex, AllReduce, _all_reduce_nonconvex),
        _Theorem(dp_sgd, DPSGD, _dp_sgd),
        _Theorem(dp_sgd_rate, DPSGD, _dp_sgd_rate),
        _Theorem(linear_map, Method, _linear_map),
        _Theorem(relay_sgd_equal_hessians, RelaySGD, _relay_sgd_equal_hessians),
        _Theorem(relay_sgd_rate, RelaySGD, _relay_sgd_rate),
        _Theorem(gradient_tracking_rate, GradientTracking, _gradient_tracking_rate),
        _Theorem(d2_rate, D2, _d2_rate),
    )
}


def _theorems_about(algorithm: Algorithm) -> list[_Theorem]:
    """The theorems that the algorithm's class states, checked."""
    names, kind = theorems_of(algorithm), type(algorithm).__name__
    if isinstance(names, str) or not set(names) <= set(_THEOREMS):
        raise ValueError(
            f"{kind}.theorems must be a tuple of names among {', '.join(_THEOREMS)}, not {names!r}"
        )
    for name in names:
        about = _THEOREMS[name].about
        if not isinstance(algorithm, about):
            raise TypeError(
                f"{kind} states the theorem {name}, whose conditions are on the options of "
                f"{about.__name__}; derive {kind} from it, or leave the theorem out"
            )
    return [_THEOREMS[name] for name in names]
