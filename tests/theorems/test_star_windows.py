"""Claim: with equal Hessians, on a star of n ≥ 3, RelaySGD/Grad is stable if and only if

    γh < n  and  γh (n − γh) < n²/(n − 2).

For n > 6 these are two windows, (0, m − s) and (m + s, n), m = n/2, s = (n/2) √((n − 6)/(n − 2)): on a
large star nothing between about 1 and n − 1 is stable.

Source: derived here. With a = γh/n, hub x and leaves y_i, all gradients but those between leaves arrive
at once: x' = x − a(x + Σ_k y_k), y_i' = y_i − a(y_i + x + Σ_{k≠i} y_k⁻), y⁻ being a step older.
Differences of leaves obey z² − (1 − a)z − a = (z − 1)(z + a) = 0. z = 1 is what workers keep of their
starts, so that a < 1 is needed. Equal leaves obey

    (z − 1 + a)(z² − (1 − a)z + a(n − 2)) − a²(n − 1)z = (z − 1)(z² − (1 − 2a)z + a(1 − a)(n − 2)) = 0,

and for 0 < a < 1 the quadratic has its roots within the unit circle if and only if their product
a(1 − a)(n − 2) is below 1 (the other two of Jury's conditions always hold).
Tight. At n = 6 the single rate γh = 3 is left out.
"""

import numpy as np
import pytest
from claims import assert_limit, equal_hessians, growth, radius, tight

import relaysim as rs

GRAD = rs.algorithms.RelaySGDGrad()


def windows(n):
    if n <= 6:
        return [(0.0, n)]
    middle, half = n / 2, n / 2 * np.sqrt((n - 6) / (n - 2))
    return [(0.0, middle - half), (middle + half, n)]


def predicted_radius(n, gamma_h):
    """Largest modulus of the roots of both polynomials but for z = 1."""
    a = gamma_h / n
    return np.abs([*np.roots([1, 2 * a - 1, a * (1 - a) * (n - 2)]), a]).max()


@pytest.mark.parametrize("n", [3, 5, 7, 8, 16])
def test_all_stable_rates_on_stars(n):
    found = rs.theory.stable_learning_rates(
        equal_hessians(n, d=1), rs.topologies.star(n), GRAD, progress=False
    )
    tight(found, windows(n), 1e-7)


@pytest.mark.parametrize("n", [3, 6, 8, 32, 64])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.5, 0.9, 0.99, 1.02])
def test_the_spectral_radius_is_that_of_the_two_polynomials(n, share):
    # At n = 6, γh = n/2 the roots are on the unit circle.
    found = radius(rs.topologies.star(n), GRAD, share * n)
    tight(found, predicted_radius(n, share * n), 1e-7)


@pytest.mark.parametrize("n", [8, 16, 32])
@pytest.mark.parametrize("h", [1.0, 0.25])
def test_simulations_in_both_windows_and_in_the_gap(n, h):
    (_, first), (second, last) = windows(n)
    star, problem = rs.topologies.star(n), equal_hessians(n, h)
    inside = np.array([first / 2, (second + last) / 2]) / h
    between = np.array([1.3 * first, n / 2, 0.97 * second]) / h
    found = growth(problem, star, GRAD, np.concatenate([inside, between, [1.1 * n / h]]))
    assert (found[:2] < 1).all(), f"measured growth {found[:2]}, claimed stability"
    assert (found[2:] > 1).all(), f"measured growth {found[2:]}, claimed instability"


@pytest.mark.parametrize("n", [8, 16, 32])
def test_simulations_at_the_ends_of_the_windows(n):
    (_, first), (second, last) = windows(n)
    star, problem = rs.topologies.star(n), equal_hessians(n)
    assert_limit(problem, star, GRAD, first)
    assert_limit(problem, star, GRAD, second, margin=0.002, below=False)
    assert_limit(problem, star, GRAD, last, margin=0.002)
