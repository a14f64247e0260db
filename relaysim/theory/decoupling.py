"""Coordinates in which a step falls apart: eigenvectors that all Hessians share, and the modes of W.

Where the problem says that its Hessians share their eigenvectors U, parameters along these do not meet. Where
the Hessians of all workers are the same as well, and W is symmetric, neither do its modes V: what is left of
a step is as many numbers as a worker has for a parameter.
"""

from __future__ import annotations

import functools
import math

import numpy as np
from scipy.sparse import csr_array

from relaysim.algorithms.base import Rate
from relaysim.mixing.sequences import is_symmetric
from relaysim.theory.affine import AffineStep, left_vectors
from relaysim.theory.assembly import step_matrix, without_rounding

__all__ = ["Coordinates"]

# Beside the largest entry: what may be left between two modes that do not meet.
APART = 1e-12
# Hessians are the same, and share eigenvectors, up to this share of the largest curvature.
SAME = 1e-13


class Coordinates:
    """y = (I ⊗ V ⊗ U) z for the state y of a step, arrays of n rows of d parameters each.

    Args:
        step: whose state it is.
        modes: whether modes of W are looked for.

    Attributes:
        parameters: U, ``(d, d)``, or None for I.
        workers: V, ``(n, n)``, or None for I.
    """

    def __init__(self, step: AffineStep, modes: bool = True):
        self.step = step
        self.parameters: np.ndarray | None = None
        self.workers: np.ndarray | None = None
        self._curvatures: np.ndarray | None = None
        n, d = step.size
        basis = getattr(step.problem, "eigenbasis", None)
        if basis is None or step.rows is None:
            return
        basis = np.asarray(basis, dtype=float)
        along = np.ascontiguousarray(np.broadcast_to(basis, (n, d, d)))
        products = step.curvature(along)
        curvatures = np.einsum("ik,nik->nk", basis, products)
        largest = np.abs(curvatures).max()
        if np.abs(products - curvatures[:, None, :] * basis).max() > 1e3 * SAME * largest:
            return  # it does not keep what it says
        if d > 1 and step_matrix(step, 0, 1.0, curvatures) is not None:
            self.parameters, self._curvatures = basis, curvatures
        equal = np.abs(curvatures - curvatures[0]).max() <= SAME * largest
        mixing = step.mixing_matrices
        whole = step.rows % n == 0 and (d == 1 or self.parameters is not None)
        if modes and n > 2 and equal and whole and len(mixing) == 1 and is_symmetric(mixing[0]):
            # With a multiple of J the mode 1 stands apart from all others.
            self.workers = _modes(mixing[0])
            try:
                self.matrices, self.noise  # noqa: B018
            except _MeetError:
                self.workers = None
                self.__dict__.pop("matrices", None)

    # -- the step ------------------------------------------------------------------------------------

    @functools.cached_property
    def matrices(self) -> list[csr_array]:
        """A of each step of a period, ``(N, N)``, at the rate of the step."""
        if self.parameters is None:
            return [self._by_modes(A, self.step.size[1]) for A in self.step.matrices]
        return self.matrices_at(self.step.learning_rate)

    def matrices_at(self, learning_rate: Rate) -> list[csr_array]:
        """A of each step of a period, ``(N, N)``, in the units of the step."""
        if self.parameters is None:
            found = self.step.matrices_at(learning_rate)
        else:
            size = 1 + float(np.max(learning_rate)) * self.step.curvature_scale
            with self.step.at(learning_rate):
                phases = range(self.step.period)
                each = [step_matrix(self.step, k, size, self._curvatures) for k in phases]
            found = [A for A in each if A is not None]
        return [self._by_modes(A, self.step.size[1]) for A in found]

    @functools.cached_property
    def noise(self) -> list[csr_array]:
        """How errors of the gradients, in these coordinates, enter in the steps of a period, ``(N, n d)``."""
        return [self._by_modes(B, self.step.size[1]) for B in self.step.noise]

    @functools.cached_property
    def conserved(self) -> csr_array:
        """Left null vectors of A − I at the rate of the step, ``(k, N)``."""
        return left_vectors(self.quantities_at(self.step.learning_rate), self.matrices[0])

    def quantities_at(self, learning_rate: Rate) -> csr_array:
        """What the algorithm says it conserves at a rate, ``(k, N)``."""
        found = self.step.quantities_at(learning_rate)
        if (self.parameters is None and self.workers is None) or not found.shape[0]:
            return found
        turned = self._transposed(found.toarray().T).T
        if self.parameters is not None:  # (k d,): parameters of what is conserved, along the same
            d = self.step.size[1]
            apart = turned.reshape(-1, d, turned.shape[1])
            turned = np.einsum("cj,kcN->kjN", self.parameters, apart).reshape(turned.shape)
        turned[np.abs(turned) <= APART * np.abs(turned).max()] = 0
        return csr_array(turned)

    def _by_modes(self, matrix: csr_array, d: int) -> csr_array:
        """(I ⊗ V ⊗ I)ᵀ A (I ⊗ V ⊗ I), which has no entry between two modes.

        Raises:
            _MeetError: it has.
        """
        V = self.workers
        if V is None:
            return matrix
        n = len(V)
        random = np.random.default_rng(7).normal(size=n)
        shown = V @ random
        rows, columns = (size // (n * d) for size in matrix.shape)
        largest = np.abs(matrix.data).max(initial=0)
        values, places = [], []
        for a in range(rows):
            for b in range(columns):
                for k in range(d):
                    part = matrix[a * n * d + k : (a + 1) * n * d : d]
                    part = part[:, b * n * d + k : (b + 1) * n * d : d]
                    if not part.nnz:
                        continue
                    found = np.einsum("ij,ij->j", V, part @ V)
                    if np.abs((part @ shown) @ V - found * random).max() > APART * largest:
                        raise _MeetError
                    values.append(found)
                    modes = np.arange(n) * d + k
                    places.append((modes + a * n * d, modes + b * n * d))
        if not values:
            return matrix
        at = np.concatenate([p[0] for p in places]), np.concatenate([p[1] for p in places])
        return without_rounding(csr_array((np.concatenate(values), at), shape=matrix.shape))

    # -- states ----------------------------------------------------------------------------------------

    def state(self, z: np.ndarray) -> np.ndarray:
        """y of z, ``(N, r)``."""
        return self._turned(z, self.workers, self.parameters)

    def _transposed(self, y: np.ndarray) -> np.ndarray:
        V, U = self.workers, self.parameters
        return self._turned(y, None if V is None else V.T, None if U is None else U.T)

    def _turned(self, y: np.ndarray, V: np.ndarray | None, U: np.ndarray | None) -> np.ndarray:
        d = self.step.size[1]
        found = y.reshape(-1, d, y.shape[1])
        if U is not None:
            found = np.einsum("ck,akr->acr", U, found)
        if V is not None:
            arrays = found.reshape(-1, len(V), d * y.shape[1])
            found = np.tensordot(arrays, V, (1, 1)).swapaxes(1, 2)
        return found.reshape(y.shape)


def _modes(W: csr_array) -> np.ndarray:
    """Orthonormal eigenvectors of a symmetric W, ``(n, n)``, with 1/√n where it is doubly stochastic."""
    n = W.shape[0]
    before = np.roll(np.arange(n), 1)
    if n > 2 and (W[before][:, before] != W).nnz == 0:
        # Alike for every worker along a circle: waves around it.
        k = np.arange(n)
        table = np.concatenate([np.cos(2 * np.pi / n * k), np.sin(2 * np.pi / n * k)])
        waves: np.ndarray = table[k[:, None] * k % n + n * (2 * k > n)]
        waves *= np.where(2 * k % n == 0, 1.0, math.sqrt(2)) / math.sqrt(n)
        return waves
    # With a multiple of J the mode 1 stands apart from all others.
    found: np.ndarray = np.linalg.eigh(W.toarray() + 1 / n)[1]
    return found


class _MeetError(Exception):
    """Modes that meet."""
