"""References: every method names its source, every entry is used, and a run's can be gathered."""

import dataclasses
import inspect
import re

import pytest
from methods import ALGORITHMS, ASYNCHRONOUS, BY_NUMBER
from own_parts import Halved

import relaysim as rs
from relaysim.bibliography import OF, all_references, keys_of, reference
from relaysim.studies.naming import ALGORITHMS as KINDS

METHODS = (
    *ALGORITHMS,
    *ASYNCHRONOUS,
    *BY_NUMBER,
    *(rs.algorithms.GradientTracking(form) for form in ("next", "diging", "atc")),
    rs.algorithms.GradientTracking(momentum=0.5),
    rs.algorithms.LocalSGD(growth=2),
    rs.algorithms.A2CiD2(accelerated=False),
)
ROOMS = (
    rs.mixing,
    rs.topologies,
    rs.compressors,
    rs.attacks,
    rs.faults,
    rs.schedules,
    rs.theory.bounds,
)
RING = rs.topologies.ring(6)


def run(algorithm=None, topology=RING, **options):
    problem = rs.problems.random_quadratics(n=6, d=4, zeta2=1.0, mu=0.25, seed=0)
    given = {"learning_rate": 0.1, "steps": 3} | options
    return rs.simulate(problem, topology, algorithm or rs.algorithms.DPSGD(), **given)


# -- the entries -----------------------------------------------------------------------------------


def test_every_entry_is_whole():
    text = rs.bibliography._FILE.read_text(encoding="utf-8")
    assert len(all_references()) == text.count("\n@") + 1
    assert list(all_references()) == sorted(all_references())
    for key, entry in all_references().items():
        assert {"author", "title", "year"} <= set(entry.fields), key
        assert {"booktitle", "journal", "publisher", "eprint"} & set(entry.fields), key
        assert all(name.count(",") == 1 for name in entry.fields["author"].split(" and ")), key
        assert entry.fields["title"].startswith("{"), key
        assert 1900 < entry.year < 2100
        assert key.endswith(re.sub(r"^[a-z]+\d{4}", "", key))
        assert key.startswith(entry.authors[0].replace(" ", "").lower().replace("ć", "c")), key
        assert str(entry.year) in key
        assert entry.bibtex in text


def test_every_method_has_a_source_which_its_page_tells_too():
    assert {type(method) for method in METHODS} == set(KINDS.values())
    for method in METHODS:
        assert method.references, method
        page = " ".join(inspect.getdoc(type(method)).partition("Source:")[2].split())
        for key in method.references:
            entry = reference(key)
            assert entry.authors[0] in page, f"{method}: {entry}"
            assert str(entry.year) in page, f"{method}: {entry}"


def test_every_entry_is_used():
    used = {key for method in METHODS for key in method.references}
    used |= {key for keys in OF.values() for key in keys}
    assert used == set(all_references())


def test_what_has_entries_is_there():
    public = {name for room in ROOMS for name in room.__all__}
    drawn = {
        type(each).__name__
        for each in (
            rs.mixing.random_matching(RING),
            rs.mixing.equidyn(6),
            rs.mixing.epidemic(6, 2),
            rs.mixing.matcha(RING, 0.5),
            rs.mixing.lattice_schedule(8, 4, 2, steps=5),
        )
    }
    assert set(OF) <= public | drawn


def test_theorems_and_their_bounds_name_the_same():
    named = {}
    for method, topology in (
        (rs.algorithms.DPSGD(), RING),
        (rs.algorithms.D2(), rs.topologies.complete(6)),
        (rs.algorithms.GradientTracking(), RING),
        (rs.algorithms.RelaySGD(), rs.topologies.chain(6)),
    ):
        problem = run().problem
        for bound in rs.theory.bounds.bounds_for(problem, topology, method, 0.01):
            named[bound.name] = bound.source.references
            assert rs.cite(bound).keys == bound.source.references
    theorems = {name for name in OF if name in rs.theory.bounds.__all__}
    assert len(theorems) == 4
    assert theorems <= set(named)
    for name, keys in named.items():
        assert OF.get(name, ()) == keys


def test_a_key_that_is_not_there():
    with pytest.raises(
        ValueError, match=r"no reference 'vogels2021'.*is 'vogels2021relaysum' meant"
    ):
        rs.cite("vogels2021")


