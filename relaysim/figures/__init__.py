"""Figures, the paper's and others: settings, run, picture.

Every entry of `FIGURES` is a function ``(quick=False, seed=…, n_jobs=…)`` that returns a `Result`: a
matplotlib Figure, a DataFrame with the numbers in it, and a caption.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

from relaysim.figures.accelerated_consensus import accelerated_consensus
from relaysim.figures.acceleration import acceleration
from relaysim.figures.against_n import gossip_vs_relay, scaling
from relaysim.figures.asynchrony import asynchrony
from relaysim.figures.compression import compression
from relaysim.figures.consensus_control import consensus_control
from relaysim.figures.double_descent import double_descent
from relaysim.figures.faults import faults
from relaysim.figures.finite_time import finite_time
from relaysim.figures.heterogeneity import heterogeneity
from relaysim.figures.logistic import logistic
from relaysim.figures.mean_estimation import mean_estimation
from relaysim.figures.one_way_links import one_way_links
from relaysim.figures.rate_map import rate_map
from relaysim.figures.relay_spectrum import relay_spectrum
from relaysim.figures.relay_theory import key_lemma, learning_rate_correction
from relaysim.figures.relaysgd_vs_grad import relaysgd_vs_grad
from relaysim.figures.result import Result
from relaysim.figures.sensitivity import sensitivity
from relaysim.figures.separable import separable
from relaysim.figures.shootout import shootout
from relaysim.figures.spanning_trees import spanning_trees
from relaysim.figures.stability import stability
from relaysim.figures.star import star
from relaysim.figures.theory import theory
from relaysim.figures.typical_distance import typical_distance
from relaysim.figures.unreliable import unreliable
from relaysim.figures.worst_case import worst_case
from relaysim.figures.zoo import zoo
from relaysim.support.names import attribute_error

__all__ = ["FIGURES", "Result"]

FIGURES: dict[str, Callable[..., Result]] = {
    "heterogeneity": heterogeneity,
    "scaling": scaling,
    "gossip-vs-relay": gossip_vs_relay,
    "spanning-trees": spanning_trees,
    "key-lemma": key_lemma,
    "learning-rate-correction": learning_rate_correction,
    "star": star,
    "mean-estimation": mean_estimation,
    "relaysgd-vs-grad": relaysgd_vs_grad,
    "unreliable": unreliable,
    "faults": faults,
    "sensitivity": sensitivity,
    "logistic": logistic,
    "stability": stability,
    "relay-spectrum": relay_spectrum,
    "theory": theory,
    "finite-time": finite_time,
    "consensus-control": consensus_control,
    "asynchrony": asynchrony,
    "shootout": shootout,
    "compression": compression,
    "double-descent": double_descent,
    "typical-distance": typical_distance,
    "acceleration": acceleration,
    "accelerated-consensus": accelerated_consensus,
    "zoo": zoo,
    "separable": separable,
    "one-way-links": one_way_links,
    "worst-case": worst_case,
    "rate-map": rate_map,
}


if not TYPE_CHECKING:  # who reads types is told of a wrong name without it

    def __getattr__(name: str) -> NoReturn:
        raise attribute_error(__name__, name, __all__)
