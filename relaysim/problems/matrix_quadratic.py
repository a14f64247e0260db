"""Quadratic objectives of a matrix, for methods that compress matrices."""

from __future__ import annotations

import numpy as np

from relaysim.problems.quadratics import DiagonalQuadratic
from relaysim.support.checks import real_array

__all__ = ["MatrixQuadratic"]


class MatrixQuadratic(DiagonalQuadratic):
    """f_i(X) = ½ Σ_kl h_i,kl (X_kl − C_i,kl)² of matrices X (a, b), stored row by row: d = a · b.

    Args:
        centers: C, ``(n, a, b)``, the minimiser of each f_i.
        h: curvatures, ``(n, a, b)`` or one number for all; at least 0 and with a positive mean in
            every entry.

    Attributes:
        matrix_shape: ``(a, b)``.
        h, centers: as a `DiagonalQuadratic` has them, ``(n, d)``.

    Raises:
        ValueError: shapes that do not fit, entries that are not finite, or curvatures as above.

    >>> import numpy as np
    >>> problem = MatrixQuadratic(np.arange(12.0).reshape(2, 2, 3))
    >>> problem, problem.d, problem.optimum.tolist()
    (MatrixQuadratic(n=2, matrix_shape=(2, 3)), 6, [3.0, 4.0, 5.0, 6.0, 7.0, 8.0])
    """

    matrix_shape: tuple[int, int]

    def __init__(self, centers: np.ndarray, h: float | np.ndarray = 1.0):
        centers, h = real_array(centers, "centers"), real_array(h, "h")
        if centers.ndim != 3 or 0 in centers.shape:
            raise ValueError(f"centers must have shape (n, a, b), not {centers.shape}")
        if h.shape not in ((), centers.shape):
            raise ValueError(
                f"h must be a number or have the shape of centers, {centers.shape}, not {h.shape}"
            )
        n, rows, columns = centers.shape
        self.matrix_shape = (rows, columns)
        super().__init__(np.broadcast_to(h, centers.shape).reshape(n, -1), centers.reshape(n, -1))

    def to_config(self) -> dict:
        """Plain data that rebuilds the problem: its arrays."""
        return {"type": "MatrixQuadratic"} | self._arrays()

    def _arrays(self) -> dict[str, np.ndarray]:
        shape = (self.n, *self.matrix_shape)
        return {"centers": self.centers.reshape(shape), "h": self.h.reshape(shape)}

    def __repr__(self) -> str:
        return f"MatrixQuadratic(n={self.n}, matrix_shape={self.matrix_shape})"
