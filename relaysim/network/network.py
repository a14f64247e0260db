"""What crosses the edges in a round, and how much of it.

Four ways to communicate: `Network.mix` (weighted averages of neighbours' vectors), `Network.relay`
(RelaySum's running sums along the edges of a tree), `Network.exchange` (corrections that two neighbours
make in opposite directions) and `Network.average` (an exact mean, as an all-reduce would give). All
count the model-sized vectors that they put on the wire.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from scipy.sparse import csr_array

from relaysim.mixing.by_step import ByStep
from relaysim.mixing.drawn import DrawnMixing
from relaysim.mixing.rounds import is_several_rounds
from relaysim.mixing.sequences import preserved_weights
from relaysim.network.arrivals import Arrivals
from relaysim.network.crossing import Altered, AnyWeights, Crossing, Faithful, Lies, Lossy
from relaysim.network.gossip import Weights
from relaysim.network.hung import Hung
from relaysim.network.late import Late, LateTreeRelay
from relaysim.network.pairs import PairExchange
from relaysim.network.rehung import RehungMail, RehungTreeRelay
from relaysim.network.relay import LossyTreeRelay, Mail, PairMail, PairRelay, TreeRelay
from relaysim.network.slots import Heard
from relaysim.network.weighting import weighting
from relaysim.problems.workers import Workers
from relaysim.support.streams import Streams
from relaysim.support.workspace import Workspace
from relaysim.topologies import Topology, TreePair

__all__ = ["AVERAGE_COUNTS", "AnyMail", "Network"]

#: How many vectors an exact average over n workers takes, by the way in which it is made.
AVERAGE_COUNTS: dict[str, Callable[[int], int]] = {
    # Each of n pieces of a vector goes round once to be added up and once to be known: n · 2(n − 1)/n.
    "ring": lambda n: 2 * (n - 1),
    "all-to-all": lambda n: n * (n - 1),
}


AnyMail: TypeAlias = Mail | PairMail | RehungMail


class Network:
    """The edges of a simulation.

    Args:
        topology: a `Topology`, or a `TreePair` for methods that only relay.
        mixing: the gossip matrices of methods that mix, a period of them, those of a callable, or what draws
            them; else empty.
        workspace: where large arrays are borrowed.
        arrivals: which messages arrive. All of them by default.
        workers: what the problem says of them, for methods that ask.
        streams: random numbers of the replicas, for what draws.
        lies: what some workers tell others, or what else is not as it was sent. All is by default.
        links: the graph over whose edges messages may cross; those of the topology by default.

    ``draws``: whether every replica draws its weights. ``vectors_sent`` counts model-sized vectors over all
    workers since the network was made: a number, or ``(r,)`` where replicas send differently. A compressed
    vector counts as its share of 64 d bits.
    """

    def __init__(
        self,
        topology: Topology | TreePair,
        mixing: tuple[csr_array, ...] | ByStep | DrawnMixing = (),
        workspace: Workspace | None = None,
        arrivals: Arrivals | None = None,
        workers: Workers | None = None,
        streams: Streams | None = None,
        lies: Lies | Altered | Late | None = None,
        links: Topology | TreePair | None = None,
    ):
        self.topology = topology
        self._links = topology if links is None else links
        self.n = topology.n
        self._workers = workers
        self.vectors_sent: float | np.ndarray = 0
        self._workspace = workspace or Workspace()
        self._arrivals = arrivals
        # What repeats; of other matrices nobody knows beforehand.
        self._mixing = mixing if isinstance(mixing, tuple) else ()
        self._weighting = weighting(mixing, arrivals, streams)
        self.draws = isinstance(mixing, DrawnMixing)
        self._crossing: Crossing = lies or (Faithful() if arrivals is None else Lossy(arrivals))
        self.vectors_per_relay = 2 * (self.n - 1)

    # What a method does not use of the following is never built.

    @functools.cached_property
    def _exchange(self) -> PairExchange:
        return PairExchange(self._mixing)

    @functools.cached_property
    def _relay(self) -> Any:
        if isinstance(self.topology, TreePair):
            return PairRelay(*map(self._tree_relay, (self.topology.first, self.topology.second)))
        return self._tree_relay(self.topology)

    def _weights(self, round: int, further: int = 0) -> AnyWeights:
        """W_t with t = ``round``; the k-th further one is another draw, if weights are drawn."""
        return self._weighting.at(round, further)

    def _tree_relay(self, tree: Topology) -> TreeRelay | LossyTreeRelay:
        if isinstance(self._crossing, Late):
            return LateTreeRelay(tree, self._crossing)
        if self._arrivals is None:
            return TreeRelay(tree, self._workspace)
        if isinstance(self._links, Topology) and self._links is not self.topology:
            return RehungTreeRelay(tree, self._links, self._arrivals)
        return LossyTreeRelay(tree, self._arrivals)

    def keep(self, replicas: np.ndarray) -> None:
        """Go on with these replicas only (a boolean mask over the present ones)."""
        if isinstance(self.vectors_sent, np.ndarray):
            self.vectors_sent = self.vectors_sent[replicas]
        self._weighting.keep()

    def resume(self, state: object) -> None:
        """Take up a state whose messages were kept: those on which everyone is heard are known again."""
        if isinstance(state, Mail | PairMail):
            self._relay.resume(state)
        elif isinstance(state, tuple):
            for part in state:
                self.resume(part)

    @property
    def workers(self) -> Workers:
        """What the problem says of each of them."""
        if self._workers is None:
            raise ValueError(
                "this network was made without a problem, of whose workers it knows nothing"
            )
        return self._workers

    @property
    def regularizer(self) -> Any:
        """The term without gradient of a composite objective; None where there is none."""
        return None if self._workers is None else self._workers.regularizer

    def send(self, vectors: float | np.ndarray) -> None:
        """Count vectors that a method sends in its own way; ``(r,)`` where replicas differ."""
        self.vectors_sent = self.vectors_sent + vectors

    def weights_of_others(self, round: int) -> np.ndarray:
        """1 − W_t,ii, ``(n,)``, the weight of a worker's neighbours; 1 for one that has none."""
        return self._one_matrix(round).of_others

    def mix(
        self, x: np.ndarray, round: int, share: float | np.ndarray = 1, further: int = 0
    ) -> np.ndarray:
        """W_t x with t = ``round``, modulo the length of a sequence; ``(n, d[, r])``.

        Args:
            x: what is mixed.
            round: t.
            share: of a vector that is sent over each edge, ``(r,)`` where replicas differ.
            further: k ≥ 1 for the k-th round of a step that not all replicas make.
        """
        weights = self._weights(round, further)
        self.send(share * weights.vectors)
        mixed = self._crossing.mixed(weights, x, further)
        self._take_back(share)
        return mixed

    def mix_change(
        self, x: np.ndarray, round: int, share: float | np.ndarray = 1, laziness: float = 0
    ) -> np.ndarray:
        """(W_t − I) x, precise where x is nearly equal everywhere; ``(n, d[, r])``.

        Args:
            x: what is mixed.
            round: t.
            share: of a vector that is sent over each edge, ``(r,)`` where replicas differ; below 1 where it
                is compressed.
            laziness: λ in [0, 1), to mix with (1 − λ)W_t + λI in the place of W_t.
        """
        weights = self._weights(round)
        self.send(share * weights.vectors)
        changed = self._crossing.changed(weights, x, laziness)
        self._take_back(share)
        return changed

    def hear(self, x: np.ndarray, round: int) -> Heard:
        """What everyone hears of x with t = ``round``, message by message; see `Heard`."""
        weights = self._weights(round)
        self.send(weights.vectors)
        return self._crossing.heard(weights, x)

    def mix_faster(self, x: np.ndarray, round: int, rounds: int) -> np.ndarray:
        """(P − I) x with P = `relaysim.mixing.fast_mix` of so many rounds with W_t, t = ``round``."""
        weights = self._one_matrix(round).faster(rounds)
        self.send(weights.vectors)
        return weights.change(x)

    def disagreement_left(self, round: int) -> float:
        """‖W_t − J‖₂ with t = ``round``, of a symmetric W_t."""
        return self._one_matrix(round).left

    def _one_matrix(self, round: int) -> Weights:
        """W_t of a method that is given no other than one for all replicas."""
        weights = self._weights(round)
        assert isinstance(weights, Weights)
        return weights

    @property
    def known_weights(self) -> tuple[Weights, ...]:
        """Those of a period, where each matrix is one round and messages arrive as they are sent; or none."""
        if not isinstance(self._crossing, Faithful):
            return ()
        period = tuple(map(self._one_matrix, range(len(self._mixing))))
        return () if any(is_several_rounds(each.matrix) for each in period) else period

    @property
    def tree_edges(self) -> Hung:
        """The edges of a tree as messages lie."""
        return self._relay.edges

    def neighbours_with(self, kept: np.ndarray, round: int) -> np.ndarray:
        """How many neighbours by W_t have each entry set in ``kept``, 0 or 1, ``(n, d[, r])``."""
        return self._weights(round).entry_mix.neighbours_with(kept)

    def mix_entries(
        self, x: np.ndarray, kept: np.ndarray, wanted: np.ndarray, round: int
    ) -> np.ndarray:
        """W' x, where W' has, entry by entry, the weights W_t,ij of those who sent it, and rows of sum 1.

        Args:
            x: what is mixed.
            kept: which entries a worker would send, booleans of the shape of x.
            wanted: which of those that its neighbours keep are sent to it, likewise.
            round: t.
        """
        mixed, entries = self._weights(round).entry_mix.mix(x, kept, wanted)
        self.send(entries / x.shape[1])
        return mixed

    @property
    def pairs(self) -> np.ndarray:
        """Both ends i < j, in order, of the undirected edges with weight in some matrix, ``(E, 2)``."""
        return self._exchange.pairs

    def pair_differences(self, x: np.ndarray, round: int) -> np.ndarray:
        """x_j − x_i over every edge i < j, ``(E, d[, r])``; 0 where W_t has no weight."""
        return self._exchange.differences(x, round % len(self._mixing))

    def pairs_with_weight(self, round: int) -> np.ndarray:
        """Whether W_t has weight on each of `pairs`, ``(E,)``."""
        return self._exchange.has_weight[round % len(self._mixing)]

    def exchange(
        self, corrections: np.ndarray, round: int, share: float | np.ndarray
    ) -> np.ndarray:
        """What two ends of an edge correct in opposite directions, added up for each worker.

        Args:
            corrections: c, ``(E, d[, r])``; W_t,ij c for the end i < j of an edge and −W_t,ij c for j.
            round: t.
            share: of a vector that was sent over each edge with weight, in either direction; ``(E,)``
                where edges differ.

        Returns:
            ``(n, d[, r])``. The rows sum to 0 up to rounding.
        """
        k = round % len(self._mixing)
        shares = np.broadcast_to(share, len(corrections))[self._exchange.has_weight[k]]
        if len(shares) and (shares == shares[0]).all():  # to sort them takes longer
            self.send(shares[0] * 2 * len(shares))
        else:
            for each, edges in zip(*np.unique(shares, return_counts=True), strict=True):
                self.send(each * 2 * edges)
        return self._exchange.total(corrections, k)

    def average(self, x: np.ndarray, count: str = "ring") -> np.ndarray:
        """The exact mean of all rows, in every row; ``(n, d[, r])``.

        ``count`` says what it sends: ``"ring"`` 2(n − 1) vectors, ``"all-to-all"`` n(n − 1).
        """
        self.send(AVERAGE_COUNTS[count](self.n))
        result = self._workspace.fresh(x.shape)
        result[:] = np.add.reduce(x, axis=0) * (1 / self.n)
        return result

    def relay(self, payload: np.ndarray, mail: AnyMail) -> AnyMail:
        """One round of RelaySum: m_{i→j} = payload_i + Σ_{k ≠ j} m_{k→i} of the round before."""
        self.send(self.vectors_per_relay)
        renewed = self._relay.send(payload, mail)
        self._take_back(0.5 if isinstance(self.topology, TreePair) else 1)
        return renewed

    def _take_back(self, share: float | np.ndarray) -> None:
        """Count no more of the vectors that just crossed what workers would have sent who have stopped."""
        if self._arrivals is not None:
            self.send(-share * self._arrivals.unsent())

    def empty_mail(self, x: np.ndarray) -> AnyMail:
        """The messages before the first round."""
        return self._relay.empty(x)

    def inbox(self, mail: AnyMail) -> tuple[np.ndarray, np.ndarray | None]:
        """What each worker received, ``(n, d[, r])``, and how many it has not heard from.

        The second, n − Cnt_i, broadcasts against the first; it is None once everyone is heard
        everywhere.
        """
        return self._relay.inbox(mail)

    def preserved_mean(self, x: np.ndarray) -> np.ndarray | None:
        """Σ_i π_i x_i, ``(1, d[, r])``, with the weights π that every matrix of the sequence preserves.

        They are 1/n where all matrices are doubly stochastic. None where no weights serve for all.
        """
        weights = self._preserved_weights
        return None if weights is None else np.tensordot(weights[None], x, axes=1)

    @functools.cached_property
    def _preserved_weights(self) -> np.ndarray | None:
        return preserved_weights(self._mixing)

    def undelivered(self, mail: AnyMail, overlap: bool) -> np.ndarray:
        """What of the relayed payloads has still to reach each worker, ``(n, d[, r])``.

        Args:
            mail: the messages of the last round.
            overlap: whether workers take their messages in the round after the one that brought them.
        """
        return self._relay.undelivered(mail, overlap)
