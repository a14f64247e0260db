"""How a claim is held against a measurement, and what several claims are measured on."""

import numpy as np
import slow

import relaysim as rs


def tight(measured, claimed, tolerance, scale=None):
    """Equality: no entry is further from the claim than ``tolerance`` of it, or of ``scale``."""
    measured, claimed = np.broadcast_arrays(np.asarray(measured, float), np.asarray(claimed, float))
    allowed = tolerance * np.abs(claimed if scale is None else scale)
    _require(np.abs(measured - claimed) <= allowed, measured, claimed, f"±{tolerance:g}")


def bounded(measured, claimed, rounding=1e-9):
    """An inequality: no entry is above the claim, but for rounding."""
    measured, claimed = np.broadcast_arrays(np.asarray(measured, float), np.asarray(claimed, float))
    _require(measured <= claimed + rounding * np.abs(claimed), measured, claimed, "at most")


def _require(holds, measured, claimed, how):
    wrong = np.argwhere(~holds)
    if len(wrong):
        worst = tuple(wrong[0].tolist())
        where = f" in entry {worst}, of {len(wrong)} that fail" if worst else ""
        raise AssertionError(
            f"measured {measured[worst]:.10g}, claimed {claimed[worst]:.10g} ({how}){where}"
        )


class Constant:
    """f_i(x) = ⟨g_i, x⟩: the gradients are the same everywhere."""

    def __init__(self, gradients):
        self.gradients = np.array(gradients, dtype=float)
        self.n, self.d = self.gradients.shape

    def gradient(self, x):
        return np.broadcast_to(
            self.gradients.reshape(self.gradients.shape + (1,) * (x.ndim - 2)), x.shape
        )

    def value(self, x):
        return self.gradients.mean(axis=0) @ x


def equal_hessians(n, h=1.0, d=2):
    """f_i(x) = (h/2) ‖x − c_i‖² with centres that differ."""
    centers = np.random.default_rng(4).normal(size=(n, d))
    return rs.problems.DiagonalQuadratic(np.full((n, d), h), centers)


def random_tree(n, seed):
    """A tree in which every worker but the first hangs on a random earlier one."""
    parents = np.random.default_rng(seed).integers(0, np.arange(1, n))
    return rs.topologies.from_edges(n, list(zip(parents, range(1, n), strict=True)))


def delays(topology, overlap):
    """τ_ij: hop distances, less one (where there is one) if messages arrive in the same round."""
    hops = slow.hop_distances(slow.neighbours_of(topology))
    return hops if overlap else np.maximum(0, hops - 1)


def radius(topology, algorithm, gamma_h, mixing=None):
    """ρ of the method where all Hessians are the identity."""
    problem = equal_hessians(topology.n, d=1)
    return rs.theory.linearize(problem, topology, algorithm, gamma_h, mixing=mixing).spectral_radius


def growth(problem, topology, algorithm, rates, steps=2000, mixing=None):
    """By how much the changes of a step grow over the second half of a run, a factor for each rate.

    The largest change of an iterate within the last tenth over that in the tenth before the middle;
    infinite if the run diverged.
    """
    tenth, middle = steps // 10, steps // 2
    record = [*range(middle - tenth, middle + 1), *range(steps - tenth, steps + 1)]
    history = rs.simulate(
        problem,
        topology,
        algorithm,
        learning_rate=np.atleast_1d(rates),
        steps=steps,
        record=record,
        keep_iterates=True,
        mixing=mixing,
    )
    changes = np.abs(np.diff(history.iterates, axis=0)).max(axis=(1, 2))
    early, late = changes[:tenth].max(axis=0), changes[tenth + 1 :].max(axis=0)
    # What has come to rest changes by rounding only.
    return np.where(history.diverged, np.inf, late / np.maximum(early, 1e-12))


def assert_limit(problem, topology, algorithm, limit, *, margin=0.01, below=True, **options):
    """Runs at rates just below and above the limit: one settles, the other grows."""
    rates = np.array([1 - margin, 1 + margin]) * limit
    found = growth(problem, topology, algorithm, rates, **options)
    settles, grows = found if below else found[::-1]
    assert settles < 1, f"measured growth by {settles:.4g} where stability is claimed, {rates}"
    assert grows > 1, f"measured growth by {grows:.4g} where instability is claimed, {rates}"
