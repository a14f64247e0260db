"""Settings, described once: what has a name, from every door, and what keeps two things apart."""

import contextlib
import dataclasses
import itertools
import json
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from methods import ALGORITHMS as METHODS
from methods import ASYNCHRONOUS

import relaysim as rs
from relaysim import cli
from relaysim.studies import sweeps
from relaysim.studies.expansion import expand
from relaysim.studies.experiment import OPTIONS
from relaysim.studies.naming import ALGORITHMS, ATTACKS, GRAPHS, named, written
from relaysim.studies.settings import complete, former_keys, key_of
from relaysim.studies.store import Store

ROOT = pathlib.Path(__file__).parents[1]
NESTED = (
    "ChocoSGD(TopK(8), 0.5)",
    "ConsensusControl(D2(), Critical(1.0))",
    "ConsensusControl(DPSGD(0.5), ((0, 0.3), (10, inf)))",
    "SwarmSGD(quantizer=Lattice(0.01, 256))",
)
EVERY_METHOD = (*METHODS, *ASYNCHRONOUS)
RUN = {"d": 4, "zeta2": 1.0, "learning_rate": 0.05, "steps": 4, "seed": 1}


@pytest.mark.parametrize("text", NESTED)
def test_text_is_the_object_that_python_makes_of_it(text):
    names = {name: getattr(rs.algorithms, name) for name in rs.algorithms.__all__}
    names |= {name: getattr(rs.compressors, name) for name in rs.compressors.__all__}
    expected = eval(text, names | {"inf": np.inf})
    found = named(text, ALGORITHMS, "algorithm")
    assert found == expected
    assert named(written(found), ALGORITHMS, "algorithm") == expected


