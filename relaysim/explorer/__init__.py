"""An explorer for notebooks: controls, and curves that follow them.

It needs ipywidgets, the extra ``notebook``: ``python -m pip install "relaysim[notebook]"``.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

from relaysim.explorer.settings import Settings

__all__ = ["explore"]

_DEFAULTS = Settings()


def explore(
    *,
    problem: str = _DEFAULTS.problem,
    n: int = _DEFAULTS.n,
    d: int = _DEFAULTS.d,
    zeta2: float = _DEFAULTS.zeta2,
    mu: float = _DEFAULTS.mu,
    drift: float = _DEFAULTS.drift,
    alpha: float = _DEFAULTS.alpha,
    l2: float = _DEFAULTS.l2,
    sigma2: float = _DEFAULTS.sigma2,
    problem_seed: int = _DEFAULTS.problem_seed,
    topology: str = _DEFAULTS.topology,
    methods: Sequence[Any] = _DEFAULTS.methods,
    learning_rate: float | Sequence[float] = _DEFAULTS.learning_rate[0],
    steps: int = _DEFAULTS.steps,
    seed: int = _DEFAULTS.seed,
    x: str = _DEFAULTS.x,
    y: str = _DEFAULTS.y,
    replicas: int = _DEFAULTS.replicas,
    theory: bool = _DEFAULTS.theory,
    seconds: float | None = _DEFAULTS.seconds,
    **further: Any,
) -> Any:
    """Choose a problem, a topology and methods in a notebook, and see their curves at once.

    Buttons tune the learning rates, show the graph, give the code that draws the same picture, and save both.
    Where a run of all steps would take longer than it takes to look at it, half a second for all, a method is
    drawn for fewer steps, which is said. Everything given here is where the controls stand at first.

    Args:
        problem: ``"random_quadratics"``; ``"logistic"``, on synthetic data; ``"breast_cancer"`` or
            ``"wine"``, logistic regression on these data, split by label (extra ``data``).
        n: workers, at most 1024; a topology that has its own size, as ``"torus(4, 8)"``, comes first.
        d: parameters of random quadratics, features of synthetic data.
        zeta2, mu: heterogeneity ζ² and smallest Hessian eigenvalue of random quadratics.
        drift: how far apart the workers of synthetic data are; see `relaysim.problems.data.synthetic`.
        alpha: of the Dirichlet split of bundled data; small values set workers apart.
        l2: λ of logistic regression.
        sigma2: variance σ² of Gaussian gradient noise.
        problem_seed: of the random problem, or of its data.
        topology: a name, or a call such as ``"erdos_renyi(32, 0.2, seed=0)"``.
        methods: names, or calls such as ``"DPSGD(momentum=0.9)"``. A method that needs a tree runs
            on `relaysim.topologies.spanning_tree` of a topology that is none.
        learning_rate: a number, or one for each method.
        steps: updates.
        seed: of the gradient noise, and of methods that draw.
        x: ``"step"``, ``"vectors_sent"`` or ``"bits_sent"``.
        y: a measure, such as ``"suboptimality"`` or ``"worst_distance"``; see `relaysim.measures`.
        replicas: that many seeds, from ``seed`` on; then curves have bands.
        theory: lay over the curves what is known exactly: the curve without noise, its rate in the long
            run, the noise floor; of small settings, for which it is a matter of moments. Beside each learning
            rate its numbers are told, and which rates are stable, found while one goes on.
        seconds: how much work an answer may be, half a second by default; ``math.inf`` for all steps,
            however long they take.
        further: further options of an experiment that have a control, such as ``drop``, the probability
            that a message is lost, ``mixing="uniform(0.3)"``, ``oracle="Minibatch(8)"``, ``faults``, and
            ``target``, for which the button tunes learning rates.

    Returns:
        An `relaysim.explorer.widget.Explorer`, which a notebook shows. Its ``histories``, ``code`` and
        ``settings`` are those of the picture.

    Raises:
        ImportError: ipywidgets is missing.
        ValueError, TypeError: values that no control can have. What cannot run together is said in the
            explorer instead, where it can be mended.

    >>> explorer = explore(n=16, zeta2=10.0, methods=["RelaySGD", "D2"], topology="star", steps=50)
    >>> list(explorer.histories)
    ['RelaySGD, γ = 0.5', 'D², γ = 0.5']
    """
    settings = Settings(
        problem=problem,
        n=n,
        d=d,
        zeta2=zeta2,
        mu=mu,
        drift=drift,
        alpha=alpha,
        l2=l2,
        sigma2=sigma2,
        problem_seed=problem_seed,
        topology=topology,
        methods=methods,
        learning_rate=learning_rate,
        steps=steps,
        seed=seed,
        x=x,
        y=y,
        replicas=replicas,
        theory=theory,
        seconds=seconds,
        further=further,
    )
    try:
        importlib.import_module("ipywidgets")
    except ImportError:
        raise ImportError(
            'this needs ipywidgets; install it with: python -m pip install "relaysim[notebook]"'
        ) from None
    return importlib.import_module("relaysim.explorer.widget").Explorer(settings)
