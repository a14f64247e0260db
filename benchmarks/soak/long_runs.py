"""Long runs of few workers: what must stay stays, what is counted is right, and memory does not grow.

``python benchmarks/soak/long_runs.py --steps 10000000`` runs gossip, gradient tracking, RelaySGD and D², each
with two replicas: one that only communicates, whose mean must not move, and one that must stay at the optimum
that it has reached. It prints a line for each, and ends with 1 where a figure is not as it must be.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import dataclass

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

import relaysim as rs

N, D, RATE = 4, 2, 0.2
METHODS = {
    "gossip": rs.algorithms.DPSGD(),
    "tracking": rs.algorithms.GradientTracking(),
    "relay": rs.algorithms.RelaySGD(),
    "d2": rs.algorithms.D2(),
}
#: Bytes by which a process may grow in a million steps.
GROWTH = 1 << 20


@dataclass(frozen=True)
class Found:
    """Figures of one method.

    Attributes:
        drift: how far the mean moved without gradients, in units of the iterates' size.
        distance: from the optimum at the end, (1/n) Σ‖x_i − x*‖², or for gossip from where it had settled.
        counted: whether the messages of all steps were counted.
        growth: bytes of memory a million steps, after the first part.
    """

    method: str
    steps: int
    drift: float
    distance: float
    counted: bool
    growth: float
    seconds: float

    @property
    def is_right(self) -> bool:
        # Rounding errors of a walk of so many steps. D² goes on by what moved in the step before, so that
        # without gradients it is the speed of its mean that walks.
        walk = 1e-16 * np.sqrt(self.steps)
        return (
            self.drift <= 10 * walk * (self.steps if self.method == "d2" else 1)
            and self.distance <= (10 * walk) ** 2
            and self.counted
            and self.growth < GROWTH
        )

    def __str__(self) -> str:
        return (
            f"{self.method}: {self.steps} steps, mean moved by {self.drift:.1e}, squared distance "
            f"{self.distance:.1e}, counts {'right' if self.counted else 'WRONG'}, "
            f"{self.growth / 1e6:+.3f} MB a million steps, {self.seconds:.0f} s"
        )


def resident() -> int:
    """Bytes of memory that this process has now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def soaked(name: str, steps: int, part: int) -> Found:
    """Run a method in parts; mean, place and memory are compared with those after the first."""
    problem = rs.problems.random_quadratics(n=N, d=D, zeta2=1.0, seed=0)
    topology = rs.topologies.chain(N)
    began = time.monotonic()
    history = rs.simulate(
        problem,
        topology,
        METHODS[name],
        learning_rate=[0.0, RATE],
        steps=part,
        x0=np.random.default_rng(0).normal(size=(N, D)),
        record=part,
        keep_state=True,
    )
    settled, memory, done = history.x.copy(), resident(), part
    while done < steps:
        done += part
        history = history.extend(part)
    growth = (resident() - memory) / max(done - part, 1) * 1e6
    still, moved = (history.x - settled)[..., 0], (history.x - settled)[..., 1]
    end = history.x[..., 1] - problem.optimum
    distance = moved if name == "gossip" else end
    sent = history.frame.vectors_sent.groupby(history.frame.replica).last()
    each = METHODS[name].vectors_per_edge(D) * 2 * (N - 1)
    return Found(
        method=name,
        steps=done,
        drift=float(np.abs(still.mean(axis=0)).max() / np.abs(settled).max()),
        distance=float((distance**2).sum(axis=-1).mean()),
        counted=bool((sent == each * done).all()),
        growth=growth,
        seconds=time.monotonic() - began,
    )


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=10_000_000)
    parser.add_argument(
        "--part", type=int, default=500_000, help="steps after which all has settled, and at a time"
    )
    parser.add_argument("--only", nargs="+", choices=METHODS, default=list(METHODS))
    given = parser.parse_args()
    wrong = 0
    for name in given.only:
        found = soaked(name, given.steps, given.part)
        print(found, flush=True)
        wrong += not found.is_right
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main())
