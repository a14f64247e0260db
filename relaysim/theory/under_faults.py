"""Gossip whose messages are lost, on quadratics: means and spread of its iterates."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.sparse import csr_array

from relaysim.algorithms.base import Method
from relaysim.algorithms.events import Algorithm
from relaysim.algorithms.fit import check_compatible, matrices_for
from relaysim.algorithms.tolerance import check_faults
from relaysim.faults import AnyFault, LinkFailure, MessageDrop
from relaysim.faults.edges import numbers_of_links
from relaysim.measures import Measure, Noise
from relaysim.measures.columns import measures_of, values_of
from relaysim.mixing.outcomes import MOST_OUTCOMES
from relaysim.mixing.sequences import Mixing
from relaysim.problems import Problem
from relaysim.support.checks import (
    noise_variances,
    real_array,
    real_number,
    require_memory,
    whole_number,
)
from relaysim.support.display import LATER, html_table
from relaysim.support.progress import progress_bar
from relaysim.support.starts import starting_points
from relaysim.theory.known_losses import (
    AnyLoss,
    arrival_chances,
    arrivals_in,
    chains_of,
    known_fault,
    things_of,
    without_memory,
)
from relaysim.theory.loss_moments import Lossy, LossyPeriod, Moments, Pairs
from relaysim.theory.lost_weights import LostWeights, lost_weights, weights_left
from relaysim.theory.mixed_step import MixedStep, WeightedStep
from relaysim.theory.spectra import NEUTRAL
from relaysim.topologies import Topology

__all__ = ["UnderFaults", "under_faults"]


def under_faults(
    problem: Problem,
    topology: Topology,
    algorithm: Algorithm,
    learning_rate: float,
    faults: AnyFault,
    x0: ArrayLike | None = None,
    mixing: Mixing | None = None,
    measures: Sequence[Any] | None = None,
) -> UnderFaults:
    """The first two moments of a method of gossip whose messages are lost, on quadratics, exactly.

    A row of W' has the weights of what was heard, scaled to sum to 1, so that W' is not affine in what
    arrives. Its rows depend on messages to different workers, though: with independent losses

        E[W' ⊗ W'] = E W' ⊗ E W' + Σ_i (1_i 1_iᵀ) ⊗ Cov(w'_i),

    and what a link takes from both its ends adds a term for each link. The covariances are sums over how many
    messages of each weight and probability arrive. Both the weights and what a step makes of them are taken
    from the package's own network and from the method's own step.

    Exact, and so what is known:

    - `relaysim.faults.MessageDrop`, at any size.
    - `LinkFailure` with repair = 1 − fail, and `BurstLoss` with recover = 1 − lose, where nothing is
      remembered: likewise.
    - Other `LinkFailure` and `BurstLoss`: moments together with which links, or directed edges, are down, for
      12 of them at most.

    Args:
        problem: n workers, d parameters; every ∇f_i is affine. At learning rate 0 nobody learns: averaging.
        topology, mixing: as for `relaysim.simulate`; weights that are not drawn.
        algorithm: one that mixes and whose step is affine in its state, such as `DPSGD`.
        learning_rate: γ ≥ 0, constant.
        faults: one of the above.
        x0: ``(d,)`` or ``(n, d)``; zeros by default.
        measures: further columns, as for `relaysim.simulate`.

    Raises:
        TypeError: gradients, or a method, that are not affine.
        ValueError: what `relaysim.simulate` refuses too, another fault, or too many ways in which messages
            may be lost.

    Source: derived here; without losses, Boyd, Ghosh, Prabhakar, Shah, "Randomized gossip algorithms", IEEE
    Transactions on Information Theory 2006, section II.

    >>> import relaysim as rs
    >>> problem = rs.problems.random_quadratics(n=8, d=2, zeta2=1.0, seed=0)
    >>> given = problem, rs.topologies.ring(8), rs.algorithms.DPSGD()
    >>> lossy = under_faults(*given, 0.1, rs.faults.MessageDrop(0.2))
    >>> whole = under_faults(*given, 0.1, rs.faults.MessageDrop(0.0))
    >>> [round(float(found.stationary(0.1).distance), 4) for found in (whole, lossy)]
    [0.0229, 0.0361]
    """
    check_compatible(problem, topology, algorithm)
    rate = real_number(learning_rate, "learning_rate", 0)
    fault = known_fault(faults)
    if algorithm.uses == "relay":
        raise ValueError(
            f"{algorithm!r} relays, and what is lost of a sum that was relayed stays with its next steps: of "
            f"its moments only the mean is known, see relaysim.theory.relay_under_faults"
        )
    matrices = matrices_for(algorithm, topology, mixing)
    check_faults(fault, topology, algorithm, matrices)
    if not isinstance(algorithm, Method) or not algorithm.affine:
        raise TypeError(
            f"{algorithm!r} is not affine: what it does depends on the data or on chance, so that its "
            f"moments are not known; use relaysim.simulate"
        )
    if not matrices:
        raise ValueError(
            f"{algorithm!r} does not mix with weights that messages carry; simulate it"
        )
    start = starting_points(None if x0 is None else real_array(x0, "x0"), problem, None)
    return UnderFaults(problem, topology, algorithm, rate, fault, matrices, start, measures)


class UnderFaults:
    """Means, spread, rates and floor of a method whose messages are lost; see `under_faults`.

    Attributes:
        problem, topology, algorithm, learning_rate, faults: what it was made of.
        period: steps after which the matrices, or the method's own rule, repeat.
        states: N, the length of the state y.
        measures: what is measured, those that have an expectation.
    """

    def __init__(
        self,
        problem: Problem,
        topology: Topology,
        algorithm: Method,
        learning_rate: float,
        faults: AnyLoss,
        matrices: tuple[csr_array, ...],
        x0: np.ndarray,
        measures: Sequence[Any] | None = None,
    ):
        self.problem, self.topology, self.algorithm = problem, topology, algorithm
        self.learning_rate, self.faults = learning_rate, faults
        known = [each for each in measures_of(problem, measures) if each.expectation is not None]
        self.measures: tuple[Measure, ...] = tuple(known)
        self._chains = chains_of(faults, topology)
        if self._chains is not None and 2**self._chains.things > MOST_OUTCOMES:
            raise ValueError(
                f"each of {self._chains.things} {things_of(faults)} is up or down for a while, in "
                f"{2.0**self._chains.things:.4g} ways, and {MOST_OUTCOMES} at most are followed; take fewer "
                f"edges, {without_memory(faults)}, or simulate it"
            )
        # What is lost of a vector says nothing of another one in the same step.
        alike = not isinstance(faults, MessageDrop) or faults.never
        self._step = MixedStep(problem, topology, algorithm, learning_rate, matrices, x0, alike)
        self.period, self.states = self._step.period, self._step.states
        if self._chains is not None:
            needed = 4 * 8 * 2.0**self._chains.things * self.states * (2 * self.states + 1)
            require_memory(
                self.period * needed,
                f"the moments of {self.states} numbers in {2**self._chains.things} cases",
                "take fewer edges, workers or parameters, or simulate it",
            )
        lossy = [self._lossy(step) for step in self._step.steps]
        self._moments = LossyPeriod(lossy, self._chains)

    def _repr_html_(self) -> str:
        names = ("problem", "topology", "learning_rate", "faults", "states", "period")
        rows: list[tuple[str, object]] = [
            (name.replace("_", " "), getattr(self, name)) for name in names
        ]
        rows.append(("ρ of second moments a step", self.rate if "rate" in self.__dict__ else LATER))
        return html_table(f"{self.algorithm!r} under faults", rows)

    def _lossy(self, step: WeightedStep) -> Lossy:
        """A step as messages are lost."""
        if self._chains is not None:
            arrived = arrivals_in(self.faults, self._chains, self.topology, step.edges)
            weights = weights_left(step.W, arrived, step.laziness)
            return Lossy(self._step.mixed(step, weights.T[:, None]))
        arrive = arrival_chances(self.faults, self.topology, step.edges)
        left = lost_weights(step.W, arrive, step.laziness)
        pairs = self._pairs(step, left, arrive)
        return Lossy(self._step.mixed(step, left.mean[None, None]), pairs)

    def _pairs(self, step: WeightedStep, left: LostWeights, arrive: np.ndarray) -> Pairs:
        offsets = np.searchsorted(step.edges[:, 1], np.arange(self.problem.n + 1))
        of_row, of_message = [], []
        each = itertools.product(step.responses, enumerate(itertools.pairwise(offsets)))
        for whole, (i, (first, last)) in each:
            responses = whole[first:last]
            values, vectors = np.linalg.eigh(left.covariances[i])
            kept = values > 0
            directions = vectors[:, kept] * np.sqrt(values[kept])
            of_row.append(np.tensordot(directions.T, responses, 1))
            of_message.append(np.tensordot(left.with_arrivals[i].T, responses, 1))
        receiver = np.tile(np.arange(self.problem.n), len(step.responses))
        own = np.repeat(receiver, [len(part) for part in of_row])
        parts, other = np.concatenate(of_row), np.concatenate(of_message)
        rows = self._step.rows
        if not isinstance(self.faults, LinkFailure) or self.topology.is_directed:
            return Pairs(parts, parts, rows[own], rows[own])
        # A link that is down takes from both its ends: Cov(w_i, w_j) = Cov(w_i, up) Cov(w_j, up)ᵀ / Var(up).
        link = numbers_of_links(self.topology, "state of its own")(step.edges)
        e, f = np.nonzero((link[:, None] == link) & ~np.eye(len(link), dtype=bool))
        varying = (arrive[e] > 0) & (arrive[e] < 1)
        e, f = e[varying], f[varying]
        deviation = np.sqrt(arrive * (1 - arrive))
        scaled = other / np.where(deviation > 0, deviation, 1)[:, None, None]
        first, second = step.edges[e, 1], step.edges[f, 1]
        return Pairs(
            np.concatenate([parts, scaled[e]]),
            np.concatenate([parts, scaled[f]]),
            rows[np.concatenate([own, first])],
            rows[np.concatenate([own, second])],
        )

    # -- rates -----------------------------------------------------------------------------------------

    @functools.cached_property
    def rate(self) -> float:
        """ρ per step with E ‖x_t − x'_t‖² ~ ρ^t for two runs that lose the same, whatever their starts.

        Where losses leave x* as it is E ‖x_t − x*‖² falls like that, else to a floor. 1 where nobody learns.
        """
        return self._rate(np.eye(self.problem.n * self.problem.d, self.states))

    @functools.cached_property
    def consensus_rate(self) -> float:
        """The same of how much workers differ: with learning rate 0, E Ξ²_t ~ ρ^t of averaging."""
        return self._rate(self._apart)

    @functools.cached_property
    def _apart(self) -> np.ndarray:
        """The map from states to x_i − x̄ of all workers, ``(n d, N)``."""
        n, d = self.problem.n, self.problem.d
        found = np.zeros((n * d, self.states))
        found[:, : n * d] = np.kron(np.eye(n) - 1 / n, np.eye(d))
        return found

    @functools.cached_property
    def _disagreement(self) -> tuple[np.ndarray, LossyPeriod] | None:
        """How that moves, where it does so on its own, as where nobody learns."""
        return self._moments.seen_by(self._apart)

    def _rate(self, shown: np.ndarray) -> float:
        return self._moments.rate(self._starts, shown) ** (1 / self.period)

    @functools.cached_property
    def _starts(self) -> np.ndarray:
        """What each number of x0 is in the state, ``(N, n d)``."""
        n, d = self.problem.n, self.problem.d
        unit = np.eye(n * d).reshape(n, d, n * d)
        return self._step.map.begun(unit, np.zeros((n, d, 1)))[1]

    # -- curves ----------------------------------------------------------------------------------------

    def iterates(self, steps: int) -> np.ndarray:
        """E x at steps 0, 1, …, ``(steps + 1, n, d)``; noise of the gradients does not change it."""
        count, size = whole_number(steps, "steps", 0) + 1, self.problem.n * self.problem.d
        means = itertools.islice(self._moments.means(self._step.map.y), count)
        return np.array([each[:size] for each in means]).reshape(
            count, self.problem.n, self.problem.d
        )

    def predict(
        self, steps: int, sigma2: ArrayLike = 0.0, progress: bool | None = None
    ) -> pd.DataFrame:
        """E of the columns of a history at each step, over losses and noise, from x0.

        Args:
            steps: how many.
            sigma2: σ² = E‖g_i − ∇f_i‖², at least 0: one number, or one for each worker, ``(n,)``.
            progress: as for `relaysim.simulate`.
        """
        count, noise = whole_number(steps, "steps", 0) + 1, self._noise(sigma2)
        y, rows, apart = self._step.map.y, list[dict[str, float]](), None
        moments, disagreement = self._moments.begun(y), self._disagreement
        if disagreement is not None:
            basis, moved = disagreement
            apart = moved.begun(basis.T @ y)
        with progress_bar(count, progress, "moments under faults", "steps") as bar:
            for step in range(count):
                rows.append({"step": step} | self._measured(moments, apart))
                moments = self._moments.after(moments, step, noise)
                if apart is not None:
                    apart = moved.after(apart, step, noise)
                bar.update()
        return pd.DataFrame(rows)

    def stationary(self, sigma2: ArrayLike = 0.0) -> pd.Series:
        """What these columns come to at the start of a period, as t → ∞: losses alone may leave a floor.

        Raises:
            ValueError: errors do not decay, or which links are down never settles.
        """
        noise = self._noise(sigma2)
        self._require_rest()
        if self._reached is None:
            return pd.Series(self._measured(self._moments.at_rest(noise)))
        basis, reached = self._reached
        inner = reached.at_rest(noise)
        mean, first = self._step.map.y + basis @ inner.mean, inner.first @ basis.T
        rest = Moments(mean, inner.chances, first, basis @ inner.second @ basis.T)
        return pd.Series(self._measured(rest))

    @property
    def fixed_point(self) -> np.ndarray:
        """lim E x_t, ``(n, d)``, at the start of a period. Its distance from x* is the bias.

        Raises:
            ValueError: as `stationary`.
        """
        self._require_rest()
        n, d = self.problem.n, self.problem.d
        if self._reached is None:
            mean = self._moments.mean_at_rest()[0].sum(axis=0)
        else:
            basis, reached = self._reached
            mean = self._step.map.y + basis @ reached.mean_at_rest()[0].sum(axis=0)
        return mean[: n * d].reshape(n, d)

    @functools.cached_property
    def _reached(self) -> tuple[np.ndarray, LossyPeriod] | None:
        """What is reached from x0, where that is not everything; see `LossyPeriod.reached_from`."""
        return self._moments.reached_from(self._step.map.y, self._starts)

    def _noise(self, sigma2: ArrayLike) -> np.ndarray:
        """Variances of the errors of each number of the gradients, ``(n d,)``."""
        n, d = self.problem.n, self.problem.d
        return np.repeat(np.broadcast_to(noise_variances(sigma2, n), n) / d, d)

    def _require_rest(self) -> None:
        if self.rate >= 1 - NEUTRAL:
            raise ValueError(
                f"{self.algorithm!r} comes to no rest at learning rate {self.learning_rate:g} under "
                f"{self.faults!r}: ρ of its second moments is {self.rate:.6g}, so that errors do not decay; "
                f"predict(steps) has the curve"
            )
        if self._chains is not None and self._chains.fail + self._chains.repair == 2:
            raise ValueError(
                f"under {self.faults!r} everything is down in every other step: nothing settles; "
                f"predict(steps) has the curve"
            )

    def _measured(self, moments: Moments, apart: Moments | None = None) -> dict[str, float]:
        """The columns, of the state's moments, and of those of `_disagreement`, where it moves on its own."""
        n, d = self.problem.n, self.problem.d
        mean = moments.mean[: n * d].reshape(n, d)
        covariance = moments.covariance[: n * d, : n * d].reshape(n, d, n, d)
        together = np.einsum("ikjk->ij", covariance)
        consensus = float(np.trace(together) - together.sum() / n) / n
        if apart is not None and self._disagreement is not None:
            shown = self._apart @ self._disagreement[0]
            consensus = (
                float(np.einsum("ij,jk,ik->", shown, apart.covariance, shown, optimize=True)) / n
            )
        noise = Noise(
            problem=self.problem,
            iterates=mean,
            mean_covariance=covariance.mean(axis=(0, 2)),
            worker_variances=np.diagonal(together).copy(),
            consensus=consensus,
            mean_hessian=self._mean_hessian,
        )
        at_mean = values_of(self.problem, mean[None], self.measures)
        found = {}
        for measure in self.measures:
            assert measure.expectation is not None
            found[measure.name] = measure.expectation(float(at_mean[measure.name][0, 0]), noise)
        return found

    @functools.cached_property
    def _mean_hessian(self) -> np.ndarray:
        """H̄, ``(d, d)``."""
        n, d = self.problem.n, self.problem.d
        directions = np.ascontiguousarray(np.broadcast_to(np.eye(d), (n, d, d)))
        return self._step.map.curvature(directions).mean(axis=0)
