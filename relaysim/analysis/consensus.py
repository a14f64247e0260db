"""How far the workers are apart, and how fast communication alone brings them together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from relaysim.algorithms import DPSGD
from relaysim.algorithms.events import Algorithm
from relaysim.analysis.rates import Fit, fit_decay, rows_of_fit
from relaysim.engine import simulate
from relaysim.mixing.by_step import AnyMixing
from relaysim.mixing.drawn import DrawnMixing
from relaysim.problems import DiagonalQuadratic
from relaysim.records.history import History
from relaysim.support.checks import real_array, shown, whole_number
from relaysim.support.display import html_table
from relaysim.topologies import Topology, TreePair

__all__ = ["ConsensusDecay", "consensus_decay", "consensus_distance"]

FORMS = ("mean", "max", "worker", "relative")
PARAMETERS = 4
MOST_RECORDS = 2000
MOST_STEPS = 1 << 17
MOST_WORK = 2e9  # entries of iterates
NEAR_ROUNDING = 1e-24  # of the first consensus distance
# Natural logs that a line falls. Before so many a mode that random starts hardly excite may still be to come.
ENOUGH = 45.0
# Where something is drawn, and a mean so far down would be one of rare draws.
ENOUGH_DRAWN = 10.0


def consensus_distance(x: np.ndarray | History, form: str = "mean") -> np.ndarray:
    """How far the workers' parameters are from their mean x̄ = (1/n) Σ_i x_i.

    - ``"mean"``: Ξ² = (1/n) Σ_i ‖x_i − x̄‖², as in ``history.frame``;
    - ``"max"``: max_i ‖x_i − x̄‖²;
    - ``"worker"``: ‖x_i − x̄‖² for each i;
    - ``"relative"``: Ξ² / ‖x̄‖², which is infinite at x̄ = 0 and NaN if all x_i are 0.

    Of a history in which some workers lie it is that of the others, as its columns are.

    Args:
        x: ``(n, d)`` gives a number and ``(n, d, r)`` gives ``(r,)``, with ``"worker"`` ``(n[, r])``.
            A `History` that kept its iterates gives a leading axis of records; workers who lie are NaN.
        form: one of the above.

    Raises:
        ValueError: another form or shape, or a history without iterates.
        TypeError: what is no array of numbers, such as a history's frame.

    >>> import numpy as np
    >>> x = np.array([[1.0], [3.0], [8.0]])
    >>> [consensus_distance(x, form).round(3).tolist() for form in ("mean", "max", "worker")]
    [8.667, 16.0, [9.0, 1.0, 16.0]]
    """
    if form not in FORMS:
        raise ValueError(f"form must be one of {', '.join(FORMS)}, not {form!r}")
    if isinstance(x, History):
        if x.iterates is None:
            raise ValueError(
                "this history did not keep its iterates; simulate with keep_iterates=True"
            )
        if x.iterates.shape[1] != x.x.shape[0]:
            raise ValueError(
                f"this history kept the iterates of {x.iterates.shape[1]} of {x.x.shape[0]} workers; "
                f"simulate with keep_iterates=True, or with measures=['max_consensus_distance']"
            )
        liars, x, workers = _liars(x.config["faults"]), x.iterates, 1
    elif isinstance(x, pd.DataFrame):
        raise TypeError(
            "x must be parameters (n, d) or a History, not a DataFrame; a history's frame has its "
            "consensus_distance as a column, and consensus_distance(history) takes other forms"
        )
    else:
        x, workers, liars = real_array(x, "x"), 0, []
        if x.ndim not in (2, 3) or 0 in x.shape[:2]:
            raise ValueError(
                f"x must have shape (n, d) or (n, d, r), not {x.shape}; for several records give "
                f"the History"
            )
    honest = np.setdiff1d(np.arange(x.shape[workers]), liars)
    some = x.take(honest, axis=workers) if liars else x
    mean = some.mean(axis=workers, keepdims=True)
    squares = np.square(some - mean).sum(axis=workers + 1)
    if form == "worker" and liars:
        of_all = np.full((len(x), x.shape[1], *x.shape[3:]), np.nan)
        of_all[:, honest] = squares
        return of_all
    if form == "worker":
        return squares
    if form == "max":
        return squares.max(axis=workers)
    distance = squares.mean(axis=workers)
    if form == "mean":
        return distance
    with np.errstate(divide="ignore", invalid="ignore"):
        return distance / np.square(mean).sum(axis=(workers, workers + 1))


def _liars(faults: Any) -> list[int]:
    """Who lies, from what describes faults: an attack of the user's own need not be rebuilt."""
    if isinstance(faults, dict) and faults.get("type") == "Byzantine":
        return list(faults["workers"])
    parts = list(faults.values()) if isinstance(faults, dict) else faults
    if not isinstance(parts, list):
        return []
    return [worker for part in parts for worker in _liars(part)]


