"""Data from tables and packed files, and what workers are called."""

import lzma

import networkx
import numpy as np
import pandas as pd
import pytest

import relaysim as rs
from relaysim.problems import data

TABLE = pd.DataFrame(
    {
        "age": [61, 47, 52, 70, 33, 58],
        "smokes": [True, False, False, True, True, False],
        "colour": ["red", "blue", "red", "green", "blue", "red"],
        "stage": pd.Categorical(["I", "II", "I", "I", "II", "I"], categories=["I", "II", "III"]),
        "site": ["Rome", "Oslo", "Oslo", "Rome", "Bern", "Bern"],
        "ill": ["no", "no", "yes", "yes", "no", "yes"],
    }
)
COLUMNS = (
    "age", "smokes", "colour=blue", "colour=green", "colour=red", "stage=I", "stage=II", "stage=III"
)  # fmt: skip
RIGHT = np.array(
    [
        [61, 1, 0, 0, 1, 1, 0, 0],
        [47, 0, 1, 0, 0, 0, 1, 0],
        [52, 0, 0, 0, 1, 1, 0, 0],
        [70, 1, 0, 1, 0, 1, 0, 0],
        [33, 1, 1, 0, 0, 0, 1, 0],
        [58, 0, 0, 0, 1, 1, 0, 0],
    ]
)


def read(table=TABLE, worker="site", **options):
    with pytest.warns(UserWarning, match=r"each kind: 'colour' \(3 kinds\), 'stage' \(3 kinds\)"):
        return data.from_frame(table, "ill", worker, **options)


def numbers(**columns):
    return TABLE[["age", "site", "ill"]].assign(**columns)


def test_columns_become_features_and_rows_have_who_holds_them():
    found = read()
    assert found.columns == COLUMNS
    assert found.features.tolist() == RIGHT.tolist()
    assert found.labels.tolist() == TABLE.ill.tolist()
    assert found.partition.worker_names == ("Bern", "Oslo", "Rome")
    assert found.partition.owners.tolist() == [2, 1, 1, 2, 0, 0]
    assert found.partition.counts().loc["Rome"].tolist() == [1, 1]
    assert [tick.get_text() for tick in found.partition.plot().get_xticklabels()] == [
        "Bern", "Oslo", "Rome"
    ]  # fmt: skip
    scaled = found.standardized()
    assert scaled.columns == COLUMNS
    assert scaled.partition is found.partition
    np.testing.assert_allclose(scaled.features[:, 0].std(), 1)
    assert read(TABLE.drop(columns="site"), worker=None).partition is None
    ordered = read(worker_names=["Rome", "Bern", "Oslo"])
    assert ordered.partition.owners.tolist() == [0, 2, 2, 0, 1, 1]


def test_a_test_set_has_the_columns_of_its_training_set():
    training = read()
    test = data.from_frame(TABLE.iloc[[3, 1], ::-1], "ill", "site", like=training)
    assert test.columns == COLUMNS
    assert test.features.tolist() == RIGHT[[3, 1]].tolist()
    problem = rs.problems.Logistic(
        training.features, training.labels, 0.1, partition=training.partition, test=test
    )
    assert problem.worker_names == ("Bern", "Oslo", "Rome")
    for table, message in (
        (TABLE.assign(colour="pink"), "column 'colour=pink' is none of the training set's"),
        (TABLE.drop(columns="age"), "has a column 'age', and this table has none"),
        (TABLE.assign(more=1.0), "column 'more' is none of the training set's"),
    ):
        with pytest.raises(ValueError, match=message):
            data.from_frame(table, "ill", "site", like=training)
    with pytest.raises(
        ValueError, match="does not say what its columns are; read it with from_frame"
    ):
        data.from_frame(TABLE, "ill", "site", like=data.Dataset(RIGHT, TABLE.ill))


def test_a_test_set_is_scaled_by_its_training_set():
    training, rows = read(standardize=True), TABLE.iloc[[3, 1]]
    for standardize in (False, True):
        test = data.from_frame(rows, "ill", "site", like=training, standardize=standardize)
        assert test.features.tolist() == training.features[[3, 1]].tolist()
    with pytest.raises(
        ValueError, match=r"standardize=True, and the training set .* is as it came"
    ):
        data.from_frame(rows, "ill", "site", like=read(), standardize=True)
    whole = data.Dataset(RIGHT[:, :2], TABLE.ill)
    training, test = whole.split(0.4, seed=1)
    right = (test.features - training.features.mean(axis=0)) / training.features.std(axis=0)
    for like in (training, training.standardized()):
        np.testing.assert_allclose(test.standardized(like=like).features, right, rtol=1e-12)
    training, test = whole.standardized().split(0.4, seed=1)
    assert test.standardized(like=training).features.tolist() == test.features.tolist()
    with pytest.raises(ValueError, match="was standardized by itself; give it as it was before"):
        test.standardized(like=whole)
    with pytest.raises(ValueError, match="must have as many features"):
        test.standardized(like=read())


