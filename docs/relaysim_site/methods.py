"""A page for each method, from its class: rule, options, needs, guarantee, source, and a picture."""

from __future__ import annotations

import dataclasses
import inspect
import re
from typing import NamedTuple

from relaysim.studies.naming import ALGORITHMS
from relaysim_site import references, rst
from relaysim_site.files import Folder
from relaysim_site.pictures import LEARNING_RATE, PROBLEM, STEPS, example_of, facts

__all__ = ["Described", "described", "label_of", "write"]

NEEDS = {
    "relay": "a tree, or a `relaysim.topologies.TreePair`",
    "mixing": "any connected topology, and a mixing matrix: Metropolis weights by default",
    "workers": "only the number of workers: it brings its own network",
    "events": "any connected topology of two workers or more; no common clock",
}
KINDS = {
    "relay": "Relaying sums on a tree",
    "mixing": "Mixing with neighbours",
    "workers": "Networks of their own",
    "events": "Meeting in pairs, without a clock",
}
# Sentences with which docstrings begin to speak of needs and guarantees.
GUARANTEE = re.compile(r"^(Any connected|Needs|Of the topology|Sends|Exact|Not exact|Only n|Uses)")


class Described(NamedTuple):
    """The parts of a method's docstring, as reStructuredText."""

    summary: str
    rule: list[str]
    options: dict[str, str]
    guarantee: list[str]
    errors: list[str]
    source: list[str]
    example: str


def described(kind: type) -> Described:
    """Take a method's docstring apart.

    >>> from relaysim.algorithms import DPSGD
    >>> parts = described(DPSGD)
    >>> parts.rule[0][:19], list(parts.options), parts.source[0][:12]
    ('m ← βm + (1 − β)g; ', ['momentum', 'overlap', 'consensus'], 'Lian et al.,')
    """
    summary, *rest = re.split(r"\n\s*\n", inspect.getdoc(kind).strip())
    rule, guarantee, errors, source, examples = [], [], [], [], []
    options: dict[str, str] = {}
    place = rule
    for part in rest:
        if part.startswith(">>>"):
            examples.append(part)
        elif part.startswith("Args:"):
            options = entries(part)
            place = guarantee
        elif part.startswith("Raises:"):
            errors = [f"``{error}``: {why}" for error, why in entries(part).items()]
        elif part.startswith("Source:"):
            place = source
            source.append(part.removeprefix("Source:").strip())
        else:
            place = guarantee if place is rule and GUARANTEE.match(part) else place
            place.append(part)
    if "←" in summary or " = " in summary:
        rule.insert(0, summary)
    return Described(
        summary=summary,
        rule=rule or [summary],
        options=options,
        guarantee=guarantee,
        errors=errors,
        source=source,
        example="\n\n".join(examples),
    )


def entries(block: str) -> dict[str, str]:
    """``name: text`` entries under a heading such as ``Args:``; ``a, b: text`` are two."""
    found: dict[str, str] = {}
    names: list[str] = []
    for line in inspect.cleandoc(block.partition("\n")[2]).splitlines():
        name, colon, text = line.partition(":")
        if colon and not line.startswith(" "):
            names = [each.strip() for each in name.split(",")]
            found |= dict.fromkeys(names, text.strip())
        else:
            found |= {each: f"{found[each]} {line.strip()}" for each in names}
    return found


def label_of(kind: type) -> str:
    """A method's name; that of its example where it depends on the options."""
    return kind.label if isinstance(kind.label, str) else example_of(kind).label


def uses_of(kind: type) -> str:
    """What a method communicates with; its example where that depends on the options."""
    return kind.uses if isinstance(kind.uses, str) else example_of(kind).uses


def write(folder: Folder) -> None:
    """Write a page for each method, and one that lists them."""
    for name, kind in ALGORITHMS.items():
        folder.write(f"{name}.rst", page(name, kind, facts(folder, name)))
    folder.write("index.rst", index(folder))


