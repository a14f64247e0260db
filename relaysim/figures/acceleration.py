"""What momentum saves in communication: the constants of A²CiD² and the rates of DADAO's table."""

from __future__ import annotations

import math
from typing import Any

import networkx
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, ScalarFormatter

from relaysim import plots, topologies
from relaysim.figures.result import Result
from relaysim.support.progress import progress_bar
from relaysim.theory import acceleration_constants
from relaysim.topologies import Topology

__all__ = ["acceleration", "communication_rates"]

#: How each family is made from n, its colour, dash and marker.
FAMILIES = {
    "cycle": (topologies.ring, "#0072B2", "-", "o"),
    "path": (topologies.chain, "#D55E00", (0, (6, 2)), "s"),
    "star": (topologies.star, "#000000", (0, (1, 1.2)), "*"),
    "complete": (topologies.complete, "#009E73", (0, (4, 1.5, 1, 1.5)), "D"),
    "exponential": (topologies.exponential, "#CC79A7", (0, (3, 1.5)), "^"),
}
#: Methods of the table: marker, whether it is full.
METHODS = {
    "ADOM+": ("o", "none"),
    "ADOM+, multi-consensus": ("o", "full"),
    "MSDA": ("^", "full"),
    "Continuized": ("s", "none"),
    "DADAO": ("x", "full"),
}


def _from_networkx(graph: networkx.Graph) -> Topology:
    return topologies.from_networkx(networkx.convert_node_labels_to_integers(graph))


def _tabled() -> dict[str, Topology]:
    return {
        "star of 300": topologies.star(300),
        "cycle of 300": topologies.ring(300),
        "cycle of 16": topologies.ring(16),
        "path of 16": topologies.chain(16),
        "grid, 4 × 4": _from_networkx(networkx.grid_2d_graph(4, 4)),
        "complete, 16": topologies.complete(16),
        "barbell, 8 + 8": _from_networkx(networkx.barbell_graph(8, 0)),
    }


def acceleration(quick: bool = False, seed: int = 0, n_jobs: int = 1) -> Result:
    """χ₁, χ₂ and √(χ₁χ₂) against n for five families of graphs, and what five methods communicate.

    The time that pairwise averaging takes in A²CiD² without and with momentum, at one communication of a
    worker a unit of time; the edges that DADAO and others use between two rounds of gradients.

    Args:
        quick: up to 64 workers instead of 256.
        seed: not used.
        n_jobs: not used.

    Source: Nabli, Belilovsky, Oyallon, "A²CiD²", NeurIPS 2023; Nabli, Oyallon, "DADAO", ICML 2023, and its
    published code, which has the star of 300.
    """
    sizes = [8, 16, 32, 64] if quick else [8, 16, 32, 64, 128, 256]
    tabled = _tabled()
    rows: list[dict] = []
    with progress_bar(len(FAMILIES) + len(tabled), None, "acceleration", "graphs") as bar:
        for name, (make, *_) in FAMILIES.items():
            for n in sizes:
                chi1, chi2 = acceleration_constants(make(n))
                known = {"chi1": chi1, "chi2": chi2, "accelerated": math.sqrt(chi1 * chi2)}
                rows.append({"part": "constants", "graph": name, "n": n, **known})
            bar.update()
        for name, graph in tabled.items():
            for method, edges in communication_rates(graph).items():
                found = {"method": method, "edges_used": edges}
                rows.append({"part": "rates", "graph": name, "n": graph.n, **found})
            bar.update()
    frame = pd.DataFrame(rows)
    caption = (
        "Above: the constants of A²CiD² against the number of workers, at one communication of a worker a "
        "unit of time. Pairwise averaging takes a time of order χ₁, with momentum √(χ₁χ₂); χ₂, half the "
        "largest resistance of an edge (the same for cycle, star and complete graph), is about 1 everywhere, "
        "so that a cycle's n² becomes n, while graphs that mix fast have nothing to gain. Below: edges used "
        "between two rounds of gradients. ADOM+ uses all once, or with multi-consensus ⌈χ ln 2⌉ times, "
        "χ = λ_max/λ₂ of the graph Laplacian; MSDA ⌊√χ⌋ times; DADAO and the continuized method ⌊√(2χ₁χ₂)⌋ "
        "in all, with χ₁, χ₂ of edges that are drawn alike. The star's numbers are those published. After "
        "Nabli et al., NeurIPS 2023, and Nabli and Oyallon, ICML 2023."
    )
    return Result(_draw(frame, sizes), frame, caption)


