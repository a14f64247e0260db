"""What parameters say of examples: scores of a linear model, and the class with the highest."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from relaysim.problems.data import Dataset
from relaysim.problems.matrices import Matrix, matrix_of
from relaysim.problems.objective import Objective
from relaysim.support.checks import label_values, shown

__all__ = ["LinearClassifier"]


class LinearClassifier(Objective):
    """An objective whose x holds, for each feature, a score of the second of two classes, or of all.

    Attributes:
        classes: in the order of their scores.
        intercept: whether there is a last feature that is 1.
    """

    classes: np.ndarray
    intercept: bool
    test: tuple[Matrix, np.ndarray] | None
    _features: Matrix
    _labels: np.ndarray

    @property
    def matrix_shape(self) -> tuple[int, int] | None:
        """x as a matrix, (p, classes) row by row, p with the intercept; None with two classes."""
        features, scores = self._shape
        return None if scores == 1 else (features, scores)

    @property
    def _shape(self) -> tuple[int, int]:
        scores = 1 if len(self.classes) == 2 else len(self.classes)
        return self.d // scores, scores

    def coefficients(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """x ``(d,)`` as coefficients ``(classes, features)`` and intercepts ``(classes,)``.

        With two classes there is one row, for the second class. Without an intercept it is 0.
        """
        by_class = self._checked_points(x).reshape(self._shape).T
        if self.intercept:
            return by_class[:, :-1], by_class[:, -1]
        return by_class, np.zeros(len(by_class))

    def predict(self, x: np.ndarray, features: ArrayLike | Matrix | None = None) -> np.ndarray:
        """The class with the highest score of each example, at x ``(d,)`` or ``(d, r)``.

        Args:
            x: parameters.
            features: ``(k, p)``; those that the problem was made from by default.

        Returns:
            ``(k,)`` or ``(k, r)``.

        Raises:
            ValueError: parameters that are not finite, as of a run that diverged: no class is highest.
        """
        x = self._checked_points(x)
        if not np.isfinite(x).all():
            raise ValueError(
                "x has entries that are not finite, where no class has the highest score"
            )
        scores = self._scores(x, self._features if features is None else matrix_of(features))
        codes = scores[:, 0] > 0 if scores.shape[1] == 1 else scores.argmax(axis=1)
        predicted = self.classes[codes.astype(int)]
        return predicted[:, 0] if x.ndim == 1 else predicted

    def _scores(self, x: np.ndarray, features: Matrix) -> np.ndarray:
        """Of the second of two classes ``(k, 1, r)``, or of every class ``(k, classes, r)``."""
        points = x.reshape(*self._shape, -1)
        width = len(points) - self.intercept
        if features.shape[1] != width:
            raise ValueError(f"features must have {width} columns, not {features.shape[1]}")
        scores = np.asarray(features @ points[:width].reshape(width, -1))
        scores = scores.reshape(features.shape[0], *points.shape[1:])
        return scores + points[-1] if self.intercept else scores

    def accuracy(
        self,
        x: np.ndarray,
        features: ArrayLike | Matrix | None = None,
        labels: ArrayLike | None = None,
    ) -> float | np.ndarray:
        """Fraction of examples whose class has the highest score, at x ``(d,)`` or ``(d, r)``.

        Args:
            x: parameters.
            features, labels: examples, such as a test set; those of the problem by default.

        Returns:
            A number, or ``(r,)``; NaN where x is not finite, as of a run that diverged.
        """
        if (features is None) != (labels is None):
            raise ValueError("give features and labels, or neither")
        labels = self._labels if labels is None else label_values(labels)
        x = self._checked_points(x)
        finite = np.isfinite(x).all(axis=0)
        predicted = self.predict(np.where(finite, x, 0.0), features)
        if labels.shape != predicted.shape[:1]:
            raise ValueError(f"there are {len(predicted)} examples but labels of {labels.shape}")
        unknown = ~np.isin(labels, self.classes)
        if unknown.any():
            raise ValueError(f"label {labels[unknown][0]!r} is none of {list(self.classes)}")
        found = np.where(finite, (labels == predicted.T).mean(axis=-1), np.nan)
        return float(found) if found.ndim == 0 else found

    def margin(self, x: np.ndarray) -> float | np.ndarray:
        """The smallest of every example's own score less the best other one, over ‖x‖.

        With two classes min_j y_j a_j·x / ‖x‖; with more min_j min_{c ≠ y_j} (a_j·x_{y_j} − a_j·x_c) / ‖x‖.
        An intercept is a coefficient like others: of a feature that is 1, and in ‖x‖. Positive where x
        separates the classes of the problem's examples.

        Args:
            x: parameters ``(d,)`` or ``(d, r)``.

        Returns:
            A number, or ``(r,)``: 0 at x = 0, where all scores are equal; NaN where x is not finite.
        """
        x = self._checked_points(x)
        finite = np.isfinite(x).all(axis=0)
        # By its largest entry first: squares of what diverges overflow.
        direction = np.where(finite, x, 0.0)
        direction /= _or_1(np.abs(direction).max(axis=0))
        direction /= _or_1(np.linalg.norm(direction, axis=0))
        scores = self._scores(direction, self._features)
        own = (self._labels[:, None] == self.classes)[..., None]
        if scores.shape[1] == 1:
            lead = np.where(own[:, 1], scores[:, 0], -scores[:, 0])
        else:
            best_other = np.where(own, -np.inf, scores).max(axis=1)
            lead = np.where(own, scores, -np.inf).max(axis=1) - best_other
        found = np.where(finite, lead.min(axis=0), np.nan)
        return float(found[0]) if x.ndim == 1 else found

    def test_accuracy(self, x: np.ndarray) -> float | np.ndarray:
        """`accuracy` on the test set, at x ``(d,)`` or ``(d, r)``.

        Raises:
            ValueError: the problem has none.
        """
        if self.test is None:
            raise ValueError(
                f"{self!r} has no test data; give them to it: test=(features, labels), or a Dataset"
            )
        return self.accuracy(x, *self.test)

    def _checked_test_set(
        self, test: Dataset | tuple[Matrix, ArrayLike] | None
    ) -> tuple[Matrix, np.ndarray] | None:
        if test is None:
            return None
        given = (test.features, test.labels) if isinstance(test, Dataset) else test
        if not isinstance(given, tuple | list) or len(given) != 2:
            raise TypeError(
                f"test must be (features, labels) or a Dataset of relaysim.problems.data, "
                f"not {shown(test)}"
            )
        features, labels = matrix_of(given[0], " of the test set"), label_values(given[1])
        self.accuracy(np.zeros(self.d), features, labels)
        return features, labels


def _or_1(length: np.ndarray) -> np.ndarray:
    """Lengths to divide by: 1 in the place of 0."""
    return np.where(length > 0, length, 1.0)