@pytest.mark.parametrize("ending", ["", ".gz", ".bz2", ".xz"])
def test_files_of_comma_separated_values(tmp_path, ending):
    path = tmp_path / f"people.csv{ending}"
    numbers().to_csv(path, index=False)
    found = data.from_csv(path, "ill", worker="site")
    assert found.features.ravel().tolist() == TABLE.age.tolist()
    assert found.partition.worker_names == ("Bern", "Oslo", "Rome")
    assert found.name == path.name


def test_a_sweep_reads_a_table(tmp_path):
    path = tmp_path / "people.csv"
    numbers().to_csv(path, index=False)
    setting = {
        "problem": "Logistic", "data": f"from_csv({str(path)!r}, 'ill', 'site', standardize=True)",
        "partition": None,
        "l2": 0.1, "n": 3, "topology": "chain", "algorithm": "DPSGD", "learning_rate": 0.1, "steps": 3,
    }  # fmt: skip
    frame = rs.sweep(setting, progress=False)
    found = data.from_csv(path, "ill", "site", standardize=True)
    problem = rs.problems.Logistic(found.features, found.labels, 0.1, partition=found.partition)
    history = rs.simulate(
        problem, rs.topologies.chain(3), rs.algorithms.DPSGD(), learning_rate=0.1, steps=3
    )
    np.testing.assert_allclose(frame.suboptimality, history.frame.suboptimality, rtol=1e-12)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: data.from_frame(RIGHT, "ill"), TypeError, "takes a DataFrame of pandas, not"),
        (lambda: data.from_frame(TABLE, "il"), KeyError, "no column 'il'; did you mean 'ill'"),
        (lambda: data.from_frame(TABLE, "ill", "ill"), ValueError, "are both 'ill'; they are two"),
        (lambda: data.from_frame(TABLE[["ill"]], "ill"), ValueError, "no column beside the label"),
        (lambda: data.from_frame(TABLE.iloc[:0], "ill"), ValueError, "the table has no rows"),
        (
            lambda: data.from_frame(numbers(dose=[1.0, None, 2.0, 1.0, None, 3.0]), "ill", "site"),
            ValueError,
            "column 'dose' has 2 missing values, the first in row 1; fill them in",
        ),
        (
            lambda: data.from_frame(numbers(dose=[1.0, np.inf, 2.0, 1.0, 0.0, 3.0]), "ill", "site"),
            ValueError,
            "column 'dose' has inf in row 1",
        ),
        (
            lambda: data.from_frame(numbers(dose=[1j] * 6), "ill", "site"),
            TypeError,
            "column 'dose' is of complex128, neither numbers nor kinds",
        ),
        (
            lambda: data.from_frame(
                numbers(day=pd.date_range("2026-01-01", periods=6)), "ill", "site"
            ),
            TypeError,
            "neither numbers nor kinds; make it numbers",
        ),
        (
            lambda: data.from_frame(
                numbers(ill=["no", None, "no", "yes", "no", "no"]), "ill", "site"
            ),
            ValueError,
            "column 'ill' has 1 missing values, the first in row 1",
        ),
        (
            lambda: data.from_frame(
                pd.DataFrame({"word": [f"w{k}" for k in range(101)], "y": [0, 1] * 50 + [0]}), "y"
            ),
            ValueError,
            "column 'word' has 101 kinds, and 100 at most become",
        ),
        (
            lambda: data.from_frame(numbers(), "ill", worker_names=["Rome"]),
            ValueError,
            "worker_names are of the workers in a column; say which",
        ),
        (
            lambda: data.from_frame(numbers(), "ill", "site", worker_names=["Rome", "Oslo"]),
            ValueError,
            "names worker 'Bern', which is none of worker_names",
        ),
        (
            lambda: data.from_frame(
                numbers(), "ill", "site", worker_names=["Rome", "Oslo", "Bern", "Lima"]
            ),
            ValueError,
            "workers without any example: 3",
        ),
        (lambda: data.from_csv("nowhere.csv", "ill"), FileNotFoundError, "no file 'nowhere.csv'"),
    ],
)
def test_what_is_no_table_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_a_file_that_is_no_table_is_refused(tmp_path):
    path = tmp_path / "some.csv"
    path.write_text('a,b\n1,2\n3,4,5,"6\n')
    with pytest.raises(ValueError, match="cannot be read as comma-separated values"):
        data.from_csv(path, "a")


