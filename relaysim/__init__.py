"""relaysim: a numerical simulator of decentralized optimization.

>>> import relaysim as rs
>>> problem = rs.problems.random_quadratics(n=32, d=10, zeta2=10.0, mu=0.25, seed=0)
>>> topology = rs.topologies.chain(32)
>>> history = rs.simulate(problem, topology, rs.algorithms.RelaySGD(), learning_rate=0.2, steps=500)
>>> history
<History of RelaySGD(momentum=0.0, overlap=False, unheard='initial') on chain(32): 500 steps, ...>
"""

import importlib
from typing import TYPE_CHECKING, Any

from relaysim import (
    algorithms,
    attacks,
    bibliography,
    compressors,
    faults,
    measures,
    mixing,
    oracles,
    problems,
    schedules,
    topologies,
)
from relaysim.engine import simulate
from relaysim.records.configuration import rebuild
from relaysim.records.history import History
from relaysim.schedules import PerWorker
from relaysim.studies import Rerun, Tuning, load_sweep, rerun, sweep, tune
from relaysim.support.names import attribute_error
from relaysim.version import __version__

__all__ = [
    "History",
    "PerWorker",
    "Rerun",
    "Tuning",
    "__version__",
    "algorithms",
    "analysis",
    "attacks",
    "bibliography",
    "cite",
    "compressors",
    "explore",
    "faults",
    "figures",
    "load_sweep",
    "measures",
    "mixing",
    "oracles",
    "plot",
    "plots",
    "problems",
    "rebuild",
    "rerun",
    "schedules",
    "simulate",
    "sweep",
    "theory",
    "topologies",
    "tune",
]


if TYPE_CHECKING:
    from relaysim import analysis, figures, plots, theory
    from relaysim.analysis import cite
    from relaysim.explorer import explore
    from relaysim.plots import plot
else:

    def __getattr__(name: str) -> Any:
        # Matplotlib takes half a second to import, so it waits until something is drawn.
        if name in ("analysis", "figures", "plots", "theory"):
            return importlib.import_module(f"relaysim.{name}")
        if name == "plot":
            return importlib.import_module("relaysim.plots").plot
        if name == "cite":
            return importlib.import_module("relaysim.analysis").cite
        if name == "explore":
            return importlib.import_module("relaysim.explorer").explore
        raise attribute_error(__name__, name, __all__)
