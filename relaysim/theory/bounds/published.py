"""Published rates as shapes: hidden constants set to 1, to be fitted to the first third of a run."""

from __future__ import annotations

import numpy as np

from relaysim.support.checks import whole_number
from relaysim.theory.bounds.constants import (
    CASES,
    STATEMENTS,
    ConditionError,
    assumptions,
    checked,
    over,
)
from relaysim.theory.bounds.model import Bound, Source

__all__ = ["d2_rate", "dp_sgd_rate", "gradient_tracking_rate", "relay_sgd_rate"]

NOT_VERIFIED = "number not verified"

# Symbol and statement of whatever a theorem assumes: first constants, then properties.

UNIFIED = Source.published("koloskova2020unified", NOT_VERIFIED)
RELAYSUM = Source.published("vogels2021relaysum", "I")
TRACKING = Source.published("koloskova2021improved", NOT_VERIFIED)
D_SQUARED = Source.published("tang2018d2", NOT_VERIFIED)


def dp_sgd_rate(
    *,
    case: str,
    n: int,
    smoothness: float,
    p: float,
    zeta2: float,
    sigma2: float = 0.0,
    tau: int = 1,
    strong_convexity: float | None = None,
    initial_distance: float | None = None,
    initial_suboptimality: float | None = None,
) -> Bound:
    """DP-SGD, X ← W_t(X − γG), for mixing matrices that may change: shape only.

    Steps to accuracy ε, with b = (ζτ + σ√(pτ))/p and a = τ/p (see `relay_sgd_rate` for how they
    become a curve):

    - strongly convex σ²/(μnε) + √L b/(μ√ε) + (La/μ) log 1/ε;
    - convex (σ²/(nε²) + √L b/ε^{3/2} + La/ε) R₀², for the mean of f(x̄) − f(x*);
    - nonconvex (σ²/(nε²) + b/ε^{3/2} + a/ε) L F₀, for the mean of ‖∇f(x̄)‖².

    Only the nonconvex form, at τ = 1, was found in a second place; the others are not verified.

    Args:
        case: "strongly convex", "convex" or "nonconvex".
        n: workers.
        smoothness: L over all f_i.
        p: 1 − ‖W_{τ−1} ⋯ W_0 − 11ᵀ/n‖₂², in (0, 1]; 1 − max_{i≥2} λ_i² for one symmetric W.
        zeta2, sigma2: ζ², σ².
        tau: τ, the period of the mixing matrices.
        strong_convexity: μ, for the strongly convex case.
        initial_distance: R₀², for the convex ones.
        initial_suboptimality: F₀, for the nonconvex one.

    Raises:
        ValueError: an unknown case, constants missing or out of range.

    Source: Koloskova et al., ICML 2020, arXiv 2003.10422; theorem number not verified.

    >>> dp_sgd_rate(case="nonconvex", n=4, smoothness=1.0, p=0.5, zeta2=0.0,
    ...             initial_suboptimality=1.0).curve([10]).tolist()
    [0.2]
    """
    constants = checked(
        n=n,
        smoothness=smoothness,
        p=p,
        zeta2=zeta2,
        sigma2=sigma2,
        **_case_constants(case, strong_convexity, initial_distance, initial_suboptimality),
    )
    constants["tau"] = tau = whole_number(tau, "tau", 1)
    b = (np.sqrt(zeta2) * tau + np.sqrt(sigma2 * p * tau)) / p
    return _published(
        "dp_sgd_rate",
        "DP-SGD (gossip)",
        UNIFIED,
        case,
        constants,
        ("doubly_stochastic",),
        a=tau / p,
        b=b,
        where="a = τ/p, b = (ζτ + σ√(pτ))/p",
    )


