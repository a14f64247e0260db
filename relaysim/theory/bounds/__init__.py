"""Convergence bounds: one function a theorem, each a `Bound` to lay on a history.

Two kinds, told apart by ``verified_constants``:

- *verified*: every constant is explicit and proved in the function's docstring. At a constant
  learning rate the curve lies above the expectation of its column (without noise: above the
  column).
- *shape only*: a published rate "T steps to accuracy ε" turned into a curve over T, with all hidden
  constants set to 1. Such a rate holds for a learning rate chosen for T, so that a run at one
  constant rate may level off above it. `Bound.fitted` scales it to the first third of a run. The
  constants that the papers give were not checked, and where a function says so, neither were some
  terms.

Everywhere f = (1/n) Σ f_i with minimiser x*, g_i is worker i's observed gradient, unbiased, with
E‖g_i − ∇f_i‖² ≤ σ², independent between workers and steps, and ζ² = (1/n) Σ ‖∇f_i(x*)‖².

>>> import relaysim as rs
>>> from relaysim.theory.bounds import bounds_for
>>> problem = rs.problems.random_quadratics(n=8, d=3, zeta2=1.0, seed=0)
>>> topology, algorithm = rs.topologies.ring(8), rs.algorithms.DPSGD()
>>> history = rs.simulate(problem, topology, algorithm, learning_rate=0.1, steps=60)
>>> column = history.frame.suboptimality
>>> for bound in bounds_for(problem, topology, algorithm, learning_rate=0.1):
...     laid = bound.fitted(history.steps, column)
...     above = laid.curve(history.steps) >= column
...     print(f"{laid.label}: first third {above[:21].all()}, the rest {above[21:].all()}")
DP-SGD (gossip), strongly convex: first third True, the rest True
DP-SGD (gossip), strongly convex (shape, fitted): first third True, the rest True
"""

from relaysim.theory.bounds.constants import ConditionError
from relaysim.theory.bounds.gather import bounds_for
from relaysim.theory.bounds.model import Assumption, Bound, Source
from relaysim.theory.bounds.powers import linear_map
from relaysim.theory.bounds.proved import (
    all_reduce,
    all_reduce_convex,
    all_reduce_nonconvex,
    dp_sgd,
    relay_sgd_equal_hessians,
)
from relaysim.theory.bounds.published import (
    d2_rate,
    dp_sgd_rate,
    gradient_tracking_rate,
    relay_sgd_rate,
)

__all__ = [
    "Assumption",
    "Bound",
    "ConditionError",
    "Source",
    "all_reduce",
    "all_reduce_convex",
    "all_reduce_nonconvex",
    "bounds_for",
    "d2_rate",
    "dp_sgd",
    "dp_sgd_rate",
    "gradient_tracking_rate",
    "linear_map",
    "relay_sgd_equal_hessians",
    "relay_sgd_rate",
]
