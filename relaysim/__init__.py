"""relaysim: a numerical simulator of decentralized optimization.

>>> import relaysim as rs
>>> problem = rs.problems.random_quadratics(n=32, d=10, zeta2=10.0, mu=0.25, seed=0)
>>> topology = rs.topologies.chain(32)
>>> history = rs.simulate(problem, topology, rs.algorithms.RelaySGD(), learning_rate=0.2, steps=500)
>>> history
<History of RelaySGD(momentum=0.0, overlap=False, unheard='initial') on chain(32): 500 steps, ...>
"""

from relaysim import algorithms, mixing, oracles, problems, topologies
from relaysim.configuration import rebuild
from relaysim.history import History
from relaysim.simulation import simulate

__all__ = [
    "History",
    "__version__",
    "algorithms",
    "mixing",
    "oracles",
    "problems",
    "rebuild",
    "simulate",
    "topologies",
]

__version__ = "0.1.0"
