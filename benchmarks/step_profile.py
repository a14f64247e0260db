"""Where the time of a step goes, beside what the machine could do: writes benchmarks/profile.md.

    python benchmarks/step_profile.py [--quick]

Each part is timed as a method of its own that does nothing else; the rest of a step is its rule. What a step
takes as calls that were written down, where its arrays are small, stands beside these parts. Floors are
of the same run: multiplications at the rate of small matrix products, and bytes at the rate of copies of the
same size. All are times of the processor, so that other programs matter less; but compiled steps, which are
measured whole where Numba is installed, by the clock: those of many workers use all processors.
"""

import argparse
import dataclasses
import importlib.util
import os
import pathlib
import time

import numpy as np
from floors import floors, least, machine, named

import relaysim as rs
from relaysim.algorithms.base import Method

D = 10
#: From so many workers on Hessians are diagonal, and the tree is binary.
MANY = 10**6
NUMBA = importlib.util.find_spec("numba") is not None
PARTS = ("bookkeeping", "gradient", "exchange", "rule", "as calls", "columns")


class Nothing(Method):
    """A step that does nothing."""

    label, uses, affine = "nothing", "mixing", False

    def init(self, x0, network):
        return rs.algorithms.GossipPGA().init(x0, network)

    def step(self, state, round):
        return state


class Gradients(Nothing):
    """A step that asks for gradients only."""

    def step(self, state, round):
        round.gradient(state.x)
        return state


class Mixing(Nothing):
    """A step that mixes once, or twice, or by differences."""

    def __init__(self, times=1, changes=False):
        self.times, self.changes = times, changes

    def step(self, state, round):
        for _ in range(self.times):
            round.mix_change(state.x) if self.changes else round.mix(state.x)
        return state


class Relaying(Method):
    """A step that relays only."""

    label, uses, affine = "relaying", "relay", False

    def init(self, x0, network):
        return rs.algorithms.RelaySGD().init(x0, network)

    def step(self, state, round):
        mail = round.relay(state.x, state.mail)
        round.inbox(mail)
        return type(state)(state.x, state.start, state.momentum, mail)


#: Methods, and what of them is their exchange.
METHODS = (
    (rs.algorithms.DPSGD(), Mixing()),
    (rs.algorithms.RelaySGD(), Relaying()),
    (rs.algorithms.D2(), Mixing(changes=True)),
    (rs.algorithms.GradientTracking(), Mixing(times=2)),
    (rs.algorithms.QuasiGlobalMomentum(), Mixing()),
)


def by_its_rule(method):
    """The same, as one of the user's own, whose steps are the rule's and no calls that were written down."""
    own = type("Own", (type(method),), {"__module__": __name__})
    return own(**{each.name: getattr(method, each.name) for each in dataclasses.fields(method)})


def step_of(problem, topology, algorithm, rates, few, many, every=False, compiled=False):
    """Seconds of a step: of the difference between a long and a short run."""
    os.environ["RELAYSIM_FAST"] = "" if compiled else "never"
    clock = time.perf_counter if compiled else time.thread_time

    def run(steps):
        record = 1 if every else [steps]
        options = {"learning_rate": rates, "steps": steps, "record": record}
        rs.simulate(problem, topology, algorithm, **options)

    short, long = (least(3, lambda steps=steps: run(steps), clock) for steps in (few, many))
    return (long - short) / (many - few)


def quadratics(n):
    """Quadratics, and a chain."""
    return rs.problems.random_quadratics(n=n, d=D, zeta2=1.0, seed=0), rs.topologies.chain(n)


def diagonal(n):
    """Quadratics without products of matrices, and a tree that is not deep."""
    generator = np.random.default_rng(0)
    curvatures, centers = generator.uniform(0.25, 1, (n, D)), generator.normal(size=(n, D))
    return rs.problems.DiagonalQuadratic(curvatures, centers), rs.topologies.binary_tree(n)


def profiled(n, r, few, many):
    """A row of the table for each method."""
    many_workers = n >= MANY
    problem, tree = diagonal(n) if many_workers else quadratics(n)
    ring = rs.topologies.ring(n)
    rates = np.linspace(0.01, 0.1, r) if r > 1 else 0.1
    floor = sum(floors(n, D, r, many_workers))
    gossip = 0.0
    for method, exchange in METHODS:
        graph = tree if method.uses == "relay" else ring

        def timed(algorithm, every=False, compiled=False, graph=graph):
            return step_of(problem, graph, algorithm, rates, few, many, every, compiled)

        nothing = timed(Nothing())
        parts = {"bookkeeping": nothing}
        parts["gradient"] = timed(Gradients()) - nothing
        parts["exchange"] = timed(exchange) - nothing
        parts["rule"] = timed(by_its_rule(method)) - sum(parts.values())
        whole = parts["as calls"] = timed(method)
        recorded = timed(method, every=True)
        parts["columns"] = recorded - whole
        if method is METHODS[0][0]:
            gossip = whole
        each = 1e6 / r
        digits = 0 if many_workers else 2
        took = (*(parts[name] for name in PARTS), recorded, floor)
        row = [method.label, f"{n:,}", str(r), *(f"{each * one:,.{digits}f}" for one in took)]
        row += [f"{whole / floor:.1f}", f"{whole / gossip:.2f}"]
        if NUMBA:
            bare, recorded = (timed(method, every, compiled=True) for every in (False, True))
            row += [f"{each * recorded:,.{digits}f}", f"{bare / floor:.1f}" if bare > 0 else "—"]
        yield row


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    what = "32 workers only, and no large batch; writes nothing"
    parser.add_argument("--quick", action="store_true", help=what)
    quick = parser.parse_args().quick
    steps = {1: 1500, 30: 500, 300: 60}
    settings = [(n, r, many // 10, many) for n in (32, 96) for r, many in steps.items()]
    settings = settings[:2] if quick else [*settings, (MANY, 1, 2, 12)]
    on = machine()
    header = ["method", "workers", "replicas", *PARTS, "step", "floor", "step / floor", "/ DP-SGD"]
    header += ["compiled step", "/ floor"] if NUMBA else []
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    for setting in settings:
        for row in profiled(*setting):
            lines.append("| " + " | ".join(row) + " |")
            print(lines[-1], flush=True)
    if quick:
        return
    numba = ", the last two columns with Numba" if NUMBA else ", without Numba"
    text = f"""# Where the time of a step goes

µs of the processor a step and replica, d = {D}; written by `python benchmarks/step_profile.py`, which says
how. {named(on)}{numba}.

RelaySGD relays on a chain, the others mix on a ring; 10⁶ workers have diagonal Hessians, and a binary
tree for RelaySGD. The first four parts add up to the rule's own step; `as calls` is the whole of it as it is
taken: as calls of NumPy, or large arrays by the rule. `step` is that with all columns at every step; then
steps without columns are compared with the floor (a step's products of matrices, and three copies of the
iterates) and with DP-SGD's. Compiled steps are measured with all columns, and without against the floor.

"""
    path = pathlib.Path(__file__).with_name("profile.md")
    path.write_text(text + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