def test_fields_without_a_name_shift_no_columns(tmp_path):
    path = tmp_path / "some.csv"
    path.write_text("a,y\n1,0,5\n3,1,7\n")
    with pytest.raises(ValueError, match=r"more fields than its first line has names.*index_col=0"):
        data.from_csv(path, "y")
    found = data.from_csv(path, "y", index_col=0)
    assert (found.features.tolist(), found.labels.tolist()) == ([[0], [1]], [5, 7])
    path.write_text("a,y\n1,0,\n3,1,\n")
    found = data.from_csv(path, "y")
    assert (found.features.tolist(), found.labels.tolist()) == ([[1], [3]], [0, 1])


def test_workers_of_different_kinds_have_no_order():
    mixed = numbers(site=[1, "1", 2, "2", 1, 2])
    with pytest.raises(TypeError, match=r"different kinds, .* df\['site'\].astype\(str\)"):
        data.from_frame(mixed, "ill", "site")


def test_svmlight_of_a_test_set_is_as_wide_as_its_training_set(tmp_path):
    path = tmp_path / "some.txt.xz"
    path.write_bytes(lzma.compress(b"1 1:0.5 3:-2\n-1 2:4\n"))
    (tmp_path / "test").write_text("1 1:1\n-1 2:1\n")
    training = data.svmlight(path)
    assert training.features.toarray().tolist() == [[0.5, 0, -2], [0, 4, 0]]
    test = data.svmlight(tmp_path / "test", features=training)
    assert test.features.toarray().tolist() == [[1, 0, 0], [0, 1, 0]]
    path.write_bytes(lzma.compress(b"1 1:0.5\n" * 4000)[:60])
    with pytest.raises(ValueError, match=r"some\.txt\.xz, line \d+"):
        data.svmlight(path)


# -- names of workers --------------------------------------------------------------------------------

GRAPH = networkx.Graph([("Rome", "Bern"), ("Bern", "Oslo"), ("Oslo", "Rome")])


def test_a_graph_keeps_the_names_of_its_nodes(tmp_path):
    graph = rs.topologies.from_networkx(GRAPH)
    assert graph.worker_names == ("Rome", "Bern", "Oslo")
    assert graph == rs.topologies.ring(3)
    for tree in (
        rs.topologies.spanning_tree(graph),
        rs.topologies.random_spanning_tree(graph, seed=0),
        rs.topologies.best_spanning_tree(graph, by="diameter"),
        *rs.topologies.all_spanning_trees(graph),
        rs.topologies.from_networkx(networkx.DiGraph(GRAPH)).to_undirected(),
    ):
        assert tree.worker_names == graph.worker_names
    assert rs.topologies.from_networkx(networkx.path_graph(3)).worker_names is None
    assert rs.topologies.from_networkx(networkx.Graph([(1, "1")])).worker_names == ("1", "'1'")
    given = rs.topologies.from_edges(2, [(0, 1)], worker_names=["a", "b"])
    assert given.worker_names == ("a", "b")
    assert {text.get_text() for text in graph.draw().texts} == {"Rome", "Bern", "Oslo"}
    # Names that no circle has room for give way to numbers.
    social = rs.topologies.social_network()
    assert social.worker_names[0] == "Evelyn Jefferson"
    assert social.draw().texts[0].get_text() == "0"
    assert social.draw(labels=True).texts[0].get_text() == "Evelyn Jefferson"
    for names, message in (
        (["a"], "1 names and 2 workers"),
        (["a", "a"], "two workers are called"),
    ):
        with pytest.raises(ValueError, match=message):
            rs.topologies.from_edges(2, [(0, 1)], worker_names=names)
    with pytest.raises(TypeError, match="names of workers must be a list"):
        rs.topologies.from_edges(2, [(0, 1)], worker_names="ab")


def test_tables_and_pictures_call_workers_by_their_names(tmp_path):
    graph = rs.topologies.from_networkx(GRAPH)
    problem = rs.problems.random_quadratics(n=3, d=2, zeta2=1.0, seed=0)
    history = rs.simulate(
        problem, graph, rs.algorithms.DPSGD(), learning_rate=0.1, steps=2,
        measures=["worker_distance"], keep_iterates=True,
    )  # fmt: skip
    loaded = rs.History.load(history.save(tmp_path / "run.npz"))
    assert loaded.topology.worker_names == graph.worker_names
    for each in (history, loaded):
        assert each.worker_frame.worker.tolist() == ["Rome", "Bern", "Oslo"] * 3
        ticks = [tick.get_text() for tick in rs.plots.spacetime(each).get_yticklabels()]
        assert ticks == ["Rome", "Bern", "Oslo"]


