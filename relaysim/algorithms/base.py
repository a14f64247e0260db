"""The protocol between algorithms and whoever runs them.

An algorithm is a frozen dataclass of hyper-parameters with

- ``label``: how plots and tables name it;
- ``uses``: what it communicates with: ``"relay"`` (RelaySum, on a tree), ``"mixing"`` (a gossip
  matrix on any connected topology) or ``"workers"`` (only their number: it brings its own network);
- ``vectors_per_edge``: model-sized vectors sent per step over each directed edge that it uses (a method,
  of d, where vectors are compressed; None where it depends on the run);
- ``exact``: whether, without noise and at a constant learning rate, it reaches x* for any ζ;
- ``init(x0, network)``: the state before step 0, a NamedTuple of arrays with a field ``x``;
- ``step(state, round)``: the next state, a pure function of its arguments.

and, where they differ from what `Method` says,

- ``affine``: whether a step is an affine map of the state, as the exact analysis needs. True; a method
  whose step may look so for a while, and is not, says False;
- ``cycle``: steps after which a rule that depends on the number of the step repeats. 1;
- ``conserved(state, network, learning_rate)``: what a step at a constant rate leaves as it is whatever
  the gradients, linear in the state, ``(k, d[, r])``, or ``None``. An exact analysis sets it apart: it
  tells where a run ends, and does not decay. None;
- ``theorems``: names of the functions in `relaysim.theory.bounds` that hold of the method. None of them.
  It counts only in the body of the class itself, see `theorems_of`;

and, for ``uses = "workers"``, ``own_mixing(n)``: the sequence of matrices that it mixes with, or
``None`` where it mixes with none.

A step asks for one gradient, at ``state.x`` or where it likes, and changes no array that it was
given. What it keeps in the state it has made in this step or had from ``init``: buffers that it
borrows are taken back when the next step has ended. Arrays that differ between replicas have three
axes, replicas last.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np

from relaysim.support.blocks import BLOCK_BYTES, row_blocks
from relaysim.support.display import html_table

__all__ = ["Algorithm", "Method", "Round", "check_momentum", "no_buffer", "smoothed", "theorems_of"]


class Round:
    """All that an algorithm sees of the world in one step.

    Attributes:
        step: number of the step, from 0.
        learning_rate: γ, a float, or ``(r,)`` with one for each replica.
        gradient: ``gradient(x)``, the workers' observed gradients at ``(n, d[, r])``, to be asked
            for once a step. The result is a scratch array.
        mix, mix_change, pairs, pair_differences, exchange, average, relay, inbox, send: see
            `relaysim.network.Network`.
        scratch, fresh: see `relaysim.support.workspace.Workspace`.
        uniforms: ``uniforms(shape)``, independent numbers in [0, 1) of a shape such as ``(n, d[, r])``,
            from each replica's own stream.
    """

    __slots__ = (
        "_mix",
        "_mix_change",
        "_network",
        "average",
        "fresh",
        "gradient",
        "inbox",
        "learning_rate",
        "relay",
        "scratch",
        "send",
        "step",
        "uniforms",
    )

    def __init__(self, gradient: Callable, network, workspace, uniforms: Callable | None = None):
        self.step = 0
        self.learning_rate: float | np.ndarray = 0.0
        self.gradient = gradient
        self._mix = network.mix
        self._mix_change = network.mix_change
        self._network = network
        self.average = network.average
        self.relay = network.relay
        self.inbox = network.inbox
        self.send = network.send
        self.scratch = workspace.scratch
        self.fresh = workspace.fresh
        self.uniforms = uniforms

    def mix(
        self, x: np.ndarray, round: int | None = None, share: float | np.ndarray = 1
    ) -> np.ndarray:
        """W_t x, with t the step unless a method with several rounds a step names the round.

        ``share`` of a vector crosses each edge, ``(r,)`` where replicas differ.
        """
        return self._mix(x, self.step if round is None else round, share)

    def mix_change(self, x: np.ndarray, round: int | None = None, share: float = 1) -> np.ndarray:
        """(W_t − I) x, to the precision of the differences between neighbours.

        ``share`` of a vector crosses each edge, below 1 where x is made of what was sent compressed.
        """
        return self._mix_change(x, self.step if round is None else round, share)

    @property
    def pairs(self) -> np.ndarray:
        """Both ends of every undirected edge, ``(E, 2)``."""
        return self._network.pairs

    def pair_differences(self, x: np.ndarray) -> np.ndarray:
        """x_j − x_i over every edge i < j, ``(E, d[, r])``; 0 where W_t has no weight."""
        return self._network.pair_differences(x, self.step)

    def exchange(self, corrections: np.ndarray, share: float) -> np.ndarray:
        """±W_t,ij times each edge's correction, added up: + for the end i < j, − for j; ``(n, d[, r])``.

        ``share`` of a vector crosses each edge in either direction.
        """
        return self._network.exchange(corrections, self.step, share)

    def descend(self, x: np.ndarray, direction: np.ndarray, overwrite: bool = False) -> np.ndarray:
        """x − γ · direction, in a scratch array: the direction's own one if it may be overwritten."""
        result = direction if overwrite else self.scratch(x.shape)
        if x.nbytes <= BLOCK_BYTES:
            np.multiply(direction, self.learning_rate, out=result)
            return np.subtract(x, result, out=result)
        for rows in row_blocks(x):
            part = result[rows]
            np.multiply(direction[rows], self.learning_rate, out=part)
            np.subtract(x[rows], part, out=part)
        return result


