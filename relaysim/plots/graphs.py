"""Pictures of topologies."""

from __future__ import annotations

import copy
import math
from typing import NamedTuple

import matplotlib
import matplotlib.pyplot as plt
import networkx
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import LogNorm, Normalize
from matplotlib.ticker import MaxNLocator
from scipy.sparse import csgraph
from scipy.spatial import KDTree

from relaysim import topologies
from relaysim.plots.style import ink_on, style
from relaysim.support.checks import real_array, shown
from relaysim.topologies import Topology, TreePair

__all__ = ["Layout", "colour_norm", "draw_graph", "draw_topology", "layout_of"]

# What no value is known of.
NO_VALUE = "#d9d9d9"
PLAIN = "#a6cee3"
# Points: a worker's largest and smallest diameter, and the smallest number that one can read.
LARGEST, SMALLEST, SMALLEST_FONT = 18.0, 2.5, 4.5
# Of the distance between two workers.
SHARE_OF_SPACING = 0.62
# A longer chain is folded.
LONGEST_LINE = 20
# Workers up to which distances on paper follow those in the graph, in so many rounds of O(n²).
MOST_BY_DISTANCE, ROUNDS = 400, 150


class Layout(NamedTuple):
    """Where workers stand: ``at (n, 2)``; ``size`` in inches of a picture; ``equal``: one scale for both
    axes; ``bulge (m,)``: how far each edge bends to its left, in units of ``at``.
    """

    at: np.ndarray
    size: tuple[float, float]
    equal: bool
    bulge: np.ndarray


def draw_topology(
    topology,
    *,
    ax=None,
    values=None,
    value_label: str | None = None,
    norm=None,
    cmap: str = "viridis",
    labels: bool | None = None,
    **options,
):
    """Draw a graph in the layout that shows its structure, its workers coloured by a value if one likes.

    Trees stand level by level, stars around their hub, long chains in folds, rings and other graphs along
    a circle on it, tori and grids as grids (bent edges join opposite sides), hypercubes by their digits,
    two cliques side by side, and others by their distances.

    Args:
        topology: a `relaysim.topologies.Topology`, or a `TreePair` (both trees side by side).
        ax: the Axes to draw into, for a pair two of them; new ones by default.
        values: ``(n,)``, a number for each worker to colour it by; NaN is grey.
        value_label: what the values are and their unit, for the colour bar.
        norm: how values become colours: ``"log"``, or a norm of matplotlib's; linear by default.
        cmap: the name of a colour map of matplotlib's.
        labels: write the workers' numbers; by default where they can be read.
        options: further arguments of ``Axes.scatter`` for the workers.

    Returns:
        The matplotlib Axes (an array of two for a pair).

    Raises:
        ValueError: values of another shape, or none above 0 on a log scale.
        TypeError: what is no topology.
    """
    if not isinstance(topology, Topology | TreePair):
        raise TypeError(f"only a Topology or a TreePair can be drawn, not {shown(topology)}")
    if values is not None:
        values = real_array(values, "values")
        if values.shape != (topology.n,):
            raise ValueError(
                f"values must be one number for each of the {topology.n} workers, of shape "
                f"({topology.n},), not {values.shape}"
            )
        norm = colour_norm(values, norm)
    paints = {"values": values, "norm": norm, "cmap": cmap, "labels": labels}
    with style():
        if isinstance(topology, TreePair):
            trees = (topology.first, topology.second)
            layouts = [layout_of(tree) for tree in trees]
            if ax is None:
                width, height = np.max([layout.size for layout in layouts], axis=0)
                size = (2 * min(width, 4.6), height + 0.3)
                _, ax = plt.subplots(1, 2, figsize=size, layout="constrained")
            for axes, tree, layout, which in zip(ax, trees, layouts, ("even", "odd"), strict=True):
                workers = draw_graph(axes, tree, layout, **paints, **options)
                axes.set_title(f"{which} coordinates")
        else:
            layout = layout_of(topology)
            if ax is None:
                bar = (0.0, 0.0) if values is None else _room_for_bar(layout)
                size = np.add(layout.size, bar)
                _, ax = plt.subplots(figsize=size, layout="constrained")
            workers = draw_graph(ax, topology, layout, **paints, **options)
        if values is not None:
            below = _is_strip(layout)
            _add_colour_bar(workers, ax, values, value_label, "bottom" if below else "right")
    return ax


