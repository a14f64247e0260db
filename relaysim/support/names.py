"""Names: what a message says of one that is nearly right, and what workers are called."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable
from typing import Any

import numpy as np

from relaysim.support.checks import shown

__all__ = [
    "attribute_error",
    "check_same_order",
    "closest",
    "labels_of_workers",
    "names_of_workers",
]

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


def names_of_workers(names: Iterable[Any] | None, n: int) -> tuple[str, ...] | None:
    """One name for each of n workers, as text; None where they are called 0 … n − 1, as they are without.

    >>> names_of_workers(["Oslo", "Rome"], 2), names_of_workers(range(2), 2)
    (('Oslo', 'Rome'), None)
    """
    if names is None:
        return None
    if isinstance(names, str | bytes) or not isinstance(names, Iterable):
        raise TypeError(f"names of workers must be a list, one for each, not {shown(names)}")
    given = list(names)
    words = [str(name) for name in given]
    if len(set(words)) < len(words):
        words = [repr(name) for name in given]  # 1 and "1" are two nodes of a graph
    if len(words) != n:
        raise ValueError(f"there are {len(words)} names and {n} workers; give one for each")
    if len(set(words)) < n:
        twice = next(word for k, word in enumerate(words) if word in words[:k])
        raise ValueError(f"two workers are called {twice}; give each a name of its own")
    return None if words == [str(worker) for worker in range(n)] else tuple(words)


def labels_of_workers(n: int, *who_may_say: Any) -> np.ndarray:
    """What n workers are called by the first of these, a topology or a problem, that has ``worker_names``.

    >>> labels_of_workers(2, None).tolist()
    [0, 1]
    """
    for each in who_may_say:
        names = getattr(each, "worker_names", None)
        if names is not None:
            return np.array(names, dtype=object)
    return np.arange(n)


def check_same_order(
    of_problem: tuple[str, ...] | None, of_topology: tuple[str, ...] | None
) -> None:
    """Raise where a problem and a topology have the same workers, but in another order.

    >>> check_same_order(("Oslo", "Rome"), ("Rome", "Oslo"))
    Traceback (most recent call last):
        ...
    ValueError: worker 0 is Oslo in the problem and Rome in the topology: the same names in another order; ...
    """
    if of_problem is None or of_topology is None or of_problem == of_topology:
        return
    if set(of_problem) == set(of_topology):
        worker = next(
            k for k, (a, b) in enumerate(zip(of_problem, of_topology, strict=True)) if a != b
        )
        raise ValueError(
            f"worker {worker} is {of_problem[worker]} in the problem and {of_topology[worker]} in the "
            f"topology: the same names in another order; read the data with "
            f"worker_names=topology.worker_names, or relabel the graph"
        )
