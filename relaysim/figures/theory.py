"""Theory laid over simulated curves, a panel a method."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from relaysim import algorithms, oracles, plots, problems, topologies
from relaysim.algorithms.events import Algorithm
from relaysim.engine import simulate
from relaysim.figures.result import Result
from relaysim.records.history import History
from relaysim.support.progress import progress_bar
from relaysim.support.threads import in_processes
from relaysim.theory import Overlay, linearize, overlay

__all__ = ["theory"]

SIGMA2 = 1e-4
#: Method, topology, learning rate.
PANELS = (
    (algorithms.RelaySGD(), "chain", 0.5),
    (algorithms.RelaySGDGrad(), "chain", 0.05),
    (algorithms.D2(), "ring", 0.5),
    (algorithms.ExactDiffusion(), "ring", 0.5),
    (algorithms.GradientTracking(), "ring", 0.08),
    (algorithms.DPSGD(), "ring", 0.1),
    (algorithms.QuasiGlobalMomentum(), "ring", 0.1),
    (algorithms.AllReduce(), "complete", 0.5),
)


def theory(quick: bool = False, seed: int = 0, n_jobs: int = 1) -> Result:
    """Simulated curves with exact predictions, rates, noise floors and theorems, a panel a method.

    A random quadratic (n = 16, d = 5, ζ² = 1, Hessian eigenvalues in [0.25, 1]), without noise and with
    σ² = 10⁻⁴. Predictions, rates and floors come from the affine map of each method, not from the runs.

    Args:
        quick: 8 workers, three panels, 8 noise seeds.
        seed: of the random problem.
        n_jobs: processes.

    Source: `relaysim.theory.linearize`; theorems: `relaysim.theory.bounds`.
    """
    n, replicas = (8, 8) if quick else (16, 40)
    chosen = PANELS[:3] if quick else PANELS
    cells = [(*panel, n, seed, replicas) for panel in chosen]
    panels = []
    with progress_bar(len(chosen), None, "theory", "methods") as bar:
        for panel in in_processes(_panel, cells, n_jobs):
            panels.append(panel)
            bar.update()
    bounds = [bound for panel in panels for bound in panel.overlaid.bounds]
    verified = sorted({bound.label for bound in bounds if bound.verified_constants})
    shapes = sorted({f"{b.label}: {b.source}" for b in bounds if not b.verified_constants})
    caption = (
        f"Suboptimality on a random quadratic (n = {n}, d = 5, ζ² = 1, Hessian eigenvalues in "
        f"[0.25, 1]), simulated without noise (wide, pale) and with σ² = {SIGMA2:g} (thin: median, with "
        f"a 10–90 % band over {replicas} seeds). Computed, not fitted: the exact curve without noise "
        "(black dashes), its asymptotic rate (grey line), the expected noise floor (black line) and the "
        "10–90 % band of a single record on it (grey). Dotted and dark: theorems with constants proved "
        f"here, {'; '.join(verified) or 'of which there is none'}. Dotted and pale: shapes of theorems that "
        "were published without constants, for rates chosen for the number of steps; one constant is fitted "
        "to the first third of the noisy run, and they are drawn there alone, as they say nothing of later "
        f"steps at a constant rate. These are {'; '.join(shapes) or 'not to be seen here'}."
    )
    frame = pd.concat([panel.frame for panel in panels], ignore_index=True)
    return Result(_draw(panels), frame, caption)


class _Panel(NamedTuple):
    """One method's runs, and what theory says of the noisy one."""

    title: str
    exact: History
    noisy: History
    overlaid: Overlay

    @property
    def frame(self) -> pd.DataFrame:
        runs = {
            "simulated without noise": self.exact.frame,
            "simulated with noise": self.noisy.frame,
            "predicted without noise": self.overlaid.prediction,
        }
        parts = [run.assign(curve=name) for name, run in runs.items()]
        return pd.concat(parts, ignore_index=True).assign(
            method=self.noisy.label,
            topology=repr(self.noisy.topology),
            spectral_radius=self.overlaid.spectral_radius,
            noise_floor=self.overlaid.floor,
        )


def _panel(
    algorithm: Algorithm, name: str, rate: float, n: int, seed: int, replicas: int
) -> _Panel:
    problem = problems.random_quadratics(n=n, d=5, zeta2=1.0, mu=0.25, seed=seed)
    topology = getattr(topologies, name)(n)
    relaxation = linearize(problem, topology, algorithm, rate).relaxation_time
    steps = int(np.clip(14 * relaxation, 60, 1500))
    exact, noisy = (
        simulate(
            problem,
            topology,
            algorithm,
            learning_rate=rate,
            steps=steps,
            oracle=oracle,
            replicas=seeds,
            progress=False,
        )
        for oracle, seeds in ((None, None), (oracles.Gaussian(SIGMA2), replicas))
    )
    title = rf"{algorithm.label}, {name}, $\gamma = {rate:g}$"
    return _Panel(title, exact, noisy, overlay(noisy))


def _draw(panels: list[_Panel]) -> Figure:
    columns = min(len(panels), 4)
    rows = -(-len(panels) // columns)
    with plots.style():
        figure = Figure(figsize=(2.9 * columns, 2.75 * rows + 0.5), layout="constrained")
        axes = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
        drawn: dict[str, Any] = {}
        for ax, panel in zip(axes, panels, strict=True):
            look = plots.method_style(panel.noisy.label) | {"linestyle": "-"}
            wide, thin = look | {"linewidth": 4.5, "alpha": 0.35}, look | {"linewidth": 1.1}
            plots.draw_line(ax, panel.exact.frame, "step", "suboptimality", wide)
            plots.draw_line(ax, panel.noisy.frame, "step", "suboptimality", thin)
            drawn |= panel.overlaid.draw(ax, names=False)
            ax.set_title(panel.title, fontsize=9)
            plots.style_axes(ax, "step", "suboptimality" if ax in axes[::columns] else "")
        axes[0].set_ylim(1e-12, 30)
        figure.legend(
            *_legend(panels, drawn), loc="outside lower center", ncols=3, fontsize="small"
        )
    return figure


def _legend(panels: list[_Panel], drawn: dict[str, Any]) -> tuple[list[Any], list[str]]:
    names = {
        "prediction": "exact curve without noise, computed",
        "asymptote": r"asymptotic rate $\rho^{2t}$",
        "floor": "expected noise floor",
        "band": "10–90 % of a record on it",
    }
    grey: dict[str, Any] = {"color": "#777777"}
    entries = {
        "simulated without noise": Line2D([], [], linewidth=4.5, alpha=0.5, **grey),
        "simulated with noise, median and 10–90 %": Line2D([], [], linewidth=1.1, **grey),
    }
    entries |= {name: drawn[kind] for kind, name in names.items() if kind in drawn}
    for bound in (bound for panel in panels for bound in panel.overlaid.bounds):
        kind = "theorem, proved" if bound.verified_constants else "theorem's shape, fitted"
        entries.setdefault(kind, drawn[bound.label])
    return list(entries.values()), list(entries)
