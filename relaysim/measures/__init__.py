"""What a column of a history is: one object, a `Measure`.

Histories have ``suboptimality``, ``consensus_distance``, ``distance`` and ``gradient_norm`` by themselves;
where the optimum of the problem is not known, ``value`` instead of what needs it, and ``margin`` if the
problem classifies. Others come by name or as objects of one's own:
``simulate(…, measures=["worst_distance", Measure(…), (name, function)])``. They are measured while the run
goes on, without keeping iterates, and are columns like all others: of frames, pictures, comparisons, files,
and of the exact theory.

>>> import numpy as np
>>> import relaysim as rs
>>> problem = rs.problems.random_quadratics(n=8, d=3, zeta2=1.0, seed=0)
>>> history = rs.simulate(problem, rs.topologies.ring(8), rs.algorithms.D2(), learning_rate=0.5, steps=50,
...                       measures=["max_consensus_distance", ("largest", lambda x: np.abs(x).max())])
>>> list(history.frame.columns)[7:10]
['gradient_norm', 'max_consensus_distance', 'largest']
"""

# What stands in the list of the ready ones is offered here.
# ruff: noqa: F403

from relaysim.measures import ready
from relaysim.measures.measure import Measure as Measure
from relaysim.measures.measure import Noise as Noise
from relaysim.measures.ready import *

__all__ = ["Measure", "Noise"]
__all__ += ready.__all__
