"""How long steps take: workers that wait for one another, links and stragglers, without any gradient."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csr_array, issparse
from scipy.special import ndtri

from relaysim.mixing.rounds import is_several_rounds, rounds_of
from relaysim.mixing.sequences import Mixing, is_sequence
from relaysim.support.checks import (
    real_array,
    real_number,
    real_numbers,
    shown,
    true_or_false,
    whole_number,
)
from relaysim.support.display import between, html_table
from relaysim.topologies import Topology, TreePair

__all__ = [
    "Compute",
    "Constant",
    "Exponential",
    "LogNormal",
    "Pareto",
    "Runtime",
    "Stragglers",
    "runtime",
]


class Compute(Protocol):
    """How long a gradient takes."""

    def times(self, uniforms: np.ndarray, /) -> np.ndarray:
        """Positive times, one for each of independent numbers in (0, 1); the larger the later."""


def _positive(value: object, name: str) -> float:
    number = real_number(value, name)
    if not number > 0:
        raise ValueError(f"{name} must be positive, not {value!r}: every gradient takes some time")
    return number


@dataclass(frozen=True)
class Constant:
    """Every gradient takes the same time.

    >>> Constant(2.0).times(np.array([0.1, 0.9])).tolist()
    [2.0, 2.0]
    """

    mean: float = 1.0

    def __post_init__(self) -> None:
        _positive(self.mean, "mean")

    def times(self, uniforms: np.ndarray) -> np.ndarray:
        """The mean."""
        return np.full(uniforms.shape, float(self.mean))


@dataclass(frozen=True)
class Exponential:
    """Times of an exponential distribution: of n of them the longest takes mean · (1 + 1/2 + … + 1/n).

    >>> Exponential(1.0).times(np.array([0.5])).round(3).tolist()
    [0.693]
    """

    mean: float = 1.0

    def __post_init__(self) -> None:
        _positive(self.mean, "mean")

    def times(self, uniforms: np.ndarray) -> np.ndarray:
        """−mean · log(1 − u)."""
        return -self.mean * np.log1p(-uniforms)


@dataclass(frozen=True)
class Pareto:
    """Times with a heavy tail: P(time > t) = (t₀/t)^shape, t₀ being such that the mean is this.

    Args:
        mean: positive.
        shape: above 1, or there is no mean; below 2 the variance is infinite.

    >>> Pareto(1.5, shape=3.0).times(np.array([0.0, 0.875])).tolist()
    [1.0, 2.0]
    """

    mean: float = 1.0
    shape: float = 2.0

    def __post_init__(self) -> None:
        _positive(self.mean, "mean")
        if not real_number(self.shape, "shape") > 1:
            raise ValueError(
                f"shape must be above 1, so that times have a mean, not {self.shape!r}"
            )

    def times(self, uniforms: np.ndarray) -> np.ndarray:
        """t₀ (1 − u)^{−1/shape}."""
        return self.mean * (1 - 1 / self.shape) * (1 - uniforms) ** (-1 / self.shape)


@dataclass(frozen=True)
class LogNormal:
    """Times whose logarithm is normal.

    Args:
        mean: of the times, positive.
        sigma: standard deviation of the logarithm, at least 0.

    >>> LogNormal(1.0, sigma=0.0).times(np.array([0.3])).tolist()
    [1.0]
    """

    mean: float = 1.0
    sigma: float = 0.5

    def __post_init__(self) -> None:
        _positive(self.mean, "mean")
        real_number(self.sigma, "sigma", 0)

    def times(self, uniforms: np.ndarray) -> np.ndarray:
        """mean · exp(σ z − σ²/2) with z normal."""
        return self.mean * np.exp(self.sigma * ndtri(uniforms) - self.sigma**2 / 2)


@dataclass(frozen=True)
class Stragglers:
    """In every step each worker is slower by a factor, with a probability.

    >>> Stragglers(probability=0.1, factor=5.0).factor
    5.0
    """

    probability: float
    factor: float

    def __post_init__(self) -> None:
        real_number(self.probability, "probability", 0, 1)
        real_number(self.factor, "factor", 1)


@dataclass(frozen=True, eq=False)
class Runtime(np.lib.mixins.NDArrayOperatorsMixin):
    """When the last worker has ended each step, ``(steps + 1,)``, or ``(steps + 1, replicas)`` for several.

    It is used like an array; see `runtime`.

    Attributes:
        worker_times: of each worker, ``(steps + 1, n, replicas)``, 0 at step 0.
    """

    worker_times: np.ndarray = field(repr=False)

    def __repr__(self) -> str:
        _, n, replicas = self.worker_times.shape
        many = f", {replicas} replicas" if replicas > 1 else ""
        return f"<Runtime of {self.steps} steps of {n} workers{many}, {self.per_step:.3g} a step>"

    def _repr_html_(self) -> str:
        _, n, replicas = self.worker_times.shape
        rows = [
            ("workers", n),
            ("steps", self.steps),
            ("replicas", replicas),
            ("mean time of a step", self.per_step if self.steps else "none"),
            ("until the last has ended", between(self.time[-1])),
        ]
        return html_table("Runtime", rows)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        time = self.time
        found = time[:, 0] if time.shape[1] == 1 else time
        found.flags.writeable = False
        return found if dtype is None else found.astype(dtype)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        plain = [np.asarray(given) if given is self else given for given in inputs]
        return getattr(ufunc, method)(*plain, **options)

    def __getitem__(self, which: Any) -> Any:
        return np.asarray(self)[which]

    def __len__(self) -> int:
        return self.steps + 1

    def __iter__(self) -> Iterator[Any]:
        return iter(np.asarray(self))

    def __getattr__(self, name: str) -> Any:
        """What else arrays have, such as ``mean``."""
        if name.startswith("__") or not hasattr(np.ndarray, name):
            raise AttributeError(f"a Runtime has no {name!r}")
        return getattr(np.asarray(self), name)

    @property
    def shape(self) -> tuple[int, ...]:
        """``(steps + 1,)``, or ``(steps + 1, replicas)``."""
        return np.asarray(self).shape

    @property
    def steps(self) -> int:
        """How many."""
        return len(self.worker_times) - 1

    @property
    def time(self) -> np.ndarray:
        """When the last worker has ended each step, ``(steps + 1, replicas)``."""
        return self.worker_times.max(axis=1)

    @property
    def per_step(self) -> float:
        """The mean time of a step, over workers and replicas: in the long run the same for all who wait."""
        return float(self.worker_times[-1].mean() / self.steps)


def runtime(
    network: Topology | TreePair | Mixing,
    steps: int,
    *,
    compute: Compute = Exponential(1.0),
    latency: ArrayLike = 0.0,
    bandwidth: ArrayLike = math.inf,
    bits: float = 0.0,
    overlap: bool = False,
    every: int = 1,
    rounds: int = 1,
    stragglers: Stragglers | Mapping[int, float] | None = None,
    seed: int = 0,
    replicas: int = 1,
) -> Runtime:
    """How long a method's steps take, if every worker waits for its neighbours and for no one else.

    With C_i the time of worker i's gradient and c_ij = latency + bits/bandwidth that of a message from j,

        t_i ← max(t_i + C_i, max_j (t_j + C_j + c_ij)),  or with overlap  max(t_i + C_i, max_j (t_j + c_ij)),

    over the neighbours j of i in that step: with overlap what is sent was there before the step, and
    travels while gradients are computed. All links work side by side.

    Args:
        network: a `Topology` (or both of a pair of trees): neighbours are those of the graph. Or a gossip
            matrix, or a sequence of them that repeats: i waits for j where W_ij ≠ 0. All-reduce is
            `relaysim.topologies.complete`. Methods that relay wait for neighbours on their tree in every
            step, and what a worker does reaches the far end as many steps later as the tree is deep.
        steps: how many.
        compute: `Exponential`, `Constant`, `Pareto`, `LogNormal`, or an object of your own with
            ``times(uniforms)``.
        latency: of a message, at least 0; a number, or ``(n, n)`` with the receiver first.
        bandwidth: bits in a unit of time, positive; a number, or ``(n, n)``.
        bits: of a message over an edge, such as 64 d for a vector of d numbers.
        overlap: whether sending and computing go on at the same time, as methods say in their claim
            ``overlaps``.
        every: steps between two communications, as the period of local SGD.
        rounds: messages that follow each other in a step, each sent when those before it have come.
        stragglers: `Stragglers`, at random, or factors of at least 1 for some workers, ``{0: 10.0}``.
        seed: of the times. The same numbers are drawn whatever the other arguments are.
        replicas: independent repetitions.

    Returns:
        A `Runtime`: when the last worker has ended each step, ``(steps + 1,)``, or ``(steps + 1, replicas)``;
        its ``worker_times`` are those of each worker. `relaysim.History.with_time` takes it.

    Raises:
        ValueError, TypeError: numbers out of range, times that are not positive.

    Source: the three factors (overlap, links that differ, times that vary) are those of Wang, Zhang, Wu,
    Johansson, "From promise to practice: realizing high-performance decentralized training", ICLR 2025; the
    recursion is ours, checked against harmonic numbers by a test.

    >>> import relaysim as rs
    >>> ring, everyone = rs.topologies.ring(16), rs.topologies.complete(16)
    >>> [round(rs.analysis.runtime(graph, 500).per_step, 1) for graph in (ring, everyone)]
    [2.3, 3.4]
    """
    n, waits = _waits(network)
    steps, every = whole_number(steps, "steps", 1), whole_number(every, "every", 1)
    rounds = whole_number(rounds, "rounds", 1)
    replicas, seed = whole_number(replicas, "replicas", 1), whole_number(seed, "seed", 0)
    true_or_false(overlap, "overlap")
    cost = _cost(n, latency, bandwidth, bits)
    links = []
    for receiver, sender, starts in waits:
        each = cost[receiver, sender] if cost.ndim else cost
        links.append((sender, starts, np.where(receiver == sender, 0.0, each)[:, None]))
    if isinstance(compute, type) or not hasattr(compute, "times"):
        raise TypeError(
            f"compute must be a distribution of times such as Exponential(1.0) or Constant(1.0), "
            f"not {shown(compute)}"
        )
    chance, factor, own = _slowed(stragglers, n)
    generator, unlucky = (
        np.random.Generator(np.random.PCG64(child))
        for child in np.random.SeedSequence(seed).spawn(2)
    )
    found = np.zeros((steps + 1, n, replicas))
    for step in range(steps):
        now = found[step]
        # Never 0, where some distributions have no time at all.
        uniforms = np.maximum(generator.random((n, replicas)), 2.0**-54)
        duration = np.asarray(compute.times(uniforms), dtype=float)
        if duration.shape != now.shape or not (np.isfinite(duration).all() and duration.min() > 0):
            raise ValueError(
                f"the times of {compute!r} must be positive and finite, one for each number that they "
                f"are made of"
            )
        duration = duration * own * np.where(unlucky.random((n, replicas)) < chance, factor, 1.0)
        done = now + duration
        if (step + 1) % every == 0:
            sender, starts, late = links[step // every % len(links)]
            for k in range(rounds):
                sent = (now if overlap and not k else done)[sender] + late
                done = np.maximum(done, np.maximum.reduceat(sent, starts, axis=0))
        found[step + 1] = done
    found.setflags(write=False)
    return Runtime(found)


def _waits(network: object) -> tuple[int, list[tuple[np.ndarray, np.ndarray, np.ndarray]]]:
    """n, and for each matrix who waits for whom: receivers, senders, and where each receiver begins."""
    if isinstance(network, TreePair):
        graphs = [network.first.adjacency + network.second.adjacency]
    elif isinstance(network, Topology):
        graphs = [network.adjacency]
    else:
        given = list(network) if is_sequence(network) else [network]
        for W in given:
            if is_several_rounds(W):
                raise ValueError(
                    f"a step with {rounds_of(W)} rounds waits in each of them, of which there is no model "
                    f"here; give the matrix of one round"
                )
        graphs = [
            csr_array(W) if issparse(W) else csr_array(real_array(W, "mixing")) for W in given
        ]
    n = graphs[0].shape[0]
    found = []
    for graph in graphs:
        if graph.shape != (n, n):
            raise ValueError(
                f"matrices must all be n × n, not {n} × {n} and {' × '.join(map(str, graph.shape))}"
            )
        entries = graph.tocoo()
        other = (entries.coords[0] != entries.coords[1]) & (entries.data != 0)
        # Everyone waits for itself at the least, so that no receiver is left out.
        receiver = np.concatenate([entries.coords[0][other], np.arange(n)])
        sender = np.concatenate([entries.coords[1][other], np.arange(n)])
        order = np.lexsort((sender, receiver))
        receiver, sender = receiver[order], sender[order]
        found.append((receiver, sender, np.searchsorted(receiver, np.arange(n))))
    return n, found


def _cost(n: int, latency: ArrayLike, bandwidth: ArrayLike, bits: float) -> np.ndarray:
    """c_ij, ``(n, n)``, or ``()`` where all are the same."""
    bits = real_number(bits, "bits", 0)
    late, wide = real_numbers(latency, "latency"), real_numbers(bandwidth, "bandwidth")
    for array, name in ((late, "latency"), (wide, "bandwidth")):
        if array.shape not in ((), (n, n)):
            raise ValueError(f"{name} must be a number or have shape {(n, n)}, not {array.shape}")
    if not (np.isfinite(late).all() and late.min() >= 0):
        raise ValueError(f"latency must be at least 0 and finite, not {shown(latency)}")
    if not wide.min() > 0:
        raise ValueError(f"bandwidth must be positive, not {shown(bandwidth)}")
    return np.asarray(late + bits / wide)


def _slowed(
    stragglers: Stragglers | Mapping[int, float] | None, n: int
) -> tuple[float, float, np.ndarray]:
    """How likely a worker is slower and by which factor, and everyone's own factor ``(n, 1)``."""
    own = np.ones((n, 1))
    if stragglers is None:
        return 0.0, 1.0, own
    if isinstance(stragglers, Stragglers):
        return stragglers.probability, stragglers.factor, own
    if not isinstance(stragglers, Mapping):
        raise TypeError(
            f"stragglers must be Stragglers(probability, factor) or factors of some workers such as "
            f"{{0: 10.0}}, not {shown(stragglers)}"
        )
    for worker, factor in stragglers.items():
        if whole_number(worker, "a worker of stragglers", 0) >= n:
            raise ValueError(f"stragglers names worker {worker}; there are 0 to {n - 1}")
        own[worker] = real_number(factor, "a factor of stragglers", 1)
    return 0.0, 1.0, own
