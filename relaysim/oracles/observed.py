"""Oracles of gradients that are seen as they are: exact, with noise, or from a few examples."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeGuard

import numpy as np

from relaysim.problems.problem import Problem, unless_overridden
from relaysim.support.callbacks import ask
from relaysim.support.checks import (
    noise_variances,
    plain_options,
    real_array,
    shown,
    unmasked,
    whole_number,
)
from relaysim.support.streams import EventDraw, Streams

__all__ = [
    "EventGradients",
    "Exact",
    "Gaussian",
    "Gradient",
    "Minibatch",
    "Oracle",
    "WithExamples",
    "checked_gradient",
    "evaluator",
    "has_examples",
]

# How many random numbers are drawn at a time; it changes no result.
DRAW_AHEAD = 1 << 16
# To look up a worker for its own rows takes about as long as so many more rows, where all workers are asked
# without being looked up.
LOOK_UP = 3

# (x, out) → out
Gradient = Callable[[np.ndarray, np.ndarray], np.ndarray]


class EventBatch(Protocol):
    """What an oracle sees of a batch of events, one entry each, ``(events,)``.

    ``first``: the worker; ``replica``: whose; ``stream``: that its numbers come from; ``draw``: which of
    these.
    """

    @property
    def first(self) -> np.ndarray: ...

    @property
    def replica(self) -> np.ndarray: ...

    @property
    def stream(self) -> np.ndarray: ...

    @property
    def draw(self) -> np.ndarray: ...


# (x, batch, drawn) → gradients, with what the events drew, or None where they draw nothing.
ObserveEvents = Callable[[np.ndarray, EventBatch, Any], np.ndarray]


class Oracle(Protocol):
    """How workers see their gradients; see the module's docstring."""

    def observe(self, problem: Problem, streams: Streams) -> Gradient:
        """The function ``(x, out) → out`` for one run, which writes the gradients into ``out``."""

    def observe_events(self, problem: Problem, streams: Streams) -> EventGradients:
        """The gradients of single workers, for one run."""


class WithExamples(Problem, Protocol):
    """A problem whose workers have examples to draw from."""

    @property
    def examples(self) -> np.ndarray:
        """How many each worker has, ``(n,)``."""

    def sampled_gradient(self, x: np.ndarray, index: np.ndarray, *, out: np.ndarray) -> np.ndarray:
        """The gradients on the examples ``index (n, size[, r])`` at x, in ``out``."""

    def example_variance(self, x: np.ndarray) -> np.ndarray:
        """Of the gradient over each worker's examples, ``(n,)``; for `Minibatch.sigma2_at`."""


def has_examples(problem: Problem) -> TypeGuard[WithExamples]:
    """Whether there are examples to draw from."""
    return hasattr(problem, "sampled_gradient") and hasattr(problem, "examples")


def checked_gradient(found: np.ndarray, x: np.ndarray, name: str = "gradient") -> np.ndarray:
    """A problem's gradients, after a look at what they are: real numbers, in the shape of x."""
    found = real_array(found, f"the problem's {name}")
    shape = found.shape
    if shape != x.shape:
        raise ValueError(
            f"the problem's {name} at x of shape {x.shape} has shape {shape}; "
            f"it must have that of x, a row for each worker"
        )
    return found


def evaluator(function: Callable[..., Any], name: str) -> Callable[..., np.ndarray]:
    """``(out, x, …) → out``, which writes into ``out`` what a problem says of x ``(n, d[, r])``.

    x is the run's memory: a problem cannot write into what it is given to read. One that takes ``out``
    is watched when it is called first, and trusted from then on, which costs nothing.
    """
    takes_out = "out" in inspect.signature(function).parameters
    untried = True

    def evaluate(out: np.ndarray, x: np.ndarray, *others: np.ndarray) -> np.ndarray:
        nonlocal untried
        if takes_out and not untried:
            found = function(x, *others, out=out)
        else:
            found = ask(function, name, x, *others, **({"out": out} if takes_out else {}))
        if found is not out:
            # Memory of the problem's own: copied, since a step may overwrite its gradient.
            out[...] = checked_gradient(found, x, name)
        if untried:
            untried = False
            _check_numbers(out, x, name)
        return out

    return evaluate


