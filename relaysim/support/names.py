"""Names that are nearly right: what a message says of one that does not exist."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable

__all__ = ["attribute_error", "closest"]

#: What others call it: names that no likeness would find.
_ALSO_KNOWN_AS = {
    "line": "chain",
    "path": "chain",
    "path_graph": "chain",
    "cycle": "ring",
    "clique": "complete",
    "fully_connected": "complete",
    "grid": "torus",
    "lattice": "torus",
    "gnp": "erdos_renyi",
    "random_graph": "erdos_renyi",
    "small_world": "watts_strogatz",
    "scale_free": "barabasi_albert",
    "sgd": "AllReduce",
    "dgd": "DPSGD",
    "dsgd": "DPSGD",
    "gossip": "DPSGD",
    "next": "GradientTracking",
    "diging": "GradientTracking",
    "augdgm": "GradientTracking",
    "momentum_tracking": "GradientTracking",
    "choco": "ChocoSGD",
    "adpsgd": "A2CiD2",
    "federated": "FedAvg",
    "qgm": "QuasiGlobalMomentum",
    "quadratic": "random_quadratics",
    "noise": "Gaussian",
    "drop": "MessageDrop",
    "svm": "svmlight",
}


def closest(name: str, known: Iterable[str]) -> str:
    """A hint to end an error message with.

    >>> closest("rnig", ["chain", "ring"]), closest("line", ["chain", "ring"])
    ("; did you mean 'ring'?", "; did you mean 'chain'?")
    """
    lowered = {entry.lower(): entry for entry in known}
    wanted = unicodedata.normalize("NFKC", str(name)).lower().strip()
    also = _ALSO_KNOWN_AS.get(wanted.replace("-", "").replace(" ", "_"), "")
    if also.lower() in lowered:
        return f"; did you mean {also!r}?"
    near = difflib.get_close_matches(wanted, lowered, n=1, cutoff=0.4)
    if near:
        return f"; did you mean {lowered[near[0]]!r}?"
    return f"; known: {', '.join(lowered.values())}"


def attribute_error(module: str, name: str, known: Iterable[str]) -> AttributeError:
    """What a module raises for a name that it does not have, with the nearest one that it has.

    >>> raise attribute_error("relaysim.topologies", "rnig", ["chain", "ring"])
    Traceback (most recent call last):
        ...
    AttributeError: module 'relaysim.topologies' has no attribute 'rnig'; did you mean 'ring'?
    """
    # Python itself asks modules for names such as __path__, which are none of a user's.
    hint = "" if name.startswith("_") else closest(name, known)
    return AttributeError(f"module {module!r} has no attribute {name!r}{hint}")