# -- what to cite ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "keys"),
    [
        (lambda: run(rs.algorithms.RelaySGD(), rs.topologies.chain(6)), {"vogels2021relaysum"}),
        (
            lambda: run(rs.algorithms.ChocoSGD(rs.compressors.Sign(), 0.3)),
            {"koloskova2019decentralized", "karimireddy2019error", "xiao2007distributed"},
        ),
        (
            lambda: run(rs.algorithms.ConsensusControl(rs.algorithms.D2(), 0.1), mixing=RING_W),
            {"kong2021consensus", "tang2018d2"},
        ),
        (
            lambda: run(mixing=rs.mixing.random_matching(RING)),
            {"lian2017can", "koloskova2020unified", "boyd2006randomized"},
        ),
        (
            lambda: run(mixing=rs.mixing.chebyshev(RING_W, 2), topology=RING),
            {"lian2017can", "koloskova2020unified", "scaman2017optimal"},
        ),
        (
            lambda: run(
                rs.algorithms.ClippedGossip(1.0),
                rs.topologies.complete(6),
                faults=rs.faults.Byzantine([1], rs.attacks.ALittleIsEnough()),
                learning_rate=rs.schedules.Cyclic(0.1, 0.01, 5),
            ),
            {"he2022byzantine", "baruch2019little", "xu2020collaborative", "xiao2007distributed"},
        ),
        (
            lambda: run(rs.algorithms.A2CiD2(accelerated=False), rs.topologies.exponential(6)),
            {"lian2018asynchronous", "assran2019stochastic", "ying2021exponential"},
        ),
        (lambda: run(rs.algorithms.AllReduce()), {"patarasuk2009bandwidth"}),
        (
            lambda: run(
                faults=rs.faults.BurstLoss(0.1, 0.5), learning_rate=rs.PerWorker([0.1] * 6)
            ),
            {
                *("lian2017can", "koloskova2020unified", "xiao2007distributed"),
                *("gilbert1960capacity", "xu2015augmented"),
            },
        ),
        (lambda: rs.mixing.base_graph, {"takezawa2023beyond"}),
    ],
)
def test_what_a_run_cites(call, keys):
    found = rs.cite(call())
    assert set(found.keys) == keys
    assert not found.missing
    text = str(found)
    for key in keys:
        assert reference(key).bibtex in text
    assert f"version = {{{rs.__version__}}}" in text
    assert found.bibtex in re.sub(r"^% .*\n", "", text, flags=re.MULTILINE)


RING_W = rs.mixing.metropolis(RING)


def test_several_runs_cite_each_source_once(tmp_path):
    history = run()
    loaded = rs.History.load(history.save(tmp_path / "run.npz"))
    assert rs.cite(loaded).reasons == rs.cite(history).reasons
    both = rs.cite(history, loaded, rs.algorithms.D2())
    assert len(both.keys) == len(set(both.keys))
    assert both.reasons["lian2017can"] == ("method: DP-SGD (gossip)",)
    assert str(both).count("@inproceedings{lian2017can,") == 1
    page = both._repr_html_()
    assert "BibTeX" in page
    assert "D²: Decentralized Training over Decentralized Data" in page


def test_what_has_no_entry_is_told():
    @dataclasses.dataclass(frozen=True)
    class Own(rs.algorithms.DPSGD):
        label = "My own"
        references = ()

    found = rs.cite(run(Own()), rs.compressors.Identity())
    assert found.missing == ("method: My own", "Identity()")
    assert "% no entry is known for method: My own" in str(found)
    assert keys_of(rs.algorithms.DPSGD()) == ("lian2017can",)


def test_what_is_ones_own_has_no_entry_and_is_named():
    problem, ring = rs.problems.random_quadratics(4, 2, zeta2=1.0, seed=0), rs.topologies.ring(4)
    W = rs.mixing.metropolis(ring)

    def weights(step):
        return W

    method = rs.algorithms.ChocoSGD(Halved(), 0.5)
    run = {"learning_rate": 0.1, "steps": 3, "mixing": weights}
    found = rs.cite(rs.simulate(problem, ring, method, **run))
    assert found.missing[0] == "compressor: Halved"
    assert found.missing[1].startswith("mixing: ")
    assert found.missing[1].endswith("weights")
    assert "koloskova2019decentralized" in found.keys
    with pytest.raises(ValueError, match="whom workers wait for is not on record"):
        rs.simulate(problem, ring, rs.algorithms.DPSGD(), **run).with_time(latency=1.0)
