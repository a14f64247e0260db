"""What a method says of itself, as plain attributes: what others may know of it without running it."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from relaysim.support.display import html_table
from relaysim.topologies import Topology, TreePair

__all__ = ["CLAIMS", "Claims", "check_rates", "require_claims", "theorems_of"]

#: What a method says of itself, and what each claim means; `Claims` has the defaults.
CLAIMS: dict[str, str] = {
    "label": "how plots and tables name it",
    "uses": "what it communicates with: 'relay', 'mixing', 'workers' or 'events'",
    "vectors_per_edge": "a function of d: model-sized vectors sent per step over each directed edge that "
    "it uses, or None where that depends on the run",
    "hops_per_step": "how many hops information can move in a step",
    "overlaps": "whether a step's gradient reaches others in the next step only, so that computing it and "
    "sending can go on at the same time",
    "sends_every": "K where it sends over the graph's edges in the last of every K steps only; None where it "
    "depends on the run",
    "matrices_per_step": "how many matrices of a sequence it uses in a step, one after the other",
    "cycle": "steps after which its rule repeats",
    "repeats_from": "the step from which on it does so, where it is another one before",
    "least_steps": "steps that its rule is made for at least: shorter runs, that nobody means to go on with, "
    "are refused",
    "affine": "whether, on quadratics, a step is an affine map of the state",
    "random": "whether its steps draw random numbers, so that runs differ without gradient noise",
    "exact": "whether, without noise and at a constant learning rate, it reaches x* for any ζ",
    "exact_when_mixed_further": "whether it is so if its iterates are mixed further after a step",
    "rate_scale": "how many times higher rates may be than those of the same rule without momentum",
    "mixing_needs": "what its claims need of W: 'nothing', 'doubly stochastic', or, without which it has no "
    "rule at all, 'symmetric', 'one symmetric', 'column stochastic' or 'row and column stochastic'",
    "oracle_needs": "what it asks of the oracle: 'nothing' but gradients, or 'examples', those on examples "
    "by their numbers, without which it is refused",
    "problem_needs": "what it asks of the problem: 'nothing' but gradients, or 'proximal', the solution of a "
    "worker's own problem, without which it is refused",
    "directed": "whether it has a rule for graphs whose edges are one-way links",
    "several_rounds": "whether a mixing may stand for several rounds, as `mixing.fast_mix` makes it",
    "composite": "whether it has a proximal step for a term of the objective without gradient",
    "worker_rates": "whether it has a rule for learning rates that differ between workers",
    "faults": "the kinds of faults that it has a rule for, such as 'lost messages'",
    "references": "keys of the publications that a paper which uses it should cite, see relaysim.cite",
    "theorems": "names of the functions in relaysim.theory.bounds that hold of it",
}
WITHOUT_DEFAULT = ("label", "uses")


class Claims:
    """What a method says of itself; a test measures each claim.

    Each is a class attribute, or a property where it depends on options. ``label`` and ``uses`` have no
    default.
    """

    @property
    def label(self) -> str:
        """How plots and tables name it."""
        raise AttributeError("label")

    @property
    def uses(self) -> str:
        """What it communicates with: ``"relay"`` (RelaySum, on a tree), ``"mixing"`` (a gossip matrix on any
        connected topology), ``"workers"`` (only their number: it brings its own network) or ``"events"``
        (see `relaysim.algorithms.events`).
        """
        raise AttributeError("uses")

    @property
    def hops_per_step(self) -> float:
        """How many hops information can move in a step; ``math.inf`` for any number."""
        return 1

    @property
    def overlaps(self) -> bool:
        """Whether a step's gradient reaches others in the next step only, so that computing it and sending
        can go on at the same time.
        """
        return False

    @property
    def sends_every(self) -> int | None:
        """K where it sends over the graph's edges in steps K − 1, 2K − 1, … only; None where it depends on
        the run, on chance or on the data, in which steps it does, or how often in one.
        """
        return 1

    @property
    def matrices_per_step(self) -> int:
        """m where step t uses W_{mt}, …, W_{mt + m − 1} of a sequence; rounds with the same one are one."""
        return 1

    def matrices_used(self, length: int) -> list[list[int]]:
        """Which of a sequence of so many matrices it mixes with, in each step in which it sends, until that
        repeats; as if it sent in every step where K depends on the run.

        >>> from relaysim.algorithms import LED
        >>> LED(period=3).matrices_used(2)
        [[0], [1]]
        """
        every, count = self.sends_every or 1, self.matrices_per_step
        steps = range(every - 1, every * length, every)
        return [[(step * count + j) % length for j in range(count)] for step in steps]

    @property
    def cycle(self) -> int:
        """Steps after which its rule repeats, where it depends on the number of the step."""
        return 1

    @property
    def repeats_from(self) -> int:
        """The step from which on it does so, where it is another one before: in the first phases of a run."""
        return 0

    @property
    def least_steps(self) -> int:
        """Steps that its rule is made for at least: `relaysim.simulate` refuses shorter runs, in which what
        makes it this method would not happen, but with ``keep_state=True``.
        """
        return 0

    @property
    def affine(self) -> bool:
        """Whether, on quadratics, a step is an affine map of the state; False also where it only looks so
        for a while.
        """
        return True

    @property
    def random(self) -> bool:
        """Whether its steps draw random numbers: runs of two seeds differ without gradient noise."""
        return False

    @property
    def exact(self) -> bool:
        """Whether, without noise and at a constant learning rate, it reaches x* for any ζ (with the matrices
        of ``mixing_needs``).
        """
        return False

    @property
    def exact_when_mixed_further(self) -> bool:
        """Whether it is so if a step is followed by further rounds of mixing, as consensus control makes."""
        return False

    @property
    def mixing_needs(self) -> str:
        """What its claims need of W: ``"nothing"``; ``"doubly stochastic"``, without which it is not exact;
        or what without which it has no rule and is refused: ``"symmetric"``, ``"one symmetric"`` (no
        sequence, and one with which gossip averages), ``"column stochastic"``, or ``"row and column
        stochastic"``: it mixes twice a step, with a matrix whose rows sum to 1 and one whose columns do.
        """
        return "nothing"

    @property
    def composite(self) -> bool:
        """Whether it has a proximal step for a term of the objective that has no gradient; problems with one
        are refused otherwise.
        """
        return False

    @property
    def oracle_needs(self) -> str:
        """What it asks of the oracle: ``"nothing"`` but a gradient a step; or ``"examples"``, gradients on
        examples by their numbers (``round.samples``), as `relaysim.oracles.Table` gives them, without which
        it is refused.
        """
        return "nothing"

    @property
    def problem_needs(self) -> str:
        """What it asks of the problem: ``"nothing"`` but gradients; or ``"proximal"``, the solution of each
        worker's own problem near a point, without which it is refused.
        """
        return "nothing"

    @property
    def directed(self) -> bool:
        """Whether it has a rule for graphs whose edges are one-way links; without it is refused there.

        One that brings its own network uses none of them.
        """
        return self.uses == "workers"

    @property
    def several_rounds(self) -> bool:
        """Whether a mixing may stand for several rounds, as that of `relaysim.mixing.fast_mix`: not where
        what crosses an edge is compressed, or kept for that edge, nor where columns have to sum to 1.
        """
        return True

    @property
    def worker_rates(self) -> bool:
        """Whether it has a rule for learning rates that differ between workers, ``(n, 1[, r])``; without it
        `relaysim.PerWorker` is refused.
        """
        return True

    @property
    def faults(self) -> tuple[str, ...]:
        """The kinds of faults that it has a rule for; others are refused."""
        return ()

    def vectors_per_edge(self, d: int) -> float | None:
        """Model-sized vectors sent per step over each directed edge that it uses, on average over a cycle.

        Args:
            d: numbers in a vector, of which compressed ones count as a part.

        None where it depends on the run: on chance, or on the data.
        """
        return 1

    def links(self, topology: Topology | TreePair) -> Topology | TreePair:
        """The graph over whose edges its messages may cross: the topology, or one that has more of them.

        Raises:
            ValueError: one that does not go with the topology.
        """
        return topology

    def gradients_per_step(self, n: int) -> float:
        """Gradients that n workers take together in a step, on average over a cycle: one each by default."""
        return n

    @property
    def rate_scale(self) -> float:
        """How many times higher rates may be than those of the same rule without momentum, at least 1.

        `relaysim.tune` looks for learning rates up to 4(n + 2)/L times this.
        """
        return 1.0

    @property
    def references(self) -> tuple[str, ...]:
        """Keys in `relaysim.bibliography` of what a paper that uses it should cite; see `relaysim.cite`."""
        return ()

    @property
    def theorems(self) -> tuple[str, ...]:
        """Names of the functions in `relaysim.theory.bounds` that hold of the method.

        It counts only in the body of the class itself, see `theorems_of`.
        """
        return ()

    def own_mixing(self, n: int) -> Sequence[csr_array] | None:
        """The sequence of matrices that it mixes n workers with, for ``uses = "workers"``; None for none."""
        return None

    def _repr_html_(self) -> str:
        options: list[tuple[str, Any]] = []
        if dataclasses.is_dataclass(self):
            names = [field.name for field in dataclasses.fields(self)]
            options = [(name, getattr(self, name)) for name in names]
        sent: Any = "as many as its compressed messages are worth"
        with contextlib.suppress(ValueError):  # a compressor may refuse some lengths
            vectors = [self.vectors_per_edge(d) for d in (_SMALL, _LARGE)]
            if None in vectors:
                sent = "depends on the run"
            elif vectors[0] == vectors[1]:
                sent = vectors[0]
        claims = [
            ("communicates with", _USES.get(self.uses, self.uses)),
            ("vectors per edge and step", sent),
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
# Lengths of vectors, by which compressed messages are told from whole ones.
_SMALL, _LARGE = 1 << 8, 1 << 20


def require_claims(algorithm: object) -> None:
    """Raise TypeError where a method lacks a claim, saying what it means.

    >>> require_claims(object())
    Traceback (most recent call last):
        ...
    TypeError: object has no `label`: how plots and tables name it; set it in the class
    """
    for name, meaning in CLAIMS.items():
        if not hasattr(algorithm, name):
            mend = "derive the class from relaysim.algorithms.base.Method, which has a default"
            if name in WITHOUT_DEFAULT:
                mend = "set it in the class"
            raise TypeError(f"{type(algorithm).__name__} has no `{name}`: {meaning}; {mend}")


def theorems_of(algorithm: object) -> tuple[str, ...]:
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
    stated = vars(type(algorithm)).get("theorems", ())
    return () if isinstance(stated, property) else stated


def check_rates(rates: Sequence[float] | np.ndarray | None, algorithm: Claims, n: int) -> None:
    """Raise unless a method has a rule for rates of the workers' own, and each of the n has one."""
    if rates is None:
        return
    name = type(algorithm).__name__
    if len(rates) != n:
        raise ValueError(
            f"PerWorker has {len(rates)} rates and there are {n} workers; give one for each"
        )
    if not algorithm.worker_rates:
        raise ValueError(
            f"{name} has no rule for learning rates that differ between workers; give it one for all, or "
            f"take a method that has, such as DPSGD() or GradientTracking()"
        )