def _check_numbers(found: np.ndarray, x: np.ndarray, name: str) -> None:
    """Raise where gradients are NaN although the iterates are not."""
    if np.isnan(found).any() and np.isfinite(x).all():
        worker, coordinate = (int(k) for k in np.argwhere(np.isnan(found))[0][:2])
        raise ValueError(
            f"the problem's {name} is NaN at the start, in coordinate {coordinate} of worker {worker}; "
            f"start where it is defined, x0=…, or mend it"
        )


def _check_replicas(problem: Problem, x: np.ndarray, found: np.ndarray) -> None:
    """Hold the first replica against its gradient alone: broadcasting may have mixed up the axes."""
    if not np.isfinite(x[..., 0]).all():  # it diverged before the run was gone on with
        return
    alone = np.asarray(ask(problem.gradient, "gradient", np.ascontiguousarray(x[..., 0])))
    scale = np.abs(alone).max(initial=0)
    if (
        alone.shape != x.shape[:2]
        or not np.abs(found[..., 0] - alone).max(initial=0) <= 1e-9 * scale
    ):
        raise ValueError(
            "the problem's gradient of replicas (n, d, r) differs from that of one replica (n, d); "
            "give its arrays a last axis of length 1 where x has three axes"
        )


class EventGradients:
    """Gradients of some workers at a time, as the events of asynchronous methods ask for them.

    Args:
        observe: ``(x, batch, drawn) → gradients``, a row for each event of a batch.
        draw: what each event needs at random, drawn in the order of the events; None for nothing.
    """

    def __init__(self, observe: ObserveEvents, draw: EventDraw | None = None):
        self._observe, self._draw = observe, draw

    def start_unit(self, workers: list[tuple[int, np.ndarray]]) -> None:
        """Draw for a unit of time: for each stream the workers of its gradients, in order."""
        if self._draw is None:
            return
        self._starts = np.zeros(1 + max((k for k, _ in workers), default=0), dtype=np.intp)
        drawn, count = [], 0
        for k, its_workers in workers:
            self._starts[k] = count
            drawn.append(self._draw(k, its_workers))
            count += len(its_workers)
        self._drawn = np.concatenate(drawn)

    def __call__(self, x: np.ndarray, batch: EventBatch) -> np.ndarray:
        """The observed gradients at x ``(events, d)`` of the batch's workers, ``(events, d)``."""
        drawn = None if self._draw is None else self._drawn[self._starts[batch.stream] + batch.draw]
        return self._observe(x, batch, drawn)


def _the_same(row: np.ndarray) -> np.ndarray:
    return row


class _Table:
    """A row for each worker of each replica, of which a batch of events fills in some.

    A problem is asked for the gradients of all workers at once: where only some are wanted the others
    are where they were last, or, before that, at ``others`` of the first row that was wanted.
    """

    def __init__(self, n: int, streams: Streams, others: Callable[[np.ndarray], np.ndarray]):
        self._n, self._streams, self._others = n, streams, others
        self._rows = np.zeros((0, 0))

    def filled(self, rows: np.ndarray, batch: EventBatch) -> np.ndarray:
        """The table ``(n, width[, r])`` with these rows ``(events, width)``; not to be kept."""
        owner = self._streams.owner
        r = 1 if owner is None else len(owner)
        if self._rows.shape != (self._n * r, rows.shape[1]):
            self._rows = np.tile(self._others(rows[0]), (self._n * r, 1))
        self._rows[batch.first * r + batch.replica] = rows
        if owner is None:
            return self._rows
        return self._rows.reshape(self._n, r, -1).transpose(0, 2, 1)

    def taken(self, table: np.ndarray, batch: EventBatch) -> np.ndarray:
        """The rows of a table ``(n, width[, r])`` that a batch is about, ``(events, width)``."""
        if self._streams.owner is None:
            return table[batch.first]
        return table[batch.first, :, batch.replica]