def colour_norm(values: np.ndarray, norm=None) -> Normalize:
    """The norm for these values; ``norm`` is None, ``"linear"``, ``"log"`` or a norm of matplotlib's."""
    if norm is not None and norm not in ("linear", "log"):
        if not isinstance(norm, Normalize):
            raise ValueError(
                f"norm must be 'linear', 'log' or a norm of matplotlib's, not {shown(norm)}"
            )
        norm = copy.copy(norm)
        norm.autoscale_None(values[np.isfinite(values)])
        return norm
    known = values[np.isfinite(values)]
    if norm == "log":
        known = known[known > 0]
        if not len(known):
            raise ValueError("none of the values is above 0; leave norm='log' out")
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    if low == high:  # a colour bar needs some length
        low, high = (low / 2, 2 * high) if norm == "log" else (low - 0.5, high + 0.5)
    return LogNorm(low, high) if norm == "log" else Normalize(low, high)


def draw_graph(
    ax, topology: Topology, layout: Layout, *, values, norm, cmap, labels=None, **options
):
    """Draw edges, workers and their numbers into Axes; returns the workers' PathCollection."""
    at = layout.at
    spacing = _fit(ax, layout, values is not None)
    diameter = float(np.clip(SHARE_OF_SPACING * spacing, SMALLEST, LARGEST))
    if len(topology.edges):
        crowding = min(1.0, math.sqrt(3 * topology.n / len(topology.edges)))
        width = crowding * float(np.clip(diameter / 10, 0.4, 1.1))
        lines = _edge_lines(at, topology.edges, layout.bulge)
        ax.add_collection(LineCollection(lines, colors="#888888", linewidths=width, zorder=1))
    look = {"s": diameter**2, "linewidths": min(0.8, diameter / 10), "edgecolors": "#333333"}
    if values is None:
        look |= {"color": PLAIN}
    else:
        known = matplotlib.colormaps[cmap].with_extremes(bad=NO_VALUE)
        look |= {"c": np.full(topology.n, norm.vmin), "norm": norm, "cmap": known}
    workers = ax.scatter(*at.T, **({"zorder": 2} | look | options))
    if values is not None:
        workers.set_array(_drawable(values, norm))
    font = diameter * min(0.6, 1.2 / len(str(topology.n - 1)))
    if font >= SMALLEST_FONT if labels is None else labels:
        workers.update_scalarmappable()
        inks = ink_on(np.broadcast_to(workers.get_facecolors(), (topology.n, 4)))
        for worker, (place, ink) in enumerate(zip(at, inks, strict=True)):
            ax.text(
                *place,
                str(worker),
                color=ink,
                fontsize=max(font, SMALLEST_FONT),
                ha="center",
                va="center_baseline",
                zorder=3,
            )
    return workers


def _drawable(values: np.ndarray, norm) -> np.ndarray:
    """The values, without those that have no place on the scale."""
    bad = ~np.isfinite(values) | ((values <= 0) & isinstance(norm, LogNorm))
    return np.ma.masked_array(values, bad)


def _add_colour_bar(workers, ax, values, label: str | None, location: str) -> None:
    shown_by = ScalarMappable(workers.norm, workers.cmap)
    placed = {"location": location, "shrink": 0.9, "aspect": 25, "pad": 0.03}
    bar = np.ravel(ax)[0].figure.colorbar(shown_by, ax=ax, label=label or "", **placed)
    known = values[np.isfinite(values)]
    if (known == np.round(known)).all() and not isinstance(workers.norm, LogNorm):
        bar.locator = MaxNLocator(nbins=6, integer=True, min_n_ticks=1)
        bar.update_ticks()
    bar.outline.set_visible(False)


def _is_strip(layout: Layout) -> bool:
    """Whether a picture is so low that its colour bar goes below it."""
    width, height = layout.size
    return width > 4 * height or height < 1.4


def _room_for_bar(layout: Layout) -> tuple[float, float]:
    """Inches of width and height that a colour bar takes."""
    return (0.0, 0.7) if _is_strip(layout) else (0.9, 0.0)