def relay_sgd_rate(
    *,
    case: str,
    n: int,
    smoothness: float,
    rho: float,
    max_delay: int,
    sigma2: float = 0.0,
    strong_convexity: float | None = None,
    initial_distance: float | None = None,
    initial_suboptimality: float | None = None,
) -> Bound:
    """RelaySGD on a tree, whatever the heterogeneity: shape only.

    Every term of the steps to accuracy ε is solved for ε at T steps, and the curve is their sum:

    - strongly convex σ²/(μnε) + √L b/(μ√ε) + (La/μ) log 1/ε
      gives σ²/(μnT) + L b²/(μT)² + L R₀² exp(−μT/(La));
    - convex (σ²/(nε²) + √L b/ε^{3/2} + La/ε) R₀²
      gives (σ²R₀²/(nT))^{1/2} + (√L b R₀²/T)^{2/3} + L a R₀²/T, for the mean of f(x̄) − f(x*);
    - nonconvex (σ²/(nε²) + b/ε^{3/2} + a/ε) L F₀
      gives (σ²LF₀/(nT))^{1/2} + (b L F₀/T)^{2/3} + a L F₀/T, for the mean of ‖∇f(x̄)‖²;

    with a = 1/ρ, b = σ/ρ where convex, a = √(τ_max + 1)/ρ, b = σ √(τ_max + 1)/(ρ√n) where not.

    Verified in a second place: the first term, and that ζ does not occur. The other terms are not
    verified (the constant C(W) in them is set to 1).

    Args:
        case: "strongly convex", "convex" or "nonconvex".
        n: workers.
        smoothness: L over all f_i.
        rho: ρ = p/m of `relaysim.theory.key_lemma`, in (0, 1]. The paper's figures compute it for
            the delays "hops", while the algorithm's are "received"; which of them its theorem means
            is not verified.
        max_delay: τ_max.
        sigma2: σ².
        strong_convexity: μ, for the strongly convex case.
        initial_distance: R₀², for the convex ones.
        initial_suboptimality: F₀, for the nonconvex one.

    Raises:
        ValueError: an unknown case, constants missing or out of range.

    Source: Vogels et al., NeurIPS 2021, arXiv 2110.04175, theorem I.

    >>> relay_sgd_rate(case="convex", n=4, smoothness=1.0, rho=0.1, max_delay=2,
    ...                initial_distance=1.0).curve([100]).round(12).tolist()
    [0.1]
    """
    constants = checked(
        n=n,
        smoothness=smoothness,
        rho=rho,
        sigma2=sigma2,
        **_case_constants(case, strong_convexity, initial_distance, initial_suboptimality),
    )
    constants["max_delay"] = whole_number(max_delay, "max_delay", 0)
    longest = np.sqrt(max_delay + 1) if case == "nonconvex" else 1.0
    workers = np.sqrt(n) if case == "nonconvex" else 1.0
    return _published(
        "relay_sgd_rate",
        "RelaySGD",
        RELAYSUM,
        case,
        constants,
        (),
        a=longest / rho,
        b=np.sqrt(sigma2) * longest / (rho * workers),
        where="a = √(τ_max + 1)/ρ, b = σ√(τ_max + 1)/(ρ√n)"
        if case == "nonconvex"
        else "a = 1/ρ, b = σ/ρ",
    )


def gradient_tracking_rate(
    *,
    case: str,
    n: int,
    smoothness: float,
    p: float,
    c: float,
    sigma2: float = 0.0,
    strong_convexity: float | None = None,
    initial_distance: float | None = None,
    initial_suboptimality: float | None = None,
) -> Bound:
    """Gradient tracking, whatever the heterogeneity: shape only.

    The forms of `relay_sgd_rate` with a = 1/(pc) and b = σ/(√p c). These two are the paper's
    abstract; c = 1 − min(λ_n, 0)² and the convex and nonconvex forms are not verified.

    Args:
        case: "strongly convex", "convex" or "nonconvex".
        n: workers.
        smoothness: L over all f_i.
        p: 1 − max_{i≥2} λ_i² of a symmetric W, in (0, 1].
        c: in (0, 1], at least p.
        sigma2: σ².
        strong_convexity: μ, for the strongly convex case.
        initial_distance: R₀², for the convex ones.
        initial_suboptimality: F₀, for the nonconvex one.

    Raises:
        ValueError: an unknown case, constants missing or out of range.

    Source: Koloskova, Lin, Stich, NeurIPS 2021, arXiv 2202.03836; theorem number not verified.

    >>> gradient_tracking_rate(case="convex", n=4, smoothness=1.0, p=0.5, c=0.8,
    ...                        initial_distance=1.0).curve([10]).tolist()
    [0.25]
    """
    constants = checked(
        n=n,
        smoothness=smoothness,
        p=p,
        c=c,
        sigma2=sigma2,
        **_case_constants(case, strong_convexity, initial_distance, initial_suboptimality),
    )
    return _published(
        "gradient_tracking_rate",
        "Gradient tracking",
        TRACKING,
        case,
        constants,
        ("symmetric",),
        a=1 / (p * c),
        b=np.sqrt(sigma2 / p) / c,
        where="a = 1/(pc), b = σ/(√p c)",
    )


