"""Random trees and connected graphs for Hypothesis, as ``(n, edges)``."""

from hypothesis import strategies as st


@st.composite
def trees(draw, least=1, most=14):
    """A random tree with its workers in random order."""
    n = draw(st.integers(least, most))
    labels = draw(st.permutations(range(n)))
    parents = [draw(st.integers(0, worker - 1)) for worker in range(1, n)]
    return n, [(labels[parent], labels[k + 1]) for k, parent in enumerate(parents)]


@st.composite
def connected_graphs(draw, least=1, most=12):
    """A random tree and some more edges."""
    n, edges = draw(trees(least, most))
    pairs = [(a, b) for a in range(n) for b in range(a)]
    more = draw(st.lists(st.sampled_from(pairs), max_size=10)) if pairs else []
    return n, edges + more


@st.composite
def any_graphs(draw, least=1, most=10):
    """Some edges, connected or not."""
    n = draw(st.integers(least, most))
    pairs = [(a, b) for a in range(n) for b in range(n) if a != b]
    edges = draw(st.lists(st.sampled_from(pairs), max_size=15)) if pairs else []
    return n, edges


@st.composite
def digraphs(draw, least=1, most=8):
    """Some one-way links, with which not everyone need be reached."""
    n = draw(st.integers(least, most))
    pairs = [(a, b) for a in range(n) for b in range(n) if a != b]
    return n, draw(st.lists(st.sampled_from(pairs), max_size=20)) if pairs else []