def test_names_of_the_data_serve_where_the_graph_has_none_and_must_be_in_its_order(tmp_path):
    found = data.from_frame(numbers(), "ill", "site")
    arrays = (found.standardized().features, found.labels, 0.1)
    problem = rs.problems.Logistic(*arrays, partition=found.partition)
    run = {"learning_rate": 0.1, "steps": 1, "measures": ["worker_distance"]}
    history = rs.simulate(problem, rs.topologies.chain(3), rs.algorithms.DPSGD(), **run)
    loaded = rs.History.load(history.save(tmp_path / "run.npz"))
    for each in (history, loaded):
        assert each.worker_frame.worker.tolist() == ["Bern", "Oslo", "Rome"] * 2
    graph = rs.topologies.from_networkx(GRAPH)
    with pytest.raises(
        ValueError, match="worker 0 is Bern in the problem and Rome in the topology"
    ):
        rs.simulate(problem, graph, rs.algorithms.DPSGD(), **run)
    again = data.from_frame(numbers(), "ill", "site", worker_names=graph.worker_names)
    problem = rs.problems.Logistic(*arrays, partition=again.partition)
    history = rs.simulate(problem, graph, rs.algorithms.DPSGD(), **run)
    assert history.worker_frame.worker.tolist() == ["Rome", "Bern", "Oslo"] * 2
    named = rs.problems.Logistic(
        np.eye(4).reshape(2, 2, 4), [[0, 1], [0, 1]], 0.1, worker_names=["x", "y"]
    )
    assert named.worker_names == ("x", "y")


def test_a_column_with_an_equals_sign_is_no_kind_of_another_one():
    words, numbers = ["x", "y", "x", "y"], [1.0, 2, 3, 4]
    table = pd.DataFrame({"a": words, "a=b": numbers, "ill": [0, 1, 1, 0]})
    with pytest.warns(UserWarning, match="became a column"):
        training = data.from_frame(table, "ill")
    with pytest.raises(
        ValueError, match="the training set has a column 'a=b', and this table has none"
    ):
        data.from_frame(table[["a", "ill"]], "ill", like=training)
    table = table.rename(columns={"a": "a=b", "a=b": "v"})
    with pytest.warns(UserWarning, match="became a column"):
        training = data.from_frame(table, "ill")
    test = data.from_frame(table.iloc[::2], "ill", like=training)
    assert test.columns == ("a=b=x", "a=b=y", "v")
    assert test.features.tolist() == [[1, 0, 1], [1, 0, 3]]
    again = data.from_frame(table.iloc[::2], "ill", like=test)
    assert again.features.tolist() == test.features.tolist()


def test_a_kind_and_a_column_of_numbers_of_one_name_are_told_apart():
    table = pd.DataFrame({"a": ["x", "y"] * 2, "a=b": [1.0, 2, 3, 4], "ill": [0, 1, 1, 0]})
    with pytest.warns(UserWarning, match="became a column"):
        training = data.from_frame(table, "ill")
    other = pd.DataFrame({"a": ["x", "b", "y"], "ill": [0, 1, 0]})
    with pytest.raises(
        ValueError, match="'a=b' of the training set is of its column 'a=b', and here of 'a'"
    ):
        data.from_frame(other, "ill", like=training)
    by_hand = data.Dataset(np.eye(2), [0, 1], columns=("a=x", "a=y"))
    found = data.from_frame(table[["a", "ill"]], "ill", like=by_hand)
    assert found.features.tolist() == [[1, 0], [0, 1]] * 2
    with pytest.raises(ValueError, match="sources are of the 2 columns, one each, not 1"):
        data.Dataset(np.eye(2), [0, 1], columns=("a=x", "a=y"), sources=("a",))


def test_true_and_false_among_objects_are_those_of_a_column_of_booleans():
    plain = pd.DataFrame({"b": [True, False, True, True], "y": [False, True, True, False]})
    objects = plain.astype(object)
    objects.loc[1, "b"] = np.bool_(False)
    expected, found = data.from_frame(plain, "y"), data.from_frame(objects, "y")
    assert found.columns == expected.columns == ("b",)
    assert (found.features == expected.features).all()
    assert found.labels.dtype == expected.labels.dtype == bool
    assert (found.labels == expected.labels).all()
    assert (data.from_frame(objects, "y", like=expected).features == expected.features).all()