def page(name: str, kind: type, told: dict) -> str:
    """A method's page."""
    parts = described(kind)
    signature = inspect.signature(kind)
    bare = [each.replace(annotation=each.empty) for each in signature.parameters.values()]
    call = f"{name}{signature.replace(parameters=bare, return_annotation=signature.empty)}"
    slower = (
        ""
        if told["learning_rate"] == LEARNING_RATE
        else f" (it diverges at {LEARNING_RATE}; all curves are at this rate)"
    )
    caption = (
        f"``{told['method']}`` on ``{told['topology']}`` at γ = {told['learning_rate']:g}{slower}, beside "
        f"others at the same rate: a random quadratic with d = {PROBLEM['d']}, ζ² = {PROBLEM['zeta2']:g} "
        f"and Hessian eigenvalues in [{PROBLEM['mu']}, 1], without noise, over {STEPS} steps. Others may be "
        f"faster at another rate: this shows how it behaves, and ranks nobody."
    )
    glance = [
        ("In code", f"`{call} <relaysim.algorithms.{name}>`"),
        ("Needs", NEEDS.get(uses_of(kind), f"``{uses_of(kind)}``")),
        ("One-way links", one_way_links(kind)),
        *(
            [("Gradients", "on examples by their numbers: ``oracle=relaysim.oracles.Table()``")]
            if kind.oracle_needs == "examples"
            else []
        ),
        ("Sends", sent(told)),
        ("Reaches x* for any ζ²", exactness(kind, told)),
        (
            "Exact analysis",
            "`relaysim.theory.linearize`: rate, fixed point, curve and noise floor"
            if told["affine"]
            else "none: a step is not an affine map of the state",
        ),
    ]
    text = [
        ".. py:currentmodule:: relaysim.algorithms",
        rst.title(label_of(kind)),
        rst.block("rst-class:: lead", ""),
        rst.escaped(parts.summary),
        rst.figure(f"{name}.png", f"{label_of(kind)} beside gossip and all-reduce", caption),
        rst.title("At a glance", "-"),
        rst.table(glance, "field"),
        rst.title("Rule", "-"),
        rst.block("container:: rule", "\n\n".join(map(rst.formula, parts.rule))),
    ]
    if parts.options or dataclasses.fields(kind):
        text += [rst.title("Options", "-"), options_table(kind, parts.options)]
    text += [rst.title("Needs and guarantee", "-")]
    text += [rst.escaped(part) for part in parts.guarantee] or [f"Needs {glance[1][1]}."]
    if parts.errors:
        text += ["Raises:", *(f"- {rst.escaped(error)}" for error in parts.errors)]
    text += [rst.title("Source", "-"), *map(rst.escaped, parts.source)]
    if keys := example_of(kind).references:
        text.append(f"BibTeX: {', '.join(map(references.link, keys))}.")
    if parts.example:
        text += [rst.title("Example", "-"), parts.example]
    others = [
        f":doc:`{label_of(other)} <{called}>`"
        for called, other in ALGORITHMS.items()
        if uses_of(other) == uses_of(kind) and called != name
    ]
    if others:
        heading = KINDS.get(uses_of(kind), uses_of(kind))
        text += [rst.title(f"See also: {heading[0].lower()}{heading[1:]}", "-"), " · ".join(others)]
    return "\n\n".join(text) + "\n"


def sent(told: dict) -> str:
    """What a method puts on the wire."""
    count, total = told["vectors_per_edge"], told["sent_a_step"]
    if count is None:
        claim = "as the run asks"
    elif count == int(count):
        vectors = "vector" if count == 1 else "vectors"
        claim = f"{count:g} {vectors} over each directed edge that it uses, every step"
    else:
        claim = (
            f"{count:.3g} of a vector of {PROBLEM['d']} numbers over each directed edge that it uses, "
            f"every step"
        )
    return f"{claim}; in the picture {total:.4g} vectors a step by all {PROBLEM['n']} workers"


def one_way_links(kind: type) -> str:
    """What a method makes of directed graphs."""
    if uses_of(kind) == "workers":
        return "it uses its own network"
    directed = kind.directed if isinstance(kind.directed, bool) else example_of(kind).directed
    return "can be used, see the guide to directed graphs" if directed else "are refused"


def exactness(kind: type, told: dict) -> str:
    """Whether x* is reached."""
    answer = "yes" if told["exact"] else "no: it stalls at a plateau"
    depends = isinstance(inspect.getattr_static(kind, "exact", None), property)
    return f"{answer}, with the options of the picture" if depends else answer


def options_table(kind: type, texts: dict[str, str]) -> str:
    """Hyper-parameters with their defaults and meaning."""
    rows = []
    for field in dataclasses.fields(kind):
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        value = "required" if default is dataclasses.MISSING else f"``{default!r}``"
        rows.append((f"``{field.name}``", value, rst.escaped(texts.get(field.name, ""))))
    return rst.table(rows, "options", header=("Option", "Default", "Meaning"))


def index(folder: Folder) -> str:
    """The list of all methods, by what they communicate with."""
    text = [
        rst.title("Methods"),
        "Every method on the same problem, with its rule, what it needs and promises, and where it "
        "comes from. These pages are made from the classes in `relaysim.algorithms`; "
        ":doc:`../choosing` compares them.",
    ]
    used = dict.fromkeys([*KINDS, *map(uses_of, ALGORITHMS.values())])
    pages = []
    for uses in used:
        rows = []
        for name, kind in sorted(ALGORITHMS.items(), key=lambda item: label_of(item[1]).casefold()):
            if uses_of(kind) != uses:
                continue
            pages.append(name)
            told = facts(folder, name)
            count = told["vectors_per_edge"]
            rows.append(
                (
                    f":doc:`{label_of(kind)} <{name}>`",
                    f"``{name}``",
                    "varies" if count is None else f"{count:.3g}",
                    "yes" if told["exact"] else "no",
                )
            )
        if rows:
            text += [rst.title(KINDS.get(uses, uses), "-"), f"Needs {NEEDS.get(uses, uses)}."]
            header = ("Method", "Class", "Vectors an edge", "x* for any ζ²")
            text.append(rst.table(rows, "methods", header=header))
    text.append(
        f"A vector has {PROBLEM['d']} numbers here; with compressed ones the share depends on d. Which "
        "method is the fastest depends on the problem, the graph and the rate, so that no number ranks them: "
        "the figures ``zoo`` and ``shootout`` of the :doc:`gallery <../gallery/index>` have each at its best."
    )
    text.append(rst.block("toctree::\n   :hidden:", "\n".join(pages)))
    return "\n\n".join(text) + "\n"
