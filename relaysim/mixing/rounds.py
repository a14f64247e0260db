"""A gossip matrix that stands for several rounds of another one."""

from __future__ import annotations

from typing import TypeGuard

import numpy as np
from scipy.sparse import csr_array

__all__ = ["SeveralRounds", "is_several_rounds", "rounds_of"]


class SeveralRounds(csr_array):
    """What some rounds with one matrix come to, as one matrix; what is computed from it is an ordinary one.

    Round k makes A_{k+1} = a_k W A_k + (1 − a_k) A_{k−1}, from A_0 = I, A_{−1} = A_0.

    Attributes:
        one_round: W.
        factors: a_k, ``(rounds,)``.
        kind: the name in `relaysim.mixing` of the function that makes it.
    """

    one_round: csr_array
    factors: np.ndarray
    kind: str

    @classmethod
    def made(cls, W: csr_array, factors: np.ndarray, kind: str) -> SeveralRounds:
        """The matrix after all rounds."""
        before = now = np.eye(W.shape[0])
        for factor in factors:
            before, now = now, factor * (W @ now) + (1 - factor) * before
        result = cls(now)
        result.one_round, result.factors, result.kind = W, factors, kind
        return result


def is_several_rounds(matrix: object) -> TypeGuard[SeveralRounds]:
    """Whether a matrix is known to stand for several rounds: one computed from such a matrix is not."""
    return isinstance(matrix, SeveralRounds) and hasattr(matrix, "one_round")


def rounds_of(matrix: object) -> int:
    """How many rounds a matrix stands for."""
    return len(matrix.factors) if is_several_rounds(matrix) else 1
