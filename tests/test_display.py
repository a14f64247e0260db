"""Tables in notebooks: small, escaped, without arrays, and with the numbers of the object."""

import dataclasses
import functools
import html.parser
import inspect
import re
import warnings
from typing import ClassVar

import networkx
import numpy as np
import pytest
from matplotlib.figure import Figure
from methods import ALGORITHMS, ASYNCHRONOUS, BY_NUMBER

import relaysim as rs
from relaysim.algorithms.claims import Claims
from relaysim.figures.result import Result
from relaysim.support.display import LATER

EVIL = '<script>alert("&")</script>'


class Table(html.parser.HTMLParser):
    """The rows of a table as text, and the tags, styles and other attributes that it has."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.rows, self.tags, self.styles, self.others, self.open = [], [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open, "every tag is closed"
        self.values = {row[0]: row[1] for row in self.rows if len(row) == 2}
        (self.title,) = self.rows[0]

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        for name, value in attributes:
            (self.styles if name == "style" else self.others).append(value)
        if tag == "br":
            self.rows[-1][-1] += "\n"
            return
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.rows[-1][-1] += data


def shown(value) -> Table:
    return Table(value._repr_html_())


def problem(n=8, **options):
    return rs.problems.random_quadratics(n=n, d=3, zeta2=2.0, seed=7, **options)


def history(**options):
    run = {"learning_rate": 0.2, "steps": 30} | options
    return rs.simulate(problem(), rs.topologies.chain(8), rs.algorithms.RelaySGD(), **run)


def logistic(classes=("a", "b"), **options):
    generator = np.random.default_rng(0)
    labels = np.array(classes)[np.arange(40).reshape(4, 10) % len(classes)]
    return rs.problems.Logistic(generator.normal(size=(4, 10, 3)), labels, l2=0.1, **options)


def nowhere():
    with warnings.catch_warnings(action="ignore"):
        return rs.tune(
            problem(), rs.topologies.ring(8), rs.algorithms.DPSGD(), target=1e-20, max_steps=50
        )


@functools.cache
def found_out():
    """What theory and analysis return."""
    ring, method = rs.topologies.ring(8), rs.algorithms.DPSGD()
    noisy = history(oracle=rs.oracles.Gaussian(0.01), replicas=2)
    fresh, asked = (rs.theory.linearize(problem(), ring, method, 0.2) for _ in range(2))
    assert asked.spectral_radius < 1
    levels = {"problem_seeds": [0], "target": 1e-3, "d": 3, "progress": False}
    return (
        fresh,
        asked,
        rs.theory.overlay(noisy),
        *rs.theory.bounds.bounds_for(problem(), ring, method, 0.2),
        rs.analysis.runtime(ring, 5, compute=rs.analysis.Exponential(1.0), replicas=2),
        rs.analysis.heterogeneity_sensitivity([method], ring, [0.1, 1.0], **levels),
        rs.analysis.consensus_decay(ring, method, steps=40),
        rs.analysis.fit_rate(history(steps=200)),
        rs.analysis.fit_rate(history(steps=2)),
        rs.analysis.power_law([1.0, 10.0, 100.0], [1.0, 11.0, 98.0]),
        Result(Figure(), fresh.predict(3), "What it shows."),
    )


def tuned():
    return rs.tune(problem(), rs.topologies.chain(8), rs.algorithms.RelaySGD(), target=1e-2)


OBJECTS = (
    *ALGORITHMS,
    rs.topologies.chain(1),
    rs.topologies.social_network(),
    rs.topologies.from_edges(3, []),
    rs.topologies.double_binary_tree(8),
    problem(),
    rs.problems.LeastSquares(np.ones((2, 1, 1)), np.array([[1.0], [3.0]])),
    rs.problems.DiagonalQuadratic(np.ones((400, 2)), np.zeros((400, 2))),
    rs.problems.MatrixQuadratic(np.ones((4, 2, 3))),
    logistic(),
    rs.problems.partitions.iid(np.arange(400) % 2, n=4),
    rs.problems.data.Dataset(np.eye(400), np.arange(400) % 2),
)


@functools.cache
def made():
    """What takes longer to make."""
    rates = np.geomspace(0.01, 9, 40)
    return (
        *found_out(),
        history(),
        history(steps=0),
        history(learning_rate=rates, steps=300, replicas=3, keep_iterates=True),
        history(learning_rate=lambda step: 1 / (step + 2)),
        tuned(),
        nowhere(),
    )


over_objects = pytest.mark.parametrize(
    "value",
    [*OBJECTS, made],
    ids=lambda value: "what was made" if value is made else repr(value)[:40],
)


def each(value):
    return made() if value is made else [value]


@over_objects
def test_everything_shows_a_small_table_without_arrays(value):
    for shows in each(value):
        text = shows._repr_html_()
        table = Table(text)
        assert set(table.tags) <= {"table", "tr", "th", "td", "br", "span"}, text
        assert all(len(row) == 2 for row in table.rows[1:]), text
        assert 3 <= len(table.rows) <= 20, text
        assert len(text) < 8000, text
        assert all(0 < len(cell) <= 250 for row in table.rows for cell in row), text
        listed = re.compile(r"array\(|\.\.\.|\[[^\]]*\d[\s,]+\d[^\]]*\]")
        assert not any(listed.search(row[-1]) for row in table.rows), text


@over_objects
def test_tables_take_the_colours_of_the_notebook(value):
    for style in {style for shows in each(value) for style in shown(shows).styles}:
        for declaration in style.split(";"):
            name, _, given = (part.strip() for part in declaration.partition(":"))
            if name == "color":
                assert given == "inherit"
            if name.startswith("background"):
                assert given == "none"
            # What is grey for both light and dark.
            assert set(re.findall(r"rgba?\([^)]*\)", given)) <= {"rgba(128, 128, 128, 0.35)"}
            assert not re.search(r"#[0-9a-fA-F]{3}|white|black", given)


def test_every_method_has_a_table():
    for name in rs.algorithms.__all__:
        kind = getattr(rs.algorithms, name)
        if hasattr(kind, "uses"):
            assert issubclass(kind, Claims), (
                f"{name} should inherit relaysim.algorithms.claims.Claims"
            )
    assert {type(algorithm) for algorithm in ALGORITHMS + ASYNCHRONOUS + BY_NUMBER} >= {
        kind
        for name, kind in vars(rs.algorithms).items()
        if inspect.isclass(kind) and hasattr(kind, "uses")
    }


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=repr)
def test_the_table_of_a_method_has_its_options_and_claims(algorithm):
    table = shown(algorithm)
    assert type(algorithm).__name__ in table.title
    assert algorithm.label in table.title
    for field in dataclasses.fields(algorithm):
        value = getattr(algorithm, field.name)
        written = table.values[field.name]
        if isinstance(value, bool):
            assert written == ("yes" if value else "no")
        elif isinstance(value, int | float):
            assert float(written) == value
        else:
            assert written in (str(value), repr(value), "none")
    assert table.values["exact for any ζ²"] == ("yes" if algorithm.exact else "no")


def test_the_table_of_a_topology_has_its_numbers():
    social = rs.topologies.social_network()
    graph = networkx.davis_southern_women_graph()
    assert shown(social).values == {
        "workers": "32",
        "edges": str(graph.number_of_edges()),
        "neighbours of a worker": f"{min(d for _, d in graph.degree)} to {max(d for _, d in graph.degree)}",
        "connected": "yes",
        "tree": "no",
        "diameter": str(networkx.diameter(graph)),
    }
    pair = shown(rs.topologies.double_binary_tree(8)).values
    assert pair["odd coordinates"] == "mirrored binary_tree(8), diameter 4"


def test_the_table_of_a_problem_has_its_numbers():
    quadratics = problem(mu=0.5)
    values = shown(quadratics).values
    assert values["workers n"] == "8"
    assert values["seed"] == "7"
    assert float(values["heterogeneity ζ²"]) == pytest.approx(2.0)
    assert float(values["strong convexity μ of any f_i"]) == pytest.approx(0.5)
    assert shown(rs.problems.MatrixQuadratic(np.ones((4, 2, 3)))).values["as a matrix"] == "2 × 3"
    values = shown(logistic(classes=("a", "b", "c", "d", "e", "f"))).values
    assert values["classes"] == "6: a, b, c, d, e, …"
    assert values["examples"] == "40, 10 a worker"


def test_the_table_of_a_history_has_its_numbers():
    one = history(steps=30)
    values = shown(one).values
    last = one.frame.iloc[-1]
    for column in ("suboptimality", "consensus_distance", "distance", "gradient_norm"):
        assert float(values[f"last {column}"]) == pytest.approx(last[column], rel=5e-3)
    assert int(values["vectors sent"]) == last.vectors_sent == 30 * 14
    # One that stops and one that diverges: the record of the stop, and what is known.
    three = history(learning_rate=[0.2, 0.5, 90.0], steps=2000, stop_below=1e-6)
    assert three.diverged.tolist() == [False, False, True]
    lasts = three.frame.groupby("replica").suboptimality.last()[:2]
    values = shown(three).values
    assert values["diverged"] == "1"
    assert values["learning rate"] == "0.2 to 90"
    median, low, high = map(float, re.findall(r"[\d.e+-]+\d", values["last suboptimality"]))
    assert [median, low, high] == pytest.approx(
        [lasts.median(), lasts.min(), lasts.max()], rel=5e-3
    )


def test_the_table_of_a_loaded_history_without_its_problem(tmp_path):
    class Own:
        n, d = 4, 2

        def gradient(self, x):
            return x

        def value(self, x):
            return float(x @ x) / 2

        def __repr__(self):
            return EVIL

    run = {"learning_rate": 0.1, "steps": 3}
    own = rs.simulate(Own(), rs.topologies.chain(4), rs.algorithms.RelaySGD(), **run)
    assert shown(own).values["problem"] == EVIL
    loaded = rs.History.load(own.save(tmp_path / "own.npz"))
    values = shown(loaded).values
    assert values["problem"] == "not saved"
    assert "last value" in values
    assert "last suboptimality" not in values


def test_the_table_of_a_tuning_has_its_numbers():
    tuning = tuned()
    values = shown(tuning).values
    assert float(values["best learning rate"]) == pytest.approx(tuning.learning_rate, rel=1e-5)
    assert float(values["steps to the target"]) == tuning.steps
    assert values["rates tried"].startswith(f"{len(tuning.frame)}, ")
    assert shown(nowhere()).values["best learning rate"] == "no rate meets the target"


def test_the_tables_of_what_was_found_have_its_numbers():
    fresh, asked, over, *bounds, _runtime, study, decay, fit, none, law, figure = found_out()
    assert shown(fresh).values["spectral radius ρ a step"] == LATER
    assert float(shown(asked).values["spectral radius ρ a step"]) == pytest.approx(
        asked.spectral_radius, rel=1e-5
    )
    assert float(shown(over).values["expected noise floor"]) == pytest.approx(over.floor, rel=1e-5)
    assert len(bounds) > 0
    for bound in bounds:
        assert shown(bound).values["source"][:140] == str(bound.source)[:140]
    (exponent,) = study.exponents.exponent[study.exponents.measure == "steps_to_target"]
    assert f"∝ (ζ²)^{exponent:.2f}" in " ".join(shown(study).values.values())
    for each in (decay, fit):
        assert float(shown(each).values["factor a step"]) == pytest.approx(each.factor, rel=1e-5)
    assert shown(figure).values["caption"] == "What it shows."
    assert shown(figure).values["rows of its table"] == "4"
    assert shown(none).values["linear regime"] == "none"
    assert float(shown(law).values["exponent"]) == pytest.approx(law.value, rel=1e-5)


@pytest.mark.parametrize(
    ("value", "where"),
    [
        (rs.topologies.Topology(3, [(0, 1), (1, 2)], EVIL), "title"),
        (
            rs.topologies.TreePair(
                rs.topologies.chain(3), rs.topologies.Topology(3, [(0, 1), (1, 2)], EVIL)
            ),
            "odd coordinates",
        ),
        (logistic(classes=("a", EVIL)), "classes"),
        (rs.problems.data.Dataset(np.eye(4), np.arange(4) % 2, EVIL), "title"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_users_name_is_escaped(value, where):
    text = value._repr_html_()
    assert "<script" not in text
    table = Table(text)
    assert EVIL in (table.title if where == "title" else table.values[where])


def test_a_method_of_a_users_own_is_escaped():
    @dataclasses.dataclass(frozen=True)
    class Own(rs.algorithms.DPSGD):
        """<b>Bold</b> & so on."""

        note: str = EVIL
        table: object = dataclasses.field(default_factory=lambda: np.zeros((500, 30)))

        label: ClassVar[str] = EVIL

    table = shown(Own())
    assert table.values["note"] == EVIL
    assert table.values["table"] == "a numpy.ndarray of shape (500, 30)"
    assert table.title == f"Own ({EVIL})\n<b>Bold</b> & so on."
    assert "b" not in table.tags


def test_tables_do_not_start_long_computations():
    fresh = logistic()
    assert shown(fresh).values["heterogeneity ζ²"] == LATER
    assert "optimum" not in fresh.__dict__
    assert float(shown_after(fresh)) == pytest.approx(fresh.zeta2, rel=1e-5)
    ring = rs.topologies.ring(2000)
    assert shown(ring).values["diameter"] == LATER
    assert ring.diameter == 1000
    assert shown(ring).values["diameter"] == "1000"
    wide = rs.problems.LeastSquares(np.ones((2, 2, 6000)), np.ones((2, 2)))
    assert shown(wide).values["heterogeneity ζ²"] == LATER
    assert shown(rs.topologies.binary_tree(100_000)).values["diameter"] == "32"


def shown_after(fresh) -> str:
    """Its ζ² in the table once it was asked for."""
    assert fresh.zeta2 > 0
    return shown(fresh).values["heterogeneity ζ²"]
