"""Ctrl-C: what was recorded comes back, and a second one raises."""

import os
import signal

import numpy as np
import pytest

import relaysim as rs
from relaysim.support import interrupts

PROBLEM = rs.problems.random_quadratics(n=4, d=2, zeta2=1.0, seed=0)


class Interrupting(rs.oracles.Gaussian):
    """Presses Ctrl-C while a step is computed: ``times`` in the step ``at``."""

    at, times = 37, 1

    def observe(self, problem, streams):
        gradient, calls = super().observe(problem, streams), 0

        def observed(x, out):
            nonlocal calls
            if calls == self.at:
                for _ in range(self.times):
                    os.kill(os.getpid(), signal.SIGINT)
            calls += 1
            return gradient(x, out)

        return observed


def run(steps, oracle=None, algorithm=None, **options):
    return rs.simulate(
        PROBLEM,
        rs.topologies.chain(4),
        algorithm or rs.algorithms.RelaySGD(momentum=0.5),
        learning_rate=[0.1, 0.2],
        steps=steps,
        oracle=oracle or rs.oracles.Gaussian(0.1),
        **options,
    )


@pytest.mark.parametrize("record", [None, 10, "log", [0, 5, 9000], [9000]])
def test_the_history_is_that_of_the_steps_that_were_taken(record, tmp_path):
    before = signal.getsignal(signal.SIGINT)
    stopped = run(10_000, Interrupting(0.1), record=record, keep_iterates=True)
    assert signal.getsignal(signal.SIGINT) is before
    taken = stopped.config["steps"]
    assert stopped.interrupted
    assert "interrupted" in repr(stopped)
    assert 37 < taken < 100
    if isinstance(record, list):
        record = [step for step in record if step < taken] + [taken]
    whole = run(taken, record=record, keep_iterates=True)
    assert not whole.interrupted
    assert stopped.frame.equals(whole.frame)
    assert (stopped.x == whole.x).all()
    assert (stopped.iterates == whole.iterates).all()
    stopped.config["oracle"] = whole.config["oracle"]
    loaded = rs.History.load(stopped.save(tmp_path / "stopped"))
    assert loaded.interrupted
    if not isinstance(record, list):
        longer = loaded.extend(20)
        assert longer.frame.equals(run(taken + 20, record=record).frame)
        assert not longer.interrupted


def test_a_second_one_raises(monkeypatch):
    monkeypatch.setattr(Interrupting, "times", 2)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run(1000, Interrupting(0.1))
    assert signal.getsignal(signal.SIGINT) is before


def test_asynchronous_methods_end_in_order(monkeypatch):
    looks = iter([False] * 20 + [True] * 1000)
    made = property(lambda self: next(looks), lambda self, to: None)
    monkeypatch.setattr(interrupts.StopRequest, "made", made, raising=False)
    stopped = run(1000, algorithm=rs.algorithms.A2CiD2())
    monkeypatch.undo()
    taken = stopped.config["steps"]
    assert stopped.interrupted
    assert stopped.frame.equals(run(taken, algorithm=rs.algorithms.A2CiD2()).frame)


def test_a_search_names_the_best_of_what_it_tried(monkeypatch):
    chain, method = rs.topologies.chain(4), rs.algorithms.RelaySGD()
    whole = rs.tune(PROBLEM, chain, method, target=1e-6)
    for criterion in ("fastest", "plateau"):
        for watched in (0, 2):
            watch = rs.studies.rate_search.RateSearch._watch
            counts = iter(range(100))

            def interrupted(self, *given, watch=watch, counts=counts, most=watched, **options):
                if next(counts) == most:
                    raise KeyboardInterrupt
                return watch(self, *given, **options)

            monkeypatch.setattr(rs.studies.rate_search.RateSearch, "_watch", interrupted)
            found = rs.tune(PROBLEM, chain, method, target=1e-6, criterion=criterion)
            monkeypatch.undo()
            assert found.interrupted
            if criterion == "fastest" and watched:
                assert whole.steps <= found.steps < 2 * whole.steps
                best = found.frame.loc[found.frame.steps.idxmin()]
                assert (best.learning_rate, best.steps) == (found.learning_rate, found.steps)
            elif not watched:
                assert np.isnan(found.learning_rate)
    assert not whole.interrupted


def test_sweeps_and_figures_take_no_part_for_the_whole():
    settings = {"n": 4, "d": 2, "topology": "chain", "learning_rate": 0.1, "steps": 10**7}
    previous = signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        with pytest.raises(KeyboardInterrupt):
            rs.sweep(settings | {"record": 1000}, progress=False)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
