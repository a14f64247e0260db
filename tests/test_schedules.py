"""Learning rates that change with the step: by their formulas, in runs, in files."""

import math

import numpy as np
import pytest

import relaysim as rs

SCHEDULES = {
    rs.schedules.InverseSqrt(0.4): lambda t: 0.4 / math.sqrt(t + 1),
    rs.schedules.InverseTime(0.4, 7): lambda t: 0.4 / (1 + t / 7),
    rs.schedules.Cosine(0.4, 20): lambda t: 0.2 * (1 + math.cos(math.pi * t / 20)),
    rs.schedules.Cosine(0.4, 20, warmup=5): lambda t: (
        0.08 * (t + 1) if t < 5 else 0.2 * (1 + math.cos(math.pi * (t - 5) / 15))
    ),
    rs.schedules.Steps(0.4, {12: 0.25, 4: 0.5}): lambda t: (
        0.4 if t < 4 else 0.2 if t < 12 else 0.05
    ),
}


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_a_run_follows_the_formula_and_a_file_keeps_it(schedule, tmp_path):
    formula = SCHEDULES[schedule]
    problem = rs.problems.random_quadratics(n=4, d=3, zeta2=1.0, seed=0)
    run = {"steps": 20, "oracle": rs.oracles.Gaussian(0.1)}
    where = (problem, rs.topologies.ring(4), rs.algorithms.GradientTracking())
    history = rs.simulate(*where, learning_rate=schedule, **run)
    by_hand = rs.simulate(*where, learning_rate=formula, **run)
    # In force at a step is the rate of the update that led there.
    np.testing.assert_allclose(history.x, by_hand.x, rtol=1e-12)
    assert [schedule(t) for t in range(20)] == pytest.approx([formula(t) for t in range(20)], 1e-15)
    loaded = rs.History.load(history.save(tmp_path / "run.npz"))
    arguments = rs.rebuild(loaded.config)
    assert arguments["learning_rate"] == schedule
    np.testing.assert_array_equal(rs.simulate(**arguments).x, history.x)


def test_a_run_at_a_schedule_goes_on_where_it_ended():
    problem = rs.problems.random_quadratics(n=4, d=3, zeta2=1.0, seed=0)
    schedule = rs.schedules.Cosine(0.4, 30, warmup=5)
    run = {"learning_rate": schedule}
    where = (problem, rs.topologies.ring(4), rs.algorithms.DPSGD())
    first = rs.simulate(*where, steps=12, keep_state=True, **run)
    np.testing.assert_array_equal(first.extend(18).x, rs.simulate(*where, steps=30, **run).x)


def test_after_its_steps_a_cosine_is_zero():
    assert rs.schedules.Cosine(0.5, 10)(10) == rs.schedules.Cosine(0.5, 10)(99) == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: rs.schedules.InverseSqrt(-1), "start must be a finite number of at least 0"),
        (lambda: rs.schedules.InverseSqrt("fast"), "start must be a number"),
        (lambda: rs.schedules.InverseTime(0.1, 0), "offset must be positive"),
        (
            lambda: rs.schedules.Cosine(0.1, 10, warmup=10),
            "warmup must be below steps = 10, not 10",
        ),
        (lambda: rs.schedules.Cosine(0.1, 0), "steps must be at least 1"),
        (lambda: rs.schedules.Steps(0.1, 5), "factors must be a mapping"),
        (lambda: rs.schedules.Steps(0.1, {1.5: 2}), "a step of factors must be a whole number"),
        (
            lambda: rs.schedules.Steps(0.1, {1: -2}),
            "a factor must be a finite number of at least 0",
        ),
        (lambda: rs.schedules.Listed([0.1, np.nan]), "at least 0; step 1 has nan"),
        (lambda: rs.schedules.Listed([np.inf]), "at least 0; step 0 has inf"),
        (lambda: rs.schedules.Listed([0.2, 0.1, -0.1]), "at least 0; step 2 has -0.1"),
        (lambda: rs.schedules.Listed([]), r"Listed takes one rate for each step, .*, not \[\]"),
        (lambda: rs.schedules.Listed(0.1), "Listed takes one rate for each step"),
        (lambda: rs.schedules.Listed([0.1, True]), "rates of Listed must be numbers"),
    ],
)
def test_what_is_no_schedule_is_refused(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()


def test_pairs_mappings_and_numpy_numbers_are_one_schedule():
    Steps = rs.schedules.Steps
    same = Steps(np.float32(0.5), ((200, 0.5), (np.int64(100), np.float64(0.1))))
    assert same == Steps(0.5, {100: 0.1, 200: 0.5})
    assert repr(same) == "Steps(start=0.5, factors=((100, 0.1), (200, 0.5)))"
