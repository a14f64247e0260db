"""How far noisy gradients spread the iterates: stationary covariances of affine maps, as far as asked for.

P = A P Aᵀ + B Bᵀ. Of x̄ alone, which suboptimality and gradient norm know, P is summed from the output's side,
d rows L ← L A, unless so many steps cost more than doubling does: S ← S + M S Mᵀ, M ← M².
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import csr_array, diags_array

from relaysim.measures import Noise
from relaysim.support.checks import require_memory
from relaysim.support.progress import progress_bar
from relaysim.theory.assembly import step_matrix
from relaysim.theory.columns import memory_of_columns, sums_over_columns
from relaysim.theory.decoupling import Coordinates
from relaysim.theory.durations import columns_seconds, covariance_seconds, rows_seconds
from relaysim.theory.groups import conserved_in, groups_of, part_of, stack_of
from relaysim.theory.lasting import (
    Lasting,
    doubled,
    lasting,
    memory_of_doubling,
    steps_to_rest,
    summed,
)
from relaysim.theory.spectra import deflated, fingerprint, product, projector

__all__ = ["Floor", "NoiseWhenAsked", "Spread"]

# Multiplications in a doubling, for states (N, N), and how many of them take the time of one in a sparse row.
DOUBLING, DENSE_GAIN = 6, 10
# Fewer states are not worth the search for what is left of them.
LARGE = 300
# Of all columns in all steps this share is moved, until fewer do.
OF_COLUMNS = 0.5
# Groups of at most so many states are handled together.
STACKED = 16


class Spread(NamedTuple):
    """About a fixed point: the covariance of x̄, ``(d, d)``, E‖x_i − E x_i‖² ``(n,)``, and that of Ξ²."""

    mean: np.ndarray
    workers: np.ndarray
    consensus: float


class Floor:
    """The spread of the iterates at each step of a period, for σ² = 1.

    Args:
        coordinates: of the method's state.
        radius: its spectral radius, below 1.
        shares: of each worker's σ² in the highest, ``(n,)``; where they differ, coordinates have no modes.
    """

    def __init__(self, coordinates: Coordinates, radius: float, shares: np.ndarray):
        self.step, self._radius = coordinates.step, radius
        self._coordinates = coordinates
        self._n, self._d = coordinates.step.size
        self._matrices = coordinates.matrices
        deviations = diags_array(np.repeat(np.sqrt(shares / self._d), self._d))
        self._noise = [csr_array(B @ deviations) for B in coordinates.noise]
        self._conserved = coordinates.conserved
        V = coordinates.workers
        self._weights = np.full(self._n, 1 / self._n) if V is None else V.mean(axis=0)

    @functools.cached_property
    def means(self) -> list[np.ndarray]:
        """Covariances of x̄, ``(d, d)``."""
        if "spreads" in self.__dict__ or not self._rows_pay():
            return [spread.mean for spread in self.spreads]
        return [self._turned(self._mean_by_rows(phase)) for phase in range(len(self._matrices))]

    def _steps_to_rest(self) -> float:
        """After which nothing is left but rounding."""
        return steps_to_rest(self._radius, self.step.states)

    def _rows_pay(self) -> bool:
        steps, states = self._steps_to_rest(), self.step.states
        entries = sum(A.nnz for A in self._matrices) / len(self._matrices)
        by_rows = steps * len(self._matrices) * self._d * (entries + 10 * states)
        return by_rows < self._doubling()

    def _doubling(self) -> float:
        """What doubling takes, in entries of sparse rows that are multiplied."""
        doublings = max(math.log2(max(self._steps_to_rest(), 2)), 1)
        largest = max(len(rows) for rows in self._groups)
        return doublings * DOUBLING * largest**2 * self.step.states / DENSE_GAIN

    def _columns_pay(self) -> bool:
        """Whether all that errors make is sooner moved step by step, by the method's own rule."""
        n, d, states = self._n, self._d, self.step.states
        where = self._coordinates
        if states <= LARGE or where.parameters is not None or where.workers is not None:
            return False
        a_step = n * d * d + 10 * states
        by_columns = self._steps_to_rest() * len(self._matrices) ** 2 * n * d * a_step
        return by_columns < self._doubling() and self._lasting is None

    def _by_columns(self) -> list[Spread]:
        n, d = self._n, self._d
        self._require(self._memory_of_columns())
        sums = sums_over_columns(
            self.step.linear, self._noise, projector(self._conserved), (n, d), self._radius
        )
        each = zip(sums.mean, sums.workers, sums.consensus, strict=True)
        return [Spread(mean, workers, float(apart) / n) for mean, workers, apart in each]

    def _memory_of_columns(self) -> float:
        n, d = self._n, self._d
        edges = max((W.nnz for W in self.step.mixing_matrices), default=0) / 2
        return memory_of_columns(self.step.states, n * d, d * edges)

    def seconds(self, of_mean: bool) -> float:
        """An estimate of what is left to compute, of x̄ alone or of all."""
        done = "spreads" in self.__dict__ or (of_mean and "means" in self.__dict__)
        if done:
            return 0.0
        if of_mean and self._rows_pay():
            step = rows_seconds(self._matrices, self._noise, self._d)
            return len(self._matrices) * self._steps_to_rest() * step
        if self._columns_pay():
            step = columns_seconds(self.step, self._n * self._d)
            return OF_COLUMNS * len(self._matrices) ** 2 * self._steps_to_rest() * step
        total, steps = 0.0, self._steps_to_rest()
        for rows in self._groups:
            whole = self._lasting if len(rows) == self.step.states else None
            left = len(rows) if whole is None else whole.dimensions
            total += covariance_seconds(len(rows), left, steps)
        return total

    def _mean_by_rows(self, phase: int) -> np.ndarray:
        """Σ_k (L A^k B)(L A^k B)ᵀ, L that of x̄, backwards from this step of the period."""
        transposed = [
            (csr_array(A.T), csr_array(B.T))
            for A, B in zip(self._matrices, self._noise, strict=True)
        ]
        order = [transposed[(phase - 1 - k) % len(transposed)] for k in range(len(transposed))]

        def period(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            gram = np.zeros((rows.shape[1],) * 2)
            for A, B in order:
                shown = B @ rows
                gram += shown.T @ shown
                rows = A @ rows
                bar.update()
            return rows, gram

        start = np.zeros((self.step.states, self._d))
        start[: self._n * self._d] = np.kron(self._weights[:, None], np.eye(self._d))
        with progress_bar(math.ceil(self._steps_to_rest()), None, "noise floor", "steps") as bar:
            return summed(period, start, self._radius ** len(transposed))

    @functools.cached_property
    def _groups(self) -> list[np.ndarray]:
        reached = [B @ B.T for B in self._noise]
        kept = self._conserved.T @ self._conserved
        return list(groups_of([*self._matrices, *reached, kept]))

    @functools.cached_property
    def spreads(self) -> list[Spread]:
        """All of it."""
        if self._columns_pay():
            return self._by_columns()
        n, d, V = self._n, self._d, self._coordinates.workers
        if self._lasting is None:
            self._require(memory_of_doubling(max(len(rows) for rows in self._groups)))
        else:
            self._require(self._lasting.memory(self.step.states, n * d))
        means = np.zeros((len(self._matrices), d, d))
        together = [csr_array((n, n)) for _ in self._matrices]  # Σ_k Cov(x_ik, x_jk)
        for rows, covariances in self._covariances():
            shown = (rows < n * d).any(axis=0)
            workers, parameters = np.divmod(rows[:, shown], d)
            inside = workers < n
            both = inside[:, :, None] & inside[:, None, :]
            g, i, j = np.nonzero(both & (parameters[:, :, None] == parameters[:, None, :]))
            pair = workers[g, i], workers[g, j]
            weights = np.where(inside, self._weights[np.minimum(workers, n - 1)], 0.0)
            to_mean = weights[:, None, :] * (parameters[:, None, :] == np.arange(d)[:, None])
            for phase, covariance in enumerate(covariances):
                own = covariance[:, shown][:, :, shown]
                means[phase] += (to_mean @ own @ to_mean.mT).sum(axis=0)
                together[phase] += csr_array((own[g, i, j], pair), shape=(n, n))
        found = []
        one = self._weights / np.linalg.norm(self._weights)
        for mean, covariance in zip(means, together, strict=True):
            along = covariance @ one
            apart = covariance.diagonal() - 2 * one * along + one**2 * (one @ along)
            variances = (
                covariance.diagonal() if V is None else (V * (covariance @ V.T).T).sum(axis=1)
            )
            found.append(Spread(self._turned(mean), variances, float(apart.sum()) / n))
        return found

    def _require(self, needed: float) -> None:
        require_memory(
            needed,
            f"the covariance of {self.step.states} states",
            "take fewer workers or parameters, or ask for columns=['suboptimality'] alone",
        )

    def _turned(self, mean: np.ndarray) -> np.ndarray:
        U = self._coordinates.parameters
        return mean if U is None else U @ mean @ U.T

    def _covariances(self) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
        """For groups of a size their rows, ``(g, s)``, and P_0, … P_{m−1}, ``(g, s, s)``."""
        large = sum(len(rows) > STACKED for rows in self._groups)
        doublings = max(large, 1) * math.ceil(math.log2(max(self._steps_to_rest(), 2)))
        with progress_bar(doublings, None, "noise floor", "doublings") as bar:
            yield from self._by_group(bar.update)

    def _by_group(
        self, advanced: Callable[[], object]
    ) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
        sources = [csr_array(B @ B.T) for B in self._noise]
        touched = np.bincount(self._conserved.indices, minlength=self.step.states) > 0
        small: dict[int, list[np.ndarray]] = {}
        known: dict[tuple, list[np.ndarray]] = {}
        for rows in self._groups:
            if len(rows) <= STACKED and not touched[rows].any():
                small.setdefault(len(rows), []).append(rows)
                continue
            parts = [part_of(A, rows) for A in self._matrices]
            inputs = [part_of(source, rows) for source in sources]
            kept = conserved_in(self._conserved, rows)
            key = tuple(map(fingerprint, (*parts, *inputs, kept)))
            if len(rows) == self.step.states and self._lasting is not None:
                shown = self._n * self._d
                found = self._lasting.covariance(parts[0], self._noise[0], kept, shown, advanced)
                if found is not None:
                    yield rows[None, :shown], [found[None]]
                    continue
                self._require(memory_of_doubling(len(rows)))
            if key not in known:
                known[key] = _covariances(parts, inputs, kept, advanced)
            yield rows[None], [each[None] for each in known[key]]
        for each in small.values():
            stacked = np.array(each)
            maps = [stack_of(A, stacked) for A in self._matrices]
            inputs_of = [stack_of(source, stacked) for source in sources]
            yield stacked, _stacked_covariances(maps, inputs_of)

    @functools.cached_property
    def _lasting(self) -> Lasting | None:
        """What is left of a state after some steps, where that is much less than all."""
        rows, d = self.step.rows, self._d
        if rows is None or d == 1 or len(self._matrices) > 1 or self.step.states <= LARGE:
            return None
        random = np.random.default_rng(6).uniform(0.2, 1.0, self._n)
        curvatures = np.repeat(random[:, None] * self.step.curvature_scale, d, axis=1)
        found = step_matrix(self.step, 0, 1.0, curvatures)
        if found is None:
            return None
        one = deflated(csr_array(found[::d, ::d]), csr_array(self._conserved[::d, ::d]))
        return lasting(one, d)


def _covariances(
    matrices: list[csr_array],
    sources: list[csr_array],
    conserved: csr_array,
    advanced: Callable[[], object] = lambda: None,
) -> list[np.ndarray]:
    start = sources[0].toarray()
    for A, source in zip(matrices[1:], sources[1:], strict=True):
        start = _propagated(start, A, source)
    found = [doubled(deflated(product(matrices), conserved), start, advanced)]
    for A_k, source in zip(matrices[:-1], sources[:-1], strict=True):
        found.append(_propagated(found[-1], A_k, source))
    return found


def _propagated(covariance: np.ndarray, A: csr_array, source: csr_array) -> np.ndarray:
    return A @ (A @ covariance).T + source.toarray()


def _stacked_covariances(
    maps: Sequence[np.ndarray], sources: Sequence[np.ndarray]
) -> list[np.ndarray]:
    start, whole = np.zeros_like(maps[0]), None
    for A, source in zip(maps, sources, strict=True):
        start = A @ start @ A.mT + source
        whole = A if whole is None else A @ whole
    assert whole is not None
    found = [doubled(whole, start)]
    for A, source in zip(maps[:-1], sources[:-1], strict=True):
        found.append(A @ found[-1] @ A.mT + source)
    return found


class NoiseWhenAsked(Noise):
    """A `Noise` whose parts beyond x̄ are computed when a measure asks for them."""

    _floor: Floor
    _phase: int
    _sigma2: float

    @classmethod
    def of(
        cls, floor: Floor, phase: int, sigma2: float, iterates: np.ndarray, mean_hessian: np.ndarray
    ) -> NoiseWhenAsked:
        """That of a step of a period."""
        found = cls.__new__(cls)
        members = {
            "problem": floor.step.problem,
            "iterates": iterates,
            "mean_hessian": mean_hessian,
            "mean_covariance": sigma2 * floor.means[phase],
            "_floor": floor,
            "_phase": phase,
            "_sigma2": sigma2,
        }
        for name, value in members.items():
            object.__setattr__(found, name, value)
        return found

    def __getattr__(self, name: str) -> Any:
        if name == "worker_variances":
            return self._sigma2 * self._floor.spreads[self._phase].workers
        if name == "consensus":
            # Of workers that are never apart rounding may leave less than nothing.
            return max(float(self._sigma2 * self._floor.spreads[self._phase].consensus), 0.0)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
