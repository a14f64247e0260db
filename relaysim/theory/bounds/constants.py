"""The constants that enter theorems, checked, and the assumptions that they make."""

from __future__ import annotations

import numpy as np

from relaysim.support.checks import real_number, whole_number
from relaysim.theory.bounds.model import Assumption

__all__ = [
    "CASES",
    "QUANTITIES",
    "STATEMENTS",
    "ConditionError",
    "assumptions",
    "checked",
    "over",
    "require_rate",
]

CASES = ("strongly convex", "convex", "nonconvex")
QUANTITIES = ("suboptimality", "distance")

STATEMENTS = {
    "n": ("n", "there are n workers"),
    "smoothness": ("L", "every f_i is L-smooth"),
    "strong_convexity": ("μ", "every f_i is μ-strongly convex"),
    "mean_smoothness": ("L", "f is L-smooth (every f_i, if the workers start apart)"),
    "mean_strong_convexity": (
        "μ",
        "f is μ-strongly convex (every f_i, if the workers start apart)",
    ),
    "curvature": ("h", "every f_i has Hessian h I"),
    "learning_rate": ("γ", "the learning rate is γ in every step"),
    "sigma2": ("σ²", "E‖g_i − ∇f_i‖² ≤ σ², unbiased, independent between workers and steps"),
    "zeta2": ("ζ²", "(1/n) Σ_i ‖∇f_i(x*)‖² ≤ ζ²"),
    "initial_distance": ("R₀²", "(1/n) Σ_i ‖x_i⁰ − x*‖² ≤ R₀²"),
    "largest_initial_distance": ("R₀²", "‖x_i⁰ − x*‖² ≤ R₀² for every worker"),
    "initial_suboptimality": ("F₀", "f(x̄⁰) − f(x*) ≤ F₀"),
    "second_eigenvalue": ("λ₂", "the second largest eigenvalue of W is at most λ₂"),
    "smallest_eigenvalue": ("λ_n", "the smallest eigenvalue of W is at least λ_n"),
    "p": ("p", "τ rounds of mixing contract ‖X − X̄‖² by 1 − p"),
    "tau": ("τ", "the mixing matrices repeat after τ steps"),
    "c": ("c", "c = 1 − min(λ_n, 0)²"),
    "rho": ("ρ", "ρ = p/m of the key lemma"),
    "max_delay": ("τ_max", "no payload is older than τ_max"),
    "rate": ("r", "the error falls by r a step, ρ^0.85 of the map"),
    "start_factor": ("C₀", "‖M_t‖ ≤ C₀ r^t, what is left of the start"),
    "zeta_factor": ("C₁", "‖N_t‖ ≤ C₁ r^t, what is left of the gradients at x*"),
    "quadratic": ("", "every f_i is quadratic, with the Hessians of the constants"),
    "exact_gradients": ("", "gradients are observed without noise"),
    "convex": ("", "f is convex"),
    "every_convex": ("", "every f_i is convex"),
    "common_start": ("", "all workers start at one point"),
    "symmetric": ("", "W is symmetric and doubly stochastic"),
    "step_then_mix": ("", "X ← W(X − γG)"),
    "mix_then_step": ("", "X ← WX − γG"),
    "doubly_stochastic": ("", "every W_t is doubly stochastic"),
    "stand_in": ("", "x_i⁰ stands in for workers not heard from"),
    "tuned_rate": ("", "the learning rate is constant and chosen for the number of steps T"),
    "weighted_average": (
        "",
        "published for an average of the iterates with growing weights; laid on the last one",
    ),
}

POSITIVE = (
    "smoothness",
    "strong_convexity",
    "mean_smoothness",
    "mean_strong_convexity",
    "curvature",
    "p",
    "c",
    "rho",
)
EIGENVALUES = ("second_eigenvalue", "smallest_eigenvalue")
FRACTIONS = ("p", "c", "rho")


class ConditionError(ValueError):
    """A theorem's condition on the learning rate or the mixing matrix does not hold."""


def checked(n: int | None = None, **constants: float) -> dict[str, float]:
    """The constants of a theorem, after a look at their range."""
    checked: dict[str, float] = {} if n is None else {"n": whole_number(n, "n", 1)}
    for key, value in constants.items():
        least = -1.0 if key in EIGENVALUES else 0.0
        most = 1.0 if key in FRACTIONS + EIGENVALUES else np.inf
        checked[key] = real_number(value, key, least, most)
        if key in POSITIVE and checked[key] == 0:
            raise ValueError(f"{key} must be positive; the theorem says nothing at 0")
    for prefix in ("", "mean_"):
        mu, L = checked.get(f"{prefix}strong_convexity", 0.0), checked.get(f"{prefix}smoothness")
        if L is not None and mu > L * (1 + 1e-9):
            raise ValueError(f"{prefix}strong_convexity {mu} exceeds {prefix}smoothness {L}")
    return checked


def assumptions(*properties: str, **constants: float) -> tuple[Assumption, ...]:
    values = constants | dict.fromkeys(properties)
    return tuple(Assumption(key, *STATEMENTS[key], value) for key, value in values.items())


def require_rate(rate: float, L: float, limit: float = 2.0, open_end: bool = False) -> None:
    if not 0 < rate * L <= limit or (open_end and rate * L == limit):
        allowed = "below" if open_end else "up to"
        raise ConditionError(
            f"learning_rate {rate:g} is outside what this theorem allows: a positive one {allowed} "
            f"{max(limit, 0):g}/{L:g} = {max(limit, 0) / L:g}; choose such a rate"
        )


def over(coefficient: float, t: np.ndarray) -> np.ndarray:
    """coefficient / t, infinite at t = 0 unless the coefficient is 0."""
    if coefficient == 0:
        return np.zeros_like(t)
    with np.errstate(divide="ignore"):
        return coefficient / t