def d2_rate(
    *,
    n: int,
    smoothness: float,
    smallest_eigenvalue: float,
    initial_suboptimality: float,
    sigma2: float = 0.0,
) -> Bound:
    """D², nonconvex, whatever the heterogeneity: shape only, and only its leading terms.

    (σ²LF₀/(nT))^{1/2} + L F₀/T, for the mean of ‖∇f(x̄)‖². How the later terms depend on W and σ is
    not verified.

    Args:
        n: workers.
        smoothness: L over all f_i.
        smallest_eigenvalue: λ_n of a symmetric W, above −1/3 (for exact diffusion: of (W + I)/2).
        initial_suboptimality: F₀.
        sigma2: σ².

    Raises:
        ConditionError: λ_n ≤ −1/3.
        ValueError: other constants out of range.

    Source: Tang et al., ICML 2018, arXiv 1803.07068; theorem number not verified.

    >>> d2_rate(n=4, smoothness=1.0, smallest_eigenvalue=0.0, initial_suboptimality=1.0,
    ...         sigma2=0.4).curve([10]).round(12).tolist()
    [0.2]
    """
    constants = checked(
        n=n,
        smoothness=smoothness,
        smallest_eigenvalue=smallest_eigenvalue,
        initial_suboptimality=initial_suboptimality,
        sigma2=sigma2,
    )
    if smallest_eigenvalue <= -1 / 3 + 1e-12:  # an even ring of weights 1/3 sits on it
        raise ConditionError(
            f"D² needs a smallest eigenvalue above −1/3, not {smallest_eigenvalue:.6g}; take "
            f"relaysim.mixing.lazy(W), or exact diffusion, which does"
        )
    return _published(
        "d2_rate",
        "D²",
        D_SQUARED,
        "nonconvex",
        constants,
        ("symmetric",),
        a=1.0,
        b=0.0,
        where="a = 1, b = 0",
    )


def _published(
    name: str,
    method: str,
    source: Source,
    case: str,
    constants: dict[str, float],
    properties: tuple[str, ...],
    *,
    a: float,
    b: float,
    where: str,
) -> Bound:
    """The curve of a published rate; see `relay_sgd_rate` for its terms."""
    n, L, sigma2 = constants["n"], constants["smoothness"], constants["sigma2"]
    if case == "strongly convex":
        mu, scale = constants["strong_convexity"], L * constants["initial_distance"]
        formula = "σ²/(μnT) + L b²/(μT)² + L R₀² exp(−μT/(La))"
        properties = (*properties, "weighted_average")

        def shape(t: np.ndarray) -> np.ndarray:
            noise = over(sigma2 / (mu * n), t) + L * over(b / mu, t) ** 2
            return noise + scale * np.exp(-mu * t / (L * a))

    else:
        if case == "convex":
            unit, steep = constants["initial_distance"], np.sqrt(L)
            formula = "(σ²R₀²/(nT))^{1/2} + (√L b R₀²/T)^{2/3} + L a R₀²/T"
            properties = (*properties, "every_convex")
        else:
            unit, steep = L * constants["initial_suboptimality"], 1.0
            formula = "(σ²LF₀/(nT))^{1/2} + (b L F₀/T)^{2/3} + a L F₀/T"
        last = steep**2 * a * unit

        def shape(t: np.ndarray) -> np.ndarray:
            noise = over(sigma2 * unit / n, t) ** (1 / 2) + over(steep * b * unit, t) ** (2 / 3)
            return noise + over(last, t)

    return Bound(
        name=name,
        method=method,
        case=case,
        quantity="gradient_norm" if case == "nonconvex" else "suboptimality",
        averaged=case != "strongly convex",
        assumptions=assumptions(*properties, "tuned_rate", **constants),
        source=source,
        formula=f"{formula}, {where}",
        verified_constants=False,
        shape=shape,
    )


def _case_constants(
    case: str,
    strong_convexity: float | None,
    initial_distance: float | None,
    initial_suboptimality: float | None,
) -> dict[str, float]:
    """The constants that a case needs."""
    if case not in CASES:
        raise ValueError(f"case must be one of {', '.join(map(repr, CASES))}, not {case!r}")
    needed: dict[str, float | None] = {
        "strongly convex": {
            "strong_convexity": strong_convexity,
            "initial_distance": initial_distance,
        },
        "convex": {"initial_distance": initial_distance},
        "nonconvex": {"initial_suboptimality": initial_suboptimality},
    }[case]
    found = {}
    for key, value in needed.items():
        if value is None:
            raise ValueError(f"the {case} case needs {key}: {STATEMENTS[key][1]}")
        found[key] = value
    return found
