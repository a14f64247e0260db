"""The contract of methods, gone through on a user's own; see `relaysim.algorithms.check`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from relaysim.algorithms import checking
from relaysim.algorithms.base import Round
from relaysim.algorithms.fit import check_compatible, cycle_of, matrices_for
from relaysim.engine import simulate
from relaysim.faults import MessageDrop
from relaysim.network import Network
from relaysim.oracles import Exact, Gaussian, Samples, Table
from relaysim.problems import LeastSquares, random_quadratics
from relaysim.problems.workers import Workers
from relaysim.records.history import History
from relaysim.schedules import PerWorker
from relaysim.support.callbacks import answer, ask, read_only
from relaysim.support.checks import real_number, whole_number
from relaysim.support.findings import Finding, Findings, FindingsTable, relative_difference
from relaysim.support.streams import Streams
from relaysim.support.workspace import Workspace
from relaysim.theory.linear import linearize
from relaysim.topologies import Topology

__all__ = ["examine"]

ROUNDING = 1e-13
# Where an exact method ends, as a share of ζ²: rounding is far below, and a bias of order γ²ζ² far above.
AT_THE_OPTIMUM = 1e-16
STEPS_TO_THE_OPTIMUM = 6000
LOST = "lost messages"


def examine(
    algorithm: Any,
    problem: Any,
    topology: Any,
    *,
    learning_rate: float,
    steps: int,
    mixing: Any = None,
) -> FindingsTable:
    """See `relaysim.algorithms.check`."""
    rate = real_number(learning_rate, "learning_rate", 0)
    steps = whole_number(steps, "steps", 2)
    findings = Findings()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # such as that W is not doubly stochastic

        def goes_together() -> None:
            check_compatible(problem, topology, algorithm)
            matrices_for(algorithm, topology, mixing)

        if findings.examine(
            "goes with the problem and topology, and has all claims", goes_together
        ):
            contract = _Contract(algorithm, problem, topology, rate, steps, mixing)
            findings.examine("options are frozen, and compare by what they are", contract.options)
            if algorithm.uses != "events":
                contract.examine_steps(findings)
            contract.examine_runs(findings)
            contract.examine_claims(findings)
    return findings.table()


class _Contract:
    """The claims of one method, and the runs that they are measured on."""

    def __init__(
        self, algorithm: Any, problem: Any, topology: Any, rate: float, steps: int, mixing: Any
    ):
        self.algorithm, self.problem, self.topology = algorithm, problem, topology
        self.rate, self.mixing = rate, mixing
        self.steps = max(steps, getattr(algorithm, "least_steps", 0))
        self.matrices = matrices_for(algorithm, topology, mixing)
        self.by_number = algorithm.oracle_needs == "examples"
        self.shape = (int(problem.n), int(problem.d))
        self.x0 = np.random.default_rng(0).normal(size=self.shape)

    def simulate(self, problem: Any = None, algorithm: Any = None, **options: Any) -> History:
        """A run at the given rate from random starting points."""
        given: dict[str, Any] = {
            "learning_rate": self.rate,
            "steps": self.steps,
            "x0": self.x0,
            "progress": False,
        }
        if self.mixing is not None:
            given["mixing"] = self.mixing
        if self.by_number:
            options["oracle"] = Table()
        return simulate(
            self.problem if problem is None else problem,
            self.topology,
            self.algorithm if algorithm is None else algorithm,
            **(given | options),
        )

    # -- steps, one by one ---------------------------------------------------------------------------

    def options(self) -> bool:
        kind = type(self.algorithm)
        if not getattr(getattr(kind, "__dataclass_params__", None), "frozen", False):
            raise TypeError(f"make {kind.__name__} a @dataclass(frozen=True) of its options")
        hash(self.algorithm)
        return self.algorithm == self.algorithm

    def walk(self) -> Iterator[tuple[Any, Any, Any, int]]:
        """For some steps: a state, the next one, that again, and how many gradients both asked for."""
        network = Network(self.topology, self.matrices, workers=Workers(self.problem))
        asked = step = 0

        def gradient(x: np.ndarray) -> np.ndarray:
            nonlocal asked
            asked += 1
            return answer(ask(self.problem.gradient, "gradient", x), "gradient", x.shape).copy()

        def uniforms(shape: tuple[int, ...]) -> np.ndarray:
            return np.random.default_rng(step).random(shape)  # the same in both tries

        samples = _SameDraws(self.problem, lambda: step) if self.by_number else None
        round = Round(gradient, network, Workspace(), uniforms, samples)
        round.learning_rate = self.rate
        state = _read_only(self.algorithm.init(read_only(self.x0), network))
        for step in range(self.steps):
            round.step, asked = step, 0
            following = self.algorithm.step(state, round)
            again = self.algorithm.step(state, round)
            yield state, following, again, asked
            state = _read_only(following)

    def examine_steps(self, findings: Findings) -> None:
        """Steps are pure functions of their arguments, and ask for one gradient."""
        findings.examine("init and step write into nothing that they were given", self._only_reads)
        findings.examine("the state is a NamedTuple of arrays, x (n, d) among them", self._is_state)
        findings.examine("a step is a function of its arguments", self._is_function)
        claim = "a step asks for one gradient"
        if self.by_number:
            findings.absent(claim, "it asks for gradients on examples by their numbers")
        else:
            findings.examine(claim, self._asks_once)
        self._examine_conserved(findings)

    def _only_reads(self) -> bool:
        kept: list[tuple[list[np.ndarray], list[np.ndarray]]] = []
        for state, *_ in self.walk():
            kept.append((_arrays(state), [array.copy() for array in _arrays(state)]))
        return all(
            np.array_equal(array, copy, equal_nan=True)
            for arrays, copies in kept
            for array, copy in zip(arrays, copies, strict=True)
        )

    def _is_state(self) -> None:
        for _, following, _, _ in self.walk():
            x: Any = getattr(following, "x", None)
            if not (isinstance(following, tuple) and hasattr(following, "_fields")):
                raise TypeError(f"the state is a {type(following).__name__}; make it a NamedTuple")
            if np.shape(x) != self.shape:
                raise ValueError(f"x has shape {np.shape(x)} and must have {self.shape}")

    def _is_function(self) -> Finding:
        worst = 0.0
        for _, following, again, _ in self.walk():
            for one, other in zip(_arrays(following), _arrays(again), strict=True):
                worst = max(worst, relative_difference(other, one))
        return (
            worst,
            0.0,
            "the same step gives another state the second time: something is remembered",
        )

    def _asks_once(self) -> Finding:
        counts = {asked / 2 for *_, asked in self.walk()}
        return (
            max(counts, key=lambda count: abs(count - 1)),
            1.0,
            "a step has one gradient to spend",
        )

    def _examine_conserved(self, findings: Findings) -> None:
        claim = "conserved: steps leave it as it is"
        network = Network(self.topology, self.matrices, workers=Workers(self.problem))

        def conserved(state: Any) -> Any:
            return self.algorithm.conserved(state, network, self.rate)

        first = self.algorithm.init(self.x0.copy(), network)
        if conserved(first) is None:
            findings.absent(claim, "nothing is said to be")
            return

        def stays() -> Finding:
            found = [np.array(conserved(following)) for _, following, *_ in self.walk()]
            states = max(np.abs(array).max(initial=0) for array in _arrays(first))
            worst = max(relative_difference(each, found[0], states) for each in found)
            return worst, 1e-10, "it changes from step to step"

        findings.examine(claim, stays)

    # -- runs ----------------------------------------------------------------------------------------

    def examine_runs(self, findings: Findings) -> None:
        """Runs are the same again, beside others, and when they are gone on with."""
        findings.examine("the same call gives the same bits", self._same_bits)
        findings.examine("a replica is as its run alone", self._replica_alone)
        findings.examine("a run that is gone on with is the run that never stopped", self._extended)

    def _same_bits(self) -> bool:
        first, second = (self.simulate(oracle=Gaussian(0.1)).x for _ in range(2))
        return first.tobytes() == second.tobytes()

    def _replica_alone(self) -> Finding:
        options: dict[str, Any] = {"oracle": Gaussian(0.1), "keep_iterates": True}
        rates, seeds = [self.rate / 2, self.rate], [3, 11]
        together = self.simulate(learning_rate=rates, seed=seeds, **options).iterates
        worst = 0.0
        for replica in range(4):
            rate, seed = rates[replica // 2], seeds[replica % 2]
            alone = self.simulate(learning_rate=rate, seed=seed, **options).iterates
            assert together is not None
            assert alone is not None
            worst = max(worst, relative_difference(together[..., replica], alone))
        return (
            worst,
            10 * ROUNDING,
            "replicas mix, or draw each other's numbers: axes are (n, d, r)",
        )

    def _extended(self) -> bool:
        first = self.steps // 2
        whole = self.simulate(oracle=Gaussian(0.1), keep_state=False)
        part = self.simulate(oracle=Gaussian(0.1), keep_state=True, steps=first)
        longer = part.extend(self.steps - first)
        return longer.x.tobytes() == whole.x.tobytes() and longer.frame.equals(whole.frame)

    def _rates_alike(self) -> Finding:
        rate = PerWorker([self.rate] * self.shape[0])
        one, each = (self.simulate(learning_rate=r, seed=[3, 11]).x for r in (self.rate, rate))
        return (
            relative_difference(each, one),
            10 * ROUNDING,
            "γ is (n, 1[, r]) where workers differ",
        )

    # -- claims ----------------------------------------------------------------------------------------

    def examine_claims(self, findings: Findings) -> None:
        """What the class says of itself, measured."""
        self._examine_vectors(findings)
        self._examine_turns(findings)
        self._examine_matrices(findings)
        self._examine_hops(findings)
        self._examine_exact(findings)
        self._examine_affine(findings)
        claim = "worker_rates: a rate for each worker, all alike, is one rate"
        if self.algorithm.worker_rates:
            findings.examine(claim, self._rates_alike)
        else:
            findings.absent(claim, "no rule for rates that differ is claimed")
        claim = "faults: a loss that never happens changes nothing, one that does is survived"
        if LOST in self.algorithm.faults and (self.matrices or self.algorithm.uses == "relay"):
            findings.examine(claim, self._survives_losses)
        else:
            findings.absent(claim, "no rule for lost messages is claimed")

    def _edges(self) -> float | None:
        """Directed edges that are used in a step, on average over a period; None where they are not known."""
        if self.algorithm.uses == "relay":
            return 2.0 * (self.shape[0] - 1)
        if not self.matrices:
            return None
        counts = [W.count_nonzero() - np.count_nonzero(W.diagonal()) for W in self.matrices]
        return float(np.mean(counts))

    def _period(self) -> int:
        return cycle_of(self.algorithm, self.matrices)

    def _examine_vectors(self, findings: Findings) -> None:
        claim = "vectors_per_edge: what is sent"
        claimed, edges = self.algorithm.vectors_per_edge(self.shape[1]), self._edges()
        if claimed is None:
            findings.absent(claim, "it depends on the run")
            return
        first = self._period()  # in which some send nothing, or less
        steps = first + first * -(-self.steps // first)
        if edges is None or not edges:
            findings.absent(claim, "it has edges of its own, which cannot be counted from here")
            return

        def as_claimed() -> Finding:
            sent = self.simulate(steps=steps).frame.vectors_sent
            measured = (sent.iloc[-1] - sent.iloc[first]) / ((steps - first) * edges)
            note = f"{measured:.6g} a directed edge and step are sent and {claimed:.6g} claimed"
            return abs(measured - claimed), 1e-12 * max(claimed, 1), note

        findings.examine(claim, as_claimed)

    def _examine_turns(self, findings: Findings) -> None:
        claim = "sends_every: nothing is sent in other steps"
        every = self.algorithm.sends_every
        if self.algorithm.uses not in ("mixing", "relay") or every in (None, 1):
            return

        def silent() -> Finding:
            sent = np.diff(self.simulate(steps=2 * every).frame.vectors_sent)
            turns = np.arange(1, len(sent) + 1) % every == 0
            note = f"{np.flatnonzero((sent > 0) != turns).tolist()} are not as it says"
            return float(((sent > 0) != turns).sum()), 0, note

        findings.examine(claim, silent)

    def _examine_matrices(self, findings: Findings) -> None:
        claim = "matrices_per_step: so many of a sequence are asked for"
        claimed, every = self.algorithm.matrices_per_step, self.algorithm.sends_every
        needs = self.algorithm.mixing_needs
        if self.algorithm.uses != "mixing" or "symmetric" in needs or not every:
            findings.absent(claim, "it takes no callable of the step, or it depends on the run")
            return

        def asked() -> Finding:
            steps, last = 3 * every, [0]

            def mixing(t: int) -> Any:
                last[0] = max(last[0], t)
                return self.matrices[t % len(self.matrices)]

            self.simulate(steps=steps, mixing=mixing)
            found = (last[0] + 1) / steps
            return abs(found - claimed), 0, f"{found:g} a step are used and {claimed} claimed"

        findings.examine(claim, asked)

    def _examine_hops(self, findings: Findings) -> None:
        claim = "hops_per_step: information moves no further"
        hops, graph = self.algorithm.hops_per_step, self.topology
        if self.algorithm.uses == "workers" or not np.isfinite(hops):
            findings.absent(claim, "any worker may hear of any other in a step")
            return
        if self.algorithm.uses == "events" or not isinstance(graph, Topology):
            findings.absent(claim, "it is measured in rounds on one graph")
            return
        distance = graph.distances_from(0)

        def moves() -> Finding:
            n, d = self.shape
            centers = np.random.default_rng(1).normal(size=(n, d))
            other, start = centers.copy(), self.x0.copy()
            other[0] += 1
            start[0] += 1
            runs = [
                self.simulate(
                    LeastSquares(np.tile(np.eye(d), (n, 1, 1)), c), x0=x, keep_iterates=True
                ).iterates
                for c, x in ((centers, self.x0), (other, start))
            ]
            assert runs[0] is not None
            changed = (runs[0] != runs[1]).any(axis=2)
            reach = np.where(changed, distance, 0).max(axis=1)
            beyond = float((reach - hops * np.arange(len(reach))).max())
            return (
                beyond,
                0.0,
                f"within a step, worker 0 is heard {beyond:g} hops further than that",
            )

        findings.examine(claim, moves)

    def _examine_exact(self, findings: Findings) -> None:
        claim = "exact: it reaches x* at a constant rate although data differ"
        n = self.shape[0]
        if not self.algorithm.exact:
            findings.absent(claim, "it is not claimed")
            return

        def ends() -> Finding:
            problem = random_quadratics(n=n, d=2, zeta2=1.0 if n > 1 else 0.0, mu=0.25, seed=0)
            options = {"steps": STEPS_TO_THE_OPTIMUM, "record": [STEPS_TO_THE_OPTIMUM]}
            x0 = np.random.default_rng(2).normal(size=(n, 2))
            distance = self.simulate(problem, x0=x0, **options).frame.distance.iloc[-1]
            return (
                float(distance),
                AT_THE_OPTIMUM,
                "there is a bias; or the learning rate is too high",
            )

        findings.examine(claim, ends)

    def _examine_affine(self, findings: Findings) -> None:
        claim = "affine, cycle: the map of its own step gives its curve on quadratics"
        if not self.algorithm.affine or self.algorithm.uses == "events":
            findings.absent(claim, "it is not claimed")
            return

        def predicted() -> Finding:
            n = self.shape[0]
            problem = random_quadratics(n=n, d=2, zeta2=1.0 if n > 1 else 0.0, mu=0.25, seed=0)
            x0 = np.random.default_rng(3).normal(size=(n, 2))
            linear = linearize(problem, self.topology, self.algorithm, self.rate, x0, self.mixing)
            steps = max(self.steps, linear.start_up + 2 * linear.period)
            found = self.simulate(problem, x0=x0, steps=steps, keep_iterates=True).iterates
            assert found is not None
            return (
                relative_difference(linear.iterates(steps), found),
                1e-9,
                "its map is another rule",
            )

        findings.examine(claim, predicted)

    def _survives_losses(self) -> bool:
        never = self.simulate(faults=MessageDrop(0.0)).x
        often = self.simulate(faults=MessageDrop(0.3)).x
        return bool((never == self.simulate().x).all() and np.isfinite(often).all())


class _SameDraws(Samples):
    """Examples of which a step draws the same ones in both tries."""

    def __init__(self, problem: Any, step: Callable[[], int]):
        super().__init__(
            problem, self._numbers, Exact().observe(problem, Streams([0], None)), np.empty
        )
        self._counts, self._step = np.asarray(problem.examples), step

    def _numbers(self) -> np.ndarray:
        return np.random.default_rng(self._step()).integers(0, self._counts)[:, None]


def _arrays(state: Any) -> list[np.ndarray]:
    if isinstance(state, tuple):
        return [array for part in state for array in _arrays(part)]
    return [np.asarray(state)]


def _read_only(state: Any) -> Any:
    """The same state, in views that cannot be written into."""
    if isinstance(state, tuple):
        parts = map(_read_only, state)
        return type(state)(*parts) if hasattr(state, "_fields") else tuple(parts)
    return read_only(np.asarray(state))


checking.checked_by(examine)
