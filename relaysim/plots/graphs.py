"""Pictures of topologies."""

from __future__ import annotations

import matplotlib.pyplot as plt
import networkx
import numpy as np

from relaysim.plots.style import style
from relaysim.topologies import Topology, TreePair

__all__ = ["draw_topology"]


def draw_topology(topology, *, ax=None, values=None, labels: bool | None = None, **options):
    """Draw a graph: trees by level from worker 0, regular graphs in a circle, others by distances.

    Args:
        topology: a `relaysim.topologies.Topology`, or a `TreePair` (both trees side by side).
        ax: the Axes to draw into, for a pair two of them; new ones by default.
        values: ``(n,)``, a number for each worker to colour it by.
        labels: write the workers' numbers; by default up to 64 workers.
        options: further arguments of ``networkx.draw_networkx``.

    Returns:
        The matplotlib Axes (an array of two for a pair).
    """
    with style():
        if isinstance(topology, TreePair):
            axes = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")[1] if ax is None else ax
            for axis, tree, which in zip(
                axes, (topology.first, topology.second), ("even", "odd"), strict=True
            ):
                draw_topology(tree, ax=axis, values=values, labels=labels, **options)
                axis.set_title(f"{which} coordinates")
            return axes
        if ax is None:
            _, ax = plt.subplots(figsize=(4.5, 4), layout="constrained")
        graph = topology.to_networkx()
        settings = {
            "node_color": "#a6cee3" if values is None else values,
            "edgecolors": "#333333",
            "edge_color": "#888888",
            "linewidths": 0.8,
            "node_size": float(np.clip(5000 / topology.n, 8, 300)),
            "font_size": float(np.clip(160 / topology.n, 5, 9)),
            "with_labels": topology.n <= 40 if labels is None else labels,
        }
        networkx.draw_networkx(graph, _layout(topology), ax=ax, **(settings | options))
        ax.set_axis_off()
        ax.margins(0.08)
        if not topology.is_tree:
            ax.set_aspect("equal")
    return ax


def _tree_layout(graph: networkx.Graph, horizontal: bool) -> dict[int, np.ndarray]:
    """Worker 0 on top, leaves side by side, every parent over the middle of its children."""
    successors = dict(networkx.bfs_successors(graph, 0))
    depth = networkx.single_source_shortest_path_length(graph, 0)
    across: dict[int, float] = {}
    leaves = 0
    for worker in networkx.dfs_postorder_nodes(graph, 0):
        children = successors.get(worker, [])
        if children:
            across[worker] = float(np.mean([across[child] for child in children]))
        else:
            across[worker] = leaves
            leaves += 1
    if horizontal:
        return {worker: np.array([depth[worker], 0.0]) for worker in graph}
    return {worker: np.array([across[worker], -depth[worker]]) for worker in graph}


def _layout(topology: Topology) -> dict[int, np.ndarray]:
    graph = topology.to_networkx()
    if topology.n == 1:
        return {0: np.zeros(2)}
    if topology.is_tree and topology.degrees.max() <= topology.n / 2:
        return _tree_layout(graph, horizontal=topology.degrees.max() <= 2)
    if (topology.degrees == topology.degrees[0]).all() or topology.is_tree:
        if topology.is_tree:
            hub = int(np.argmax(topology.degrees))
            others = networkx.circular_layout([v for v in graph if v != hub])
            return others | {hub: np.zeros(2)}
        return networkx.circular_layout(graph)
    if topology.is_connected and topology.n <= 200:
        return networkx.kamada_kawai_layout(graph)
    return networkx.spring_layout(graph, seed=0)