def communication_rates(topology: Topology) -> dict[str, int]:
    """Edges that methods use between two rounds of gradients, as DADAO's code prints them.

    With E edges, the Laplacian L and χ = λ_max(L)/λ₂(L): ADOM+ E, with multi-consensus E⌈χ ln 2⌉, MSDA
    E⌊√χ⌋, and DADAO and the continuized method ⌊√(2χ₁χ₂)⌋ with χ₁ = 1/λ₂(L/E) and χ₂ half the largest
    resistance of an edge in L/E. What is whole but for rounding stays so.

    Source: the code published with Nabli and Oyallon, "DADAO", ICML 2023.

    >>> communication_rates(topologies.complete(16))["DADAO"]
    10
    """
    edges = len(topology.edges)
    laplacian = np.diag(topology.degrees) - topology.adjacency.toarray()
    values = np.linalg.eigvalsh(laplacian)
    chi = values[-1] / values[1]
    inverse = np.linalg.inv(laplacian + 1 / topology.n)
    i, j = topology.edges.T
    resistance = (inverse[i, i] + inverse[j, j] - inverse[i, j] - inverse[j, i]).max()
    asynchronous = _floor(edges * math.sqrt(resistance / values[1]))
    return {
        "ADOM+": edges,
        "ADOM+, multi-consensus": edges * -_floor(-chi * math.log(2)),
        "MSDA": edges * _floor(math.sqrt(chi)),
        "Continuized": asynchronous,
        "DADAO": asynchronous,
    }


def _floor(value: float) -> int:
    return math.floor(value + 1e-9 * abs(value))


def _draw(frame: pd.DataFrame, sizes: list[int]) -> Figure:
    with plots.style():
        figure = Figure(figsize=(10.4, 6.8), layout="constrained")
        grid = figure.add_gridspec(2, 3, height_ratios=(1, 1.05))
        above = [figure.add_subplot(grid[0, place]) for place in range(3)]
        constants = frame[frame.part == "constants"]
        labels = {
            "chi1": "Without momentum $\\chi_1$ (units of time)",
            "accelerated": "With momentum $\\sqrt{\\chi_1 \\chi_2}$ (units of time)",
            "chi2": "Half the largest resistance $\\chi_2$",
        }
        for ax, (column, label) in zip(above, labels.items(), strict=True):
            for name, (_, color, dash, marker) in FAMILIES.items():
                part = constants[constants.graph == name]
                look: dict[str, Any] = {
                    "color": color,
                    "linestyle": dash,
                    "marker": marker,
                    "markersize": 5,
                }
                ax.plot(part.n, part[column], **look, fillstyle="none", label=name)
            ax.set_xscale("log", base=2)
            ax.set_xticks(sizes)
            ax.xaxis.set_major_formatter(ScalarFormatter())
            ax.xaxis.set_minor_formatter(NullFormatter())
            ax.set_xlabel("Number of workers n")
            ax.set_ylabel(label)
        for ax in above[:2]:
            ax.set_yscale("log")
            ax.set_ylim(0.6, 1.5 * constants.chi1.max())
        above[0].legend(fontsize="small", loc="upper left")
        rates = frame[frame.part == "rates"]
        graphs = list(rates.graph.unique())
        ax = figure.add_subplot(grid[1, :])
        for place, (method, (marker, fill)) in enumerate(METHODS.items()):
            part = rates[rates.method == method]
            at = np.array([graphs.index(name) for name in part.graph]) + 0.16 * (place - 2)
            look = {
                "color": plots.method_style(method.partition(",")[0])["color"],
                "marker": marker,
                "fillstyle": fill,
                "markersize": 7,
            }
            ax.plot(
                at, part.edges_used, linestyle="none", markeredgewidth=1.6, label=method, **look
            )
            for x, edges in zip(at, part.edges_used, strict=True):
                ax.annotate(
                    f"{edges:.0f}",
                    (x, edges),
                    xytext=(0, 7),
                    textcoords="offset points",
                    ha="center",
                    va="bottom",
                    fontsize="x-small",
                    rotation=90,
                )
        ax.set_yscale("log")
        ax.set_ylim(5, 60 * rates.edges_used.max())
        ax.set_xticks(range(len(graphs)), graphs)
        ax.set_xlim(-0.6, len(graphs) - 0.4)
        ax.grid(axis="x", visible=False)
        ax.set_ylabel("Edges used between gradients")
        ax.legend(fontsize="small", loc="upper right", ncols=5)
    return figure
