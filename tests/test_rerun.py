"""A result computed again from its description agrees in every bit, or it is said what differs."""

import json
import sqlite3

import numpy as np
import pytest

import relaysim as rs
from relaysim import cli
from relaysim.records.provenance import provenance

PROBLEM = rs.problems.random_quadratics(n=6, d=3, zeta2=1.0, seed=0)
RING = rs.topologies.ring(6)
RUN = {"learning_rate": [0.1, 0.3], "steps": 12, "seed": [4, 9], "x0": np.arange(3.0)}


def history(**options):
    noise = rs.oracles.Gaussian(0.1)
    return rs.simulate(PROBLEM, RING, rs.algorithms.D2(), **(RUN | {"oracle": noise} | options))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"record": [0, 5, 12], "keep_iterates": [2, 0], "measures": ["worker_distance"]},
        {"learning_rate": lambda step: 0.3 / (1 + step), "seed": 3, "faults": rs.faults.MessageDrop(0.2)},
        {"learning_rate": [0.1, 500.0], "steps": 60},
        {"mixing": rs.mixing.epidemic(6, 2), "seed": 10**30},
    ],
    ids=lambda options: "-".join(options) or "plain",
)  # fmt: skip
def test_a_history_agrees_after_its_file_too(options, tmp_path):
    if "mixing" in options:
        options = options | {"oracle": None}
        run = rs.simulate(
            PROBLEM, rs.topologies.complete(6), rs.algorithms.DPSGD(), **(RUN | options)
        )
    else:
        run = history(**options)
    found = rs.rerun(run)
    assert found.agrees
    assert found
    assert found.changes == ()
    assert found.history.frame.equals(run.frame)
    assert rs.rerun(run.save(tmp_path / "run"))


def test_a_longer_history_with_times_is_the_whole_run():
    run = history(steps=5).extend(7).with_time(compute=rs.analysis.Constant(1.0))
    assert rs.rerun(run)


def test_what_differs_is_said_with_its_first_step(tmp_path, capsys):
    run = history()
    run._columns["distance"][7:, 2] = np.nextafter(run._columns["distance"][7:, 2], np.inf)
    run.x[1, 2, 3] += 1
    run.provenance = provenance() | {"numpy": "1.0", "machine": "another"}
    found = rs.rerun(run)
    assert not found
    assert not found.agrees
    rows = found.differences.set_index("what")
    assert rows.loc["column/distance", ["replica", "first_step"]].tolist() == [2, 7]
    assert rows.loc["x", ["replica", "first_step"]].tolist() == [3, 12]
    assert rows.loc["x", "stored"] == rows.loc["x", "again"] + 1
    assert {name: then for name, then, _ in found.changes} == {
        "numpy": "1.0",
        "machine": "another",
    }
    assert "column/distance" in repr(found)
    _, *lines = found.told().splitlines()[: 1 + len(found.differences)]
    assert [line.split()[0] for line in lines] == found.differences.what.tolist()
    assert "<table" in found._repr_html_()
    path = run.save(tmp_path / "run")
    assert cli.main(["rerun", str(path)]) == 1
    said = capsys.readouterr().out
    assert "column/distance" in said
    assert "numpy was 1.0 and is" in said
    assert cli.main(["rerun", str(history().save(tmp_path / "whole"))]) == 0
    assert "every bit agrees" in capsys.readouterr().out


def test_provenance_is_kept_in_files(tmp_path):
    run = history()
    assert run.provenance == provenance() == json.loads(json.dumps(provenance()))
    assert rs.History.load(run.save(tmp_path / "run")).provenance == run.provenance


def test_what_a_file_does_not_hold_is_given(tmp_path):
    class Cosh:
        n, d, centers = 6, 3, np.arange(18.0).reshape(6, 3) / 18

        def gradient(self, x):
            return np.sinh(x - self.centers)

        def value(self, x):
            return np.cosh(x - self.centers).sum(axis=1).mean()

    path = rs.simulate(Cosh(), RING, rs.algorithms.DPSGD(), learning_rate=0.1, steps=3).save(
        tmp_path / "own"
    )
    with pytest.raises(ValueError, match="pass problem="):
        rs.rerun(path)
    assert rs.rerun(path, problem=Cosh())
    with pytest.raises(TypeError, match="row is of a store"):
        rs.rerun(path, row=0, problem=Cosh())
    with pytest.raises(FileNotFoundError, match="there is no file"):
        rs.rerun(tmp_path / "nowhere.npz")
    (tmp_path / "text").write_text("neither")
    with pytest.raises(ValueError, match="text"):
        rs.rerun(tmp_path / "text")


def test_results_of_a_store_agree_or_say_which_do_not(tmp_path, capsys, monkeypatch):
    store = tmp_path / "sweep.db"
    settings = {
        "n": 6, "zeta2": 1.0, "sigma2": 0.1, "steps": 20, "learning_rate": [0.05, 0.1], "seed": [0, 1],
        "algorithm": ["D2", "ChocoSGD(TopK(2), 0.3)"], "topology": "ring",
    }  # fmt: skip
    rs.sweep(settings, store=store, progress=False)
    rs.sweep(
        {"n": 6, "zeta2": 1.0, "target": 1e-3, "topology": "chain"}, store=store, progress=False
    )
    assert rs.rerun(store)
    assert rs.rerun(store, row=3).compared[0] < rs.rerun(store).compared[0]
    assert cli.main(["rerun", str(store)]) == 0
    with pytest.raises(ValueError, match="row must be from 0 to 8, not 9"):
        rs.rerun(store, row=9)
    with pytest.raises(TypeError, match="nothing can be given"):
        rs.rerun(store, problem=PROBLEM)
    monkeypatch.setattr(
        "relaysim.studies.reruns.provenance", lambda: provenance() | {"numpy": "9.0"}
    )
    for row, numpy in ((None, np.__version__), (3, np.__version__)):
        assert rs.rerun(store, row=row).changes == (("numpy", numpy, "9.0"),)
    with sqlite3.connect(store) as connection:  # as older formats have it
        connection.execute("UPDATE results SET provenance = NULL, digest = NULL")
    connection.close()
    assert rs.rerun(store, row=3).changes == ()
    monkeypatch.setattr("relaysim.studies.sweeps.build", lambda setting: {})
    found = rs.rerun(store, row=2)
    assert set(found.differences.replica) == {2}
    assert found.differences.again.str.startswith("TypeError").all()
    capsys.readouterr()