def test_every_method_by_object_by_text_and_by_toml(tmp_path):
    texts = [written(method) for method in EVERY_METHOD]
    objects = rs.sweep(
        RUN | {"topology": rs.topologies.chain(4), "algorithm": list(EVERY_METHOD)}, progress=False
    )
    by_text = rs.sweep(RUN | {"n": 4, "algorithm": texts}, progress=False)
    path = tmp_path / "every.toml"
    path.write_text(
        f"n = 4\nd = 4\nzeta2 = 1\nlearning_rate = 0.05\nsteps = 4\nseed = 1\nalgorithm = {texts!r}\n",
        encoding="utf-8",
    )
    pd.testing.assert_frame_equal(objects, by_text, check_exact=True)
    pd.testing.assert_frame_equal(objects, rs.sweep(path, progress=False), check_exact=True)
    problem = rs.problems.random_quadratics(4, 4, zeta2=1.0, seed=0)
    by_method = objects.groupby(np.arange(len(objects)) // 5)
    for (_, rows), method in zip(by_method, EVERY_METHOD, strict=True):
        run = {"learning_rate": 0.05, "steps": 4, "seed": 1}
        frame = rs.simulate(problem, rs.topologies.chain(4), method, **run).frame
        for column in ("suboptimality", "consensus_distance", "vectors_sent", "bits_sent"):
            np.testing.assert_allclose(rows[column], frame[column], rtol=1e-12)
        assert (rows.algorithm == type(method).__name__).all()


@pytest.mark.parametrize("method", EVERY_METHOD, ids=written)
def test_every_method_from_the_command_line(method, tmp_path, capsys):
    path, arguments = tmp_path / "run.npz", ["--n", "4", "--algorithm", written(method)]
    for key, value in RUN.items():
        arguments += [f"--{key.replace('_', '-')}", f"{value}"]
    assert cli.main(["run", *arguments, "--save", str(path)]) == 0
    problem = rs.problems.random_quadratics(4, 4, zeta2=1.0, seed=0)
    run = {"learning_rate": 0.05, "steps": 4, "seed": 1}
    expected = rs.simulate(problem, rs.topologies.chain(4), method, **run)
    found = rs.History.load(path)
    assert repr(found.algorithm) == repr(method)
    pd.testing.assert_frame_equal(found.frame, expected.frame, check_exact=True)


def test_none_is_a_value_from_all_doors(tmp_path, capsys):
    run = {"n": 4, "d": 3, "learning_rate": 0.1, "steps": 3}
    problem = rs.problems.random_quadratics(4, 3, zeta2=0.1, mu=None, seed=0)
    where = problem, rs.topologies.chain(4), rs.algorithms.RelaySGD()
    expected = rs.simulate(*where, learning_rate=0.1, steps=3)
    arguments = [
        f"--{key.replace('_', '-')}={value}" for key, value in (run | {"mu": "none"}).items()
    ]
    assert cli.main(["run", *arguments, "--save", str(tmp_path / "run.npz")]) == 0
    np.testing.assert_array_equal(rs.History.load(tmp_path / "run.npz").x, expected.x)
    (tmp_path / "none.toml").write_text(
        'n = 4\nd = 3\nlearning_rate = 0.1\nsteps = 3\nmu = "none"\n', encoding="utf-8"
    )
    tables = [
        rs.sweep(settings, progress=False)
        for settings in (run | {"mu": None}, run | {"mu": "none"}, tmp_path / "none.toml")
    ]
    for table in tables:
        np.testing.assert_array_equal(table.suboptimality, expected.frame.suboptimality)
        pd.testing.assert_frame_equal(table, tables[0], check_exact=True)
    assert cli.main(["run", "--mu", "nome"]) == 2
    assert "mu must be a finite number, not 'nome'" in capsys.readouterr().err


def test_the_start_of_a_schedule_is_tuned_from_all_doors(tmp_path, capsys):
    settings = {"n": 4, "d": 3, "schedule": "InverseSqrt(1.0)", "target": 1e-3, "algorithm": "D2"}
    where = (
        rs.problems.random_quadratics(4, 3, zeta2=0.1, seed=0),
        rs.topologies.chain(4),
        rs.algorithms.D2(),
    )
    schedule = rs.schedules.InverseSqrt(1.0)
    expected = rs.tune(*where, target=1e-3, schedule=schedule)
    assert expected.learning_rate != rs.tune(*where, target=1e-3).learning_rate
    for stated in (settings, settings | {"schedule": schedule}):
        row = rs.sweep(stated, store=tmp_path / "kept.db", progress=False).iloc[0]
        assert (row.learning_rate, row.steps_to_target) == (expected.learning_rate, expected.steps)
        assert row.schedule == "InverseSqrt(start=1.0)"
    arguments = [f"--{key}={value}" for key, value in settings.items()]
    path = tmp_path / "run.npz"
    assert cli.main(["run", *arguments, "--steps", "9", "--save", str(path)]) == 0
    run = rs.simulate(*where, learning_rate=expected.schedule, steps=9)
    np.testing.assert_array_equal(rs.History.load(path).x, run.x)
    for wrong, message in (
        ({"learning_rate": 0.1}, "schedule is for runs whose rate is tuned"),
        ({"schedule": "Listed((0.1, 0.2))"}, "schedule must be one of .* that has a start"),
        ({"criterion": "plateau"}, "a plateau is that of a constant rate"),
        ({"schedule": "InverseSquare(1.0)"}, "did you mean 'InverseSqrt'"),
    ):
        with pytest.raises(ValueError, match=message):
            rs.sweep(settings | wrong, progress=False)


def test_what_has_a_name_is_reached_from_all_doors(tmp_path, capsys):
    pytest.importorskip("sklearn")
    settings = {
        "n": 4,
        "topology": "erdos_renyi(p=0.9, seed=3)",
        "algorithm": "DPSGD",
        "problem": "Logistic",
        "data": "wine",
        "partition": "shards(per_worker=1)",
        "l2": 0.1,
        "problem_seed": 2,
        "mixing": "lazy(uniform(0.2))",
        "oracle": "Minibatch(4)",
        "faults": "MessageDrop(0.2)",
        "learning_rate": "Cosine(0.3, steps=9, warmup=3)",
        "steps": 6,
        "seed": 5,
    }
    data = rs.problems.data.wine()
    split = rs.problems.partitions.shards(data.labels, 4, per_worker=1, seed=2)
    graph = rs.topologies.erdos_renyi(4, 0.9, seed=3)
    expected = rs.simulate(
        rs.problems.Logistic(data.features, data.labels, 0.1, partition=split),
        graph,
        rs.algorithms.DPSGD(),
        mixing=rs.mixing.lazy(rs.mixing.uniform(graph, 0.2)),
        oracle=rs.oracles.Minibatch(4),
        faults=rs.faults.MessageDrop(0.2),
        learning_rate=rs.schedules.Cosine(0.3, steps=9, warmup=3),
        steps=6,
        seed=5,
    )
    table = rs.sweep(settings, progress=False)
    for column in ("learning_rate", "suboptimality", "vectors_sent"):
        np.testing.assert_allclose(table[column], expected.frame[column], rtol=1e-12)
    row = table.iloc[0]
    assert (row.topology, row.p, row.topology_seed, row.seed) == ("erdos_renyi", 0.9, 3, 5)
    assert row.schedule == "Cosine(start=0.3, steps=9, warmup=3)"
    arguments = [
        part for key, v in settings.items() for part in (f"--{key.replace('_', '-')}", str(v))
    ]
    assert cli.main(["run", *arguments, "--save", str(tmp_path / "run.npz")]) == 0
    np.testing.assert_array_equal(rs.History.load(tmp_path / "run.npz").x, expected.x)
    whole = settings | {"problem": "Logistic(wine(), 0.1, shards(per_worker=1), seed=2)"}
    for key in ("data", "partition", "l2", "problem_seed"):
        del whole[key]
    same = rs.sweep(whole, progress=False)
    np.testing.assert_array_equal(same.suboptimality, table.suboptimality)


def test_a_problem_matrices_and_parts_of_ones_own_from_python(tmp_path):
    class Cosh:
        n, d = 4, 3
        centers = np.random.default_rng(0).normal(size=(4, 3))

        def gradient(self, x):
            return np.sinh(x - self.centers.reshape(self.centers.shape + (1,) * (x.ndim - 2)))

        def value(self, x):
            return np.cosh(x - self.centers).sum(axis=1).mean()

    graph, method = rs.topologies.ring(4), rs.algorithms.DPSGD()
    W = 0.4 * np.eye(4) + 0.6 * rs.mixing.metropolis(graph).toarray()
    sequence = rs.mixing.one_peer_exponential(4)
    run = {"learning_rate": 0.1, "steps": 5}
    table = rs.sweep(
        run
        | {"problem": Cosh(), "topology": "complete", "algorithm": method, "mixing": [W, sequence]},
        progress=False,
    )
    complete = rs.topologies.complete(4)
    for mixing, (_, rows) in zip((W, sequence), table.groupby("mixing", sort=False), strict=True):
        frame = rs.simulate(Cosh(), complete, method, mixing=mixing, **run).frame
        np.testing.assert_allclose(rows.gradient_norm, frame.gradient_norm, rtol=1e-12)
    with pytest.raises(
        ValueError, match=r"a store cannot tell .*Cosh from another problem.*to_config"
    ):
        rs.sweep(run | {"problem": Cosh()}, store=tmp_path / "no.db", progress=False)
    told = rs.problems.DiagonalQuadratic(np.ones((4, 2)), np.arange(8.0).reshape(4, 2))
    other = rs.problems.DiagonalQuadratic(np.ones((4, 2)), 1e-9 + np.arange(8.0).reshape(4, 2))
    both = run | {"problem": [told, other, told]}
    kept = rs.sweep(both, store=tmp_path / "kept.db", progress=False)
    assert len(kept) == 12
    assert kept.problem.unique().tolist() == ["DiagonalQuadratic", "DiagonalQuadratic #2"]
    pd.testing.assert_frame_equal(kept, rs.load_sweep(tmp_path / "kept.db"))
    recipe = rs.problems.random_quadratics(4, 3, zeta2=2.0, seed=7)
    fields = {"n": 4, "d": 3, "zeta2": 2.0, "problem_seed": 7}
    pd.testing.assert_frame_equal(
        rs.sweep(run | {"problem": recipe}, progress=False), rs.sweep(run | fields, progress=False)
    )


# -- what differs is told apart --------------------------------------------------------------------


def test_seventh_digits_edges_and_numpy_numbers_make_keys():
    def keys(values, name="algorithm"):
        run = {"algorithm": "D2", "d": 2, "learning_rate": 0.1, "steps": 1, "n": 6, name: values}
        return [key_of(setting) for setting in expand(run)]

    assert len(keys(["DPSGD(0.10000001)", "DPSGD(0.10000002)"])) == 2
    assert len(keys([0.1, np.nextafter(0.1, 1)], "learning_rate")) == 2
    numpy = rs.algorithms.DPSGD(momentum=np.float64(0.9))
    assert keys([numpy]) == keys(["DPSGD(0.9)"])
    ring = rs.topologies.ring(6)
    own = rs.topologies.Topology(6, ring.edges, name="mine")
    assert len(keys([own, rs.topologies.Topology(6, ring.edges, name="too")], "topology")) == 1


def test_names_select_and_group():
    table = rs.sweep(
        {
            "d": 2,
            "learning_rate": 0.1,
            "steps": 1,
            "cases": [
                {
                    "algorithm": ["RelaySGD", "RelaySGD(0.5)"],
                    "topology": ["chain", "star"],
                    "n": [4, 8],
                },
                {"algorithm": "DPSGD", "topology": ["torus(2, 2)", "torus(2, 3)"]},
            ],
        },
        progress=False,
    )
    assert (table.algorithm == "RelaySGD").sum() == 16
    assert dict(table.groupby("topology").size()) == {"chain": 8, "star": 8, "torus": 4}
    assert table[table.topology == "torus"].cols.tolist() == [2, 2, 3, 3]
    assert sorted(table[table.algorithm == "RelaySGD"].momentum.unique()) == [0, 0.5]
    assert table.columns.is_unique


def test_matrices_whose_digests_begin_alike_have_labels_of_their_own():
    def weights(a):
        return np.array([[1 - a, a], [a, 1 - a]])

    run = {"algorithm": "DPSGD", "n": 2, "d": 2, "learning_rate": 0.1, "steps": 2}
    table = rs.sweep(run | {"mixing": [weights(0.02317), weights(0.05009)]}, progress=False)
    one, other = table.mixing.unique()
    assert one[: len("matrix #97aff5")] == other[: len("matrix #97aff5")] == "matrix #97aff5"
    assert table[(table.mixing == one) & (table.step == 2)].suboptimality.size == 1


def test_a_name_that_is_no_text_for_the_graph_is_a_label_only():
    impostor = rs.topologies.Topology(4, [(0, 1), (1, 2), (1, 3)], name="chain(4)")
    run = {"d": 2, "learning_rate": 0.1, "steps": 2, "topology": ["chain(4)", impostor]}
    table = rs.sweep(run, progress=False)
    assert table.topology.nunique() == 2
    assert "chain" in set(table.topology)
    with pytest.raises(ValueError, match="no text stands for"):
        written(impostor)


@pytest.mark.parametrize("name", sorted(GRAPHS))
def test_names_of_graphs_make_the_same_graphs(name):
    calls = {
        "torus": "torus(2, 3)",
        "erdos_renyi": f"erdos_renyi(9, {1 / 3!r}, seed=2)",
        "watts_strogatz": f"watts_strogatz(9, 4, {1 / 3!r}, seed=2)",
        "random_regular": "random_regular(8, 3, seed=0)",
        "barabasi_albert": "barabasi_albert(8, 2, seed=0)",
        "regular_tree": "regular_tree(8, 3)",
        "social_network": "social_network()",
        "spanning_tree": "spanning_tree(torus(3, 3), root=2)",
        "TreePair": "TreePair(chain(4), star(4))",
        "random_spanning_tree": "random_spanning_tree(torus(3, 3), seed=2)",
        "best_spanning_tree": "best_spanning_tree(torus(3, 3), by='diameter')",
        "tree_pair": "tree_pair(torus(3, 3))",
    }
    if name in ("from_edges", "union_topology"):
        pytest.skip("what it makes has no name")
    made = named(calls.get(name, f"{name}(8)"), GRAPHS, "topology")
    assert named(written(made), GRAPHS, "topology") == made


# -- what was there before -------------------------------------------------------------------------

FORMER = {
    "11802fd2db333f81924ca9b0218e04b1640f9ac2bee9fce234416e68d9095f06": {"n": 4, "d": 2},
    "4cd9175c5c0a822c7cde7cfdb6f338d83d44ef05484ff7a861d11ca9c7790b87": {
        "algorithm": "D2",
        "topology": "ring",
        "n": 6,
        "mixing": "uniform(0.3)",
        "learning_rate": 0.1,
        "steps": 5,
        "drop": 0.1,
        "sigma2": 0.01,
    },
    "2665e9e13b2242107193e8d004abc3bd8aba6f5d810545292d91b4358579f206": {
        "topology": rs.topologies.Topology(3, [(0, 1), (1, 2)], name="mine"),
        "d": 2,
        "learning_rate": 0.1,
        "steps": 5,
    },
    "f69103f561b0e8f22d5820662be1c6ae97a7030823d90a7e6763569a3a6af4bc": {
        "algorithm": "DPSGD(0)",
        "n": 3,
        "topology": "chain",
        "d": 2,
        "learning_rate": 0.1,
        "steps": 5,
    },
    "a873240de64854e1d02d199c961990beec9c1e3b03b64d15ed278fc1a8e07442": {
        "algorithm": "ConsensusControl(DPSGD(0), 1)",
        "n": 3,
        "topology": "chain",
        "d": 2,
        "learning_rate": 0.1,
        "steps": 5,
    },
    "53dd949c768deaff0616f23f956c46e7533fc601c39ea6a33b2eeba4791ab207": {
        "topology": rs.topologies.spanning_tree(rs.topologies.ring(5)),
        "d": 2,
        "learning_rate": 0.1,
        "steps": 5,
    },
}


@pytest.mark.parametrize("key", FORMER)
def test_a_store_of_version_0_1_answers_as_before(key, tmp_path):
    (setting,) = expand(FORMER[key])
    assert key in (key_of(setting), *former_keys(setting))
    # As version 0.1 wrote it: without what came later.
    later = ("problem", "data", "partition", "l2", "oracle", "faults")
    old = {name: value for name, value in setting.items() if name not in later}
    marked = {"step": np.array([0]), "suboptimality": np.array([123.0])}
    with Store(tmp_path / "old.db") as store:
        store.add([(key, old, marked)], "0.1.0")
    table = rs.sweep(FORMER[key], store=tmp_path / "old.db", progress=False)
    assert table.suboptimality.tolist() == [123.0]
    assert rs.load_sweep(tmp_path / "old.db").suboptimality.tolist() == [123.0]


def test_a_whole_number_of_an_option_that_is_real_is_the_same_part_either_way():
    """Or a sweep would run the same twice, and a store keep both."""
    parts = [
        *EVERY_METHOD,
        *(made() for made in ATTACKS.values()),
        *(made(0.5) for made in (rs.compressors.Lattice, rs.oracles.Gaussian)),
        *(rs.faults.MessageDrop(0.5), rs.faults.Crash(0.5), rs.faults.Corrupt(0.5)),
        *(rs.schedules.Cosine(0.5, 9), rs.PerWorker([0.5], scale=0.5)),
        rs.algorithms.ConsensusControl(rs.algorithms.DPSGD(), 0.5),
    ]
    either_way = set()
    for made in parts:
        for field, whole in itertools.product(dataclasses.fields(made), (0, 1, 3)):
            texts = []
            for value in (whole, float(whole)):
                # Options that are whole numbers refuse others.
                with contextlib.suppress(ValueError, TypeError):
                    texts.append(written(dataclasses.replace(made, **{field.name: value})))
            assert len({*texts}) <= 1, texts
            if len(texts) == 2:
                either_way.add((type(made), field.name))
    assert len(either_way) > 40
    assert (rs.algorithms.DPSGD, "momentum") in either_way
    assert (rs.algorithms.DPSGD, "overlap") not in either_way


def test_a_sweep_runs_equal_options_once():
    run = {"topology": "chain", "n": 3, "d": 2, "learning_rate": 0.1, "steps": 2}
    for same in (
        ["DPSGD(0)", "DPSGD(0.0)", "DPSGD", rs.algorithms.DPSGD(np.int64(0))],
        ["SwarmSGD(2.0, geometric=True)", "SwarmSGD(2, geometric=True)"],
        [
            "ConsensusControl(D2(), ((0, 1), (9, 2)))",
            "ConsensusControl(D2(), ((0, 1.0), (9, 2.0)))",
        ],
    ):
        assert len(expand(run | {"algorithm": same})) == 1


def test_options_that_came_later_are_in_no_text_where_all_is_as_before():
    """Or a store would compute again what it has."""
    assert written(rs.algorithms.D2()) == "D2()"
    assert written(rs.algorithms.DPSGD()) == "DPSGD(momentum=0.0, overlap=False)"
    assert written(rs.algorithms.ExactDiffusion(form="scaled")) == "ExactDiffusion(form='scaled')"
    for made in (rs.algorithms.D2(form="scaled"), rs.algorithms.DPSGD(consensus=0.5)):
        assert named(written(made), ALGORITHMS, "algorithm") == made


def test_options_that_no_text_has_are_in_the_table_beside_others():
    run = {"topology": "chain", "n": 4, "d": 2, "learning_rate": 0.05, "steps": 1, "record": 1}
    algorithm = ["DPSGD", "DPSGD(consensus=0.5)", "D2", "D2(form='scaled')", "RelaySGD"]
    table = rs.sweep(run | {"algorithm": algorithm}, progress=False)
    last = table[table.step == 1]
    assert last.consensus.fillna(-1).tolist() == [1.0, 0.5, -1, -1, -1]
    assert last.form.fillna("").tolist() == ["", "", "own", "scaled", ""]
    assert "overlap" not in table  # the default throughout


# -- what cannot be ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"algorithm": "ChocoSGD(Sing())"}, r"unknown name 'Sing'; did you mean 'Sign'\?"),
        ({"algorithm": "ChocoSGD(TopK(kk=8))"}, r"unexpected keyword argument 'kk'"),
        ({"algorithm": "ChocoSGD(TopK(1 + 1))"}, "more than plain values and calls"),
        ({"algorithm": "ChocoSGD(open('/etc/passwd'))"}, "unknown name 'open'"),
        ({"algorithm": "ChocoSGD(TopK.__class__)"}, "more than plain values and calls"),
        ({"topology": "line"}, r"unknown topology 'line'; did you mean 'chain'\?"),
        ({"problem": "Logistc"}, r"unknown problem 'Logistc'; did you mean 'Logistic'\?"),
        ({"problem": "Logistic", "zeta2": 1.0}, "zeta2 is for the problem random_quadratics"),
        ({"oracle": "Gaussian(0.1)", "sigma2": 0.1}, "leave one out"),
        (
            {
                "problem": rs.problems.DiagonalQuadratic(np.ones((4, 2)), np.ones((4, 2))),
                "oracle": "Minibatch(4)",
                "learning_rate": 0.1,
                "steps": 5,
            },
            "has no examples to draw from",
        ),
        ({"algorithm": "GTSAGA"}, r"by their numbers, which Exact\(\) does not give; use oracle="),
        ({"faults": "MessageDrop(0.1)"}, "faults is for runs at a given learning_rate"),
        ({"learning_rate": lambda t: 0.1}, "cannot write down the learning rate"),
        ({"learning_rate": "Cosin(1, 2)"}, r"did you mean 'Cosine'\?"),
        ({"criterion": "fastes"}, r"did you mean 'fastest'\?"),
        ({"problem": object()}, "an object with n, d, gradient"),
        ({"problem": "random_quadratics(4, 2, zeta=1.0)"}, "unknown option 'zeta'"),
        ({"problem": "random_quadratics(4, 2)", "d": 3}, "say it once"),
    ],
)
def test_bad_settings_say_the_nearest_name(settings, message):
    with pytest.raises((ValueError, TypeError), match=message):
        rs.sweep(settings, progress=False)


