"""An algorithm's own step on a quadratic problem as an affine map y ← A y + b of its flattened state.

The map is taken from ``step``, applied to many states at once as replicas; there is no second copy of
any rule. y holds everything that depends on the data: iterates first, then momentum, corrections,
messages. Counts of who has been heard and the masses of push-sum do not, and are first brought to where they
stay, or repeat with the matrices; the steps before that, in which other rules hold, are run as they are.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.linalg import LinearOperator

from relaysim.algorithms.base import Method, Rate, Round
from relaysim.algorithms.events import Algorithm
from relaysim.algorithms.fit import cycle_of
from relaysim.network import Network
from relaysim.oracles import Exact
from relaysim.problems import Problem
from relaysim.problems.workers import Workers
from relaysim.support.callbacks import answer, ask
from relaysim.support.streams import Streams
from relaysim.support.workspace import Workspace
from relaysim.theory.assembly import close, conserved_matrix, noise_matrix, step_matrix
from relaysim.theory.probes import Probes, probes_of
from relaysim.theory.state_arrays import change_of_counts, data_of, rebuilt
from relaysim.topologies import Topology, TreePair

__all__ = ["AffineStep", "Counting", "left_vectors"]

# A method that needs more steps than this to become steady is taken for one that never does.
MOST_STARTING_STEPS = 1 << 20
# Relative changes from one period to the next with which what converges is about to rest.
ROUNDING = 2.0**-49
# A step may leave nothing but rounding, less than this of iterates, or of their gradients.
DEAD = 1e-10
# Periods later, a rule is looked at again.
OTHER_PERIODS = (1, 2, 3, 5, 7)

Gradient = Callable[[np.ndarray], np.ndarray]


class Counting(Network):
    """A network that lists what was sent in a step; steps of any number of columns follow each other."""

    sendings: list[Any]

    def send(self, vectors: float | np.ndarray) -> None:
        self.sendings.append(vectors)


class AffineStep:
    """The affine map of a method at a constant learning rate.

    Args:
        problem, topology, algorithm: checked by `relaysim.algorithms.fit.check_compatible`.
        learning_rate: γ, or ``(n, 1, 1)`` with one for each worker.
        matrices: the gossip matrices, checked, as from `relaysim.algorithms.fit.matrices_for`.
        x0: ``(n, d)``.
        network: makes the network that steps see.

    Attributes:
        period: steps after which the mixing matrices, and the method's own rule, repeat.
        states: N, the length of y: what varies of the state, iterates first.
        start_up: steps before the map holds, a multiple of the period.
        starting: the iterates ``(n, d)`` of these steps.
        sent: vectors sent before each step up to ``start_up``.
        y: the state ``(N,)`` at that step.
        units: what an entry of y is held in, ``(N,)``.
        curvature_scale: the size of curvatures.
        mixing_matrices: as given.

    Raises:
        TypeError: gradients or a step that are not affine.
    """

    def __init__(
        self,
        problem: Problem,
        topology: Topology | TreePair,
        algorithm: Algorithm,
        learning_rate: Rate,
        matrices: tuple[csr_array, ...],
        x0: np.ndarray,
        network: Callable[..., Counting] = Counting,
    ):
        if not isinstance(algorithm, Method) or not algorithm.affine:
            raise TypeError(
                f"{algorithm!r} is not affine: what it does depends on the data or on chance, so that it "
                f"has no matrix; use relaysim.simulate"
            )
        self.problem, self.algorithm = problem, algorithm
        self.learning_rate, self.mixing_matrices = learning_rate, matrices
        self.period = cycle_of(algorithm, matrices)
        self._network = network(topology, matrices, Workspace(), workers=Workers(problem))
        self._network.sendings = []
        self._round = Round(self._gradient, self._network, Workspace(), self._no_numbers)
        self._round.learning_rate = learning_rate
        self._observe = Exact().observe(problem, Streams([0], np.zeros(1, dtype=np.intp)))
        self.curvature_scale = 1.0
        self._require_affine_gradients()
        # With a replica axis the arrays that depend on the data are those with three axes.
        state = algorithm.init(x0[..., None], self._network)
        self._shapes = [part.shape[:2] for part in data_of(state)]
        self._ends = np.cumsum([0, *(math.prod(shape) for shape in self._shapes)])
        self._start(state)
        self._require_affine_step()

    # -- gradients -----------------------------------------------------------------------------------

    def _gradient(self, x: np.ndarray) -> np.ndarray:
        return self._observe(x, np.empty(x.shape))

    def curvature(self, x: np.ndarray) -> np.ndarray:
        """H_i x_i, the gradients without their constant part."""
        if hasattr(self.problem, "hessian_product"):
            found = ask(self.problem.hessian_product, "hessian_product", x)
            return answer(found, "hessian_product", x.shape)
        # Far from 0, where the difference is not small beside the constant part.
        far = self._far
        return (self._gradient(far * x) - self._gradient(np.zeros(x.shape))) / far

    def _require_affine_gradients(self) -> None:
        if getattr(self.problem, "regularizer", None) is not None:
            raise TypeError(
                f"{self.problem!r} is not quadratic: its proximal step is not affine, so that no method "
                f"on it has a matrix; use relaysim.simulate, or the problem without that term"
            )
        u, v = np.random.default_rng(0).normal(size=(2, self.problem.n, self.problem.d, 1))
        constant = self._gradient(np.zeros(u.shape))
        change = np.abs(self._gradient(u) - constant).max()
        offset = np.abs(constant).max()
        self._far = 2.0 ** math.ceil(math.log2(max(offset / change, 1))) if change else 1.0
        at_u, at_v, at_sum = (self.curvature(x) for x in (u, 2 * v, u + 2 * v))
        direct = (self._gradient(self._far * u) - constant) / self._far
        if not close(direct, at_u, offset / self._far):
            raise TypeError(
                f"hessian_product of {self.problem!r} does not fit its gradient; it must give the "
                f"gradients without their constant part"
            )
        self.curvature_scale = float(np.abs(at_u).max())
        if not close(at_sum, at_u + at_v, offset / self._far):
            raise TypeError(
                f"{self.problem!r} is not quadratic: its gradients are not affine, so that no method "
                f"on it has a matrix; use relaysim.simulate, or a quadratic such as "
                f"relaysim.problems.LeastSquares"
            )

    def _no_numbers(self, shape: tuple[int, ...]) -> np.ndarray:
        raise TypeError(
            f"{self.algorithm!r} draws random numbers, so that its step is no fixed map of its state; "
            f"use relaysim.simulate"
        )

    # -- the state -----------------------------------------------------------------------------------

    def _start(self, state: Any) -> None:
        """Step, a period at a time, until only what depends on the data still changes in one."""
        self.starting: list[np.ndarray] = []
        self.sent: list[float | np.ndarray] = [0]
        nearly_since: int | None = None
        total = sum(self._network.sendings)
        with np.errstate(all="ignore"):
            while True:
                step = len(self.starting)
                states, sent = [state], []
                for phase in range(self.period):
                    states.append(self._step(states[-1], step + phase, self._gradient))
                    total = total + sum(self._network.sendings)
                    sent.append(total)
                changed = change_of_counts(state, states[-1])
                if not changed <= ROUNDING:
                    nearly_since = None
                elif nearly_since is None:
                    nearly_since = step
                # What converges comes to rest an eighth of the way later, or goes on in its last digit.
                if changed == 0 or (nearly_since is not None and 8 * step >= 9 * nearly_since + 64):
                    break
                if step >= MOST_STARTING_STEPS:
                    raise TypeError(
                        f"{self.algorithm!r} does not become steady: what in its state does not "
                        f"depend on the data still changes after {step} steps"
                    )
                self.starting += [each.x[..., 0] for each in states[:-1]]
                self.sent += sent
                state = states[-1]
        self.start_up = step
        self._templates = states[:-1]
        self._constants = np.zeros(self._ends[-1])
        self._varying = np.arange(self._ends[-1])
        self.units = np.ones(len(self._varying))
        varying = self._find_varying()
        everything = self._flatten(state)[:, 0]
        self._constants = np.where(varying, 0, everything)
        self._varying = np.flatnonzero(varying)
        self.states = len(self._varying)
        self.units = np.ones(self.states)
        self.units = self._find_scales()
        self.y = everything[varying] / self.units

    def _step(self, state: Any, step: int, gradient: Gradient) -> Any:
        self._round.step = step
        self._round.gradient = gradient
        self._network.sendings = []
        return self.algorithm.step(state, self._round)

    def _find_varying(self) -> np.ndarray:
        """False in arrays that a step hands on whatever they hold, such as a copy of x0."""
        random = np.random.default_rng(1).normal(size=(len(self._varying), 1))
        changed = np.zeros(len(random), dtype=bool)
        for phase in range(self.period):
            given = self._unflatten(random, phase)
            following = self._step(given, self.start_up + phase, self.curvature)
            changed |= (self._flatten(following) != random)[:, 0]
        for k in range(len(self._shapes)):
            part = slice(self._ends[k], self._ends[k + 1])
            changed[part] = k == 0 or changed[part].any()  # the iterates come first
        return changed

    def _find_scales(self) -> np.ndarray:
        """The size that each array has where iterates have size 1, ``(N,)``.

        y holds everything in these units, so that nothing depends on the units of the gradients.
        """
        scales = np.ones(self.states)
        y = np.zeros((self.states, 1))
        count = self.problem.n * self.problem.d
        start = np.random.default_rng(3).normal(size=count)
        y[:count, 0] = start
        largest = np.zeros(len(self._shapes))
        size = np.abs(start).max()
        for phase in range(4):
            y = self.linear(y, phase)
            if not np.isfinite(y).all():
                break
            left = np.abs(y[:count]).max()
            size = max(size, left)
            for k in range(1, len(self._shapes)):
                part = np.abs(y[self._part(k)]).max(initial=0)
                largest[k] = max(largest[k], part / size)
            if left < DEAD * size:  # rounding, which tells nothing of what comes from iterates
                y[:count, 0] = start
        least = min(1.0, self.curvature_scale)
        for k in range(1, len(self._shapes)):
            if largest[k] > DEAD * least:
                scales[self._part(k)] = 2.0 ** round(math.log2(largest[k]))  # exact
        return scales

    @property
    def size(self) -> tuple[int, int]:
        """(n, d)."""
        return self.problem.n, self.problem.d

    @property
    def rows(self) -> int | None:
        """R where the state is R rows of d parameters, else None."""
        d = self.problem.d
        return self.states // d if all(shape[1] == d for shape in self._shapes) else None

    @property
    def workers(self) -> np.ndarray | None:
        """Whose each entry of y is, ``(N,)``; None where arrays have not a row for each worker."""
        n = self.problem.n
        if any(rows not in (0, n) for rows, _ in self._shapes):
            return None
        each = [np.repeat(np.arange(rows), columns) for rows, columns in self._shapes]
        return np.concatenate(each)[self._varying]

    @functools.cached_property
    def probes(self) -> Probes | None:
        """Of a row for each worker; None where unit vectors have to do, as with messages of each edge."""
        topology, own, (n, d) = self._network.topology, self.workers, self.size
        if own is None or not isinstance(topology, Topology):
            return None
        if not np.array_equal(own[::d], np.resize(np.arange(n), len(own) // d)):
            return None
        edges = csr_array((np.ones(len(topology.edges)), topology.edges.T), shape=(n, n))
        return probes_of(csr_array(sum((abs(W) for W in self.mixing_matrices), start=edges)))

    def _part(self, k: int) -> slice:
        """Where the k-th array lies in y."""
        return slice(*np.searchsorted(self._varying, self._ends[k : k + 2]))

    def _flatten(self, state: Any) -> np.ndarray:
        """What varies of a state, ``(N, r)``."""
        everything = np.concatenate([part.reshape(-1, part.shape[2]) for part in data_of(state)])
        found: np.ndarray = everything if self._all_vary else everything[self._varying]
        found /= self.units[:, None]
        return found

    def _unflatten(self, y: np.ndarray, phase: int, constants: np.ndarray | None = None) -> Any:
        """The steady state that holds these data, ``(N, r)``, and constants, or 0 in their place."""
        if self._all_vary:
            everything = y * self.units[:, None]
        else:
            everything = np.zeros((self._ends[-1], y.shape[1]))
            if constants is not None:
                everything[:] = constants[:, None]
            everything[self._varying] = y * self.units[:, None]
        pieces = zip(self._shapes, self._ends, self._ends[1:], strict=False)
        parts = iter([everything[a:b].reshape(*shape, y.shape[1]) for shape, a, b in pieces])
        return rebuilt(self._templates[phase % self.period], parts)

    @property
    def _all_vary(self) -> bool:
        return len(self._varying) == self._ends[-1]

    # -- the map -------------------------------------------------------------------------------------

    def linear(self, y: np.ndarray, phase: int) -> np.ndarray:
        """A y for states ``(N, r)``, in the step ``start_up + phase``."""
        return self.response(y, phase, self.curvature)

    def response(
        self, y: np.ndarray, phase: int, gradient: Gradient, constants: np.ndarray | None = None
    ) -> np.ndarray:
        """What a step with these gradients makes of states ``(N, r)``, its counts and masses as they are."""
        state = self._unflatten(y, phase, constants)
        return self._flatten(self._step(state, self.start_up + phase, gradient))

    def _require_affine_step(self) -> None:
        u, v = np.random.default_rng(2).normal(size=(2, self.states, 1))
        size = 1 + float(np.max(self.learning_rate)) * self.curvature_scale
        for phase in range(self.period):
            at_u, at_v, at_sum = (self.linear(y, phase) for y in (u, 2 * v, u + 2 * v))
            for later in OTHER_PERIODS:
                if not close(self.linear(u, phase + later * self.period), at_u, size):
                    raise TypeError(
                        f"the rule of {self.algorithm!r} changes with the number of the step and does "
                        f"not repeat after {self.period} steps; give it an attribute `cycle`, the steps "
                        f"after which it does"
                    )
            if not close(at_sum, at_u + at_v, size):
                raise TypeError(
                    f"{self.algorithm!r} is not affine: its step of a sum of states is not the sum "
                    f"of its steps, so that it has no matrix; use relaysim.simulate"
                )

    @property
    def operator(self) -> LinearOperator:
        """A over a period, ``(N, N)``."""

        def apply(y: np.ndarray) -> np.ndarray:
            result = np.reshape(y, (self.states, -1)).astype(float)
            for phase in range(self.period):
                result = self.linear(result, phase)
            return result.reshape(y.shape)

        shape = (self.states, self.states)
        return LinearOperator(shape, matvec=apply, matmat=apply, dtype=np.float64)

    @functools.cached_property
    def matrices(self) -> list[csr_array]:
        """A of each step of a period, ``(N, N)``."""
        return self.matrices_at(self.learning_rate)

    def matrices_at(self, learning_rate: Rate) -> list[csr_array]:
        """The same at another rate, in the units of this one."""
        with self.at(learning_rate):
            size = 1 + float(np.max(learning_rate)) * self.curvature_scale
            found = [step_matrix(self, phase, size) for phase in range(self.period)]
        return [A for A in found if A is not None]

    def quantities_at(self, learning_rate: Rate) -> csr_array:
        """What the algorithm says it conserves at a rate, as a matrix ``(k, N)``."""
        with self.at(learning_rate):
            if self.algorithm.conserved(self._templates[0], self._network, learning_rate) is None:
                return csr_array((0, self.states))
            return conserved_matrix(self, 1.0)

    def conserved_by(self, y: np.ndarray) -> np.ndarray:
        """The conserved quantities of states ``(N, r)``, ``(k, r)``."""
        state = self._unflatten(y, 0)
        found = self.algorithm.conserved(state, self._network, self._round.learning_rate)
        assert found is not None, "what one state conserves all do"
        return found.reshape(-1, y.shape[1])

    @contextlib.contextmanager
    def at(self, learning_rate: Rate) -> Iterator[None]:
        """Steps at another rate."""
        kept, self._round.learning_rate = self._round.learning_rate, learning_rate
        try:
            yield
        finally:
            self._round.learning_rate = kept

    @functools.cached_property
    def offsets(self) -> list[np.ndarray]:
        """b of each step of a period, ``(N,)``."""
        rest = np.zeros((self.states, 1))
        return [
            self.response(rest, phase, self._gradient, self._constants)[:, 0]
            for phase in range(self.period)
        ]

    def begun(self, x0: np.ndarray, at_zero: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
        """The iterates before the map holds, and the state then ``(N, r)``, of other runs at once.

        Args:
            x0: their starts, ``(n, d, r)``.
            at_zero: the constant part of their gradients, likewise.
        """
        state = self.algorithm.init(x0, self._network)
        iterates = []
        for step in range(self.start_up):
            iterates.append(state.x)
            state = self._step(state, step, lambda x: self.curvature(x) + at_zero)
        return iterates, self._flatten(state)

    @functools.cached_property
    def noise(self) -> list[csr_array]:
        """How errors of the gradients enter the state in each step of a period, ``(N, n d)``."""
        return [noise_matrix(self, phase) for phase in range(self.period)]

    @functools.cached_property
    def conserved(self) -> csr_array:
        """Left null vectors of A − I, from what the algorithm says it conserves, ``(k, N)``."""
        return left_vectors(self.quantities_at(self.learning_rate), self.matrices[0])

    @functools.cached_property
    def sent_per_step(self) -> list[list[float]]:
        """Vectors sent in each step of a period, a number for each time that some are."""
        counts = []
        for phase in range(self.period):
            self.linear(np.zeros((self.states, 1)), phase)
            counts.append(self._network.sendings)
        return counts


def left_vectors(quantities: csr_array, A: csr_array) -> csr_array:
    """Left null vectors of A − I, ``(k, N)``, from what a rule conserves."""
    # After one more step: y may hold sums that do not fit the messages, which a step mends.
    found = csr_array(quantities @ A)
    found.eliminate_zeros()
    there = np.diff(found.indptr) > 0
    return found if there.all() else found[np.flatnonzero(there)]
