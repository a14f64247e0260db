"""A rule of events as the linear maps that it is without gradients.

They are taken from ``flow`` and ``meet``, applied to unit states; there is no second copy of any rule.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import logm

from relaysim.algorithms.events import EventMethod, Meeting, Meetings, PairRule, says_how_pairs_meet
from relaysim.topologies import Topology

__all__ = ["LinearRule", "linear_rule"]

# Equal up to rounding, beside 1.
EQUAL = 1e-9
# Times after which a flow is looked at; of these the last before it has moved unit states so far, in the
# Frobenius norm, is taken. What has come to rest has moved them by 1 at least.
TIMES = 2.0 ** np.arange(-60, 61)
MOST_MOVED = 0.5


class LinearRule(NamedTuple):
    """What becomes of the rows s of workers, ``(k,)`` each: flow between events, and meetings.

        ds/dt = flow · s
        i and j meet:  D = seen · (s_i − s_j);  s_i ← s_i − D lost,  s_j ← s_j + D lost

    s holds as much of a rule's state as x depends on and as is ever reached from its start.

    Attributes:
        meetings: how often neighbours meet.
        flow: ``(k, k)``.
        lost, seen: ``(k,)``.
        start: ``(k,)``, the row of a worker that starts at x = 1.
        shown: ``(k,)``, x = shown · s.
    """

    meetings: Meetings
    flow: np.ndarray
    lost: np.ndarray
    seen: np.ndarray
    start: np.ndarray
    shown: np.ndarray


def linear_rule(algorithm: EventMethod, topology: Topology) -> LinearRule:
    """The maps of an asynchronous algorithm on a graph.

    Raises:
        TypeError: the rule does not say what the analysis needs, does not keep what it says, or its
            meetings are of another form.
        ValueError: it is not linear, or cannot use the graph.

    >>> from relaysim.algorithms import A2CiD2
    >>> from relaysim.topologies import chain
    >>> plain = linear_rule(A2CiD2(accelerated=False), chain(2))
    >>> (plain.lost * plain.seen).round(12).tolist(), plain.flow.tolist()
    ([0.5], [[0.0]])
    """
    rule = algorithm.rule(topology)
    if not says_how_pairs_meet(rule):
        missing = "linear" if hasattr(rule, "meetings") else "meetings"
        raise TypeError(
            f"the rule of {algorithm!r} does not say what the exact analysis needs: give it an "
            f"attribute `{missing}`, see relaysim.algorithms.events.PairRule"
        )
    if not rule.linear:
        raise ValueError(
            f"{algorithm!r} is not linear, as where a quantiser rounds: leave that out where the exact "
            f"rate is wanted, or use relaysim.simulate"
        )
    one = rule.init(np.ones((1, 1)))
    start = _rows(one)[0]
    shown = np.eye(len(start))[one._fields.index("x")]
    flow = _flow(rule, type(one), len(start), algorithm)
    meeting = _meeting(rule, type(one), len(start), topology, algorithm)
    maps = [flow, *(half for side in np.split(meeting, 2) for half in np.split(side, 2, axis=1))]
    # What is reached from the start, and of that what x depends on.
    maps, start, shown = _within(_invariant(maps, start), maps, start, shown)
    maps, start, shown = _within(_invariant([each.T for each in maps], shown), maps, start, shown)
    flow, kept, taken, taken_by_second, kept_by_second = maps
    left, sizes, right = np.linalg.svd(taken)
    if not (
        _close(kept, np.eye(len(kept)) - taken)
        and _close(kept_by_second, kept)
        and _close(taken_by_second, taken)
        and (sizes[1:] <= EQUAL * max(1.0, sizes[0])).all()
    ):
        raise TypeError(
            f"a meeting of {algorithm!r} is of a form that the exact analysis does not know: both sides "
            f"have to move by as much, in opposite directions, and in proportion to one difference "
            f"between them; use relaysim.simulate"
        )
    return LinearRule(rule.meetings, flow, sizes[0] * left[:, 0], right[0], start, shown)


def _rows(state: tuple[np.ndarray, ...]) -> np.ndarray:
    """A state of one parameter as an array, ``(rows, k)``."""
    return np.concatenate(state, axis=1)


def _state(kind: type, rows: np.ndarray) -> Any:
    return kind(*(rows[:, part : part + 1] for part in range(rows.shape[1])))


def _flow(rule: PairRule[Any], kind: type, k: int, algorithm: EventMethod) -> np.ndarray:
    """A of ds/dt = A s, ``(k, k)``: the logarithm of the flow over some time, divided by it.

    Rounding hides what a flow does in too short a time, and what it began with after too long a one.
    """
    one = np.eye(k)

    def after(rows: np.ndarray, times: np.ndarray) -> np.ndarray:
        return _rows(rule.flow(_state(kind, rows), times[:, None]))

    with np.errstate(all="ignore"):
        responses = after(np.tile(one, (len(TIMES), 1)), np.repeat(TIMES, k))
        flows = responses.reshape(-1, k, k).transpose(0, 2, 1)
        moved = np.linalg.norm(flows - one, axis=(1, 2))
    far = np.flatnonzero(~(moved <= MOST_MOVED))
    last = far[0] - 1 if len(far) else len(TIMES) - 1
    flow, time = flows[last], TIMES[last]
    s = np.random.default_rng(0).normal(size=(1, k))
    if (
        last < 1
        or not _close(flows[last - 1] @ flows[last - 1], flow)
        or not _close(after(s, time[None]), s @ flow.T)
    ):
        raise TypeError(
            f"the flow of {algorithm!r} is not linear in the rows and the same at all times, though its "
            f"rule says `linear`; use relaysim.simulate"
        )
    return np.real(logm(flow)) / time if (flow != one).any() else np.zeros((k, k))


def _meeting(
    rule: PairRule[Any], kind: type, k: int, topology: Topology, algorithm: EventMethod
) -> np.ndarray:
    """What the rows (s_i, s_j) of two workers become when they meet, ``(2k, 2k)``."""

    def after(rows: np.ndarray, edges: np.ndarray) -> np.ndarray:
        meeting = Meeting(0, edges[:, 0], edges[:, 1], np.zeros(len(edges), dtype=np.intp))
        sides = rule.meet(_state(kind, rows[:, :k]), _state(kind, rows[:, k:]), meeting)
        return np.concatenate([_rows(side) for side in sides], axis=1)

    edges = topology.edges
    found = after(np.eye(2 * k), np.repeat(edges[:1], 2 * k, axis=0)).T
    s = np.random.default_rng(1).normal(size=(len(edges), 2 * k))
    if not _close(after(s, edges), s @ found.T):
        raise TypeError(
            f"a meeting of {algorithm!r} is not linear in the rows and the same over all edges, though "
            f"its rule says `linear`; use relaysim.simulate"
        )
    return found


def _invariant(maps: Iterable[np.ndarray], start: np.ndarray) -> np.ndarray:
    """An orthonormal basis of the smallest space that holds a vector and that no map leaves, ``(k, l)``."""
    maps = [each / size for each in maps if (size := np.abs(each).max()) > 0]
    basis = [start / np.linalg.norm(start)]
    for vector in basis:  # grows as it goes
        for each in maps:
            rest = each @ vector
            for _ in range(2):  # once more, for what rounding left
                rest = rest - sum(known * (known @ rest) for known in basis)
            size = np.linalg.norm(rest)
            if size > EQUAL:
                basis.append(rest / size)
    return np.array(basis).T


def _within(
    basis: np.ndarray, maps: list[np.ndarray], start: np.ndarray, shown: np.ndarray
) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Maps and vectors in the coordinates of a basis, ``(k, l)``."""
    return [basis.T @ each @ basis for each in maps], basis.T @ start, basis.T @ shown


def _close(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.abs(a - b).max() <= EQUAL * max(1.0, np.abs(b).max()))