@dataclass(frozen=True)
class Exact:
    """g_i = ∇f_i(x_i): no noise, σ² = 0.

    >>> Exact()
    Exact()
    """

    def observe(self, problem: Problem, streams: Streams) -> Gradient:
        """The function ``(x, out) → out`` for one run, which writes the gradients into ``out``."""
        evaluate = evaluator(problem.gradient, "gradient")
        untried = streams.owner is not None

        def gradient(x: np.ndarray, out: np.ndarray) -> np.ndarray:
            nonlocal untried
            evaluate(out, x)
            if untried:
                untried = False
                _check_replicas(problem, x, out)
            return out

        return gradient

    def observe_events(self, problem: Problem, streams: Streams) -> EventGradients:
        """The gradients of single workers, for one run."""
        return EventGradients(_exact_events(problem, streams))


def _exact_events(problem: Problem, streams: Streams) -> ObserveEvents:
    """``(x, batch, _) → gradients``, by the problem's own rows where these are few."""
    everyone = Exact().observe(problem, streams)
    table = _Table(problem.n, streams, _the_same)
    some = unless_overridden(problem, "gradient_of", "gradient")

    def gradient(x: np.ndarray, batch: EventBatch, _: None) -> np.ndarray:
        replicas = 1 if streams.owner is None else len(streams.owner)
        # Replicas with the same events follow each other.
        looked_up = 1 + np.count_nonzero(batch.first[1:] != batch.first[:-1])
        if some is not None and len(x) + LOOK_UP * looked_up <= problem.n * replicas:
            return checked_gradient(ask(some, "gradient_of", batch.first, x), x, "gradient_of")
        points = table.filled(x, batch)
        return table.taken(everyone(points, np.empty_like(points)), batch)

    return gradient


@dataclass(frozen=True)
class Gaussian:
    """g_i = ∇f_i(x_i) + noise, independent Gaussian for every worker, step and seed.

    Args:
        sigma2: σ² = E‖g_i − ∇f_i‖², summed over the d coordinates: each has variance σ²/d. One number, or
            one for each worker, ``(n,)``.

    Raises:
        ValueError: sigma2 is negative or not finite; when run, not as many as there are workers.

    Replicas with the same seed see the same noise, whatever their learning rates.

    >>> Gaussian(sigma2=0.01), Gaussian(sigma2=[0.0, 0.5])
    (Gaussian(sigma2=0.01), Gaussian(sigma2=(0.0, 0.5)))
    """

    sigma2: float | Sequence[float]

    def __post_init__(self) -> None:
        plain_options(self)
        sigma2 = noise_variances(self.sigma2)
        object.__setattr__(
            self, "sigma2", sigma2.tolist() if sigma2.ndim == 0 else tuple(sigma2.tolist())
        )

    def check(self, problem: Problem) -> None:
        """Raise unless each of the problem's workers has a variance."""
        noise_variances(self.sigma2, problem.n)

    def _scale(self, problem: Problem) -> np.ndarray:
        """Standard deviations of the coordinates, ``()`` or ``(n,)``."""
        return np.sqrt(noise_variances(self.sigma2, problem.n) / problem.d)

    def observe(self, problem: Problem, streams: Streams) -> Gradient:
        """The function ``(x, out) → out`` for one run, which writes the gradients into ``out``."""
        exact = Exact().observe(problem, streams)
        scale = self._scale(problem)
        scale = scale.reshape(-1, 1, 1) if scale.ndim else scale
        noise = streams.normals("gradient", (problem.n, problem.d), scale, DRAW_AHEAD)

        def gradient(x: np.ndarray, out: np.ndarray) -> np.ndarray:
            result = exact(x, out)
            return np.add(result, noise(), out=out)

        return gradient

    def observe_events(self, problem: Problem, streams: Streams) -> EventGradients:
        """The gradients of single workers, for one run; each event has noise of its own."""
        exact = _exact_events(problem, streams)
        scale = np.broadcast_to(self._scale(problem), (problem.n,))
        return EventGradients(
            lambda x, batch, noise: exact(x, batch, None) + noise,
            streams.event_normals("gradient", problem.d, scale),
        )


SAMPLINGS = ("with replacement", "without replacement", "epochs")