def _fit(ax, layout: Layout, with_bar: bool) -> float:
    """Set the Axes' limits; returns the smallest distance of two workers in points."""
    low, high = layout.at.min(axis=0), layout.at.max(axis=0)
    nearest, extent = _smallest_distance(layout.at), high - low
    if layout.equal:
        # Half a worker at each side, and the arcs.
        room = 0.45 * nearest + 1.05 * np.abs(layout.bulge).max(initial=0) / 2
        margins = np.full(2, room)
    else:
        room = (LARGEST + 4) / 2
        margins = extent * room / (72 * np.asarray(layout.size) - 2 * room)
    low, high = low - margins, high + margins
    ax.set_xlim(low[0], high[0])
    ax.set_ylim(low[1], high[1])
    ax.set_axis_off()
    if layout.equal:
        ax.set_aspect("equal")
    figure = ax.figure
    if len(figure.axes) == 1 and figure.get_layout_engine() is not None:
        bar = _room_for_bar(layout) if with_bar else (0.0, 0.0)
        inches = np.asarray(figure.get_size_inches()) - bar - 0.1
    else:
        inches = ax.get_window_extent().size / figure.dpi * (0.85 if with_bar else 1.0, 1.0)
    scale = 72 * inches / (high - low)
    if layout.equal:
        return nearest * scale.min()
    return _smallest_distance(layout.at * scale)


def _smallest_distance(at: np.ndarray) -> float:
    if len(at) == 1:
        return 1.0
    return float(KDTree(at).query(at, k=2)[0][:, 1].min())


def _edge_lines(at: np.ndarray, edges: np.ndarray, bulge: np.ndarray) -> list[np.ndarray]:
    """Each edge as a line of points: straight, or an arc as high as its bulge."""
    ends = at[edges]
    lines = list(ends)
    along = np.linspace(0, 1, 25)[:, None]
    for k in np.flatnonzero(bulge):
        start, end = ends[k]
        left = np.array([start[1] - end[1], end[0] - start[0]]) / np.hypot(*(end - start))
        lines[k] = start + along * (end - start) + (1 - (2 * along - 1) ** 4) * bulge[k] * left
    return lines


# -- layouts ---------------------------------------------------------------------------------------


def layout_of(topology: Topology) -> Layout:
    """The layout that shows a graph's structure."""
    n = topology.n
    straight = np.zeros(len(topology.edges))
    if n == 1:
        return Layout(np.zeros((1, 2)), (1.6, 1.6), True, straight)
    if topology.is_tree:
        at, size, equal = _tree_layout(topology)
        return Layout(at, size, equal, straight)
    if n >= 4 and n & (n - 1) == 0 and topology == topologies.hypercube(n):
        return Layout(_hypercube_layout(n), (4.2, 4.2), True, straight)
    if n >= 6 and topology == topologies.two_cliques(n):
        return Layout(_cliques_layout(n), (5.4, 2.8), True, straight)
    grid = _grid_shape(topology)
    if grid is not None:
        return _grid_layout(topology, *grid)
    if _is_along_a_circle(topology):
        return Layout(_circle(n), (4.2, 4.2), True, straight)
    return Layout(_layout_by_distance(topology), (4.8, 4.2), True, straight)


def _circle(n: int) -> np.ndarray:
    """Clockwise from the top."""
    angle = 2 * np.pi * np.arange(n) / n
    return np.stack([np.sin(angle), np.cos(angle)], axis=1)


def _is_along_a_circle(topology: Topology) -> bool:
    """Whether most neighbours in number are neighbours in the graph."""
    apart = topology.edges[:, 1] - topology.edges[:, 0]
    next_to = np.isin(apart, (1, topology.n - 1)).sum()
    return next_to >= 0.75 * topology.n