def test_the_nearest_file(tmp_path):
    pytest.importorskip("sklearn")
    (tmp_path / "train.svm").write_text("1 1:0.5\n0 1:0.2\n")
    data = f"svmlight({str(tmp_path / 'trian.svm')!r})"
    with pytest.raises(ValueError, match=r"there is no file .*did you mean 'train.svm'\?"):
        rs.sweep({"problem": "Logistic", "data": data, "n": 2}, progress=False)


@pytest.mark.parametrize(
    ("module", "name", "nearest"),
    [
        ("topologies", "line", "chain"),
        ("topologies", "eerdos_renyi", "erdos_renyi"),
        ("algorithms", "RelaySDG", "RelaySGD"),
        ("compressors", "Topk", "TopK"),
        ("schedules", "InverseSqr", "InverseSqrt"),
        ("problems", "Logisitc", "Logistic"),
        ("mixing", "metroplis", "metropolis"),
        ("oracles", "MiniBatch", "Minibatch"),
        ("theory", "linearise", "linearize"),
        ("analysis", "fitrate", "fit_rate"),
    ],
)
def test_python_says_the_nearest_name_too(module, name, nearest):
    with pytest.raises(AttributeError, match=f"did you mean '{nearest}'"):
        getattr(getattr(rs, module), name)
    assert not hasattr(rs, "no_such_thing")


