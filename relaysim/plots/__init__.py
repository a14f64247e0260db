"""Pictures; with `relaysim.figures` the only package that draws."""

from relaysim.plots.curves import draw_line, plot_history
from relaysim.plots.graphs import draw_topology
from relaysim.plots.mechanism import RelayAnimation, relay_animation, spacetime
from relaysim.plots.overlay import draw_overlay
from relaysim.plots.studies import plot_partition, plot_sensitivity, plot_tuning
from relaysim.plots.style import (
    AXIS_LABELS,
    STYLE,
    add_legend,
    method_style,
    style,
    style_axes,
)

__all__ = [
    "AXIS_LABELS",
    "STYLE",
    "RelayAnimation",
    "add_legend",
    "draw_line",
    "draw_overlay",
    "draw_topology",
    "method_style",
    "plot_history",
    "plot_partition",
    "plot_sensitivity",
    "plot_tuning",
    "relay_animation",
    "spacetime",
    "style",
    "style_axes",
]