class Method:
    """What the methods here share: claims that most make alike, and a table of options in a notebook."""

    affine: ClassVar[bool] = True
    cycle: ClassVar[int] = 1
    theorems: ClassVar[tuple[str, ...]] = ()

    def conserved(self, state, network, learning_rate) -> np.ndarray | None:
        """None: no step leaves anything as it is."""

    def _repr_html_(self) -> str:
        vectors = self.vectors_per_edge
        if callable(vectors):
            vectors = "as many as its compressed messages are worth"
        options = [(field.name, getattr(self, field.name)) for field in dataclasses.fields(self)]
        claims = [
            ("communicates with", _USES.get(self.uses, self.uses)),
            ("vectors per edge and step", "depends on the run" if vectors is None else vectors),
            ("exact for any ζ²", self.exact),
        ]
        first_line = (type(self).__doc__ or "").strip().partition("\n")[0]
        name = type(self).__name__
        title = name if name == self.label else f"{name} ({self.label})"
        return html_table(title, options + claims, first_line)


_USES = {
    "relay": "neighbours on a tree, to which it relays sums",
    "mixing": "neighbours on any connected topology, by a mixing matrix",
    "workers": "a network of its own",
    "events": "neighbours in pairs, at times of their own",
}


class Algorithm(Protocol):
    """What every algorithm offers; see the module's docstring."""

    label: ClassVar[str]
    uses: ClassVar[str]
    vectors_per_edge: ClassVar[float]
    exact: Any

    def init(self, x0: np.ndarray, network) -> NamedTuple: ...

    def step(self, state, round: Round) -> NamedTuple: ...


def theorems_of(algorithm) -> tuple[str, ...]:
    """The theorems that a method's class states in its own body; what it inherits does not count.

    A subclass may change the rule, of which nothing is proved then. One that does not says so.

    >>> from relaysim.algorithms import DPSGD
    >>> class Changed(DPSGD):
    ...     def step(self, state, round):
    ...         return state
    >>> class Renamed(DPSGD):
    ...     label = "Gossip"
    ...     theorems = DPSGD.theorems
    >>> theorems_of(Changed()), theorems_of(Renamed())
    ((), ('dp_sgd', 'dp_sgd_rate'))
    """
    return vars(type(algorithm)).get("theorems", ())


def check_momentum(momentum: float) -> None:
    """Raise unless 0 ≤ momentum < 1."""
    if not (isinstance(momentum, float | int | np.number) and 0 <= momentum < 1):
        raise ValueError(f"momentum must lie in [0, 1), not {momentum!r}")


def no_buffer(x: np.ndarray) -> np.ndarray:
    """An array without rows, for a state that needs no buffer with these options."""
    return np.zeros((0, *x.shape[1:]))


def smoothed(
    buffer: np.ndarray, gradient: np.ndarray, momentum: float
) -> tuple[np.ndarray, np.ndarray]:
    """Dampened momentum m ← βm + (1 − β)g: the direction to step in, and the buffer to keep."""
    if momentum == 0:
        return gradient, buffer
    buffer = momentum * buffer + (1 - momentum) * gradient
    return buffer, buffer
