"""Objectives split over workers: f(x) = (1/n) Σ_i f_i(x).

Any object with these four is a problem (for type checkers a `Problem`):

- ``n`` and ``d``: workers and parameters;
- ``gradient(x)``: ``(n, d)`` to ``(n, d)``, row i being ∇f_i at row i of x. To be run with
  replicas it must also map ``(n, d, r)`` to ``(n, d, r)``;
- ``value(x)``: f at ``(d,)``, a number.

What else it offers is used where it is there: `Problem` names each such member, what it adds and what is
missing without it. An ``optimum`` ``(d,)`` adds the columns ``suboptimality`` and ``distance``, and lets
rates be tuned; ``examples`` and ``sampled_gradient`` are for minibatches, ``examples`` alone weigh the
workers of `relaysim.algorithms.FedAvg`, ``hessian_product`` is for the exact theory of quadratics. `check`
goes through all of it and tells what holds. The x that a problem is given cannot be written into; a
``gradient`` that takes ``out=`` may write there, and return that.

>>> import numpy as np
>>> import relaysim as rs
>>> class Cosh:
...     '''f_i(x) = Σ_k cosh(x_k − c_ik)'''
...     n, d = 8, 3
...     centers = np.random.default_rng(0).normal(size=(8, 3))
...     def gradient(self, x):
...         return np.sinh(x - self.centers.reshape(self.centers.shape + (1,) * (x.ndim - 2)))
...     def value(self, x):
...         return np.cosh(x - self.centers).sum(axis=1).mean()
>>> history = rs.simulate(Cosh(), rs.topologies.chain(8), rs.algorithms.RelaySGD(),
...                       learning_rate=0.3, steps=300)
>>> bool(history.frame.gradient_norm.iloc[-1] < 1e-25)
True
"""

from typing import TYPE_CHECKING, NoReturn

from relaysim.problems import data, partitions
from relaysim.problems.checking import check
from relaysim.problems.composite import L1
from relaysim.problems.drawn import random_quadratics
from relaysim.problems.feature_split import FeatureSplit
from relaysim.problems.logistic import Logistic, NoOptimumError, NoSmoothnessError
from relaysim.problems.matrix_quadratic import MatrixQuadratic
from relaysim.problems.problem import Problem
from relaysim.problems.quadratics import DiagonalQuadratic, LeastSquares
from relaysim.support.names import attribute_error

__all__ = [
    "L1",
    "DiagonalQuadratic",
    "FeatureSplit",
    "LeastSquares",
    "Logistic",
    "MatrixQuadratic",
    "NoOptimumError",
    "NoSmoothnessError",
    "Problem",
    "check",
    "data",
    "partitions",
    "random_quadratics",
]


if not TYPE_CHECKING:  # who reads types is told of a wrong name without it

    def __getattr__(name: str) -> NoReturn:
        raise attribute_error(__name__, name, __all__)
