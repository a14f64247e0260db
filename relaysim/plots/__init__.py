"""Pictures of what they are given: nothing here simulates or computes theory."""

from typing import TYPE_CHECKING, NoReturn

from relaysim.plots.animation import RelayAnimation
from relaysim.plots.comparison import plot
from relaysim.plots.curves import plot_history
from relaysim.plots.graphs import draw_topology
from relaysim.plots.lines import draw_line
from relaysim.plots.spacetime import spacetime
from relaysim.plots.studies import plot_partition, plot_sensitivity, plot_tuning
from relaysim.plots.style import (
    AXIS_LABELS,
    PAGES,
    STYLE,
    add_legend,
    compressor_style,
    method_style,
    style,
    style_axes,
)
from relaysim.support.names import attribute_error

__all__ = [
    "AXIS_LABELS",
    "PAGES",
    "STYLE",
    "RelayAnimation",
    "add_legend",
    "compressor_style",
    "draw_line",
    "draw_topology",
    "method_style",
    "plot",
    "plot_history",
    "plot_partition",
    "plot_sensitivity",
    "plot_tuning",
    "spacetime",
    "style",
    "style_axes",
]


if not TYPE_CHECKING:  # who reads types is told of a wrong name without it

    def __getattr__(name: str) -> NoReturn:
        raise attribute_error(__name__, name, __all__)
