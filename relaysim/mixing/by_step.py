"""Gossip matrices that need not repeat: a callable of the step says which."""

from __future__ import annotations

import copy
import inspect
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeGuard

import numpy as np
from scipy.sparse import csr_array, issparse

from relaysim.mixing.drawn import DrawnMixing
from relaysim.mixing.rounds import is_several_rounds
from relaysim.mixing.sequences import ROWS, Matrix, Mixing, checked
from relaysim.support.checks import whole_number
from relaysim.topologies import Topology

__all__ = ["AnyMixing", "ByStep", "LatticeSchedule", "is_by_step", "lattice_schedule"]

#: A matrix, a sequence that repeats with the step, a callable that has one for each step, or what draws one
#: for each step and replica.
AnyMixing: TypeAlias = Mixing | Callable[[int], Matrix] | DrawnMixing

# So many matrices that a callable gave are known again when it gives them once more.
REMEMBERED = 64


def is_by_step(mixing: object) -> TypeGuard[Callable[[int], Matrix]]:
    """Whether this is a callable of the step and no matrix or sequence of them.

    >>> is_by_step(lambda step: np.eye(2)), is_by_step([np.eye(2)])
    (True, False)
    """
    return callable(mixing) and not isinstance(mixing, type)


class ByStep:
    """The matrices of a callable of the step, W_t = ``call(t)``, each checked as it comes.

    Args:
        call: gives a matrix ``(n, n)`` for the step 0, 1, …; it is not asked for them in order, nor once.
        topology: whose edges they may have weights on.
        sums: what of them must sum to 1, in turn; see `as_sequence`.

    Raises:
        TypeError, ValueError: what is wrong with W_0, before any work; with a later one when it is asked for.
    """

    def __init__(
        self, call: Callable[[int], Matrix], topology: Topology, sums: Sequence[str] = (ROWS,)
    ):
        if inspect.isfunction(call) and f"{call.__module__}.".startswith(f"{__package__}."):
            raise TypeError(
                f"mixing is the function {call.__name__} itself, in the place of a matrix or a callable of "
                f"the step; call it: mixing={call.__name__}({', '.join(inspect.signature(call).parameters)})"
            )
        self._call, self._topology, self._sums = call, topology, sums
        # By the identity of what the callable gave, which is kept so that no other object has it, with what
        # it held then: a callable may write into the memory of its last matrix.
        self._known: OrderedDict[tuple[int, str], tuple[Any, Any, csr_array]] = OrderedDict()
        self._checks: list[Callable[[csr_array], None]] = []
        self.first = self.at(0)

    def require(self, check: Callable[[csr_array], None]) -> None:
        """Let a further check, which raises, look at W_0 now and at each later matrix."""
        check(self.first)
        self._checks.append(check)

    def at(self, step: int) -> csr_array:
        """W_t, the same object where the callable gives the same object with the same numbers in it."""
        given = self._call(step)
        sums = self._sums[step % len(self._sums)]
        known = self._known.get((id(given), sums))
        if known is None or not _holds(given, known[1]):
            which = f"the mixing matrix of step {step}"
            W = checked(given, which, self._topology, (sums,))
            known = given, given if is_several_rounds(given) else copy.deepcopy(given), W
            for check in self._checks:
                check(known[2])
            self._known[id(given), sums] = known
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return known[2]


def _holds(given: Any, held: Any) -> bool:
    """Whether a matrix has the numbers that it had."""
    if given is held:
        return True
    if not issparse(given):
        return np.array_equal(given, held)
    if given.format != "csr":
        given, held = csr_array(given), csr_array(held)
    pairs = [(getattr(given, part), getattr(held, part)) for part in ("data", "indices", "indptr")]
    return not any(one.flags.writeable for one, _ in pairs) or all(
        np.array_equal(one, other) for one, other in pairs
    )


@dataclass(frozen=True)
class LatticeSchedule:
    """Ring lattices whose numbers of neighbours change with the step; see `lattice_schedule`."""

    n: int
    start: int
    stop: int
    steps: int

    def __post_init__(self) -> None:
        n = whole_number(self.n, "n", 3)
        whole_number(self.steps, "steps", 1)
        for name in ("start", "stop"):
            neighbours = whole_number(getattr(self, name), name, 2)
            if neighbours % 2 or neighbours > n - 1:
                most = (n - 1) // 2 * 2
                raise ValueError(
                    f"{name} must be an even number of neighbours, as many on either side, from 2 to {most} "
                    f"for {n} workers, not {neighbours}"
                )
        object.__setattr__(self, "_made", {})

    def neighbours(self, step: int) -> int:
        """k_t, how many neighbours each worker has in step t = 0, 1, …

        >>> [lattice_schedule(16, 6, 2, steps=6).neighbours(step) for step in (0, 1, 2, 3, 4, 5, 99)]
        [6, 6, 4, 4, 2, 2, 2]
        """
        first, last = self.start // 2, self.stop // 2
        count = abs(last - first) + 1
        reached = min(step * count // self.steps, count - 1)
        return 2 * (first + reached if last > first else first - reached)

    def __call__(self, step: int) -> csr_array:
        """W_t, the same object while the number of neighbours stays the same."""
        made: dict[int, csr_array] = vars(self)["_made"]
        neighbours = self.neighbours(step)
        if neighbours not in made:
            workers, either = np.arange(self.n), neighbours // 2
            offsets = np.arange(-either, either + 1)
            columns = (workers[:, None] + offsets) % self.n
            rows = np.broadcast_to(workers[:, None], columns.shape)
            weights = np.full(columns.size, 1 / (neighbours + 1))
            made[neighbours] = csr_array(
                (weights, (rows.ravel(), columns.ravel())), shape=(self.n, self.n)
            )
            for part in ("data", "indices", "indptr"):
                getattr(made[neighbours], part).flags.writeable = False
        return made[neighbours]

    def __repr__(self) -> str:
        return f"lattice_schedule(n={self.n}, start={self.start}, stop={self.stop}, steps={self.steps})"


def lattice_schedule(n: int, start: int, stop: int, steps: int) -> LatticeSchedule:
    """Ring lattices that become sparser, or denser, with the step: Ada's order of graphs.

    In step t worker i averages with weight 1/(k_t + 1) over itself and its k_t nearest on a ring, k_t/2 on
    either side. k_t goes from ``start`` to ``stop`` by twos, each number for as many steps, in ``steps``
    steps, and stays there. A callable of the step for ``simulate(…, mixing=…)``: matrices do not repeat, so
    that there is no exact theory of them. Pass ``topologies.complete(n)`` with it; only weights cost a
    message.

    On convex problems the order matters for the workers' own models only: what their mean does is nearly the
    same, and Ξ² in the end is that of the last lattice.

    Args:
        n: workers, at least 3.
        start, stop: even numbers of neighbours, 2 to n − 1.
        steps: after which ``stop`` is all there is.

    Raises:
        TypeError, ValueError: numbers out of range.

    Source: Xie, Yin, Zhou, Oral, Wang, "Scaling up data parallelism in decentralized deep learning", 2025,
    for dense graphs early and sparse ones late; the exact schedule is unverified.

    >>> import relaysim as rs
    >>> schedule = lattice_schedule(32, 16, 2, steps=80)
    >>> schedule, schedule.neighbours(0), schedule.neighbours(79)
    (lattice_schedule(n=32, start=16, stop=2, steps=80), 16, 2)
    >>> round(rs.theory.spectral_gap(schedule(0)), 4), round(rs.theory.spectral_gap(schedule(79)), 4)
    (0.4028, 0.0128)
    """
    return LatticeSchedule(n, start, stop, steps)
