"""Step for step: the methods that relaysim and decent-bench 0.3.0 both have, on one least squares problem.

decent-bench needs Python 3.13, so that this is a script and no test:

    python3.13 -m venv there && there/bin/pip install decent-bench==0.3.0 && there/bin/pip install .
    there/bin/python benchmarks/against_decent_bench.py

Each method runs for 60 iterations of decent-bench from its own start, 0, on a graph with unlike degrees; the
deviation is the largest difference of an iterate from ours over the largest iterate so far. decent-bench's
``W`` is that of Metropolis, as here. On 2026-11-29, with numpy 2.5.5:

    decent-bench  relaysim                                                deviation
    DGD           DPSGD(momentum=0.0, overlap=True, consensus=1.0)         5.7e-16
    ATC           DPSGD(momentum=0.0, overlap=False, consensus=1.0)        5.8e-16
    ATC_Tracking  GradientTracking(form='next', momentum=0.0)              8.3e-16
    AugDGM        GradientTracking(form='atc', momentum=0.0)               4.8e-16
    EXTRA         EXTRA()                                                  1.4e-14
    ED            ExactDiffusion(form='own')                               1.8e-14
    NIDS          NIDS()                                                   9.6e-15
    LED           LED(period=3)                                            9.4e-15
    KGT           KGT(period=3, rate=0.8)                                  4.6e-16
    ProxSkip      ProxSkip(probability=0.3)                                2.5e-15
    DLM           DLM(penalty=4.0)                                         1.2e+07
    DLM, mended   DLM(penalty=4.0)                                         5.0e-16
    ADMM          ADMM(relaxation=0.5)                                     7.0e-16
    ADMM          ADMM(relaxation=0.8)                                     7.0e-16
    FedAvg        FedAvg(local_steps=4, participation=1.0, weights='equal')  4.6e-16
    Scaffold      Scaffold(period=4, participation=1.0)                    4.8e-16

Where the two are written apart: an iteration of LED, K-GT, FedAvg and SCAFFOLD is K steps here. LED mixes
with the W that it is given, so that it is given ½(I + W). DLM's first iteration there only exchanges the
start. Edges of DLM and ADMM have one penalty ρ there; here weights w and the penalty ρ/w, or the learning
rate w/ρ. ProxSkip is given our coins. The DLM of 0.3.0 adds neighbours' messages up in the first of them, an
array that all who received it share: "DLM, mended" adds them up in a new one.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any

import decent_bench.algorithms.federated as federated
import decent_bench.algorithms.p2p as p2p
import networkx as nx
import numpy as np
from decent_array import interoperability as iop
from decent_bench.agents import Agent
from decent_bench.algorithms.p2p import _prox_skip
from decent_bench.costs import QuadraticCost
from decent_bench.networks import FedNetwork, P2PNetwork

import relaysim as rs

N, D, RATE, ITERATIONS, WEIGHT = 8, 5, 0.05, 60, 0.1
PROBLEM = rs.problems.random_quadratics(n=N, d=D, zeta2=1.0, mu=0.25, seed=0)
GRAPH = rs.topologies.two_cliques(N)
METROPOLIS = rs.mixing.metropolis(GRAPH).toarray()
iop.set_backend("numpy")


def theirs(
    algorithm: Any, iterations: int = ITERATIONS, weights: np.ndarray = METROPOLIS
) -> np.ndarray:
    """The models after 0, 1, … iterations of decent-bench, ``(iterations + 1, n, d)``."""
    hessians = np.einsum("imd,ime->ide", PROBLEM.A, PROBLEM.A)
    pull = np.einsum("imd,im->id", PROBLEM.A, PROBLEM.b)
    costs = [
        QuadraticCost(iop.from_numpy(H), iop.from_numpy(-c))
        for H, c in zip(hessians, pull, strict=True)
    ]
    agents = [Agent(cost) for cost in costs]
    if hasattr(algorithm, "server_broadcast"):
        network: Any = FedNetwork(agents)
        shown = [network.server()] * N
    else:
        graph = nx.Graph()
        graph.add_nodes_from(range(N))
        graph.add_edges_from(GRAPH.edges.tolist())
        network, shown = P2PNetwork(graph, agents), agents
        network.weights = iop.from_numpy(weights)
    found = [np.zeros((N, D))]

    def note(_: int) -> None:
        found.append(np.array([iop.to_numpy(agent.x) for agent in shown]))

    algorithm.run(network, iterations, progress_callback=note)
    return np.array(found)


def ours(algorithm: Any, every: int = 1, rate: float = RATE, **options: Any) -> np.ndarray:
    """The iterates after each so many steps of relaysim, ``(iterations + 1, n, d)``."""
    run = {
        "learning_rate": rate,
        "steps": every * ITERATIONS,
        "record": every,
        "keep_iterates": True,
    }
    return rs.simulate(PROBLEM, GRAPH, algorithm, **run, **options).iterates


def proxskip() -> np.ndarray:
    """Theirs with the coins of ours: the numbers that a method draws in the run of seed 0."""
    stream = np.random.Generator(np.random.PCG64(np.random.SeedSequence(0, spawn_key=(3,))))
    _prox_skip.random = types.SimpleNamespace(random=stream.random)
    return theirs(p2p.ProxSkip(step_size=RATE, aux_step_size=0.3, comm_probability=0.3))


class MendedDLM(p2p.DLM):
    """Their DLM, which leaves the messages as they came."""

    def _sum_messages(self, i: Agent) -> Any:
        first, *others = i.messages().values()
        return sum(others, start=first + 0)


def pairs() -> Iterator[tuple[str, Any, np.ndarray, np.ndarray]]:
    """What both have: the name there, the method here, and the models of both."""
    methods = rs.algorithms
    plain = {
        "DGD": methods.DPSGD(overlap=True),
        "ATC": methods.DPSGD(),
        "ATC_Tracking": methods.GradientTracking(),
        "AugDGM": methods.GradientTracking(form="atc"),
        "EXTRA": methods.EXTRA(),
        "ED": methods.ExactDiffusion(),
        "NIDS": methods.NIDS(),
    }
    for name, method in plain.items():
        yield name, method, theirs(getattr(p2p, name)(step_size=RATE)), ours(method)
    lazy = (np.eye(N) + METROPOLIS) / 2
    led = p2p.LED(num_local_steps=3, step_size=RATE, aux_step_size=1 / 3)
    yield "LED", methods.LED(3), theirs(led, weights=lazy), ours(methods.LED(3), 3)
    local = p2p.KGT(num_local_steps=3, step_size=RATE, aux_step_size=0.8)
    yield "KGT", methods.KGT(3, 0.8), theirs(local), ours(methods.KGT(3, 0.8), 3)
    yield "ProxSkip", methods.ProxSkip(0.3), proxskip(), ours(methods.ProxSkip(0.3))
    edges = {"mixing": rs.mixing.uniform(GRAPH, WEIGHT)}
    method = methods.DLM(penalty=0.4 / WEIGHT)
    for name, kind in (("DLM", p2p.DLM), ("DLM, mended", MendedDLM)):
        dlm = theirs(kind(step_size=RATE, penalty=0.4), ITERATIONS + 1)[1:]
        yield name, method, dlm, ours(method, **edges)
    for relaxation in (0.5, 0.8):
        method = methods.ADMM(relaxation)
        admm = theirs(p2p.ADMM(penalty=0.4, relaxation=relaxation))
        yield "ADMM", method, admm, ours(method, rate=WEIGHT / 0.4, **edges)
    average = federated.FedAvg(step_size=RATE, num_local_steps=4)
    method = methods.FedAvg(4, weights="equal")
    yield "FedAvg", method, theirs(average), ours(method, 4)
    scaffold = federated.Scaffold(step_size=RATE, num_local_steps=4)
    yield "Scaffold", methods.Scaffold(4), theirs(scaffold), ours(methods.Scaffold(4), 4)


def main() -> None:
    """Print the table."""
    print(f"{'decent-bench':14}{'relaysim':54}  deviation")
    for name, method, there, here in pairs():
        largest = np.maximum.accumulate(np.abs(here).max(axis=(1, 2)))
        deviation = np.abs(here - there).max(axis=(1, 2)) / np.maximum(largest, 1e-300)
        print(f"{name:14}{method!r:55}{deviation.max():9.1e}")


if __name__ == "__main__":
    main()
