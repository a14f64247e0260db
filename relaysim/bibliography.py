"""Where methods, theorems, compressors, mixings and graphs were published: one entry for each source.

The entries are BibTeX, in ``references.bib`` beside this file. Methods, compressors and the like name
theirs in an attribute ``references``, a tuple of keys; `OF` has those of others. `relaysim.cite` gathers
what a paper with certain runs in it should cite.
"""

from __future__ import annotations

import difflib
import functools
import pathlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

__all__ = ["OF", "Reference", "all_references", "keys_of", "reference"]

#: What functions and classes without that attribute follow, by their names.
OF: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        # mixings
        "metropolis": ("xiao2007distributed",),
        "best_constant": ("xiao2004fast",),
        "one_peer_exponential": ("assran2019stochastic", "ying2021exponential"),
        "base_graph": ("takezawa2023beyond",),
        "simple_base_graph": ("takezawa2023beyond",),
        "hyper_hypercube": ("takezawa2023beyond",),
        "fast_mix": ("liu2011accelerated",),
        "chebyshev": ("scaman2017optimal",),
        # graphs
        "exponential": ("assran2019stochastic", "ying2021exponential"),
        "social_network": ("davis1941deep",),
        "random_spanning_tree": ("wilson1996generating",),
        # what is no method, by its class
        "ALittleIsEnough": ("baruch2019little",),
        "BurstLoss": ("gilbert1960capacity",),
        "Cyclic": ("xu2020collaborative",),
        "Dissensus": ("he2022byzantine",),
        "Epidemic": ("devos2023epidemic",),
        "Equidyn": ("song2022communication",),
        "LatticeSchedule": ("xie2025scaling",),
        "Lattice": ("davies2021new",),
        "Matcha": ("wang2019matcha",),
        "PerWorker": ("xu2015augmented",),
        "QSGD": ("alistarh2017qsgd",),
        "RandomK": ("stich2018sparsified",),
        "RandomMatching": ("boyd2006randomized",),
        "RandomRounding": ("liu2021linear",),
        "Sign": ("karimireddy2019error",),
        "TopK": ("stich2018sparsified",),
        # theorems that are not derived here
        "dp_sgd_rate": ("koloskova2020unified",),
        "relay_sgd_rate": ("vogels2021relaysum",),
        "gradient_tracking_rate": ("koloskova2021improved",),
        "d2_rate": ("tang2018d2",),
    }
)

_FILE = pathlib.Path(__file__).with_name("references.bib")
_ENTRY = re.compile(r"^@(\w+)\{(\w+),\n(.*?)^\}$", flags=re.MULTILINE | re.DOTALL)
_FIELD = re.compile(r"^  (\w+) = \{(.*)\},$", flags=re.MULTILINE)
_ABBREVIATION = re.compile(r"\((\w[\w-]*)\)$")


@dataclass(frozen=True)
class Reference:
    """A publication.

    Attributes:
        key: as papers cite it.
        kind: of BibTeX, such as ``"article"``.
        fields: by name, as they stand in BibTeX.

    >>> print(reference("tang2018d2"))
    Tang, Lian, Yan, Zhang, Liu, "D²: Decentralized Training over Decentralized Data", ICML 2018
    """

    key: str
    kind: str
    fields: Mapping[str, str]

    @property
    def authors(self) -> tuple[str, ...]:
        """Family names."""
        return tuple(name.partition(",")[0] for name in self.fields["author"].split(" and "))

    @property
    def title(self) -> str:
        """Without the braces that keep its capitals."""
        return self.fields["title"].strip("{}")

    @property
    def year(self) -> int:
        """Of publication."""
        return int(self.fields["year"])

    @property
    def arxiv(self) -> str | None:
        """The number of its preprint, if it is told."""
        return self.fields.get("eprint")

    @property
    def venue(self) -> str:
        """The journal, or what the conference is called for short."""
        names = ("booktitle", "journal", "publisher")
        whole = next((self.fields[name] for name in names if name in self.fields), "")
        short = _ABBREVIATION.search(whole)
        return (short.group(1) if short else whole).replace("\\", "") or f"arXiv {self.arxiv}"

    @property
    def bibtex(self) -> str:
        """The entry for a ``.bib`` file, in UTF-8."""
        lines = [f"  {name} = {{{value}}}," for name, value in self.fields.items()]
        return "\n".join([f"@{self.kind}{{{self.key},", *lines, "}"])

    def __str__(self) -> str:
        return f'{", ".join(self.authors)}, "{self.title}", {self.venue} {self.year}'


@functools.cache
def all_references() -> Mapping[str, Reference]:
    """Every entry by its key, in the order of keys.

    >>> len(all_references()) > 50, all_references()["vogels2021relaysum"].venue
    (True, 'NeurIPS')
    """
    text = _FILE.read_text(encoding="utf-8")
    found = {
        key: Reference(key, kind, MappingProxyType(dict(_FIELD.findall(fields))))
        for kind, key, fields in _ENTRY.findall(text)
    }
    return MappingProxyType(found)


def reference(key: str) -> Reference:
    """One entry.

    Raises:
        ValueError: there is none of this key.

    >>> reference("tang2018d2").year
    2018
    """
    known = all_references()
    if key not in known:
        near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.4)
        mend = f"; is {near[0]!r} meant?" if near else ""
        raise ValueError(f"there is no reference {key!r} among the {len(known)} of relaysim{mend}")
    return known[key]


def keys_of(thing: object) -> tuple[str, ...]:
    """The keys that an object names in ``references``, or that are known of a function or class.

    >>> from relaysim.compressors import TopK
    >>> keys_of(TopK(2)), keys_of(None)
    (('stich2018sparsified',), ())
    """
    named = getattr(thing, "references", None)
    if isinstance(named, tuple):
        return named
    return OF.get(getattr(thing, "__name__", type(thing).__name__), ())