def _tree_layout(tree: Topology) -> tuple[np.ndarray, tuple[float, float], bool]:
    n = tree.n
    if tree.degrees.max() <= 2:
        order = _along_chain(tree)
        columns = n
        if n > LONGEST_LINE:
            fewest = max(LONGEST_LINE // 2, math.isqrt(2 * n))
            # The last row as full as can be, the rows long.
            columns = min(range(2 * fewest, fewest, -1), key=lambda k: -n % k)
        rows = math.ceil(n / columns)
        row, column = np.divmod(np.arange(n), columns)
        column = np.where(row % 2, columns - 1 - column, column)
        at = np.empty((n, 2))
        at[order] = np.stack([column, -row], axis=1)
        side = 6.2 / max(columns, 8)
        return at, (columns * side + 0.2, rows * side + 0.3), True
    if tree.degrees.max() > max(3, n / 2):
        return _around(tree, int(np.argmax(tree.degrees))), (4.2, 4.2), True
    across, depth = _levels(tree, _root(tree))
    leaves = np.count_nonzero(tree.degrees == 1)
    width = float(np.clip(0.3 * leaves, 3.2, 7.2))
    height = float(np.clip(0.6 * depth.max(), max(1.8, 0.4 * width), 4.2))
    return np.stack([across, -depth], axis=1), (width, height), False


def _along_chain(chain: Topology) -> np.ndarray:
    """The workers from one end to the other."""
    end = int(np.argmax(chain.degrees == 1))
    return np.argsort(chain.distances_from(end), kind="stable")


def _root(tree: Topology) -> int:
    """The middle of the tree, or the first or last worker where they are about as good."""
    end = int(np.argmax(tree.distances_from(0)))
    from_end = tree.distances_from(end)
    other = int(np.argmax(from_end))
    furthest = np.maximum(from_end, tree.distances_from(other))
    middle = int(np.argmin(furthest))
    for preferred in (0, tree.n - 1):
        if furthest[preferred] <= furthest[middle] + 1:
            return preferred
    return middle


def _levels(tree: Topology, root: int) -> tuple[np.ndarray, np.ndarray]:
    """Leaves side by side and every parent over the middle of its children; and the depths."""
    graph = tree.to_networkx()
    successors = dict(networkx.bfs_successors(graph, root))
    across = np.zeros(tree.n)
    leaves = 0
    for worker in networkx.dfs_postorder_nodes(graph, root):
        children = successors.get(worker, [])
        if children:
            across[worker] = (across[children[0]] + across[children[-1]]) / 2
        else:
            across[worker] = leaves
            leaves += 1
    return across, tree.distances_from(root)


def _around(tree: Topology, hub: int) -> np.ndarray:
    """The hub in the middle, others on circles by their distance from it."""
    across, depth = _levels(tree, hub)
    leaves = np.count_nonzero(tree.degrees == 1)
    angle = 2 * np.pi * across / leaves
    return depth[:, None] * np.stack([np.sin(angle), np.cos(angle)], axis=1)


def _hypercube_layout(n: int) -> np.ndarray:
    """Pairs of digits span squares, each pair within the corners of the one before, turned a little."""
    digits = (np.arange(n)[:, None] >> np.arange((n - 1).bit_length())) & 1
    # Chosen so that edges keep away from other workers.
    scale, turn = (0.55, 0.47) if n <= 16 else (0.36, 0.44) if n == 32 else (0.42, 0.47)
    at = np.zeros((n, 2))
    for k in range(digits.shape[1]):
        angle = turn * (k // 2) + np.pi / 2 * (k % 2)
        at += digits[:, k, None] * scale ** (k // 2) * np.array([np.cos(angle), np.sin(angle)])
    return at


def _cliques_layout(n: int) -> np.ndarray:
    """Two circles, with the workers that link them next to each other."""
    half = (n + 1) // 2
    first = np.pi / 2 - 2 * np.pi * (np.arange(half) - (half - 1)) / half
    second = np.pi / 2 - np.pi + 2 * np.pi * np.arange(n - half) / (n - half)
    return np.concatenate(
        [
            np.stack([np.sin(first) - 1.5, np.cos(first)], axis=1),
            np.stack([np.sin(second) + 1.5, np.cos(second)], axis=1),
        ]
    )


def _grid_shape(topology: Topology) -> tuple[int, int, bool] | None:
    """Rows, columns and whether it is a torus, if the graph is a grid numbered row by row."""
    n = topology.n
    for rows in (k for k in range(2, n // 2 + 1) if n % k == 0):
        columns = n // rows
        if len(topology.edges) == 2 * n - rows - columns:
            cells = np.arange(n).reshape(rows, columns)
            links = [(cells[:, :-1], cells[:, 1:]), (cells[:-1], cells[1:])]
            edges = np.concatenate([np.stack([a.ravel(), b.ravel()], 1) for a, b in links])
            if topology == Topology(n, edges):
                return rows, columns, False
        if topology == topologies.torus(rows, columns):
            return rows, columns, True
    return None


def _grid_layout(topology: Topology, rows: int, columns: int, wraps: bool) -> Layout:
    row, column = np.divmod(np.arange(topology.n), columns)
    at = np.stack([column, -row], axis=1).astype(float)
    steps = at[topology.edges[:, 1]] - at[topology.edges[:, 0]]
    bulge = np.where(wraps & (np.abs(steps).max(axis=1) > 1.5), 0.45, 0.0)
    side = min(4.6 / max(columns, 4), 4.6 / max(rows, 4))
    return Layout(at, (columns * side + 0.4, rows * side + 0.4), True, bulge)


def _layout_by_distance(topology: Topology) -> np.ndarray:
    """Distances on paper like those in the graph; the parts of a graph side by side, the largest first."""
    graph = topology.to_networkx()
    at = np.zeros((topology.n, 2))
    left, top, height = 0.0, 0.0, 0.0
    width = 2.2 * math.sqrt(topology.n)
    for part in sorted(networkx.connected_components(graph), key=len, reverse=True):
        members = sorted(part)
        places = _spread(graph.subgraph(members), members)
        extent = np.ptp(places, axis=0)
        if left > 0 and left + extent[0] > width:
            left, top, height = 0.0, top - height - 1.0, 0.0
        low, high = places.min(axis=0), places.max(axis=0)
        at[members] = places - [low[0] - left, high[1] - top]
        left, height = left + extent[0] + 1.0, max(height, extent[1])
    return at


def _spread(graph: networkx.Graph, members: list[int]) -> np.ndarray:
    """One connected part, about 2√n wide."""
    if len(members) == 1:
        return np.zeros((1, 2))
    if len(members) <= MOST_BY_DISTANCE:
        places = _by_hops(networkx.to_scipy_sparse_array(graph, nodelist=members))
    else:
        places = networkx.spring_layout(graph, seed=0)
        places = np.array([places[worker] for worker in members])
    # Longest across, so that it fits a page.
    places = places - places.mean(axis=0)
    _, axes = np.linalg.eigh(places.T @ places)
    places = places @ axes[:, ::-1]
    return _apart(places * (2 * math.sqrt(len(members)) / max(np.ptp(places, axis=0))))


def _by_hops(adjacency) -> np.ndarray:
    """Places with the smallest stress Σ_ij (‖p_i − p_j‖ − d_ij)² / d_ij², d_ij being hops.

    From the two largest coordinates of classical scaling on, by majorization. Source: Gansner, Koren,
    North, "Graph drawing by stress majorization", 2004.
    """
    hops = csgraph.shortest_path(adjacency, method="D", unweighted=True)
    n = len(hops)
    centring = np.eye(n) - 1 / n
    values, vectors = np.linalg.eigh(-0.5 * centring @ hops**2 @ centring)
    places = vectors[:, -2:] * np.sqrt(np.maximum(values[-2:], 1e-9))
    # Workers with the same distances from all others must not start in the same place.
    places += 0.05 * np.random.default_rng(0).standard_normal(places.shape)
    own = np.eye(n, dtype=bool)
    weights = np.divide(1, hops**2, out=np.zeros((n, n)), where=~own)
    inverse = np.linalg.pinv(np.diag(weights.sum(axis=1)) - weights, hermitian=True)
    for _ in range(ROUNDS):
        length = np.hypot(*(places[:, None] - places).transpose(2, 0, 1))
        pull = np.divide(weights * hops, length, out=np.zeros((n, n)), where=length > 1e-9)
        places = inverse @ (pull.sum(axis=1)[:, None] * places - pull @ places)
    return places


def _apart(places: np.ndarray) -> np.ndarray:
    """The same places, those too close to each other pushed apart."""
    least = 0.6
    for _ in range(40):
        pairs = KDTree(places).query_pairs(least, output_type="ndarray")
        if not len(pairs):
            break
        gap = places[pairs[:, 1]] - places[pairs[:, 0]]
        length = np.maximum(np.hypot(*gap.T), 1e-9)[:, None]
        push = 0.25 * (1.02 * least - length) * gap / length
        places = places.copy()
        np.add.at(places, pairs[:, 1], push)
        np.subtract.at(places, pairs[:, 0], push)
    return places