@dataclass(frozen=True, eq=False)
class ConsensusDecay:
    """What `consensus_decay` found.

    Attributes:
        frame: ``step`` and ``consensus_distance`` Ξ², its mean over the replicas.
        fit: the line through its linear regime, a `relaysim.analysis.rates.Fit`.
    """

    frame: pd.DataFrame
    fit: Fit

    @property
    def factor(self) -> float:
        """Factor of Ξ² in each step; NaN if it does not fall like one."""
        return self.fit.factor

    def _repr_html_(self) -> str:
        distance = self.frame["consensus_distance"]
        rows = [("Ξ² at the start", distance.iloc[0]), ("Ξ² at the end", distance.iloc[-1])]
        return html_table("Decay of the consensus distance", rows + rows_of_fit(self.fit))


def consensus_decay(
    topology: Topology | TreePair,
    algorithm: Algorithm | None = None,
    *,
    mixing: AnyMixing | None = None,
    steps: int | None = None,
    replicas: int = 10,
    seed: int = 0,
) -> ConsensusDecay:
    """How fast workers come together by communication alone: learning rate 0, Gaussian starts.

    DP-SGD with a symmetric gossip matrix W multiplies Ξ² in each step by λ₂(W)² in the end, with λ₂
    the second largest eigenvalue in absolute value. RelaySGD does so by that of its relay matrix, see
    `relaysim.theory.relay_gap`; with ``overlap`` on a binary tree of 31 workers the slowest mode, which
    changes sign almost every step, has so small a share in random starts that another one rules down to
    10⁻¹⁶ of the start.

    Args:
        topology: who talks to whom.
        algorithm: one of `relaysim.algorithms`; DP-SGD by default.
        mixing: as for `relaysim.simulate`.
        steps: by default doubled until the decay is known, or has come down to rounding.
        replicas: starting points to average over, each with draws of its own where a method draws.
        seed: of the starting points; replicas draw with it and the seeds that follow.

    Returns:
        A `ConsensusDecay`. Its factor is NaN where Ξ² does not fall like a power of one number: where
        it becomes 0 within a few steps, as with all-reduce, or ends in a plateau.

    Raises:
        ValueError, TypeError: as `relaysim.simulate` does.

    >>> import relaysim as rs
    >>> decay = consensus_decay(rs.topologies.ring(8))
    >>> round(decay.factor, 3), round(((1 + 2 * 0.5**0.5) / 3) ** 2, 3)
    (0.648, 0.648)
    """
    if not isinstance(topology, Topology | TreePair):
        raise TypeError(f"topology must be one of relaysim.topologies, not {shown(topology)}")
    algorithm = DPSGD() if algorithm is None else algorithm
    replicas, seed = whole_number(replicas, "replicas", 1), whole_number(seed, "seed", 0)
    shape = (topology.n, PARAMETERS)
    problem = DiagonalQuadratic(h=np.ones(shape), centers=np.zeros(shape))
    x0 = np.random.default_rng(seed).standard_normal((*shape, replicas))

    def run(steps: int) -> ConsensusDecay:
        history = simulate(
            problem,
            topology,
            algorithm,
            learning_rate=0.0,
            steps=steps,
            x0=x0,
            # What a method draws, such as the times of its events, is drawn for each replica by itself.
            seed=list(range(seed, seed + replicas)),
            mixing=mixing,
            record=max(1, -(-steps // MOST_RECORDS)),
            progress=False,
        )
        frame = history.frame.groupby("step")["consensus_distance"].mean().reset_index()
        return ConsensusDecay(frame, fit_decay(frame["step"], frame["consensus_distance"]))

    if steps is not None:
        return run(whole_number(steps, "steps", 0))
    draws = algorithm.random or isinstance(mixing, DrawnMixing)
    enough = ENOUGH_DRAWN if draws else ENOUGH
    steps = 64
    most = min(MOST_STEPS, max(1024, MOST_WORK / x0.size))
    while True:
        decay = run(steps)
        if 2 * steps > most or _is_settled(decay, steps, enough):
            return decay
        steps *= 2


def _is_settled(decay: ConsensusDecay, steps: int, enough: float) -> bool:
    """Whether more steps would tell nothing new."""
    distance, fit = decay.frame["consensus_distance"].to_numpy(), decay.fit
    if not distance[-1] > NEAR_ROUNDING * distance[0]:
        return True
    if steps >= 256 and abs(distance[-1] / distance[len(distance) // 2] - 1) < 1e-3:
        return True
    if fit.first_step is None or fit.last_step is None:
        return False
    return abs(fit.slope) * (fit.last_step - fit.first_step) > enough