# -- one field, four doors -------------------------------------------------------------------------

FIELD = """    stop_below: float | None = option(
        None, "end with the record at which the suboptimality is below this", float, above=0,
        optional=True, only=FIXED, argument="stop_below", title="stop below", levels=(1e-3, 1e-2, 0.1),
    )
    steps: int = option("""
FAULT = """

from dataclasses import dataclass
import numpy as np

@dataclass(frozen=True)
class Outage(Fault):
    'Nothing reaches a worker until a step.'

    worker: int
    until: int = 5

    def arrivals(self, edges: np.ndarray, round: WireRound) -> np.ndarray:
        return (edges[:, 1] != self.worker) | (round >= self.until)
"""
DOORS = """
import contextlib, io, json, sys
import relaysim as rs
from relaysim import cli

def helps():
    cli.main(["run", "--help"])

def error():
    rs.sweep({"stop_belw": 0.1}, progress=False)

def limit():
    rs.sweep({"stop_below": -1, "learning_rate": 0.1}, progress=False)

def runs():
    run = {"n": 4, "d": 2, "learning_rate": 0.5, "steps": 400}
    print(len(rs.sweep(run | {"stop_below": 1e-3}, progress=False)), len(rs.sweep(run, progress=False)))

def explorer():
    explorer = rs.explore(n=4, steps=20, methods=["DPSGD"], stop_below=0.01)
    print(explorer.controls["stop_below"].value, "stop_below" in explorer.code)

def fault():
    cli.main(["list", "faults"])
    run = "run --n 4 --d 2 --faults Outage(2) --learning-rate 0.1 --steps 3".split()
    print(cli.main(run))
    explorer = rs.explore(n=4, steps=20, methods=["DPSGD"])
    explorer.controls["faults"].value = "Outage"
    print(explorer.code)

def page():
    sys.path.insert(0, sys.argv[1])
    from relaysim_site import files, settings
    settings.write(type("Printed", (), {"write": lambda self, name, text: print(text)})())

said = {}
for door in (helps, error, limit, runs, explorer, fault, page):
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        try:
            door()
        except BaseException as error_:
            print(repr(error_))
    said[door.__name__] = printed.getvalue()
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def doors(tmp_path_factory):
    """What each door says in a copy of the package with one field more, and one fault."""
    folder = tmp_path_factory.mktemp("scratch")
    shutil.copytree(ROOT / "relaysim", folder / "relaysim")
    path = folder / "relaysim" / "studies" / "experiment.py"
    text = path.read_text(encoding="utf-8")
    assert text.count("    steps: int = option(") == 1
    path.write_text(text.replace("    steps: int = option(", FIELD), encoding="utf-8")
    path = folder / "relaysim" / "faults" / "__init__.py"
    text = path.read_text(encoding="utf-8")
    path.write_text(
        text.replace('    "WireRound",', '    "Outage",\n    "WireRound",', 1) + FAULT,
        encoding="utf-8",
    )
    done = subprocess.run(
        [sys.executable, "-c", DOORS, str(ROOT / "docs")],
        cwd=folder,
        env={
            "PYTHONPATH": str(folder),
            "PATH": "",
            "PYTHONIOENCODING": "utf-8",
            "MPLBACKEND": "agg",
            "RELAYSIM_FAST": "never",  # a copy compiles anew, which takes half a minute
        },
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
    )
    return json.loads(done.stdout)


@pytest.mark.xdist_group("doors")
@pytest.mark.parametrize(
    ("door", "said"),
    [
        ("helps", "--stop-below STOP_BELOW"),
        ("error", "unknown setting 'stop_belw'; did you mean 'stop_below'?"),
        ("limit", "stop_below must be positive, not -1"),
        ("explorer", "0.01 True"),
        ("page", "``stop_below``"),
    ],
)
def test_a_field_is_found_at_all_doors(doors, door, said):
    if door == "page":
        pytest.importorskip("sphinx")
    if door == "explorer":
        pytest.importorskip("ipywidgets")
    assert said in doors[door]


@pytest.mark.xdist_group("doors")
def test_a_fault_is_found_at_all_doors_by_its_fields(doors):
    pytest.importorskip("ipywidgets")
    said = doors["fault"]
    assert "Outage(worker, until=5)" in said
    assert "Nothing reaches a worker until a step." in said
    assert '"faults": rs.faults.Outage(worker=1)' in said


@pytest.mark.xdist_group("doors")
def test_a_field_takes_effect(doors):
    stopped, whole = map(int, doors["runs"].split())
    assert stopped < whole == 401


def test_every_option_says_what_it_is():
    for name, each in OPTIONS.items():
        assert each.help, name
        assert each.limits, name
        assert dataclasses.replace(each).checked(each.default) == each.default


# What a method's name alone cannot say, and options that do not fit every length of vectors.
CALLS = {
    "ChocoSGD": ("ChocoSGD(TopK(2), 0.5)", "ChocoSGD(LowRank(1, 3), 0.5)"),
    "ConsensusControl": ("ConsensusControl(D2(), Critical(1.0))",),
    "DADAO": ("DADAO(4)",),
    "DynamicAveraging": ("DynamicAveraging(0.1)",),
    "LocalRates": ("LocalRates(1)",),
    "PowerGossip": ("PowerGossip", "PowerGossip(rows=3)"),
    "SingleMerge": ("SingleMerge(1)",),
}


@pytest.mark.parametrize("method", ALGORITHMS)
def test_what_is_planned_can_be_run(method):
    planned, refused = 0, []
    # Each of these on all graphs and on all sizes, though not on all pairs of them.
    extras = itertools.cycle(({}, {"seed": [0, 1], "drop": 0.1}, {"sigma2": 0.1}))
    by_number = ALGORITHMS[method].oracle_needs == "examples"
    for call in CALLS.get(method, (method,)):
        for graph in ("chain", "star", "ring", "complete", "binary_tree", "double_binary_tree"):
            for n, d in ((1, 4), (2, 3), (3, 4), (4, 6)):
                stated = {"algorithm": call, "topology": graph, "n": n, "d": d, "zeta2": 0.0}
                seeds = (more := dict(next(extras))).pop("seed", [0])
                stated |= {"learning_rate": 0.05, "steps": 2} | more
                stated |= {"oracle": "Table(2)"} if by_number else {}
                try:
                    group = [complete(stated | {"seed": seed}) for seed in seeds]
                except ValueError as error:
                    refused.append(str(error))
                    continue
                planned += 1
                for _, found in sweeps._run_group(group):
                    assert np.isfinite(found["suboptimality"]).all()
    assert planned > 0
    assert all(len(message.split()) > 4 for message in refused)


def test_scalars_of_numpy_are_plain_in_names_and_messages():
    def as_numpy(value):
        kinds = {bool: np.bool_, int: np.int64, float: np.float64, str: np.str_}
        return kinds[type(value)](value) if type(value) in kinds else value

    def fields_of(part):
        return {
            each.name: getattr(part, each.name) for each in dataclasses.fields(part) if each.init
        }

    plain = [method for method in EVERY_METHOD if dataclasses.is_dataclass(method)]
    plain += [rs.compressors.TopK(2), rs.compressors.LowRank(1, 2), rs.oracles.Gaussian(0.5)]
    plain += [rs.oracles.Minibatch(8), rs.faults.MessageDrop(0.5), rs.schedules.InverseSqrt(0.1)]
    plain += [rs.schedules.Cosine(0.5, steps=4), rs.algorithms.Critical(1.0)]
    for part in plain:
        given = {name: as_numpy(value) for name, value in fields_of(part).items()}
        made = type(part)(**given)
        assert repr(made) == repr(part)
        assert "np." not in repr(made)
    row = rs.sweep(
        {
            "topology": np.str_("chain"),
            "algorithm": np.str_("DPSGD"),
            "n": np.int32(4),
            "d": np.uint8(2),
            "learning_rate": np.float64(0.1),
            "steps": np.int64(1),
        },
        progress=False,
    )
    assert {type(name) for name in row.topology} | {type(name) for name in row.algorithm} == {str}
    for settings in (
        {"topology": np.str_("rnig")},
        {"algorithm": np.str_("nothing of the kind")},
        {"zeta2": np.float64(-1.0)},
        {"n": np.float64(2.5)},
        {"criterion": np.str_("best")},
        {"topology": [np.str_("ring(")]},
    ):
        with pytest.raises(ValueError, match=r".") as caught:
            rs.sweep(settings, progress=False)
        assert "np." not in str(caught.value)
    for call in (
        lambda: rs.algorithms.RelaySGD(unheard=np.str_("late")),
        lambda: rs.algorithms.RelaySGD(momentum=np.float64(1.5)),
        lambda: rs.algorithms.SGP(rounds=np.float64(1.5)),
        lambda: rs.algorithms.RelaySGD(overlap=np.int64(1)),
        lambda: rs.oracles.Gaussian(np.float64(-1)),
        lambda: rs.topologies.chain(np.float64(3)),
    ):
        with pytest.raises((ValueError, TypeError), match=r".") as wrong:
            call()
        assert "np." not in str(wrong.value)