@dataclass(frozen=True)
class Minibatch:
    """g_i = the gradient on a few of worker i's examples, drawn anew in every step.

    Args:
        size: examples in a batch, for every worker.
        sampling: ``"with replacement"``: independent draws; ``"without replacement"``: distinct
            examples in a batch; ``"epochs"``: every worker shuffles its examples and takes the next
            ones, and shuffles again when fewer than ``size`` are left (those are left out).

    Raises:
        ValueError: a size below 1, an unknown sampling, or, when run, a worker with fewer examples
            than a batch without replacement needs.
        TypeError: when run, a problem that has no examples to draw from.

    Unbiased: E g_i = ∇f_i, in epochs for each batch by itself. Replicas with the same seed draw the
    same examples, whatever their learning rates.

    >>> Minibatch(size=8)
    Minibatch(size=8, sampling='with replacement')
    """

    size: int
    sampling: str = "with replacement"

    def __post_init__(self) -> None:
        plain_options(self)
        object.__setattr__(self, "size", whole_number(self.size, "size", 1))
        if self.sampling not in SAMPLINGS:
            raise ValueError(
                f"sampling must be one of {', '.join(map(repr, SAMPLINGS))}, not {self.sampling!r}"
            )

    def observe(self, problem: Problem, streams: Streams) -> Gradient:
        """The function ``(x, out) → out`` for one run, which writes the gradients into ``out``."""
        sampled = self.drawn_from(problem)
        batches = streams.batches(
            "sampling", np.asarray(sampled.examples), self.size, self.sampling, DRAW_AHEAD
        )
        evaluate = evaluator(sampled.sampled_gradient, "sampled_gradient")

        def gradient(x: np.ndarray, out: np.ndarray) -> np.ndarray:
            return evaluate(out, x, batches())

        return gradient

    def observe_events(self, problem: Problem, streams: Streams) -> EventGradients:
        """The gradients of single workers, for one run; each event draws its own examples."""
        sampled = self.drawn_from(problem)
        evaluate = evaluator(sampled.sampled_gradient, "sampled_gradient")
        points = _Table(problem.n, streams, _the_same)
        examples = _Table(problem.n, streams, np.zeros_like)  # everyone has an example 0

        def gradient(x: np.ndarray, batch: EventBatch, drawn: np.ndarray) -> np.ndarray:
            everyone = points.filled(x, batch)
            found = evaluate(np.empty(everyone.shape), everyone, examples.filled(drawn, batch))
            return points.taken(found, batch)

        available = np.asarray(sampled.examples)
        draw = streams.event_batches("sampling", available, self.size, self.sampling)
        return EventGradients(gradient, draw)

    def sigma2_at(self, problem: Problem, x: np.ndarray) -> float:
        """σ² = (1/n) Σ_i E‖g_i − ∇f_i‖² at x ``(d,)`` or ``(n, d)``, exactly.

        With v_i the variance of the gradient over worker i's m_i examples it is the mean of v_i/size,
        and without replacement that of (v_i/size)(m_i − size)/(m_i − 1).
        """
        sampled = self.drawn_from(problem)
        variance = sampled.example_variance(x) / self.size
        if self.sampling != "with replacement":
            m = np.asarray(sampled.examples)
            variance = variance * (m - self.size) / np.maximum(m - 1, 1)
        return float(variance.mean())

    def check(self, problem: Problem) -> None:
        """Raise unless the problem has examples to draw from, and every worker enough of them."""
        self.drawn_from(problem)

    def drawn_from(self, problem: Problem) -> WithExamples:
        """The problem, once it is known to have examples, and every worker enough of them.

        Raises:
            TypeError, ValueError: it has none, or too few.
        """
        if not has_examples(problem):
            raise TypeError(
                f"{problem!r} has no examples to draw from; {type(self).__name__} is for problems such as "
                f"relaysim.problems.Logistic, and Gaussian(sigma2=…) gives any problem noise"
            )
        examples = np.asarray(unmasked(problem.examples, "the problem's examples"))
        if examples.dtype.kind not in "iu" or examples.shape != (problem.n,) or examples.min() < 1:
            raise ValueError(
                f"the problem's examples must be how many each worker has, (n,) = ({problem.n},) whole "
                f"numbers of at least 1, not {shown(problem.examples)}"
            )
        if self.sampling != "with replacement" and examples.min() < self.size:
            worker = int(np.argmin(examples))
            raise ValueError(
                f"worker {worker} has {examples[worker]} examples and a batch needs {self.size} "
                f"distinct ones; take a smaller size or sampling='with replacement'"
            )
        return problem
