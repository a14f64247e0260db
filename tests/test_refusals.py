"""Input that makes no sense is refused before any work: what was given, what is allowed, how to mend it."""

import numpy as np
import pytest

import relaysim as rs

N, D = 6, 3
RING = rs.topologies.ring(N)
PROBLEM = rs.problems.random_quadratics(n=N, d=D, zeta2=1.0, mu=0.25, seed=0)


def simulate(algorithm=None, problem=PROBLEM, **given):
    run = {"learning_rate": 0.1, "steps": 5} | given
    return rs.simulate(problem, RING, algorithm or rs.algorithms.DPSGD(), **run)


class Own:
    """f_i(x) = ½‖x − 1‖², with one of its members changed."""

    n, d = N, D

    def __init__(self, **changed):
        vars(self).update(changed)

    def gradient(self, x):
        return x - 1.0

    def value(self, x):
        return 0.5 * ((x - 1.0) ** 2).sum()


def writes(x):
    x -= 1.0
    return x


STEPS = (
    "steps count from 0 and each has a finite rate of at least 0, as 1 / \\(1 \\+ t\\) gives one"
)
REFUSED = {
    "a rate that divides by the step": (
        lambda: simulate(learning_rate=lambda t: 1 / t),
        f"no learning rate of step 0: ZeroDivisionError, division by zero; {STEPS}",
    ),
    "a rate that is infinite at the start": (
        lambda: simulate(learning_rate=lambda t: 0.1 / np.sqrt(t)),
        f"the learning rate of step 0 is inf; {STEPS}",
    ),
    "a rate of which a later step has none": (
        lambda: simulate(learning_rate=[0.1, 0.2, 0.3].__getitem__),
        f"no learning rate of step 3: IndexError, list index out of range; {STEPS}",
    ),
    "a value that is a vector": (
        lambda: simulate(problem=Own(value=lambda x: 0.5 * (x - 1.0) ** 2)),
        r"value at the start must be one number, not an array of shape \(3,\); add it up over coordinates",
    ),
    "a gradient that writes into x": (
        lambda: simulate(problem=Own(gradient=writes)),
        "gradient writes into an array that it was given to read, in line .* of test_refusals.py .*x = x - c",
    ),
    "a band that there is not": (
        lambda: simulate().plot(band="none"),
        r"band must be 'quantile', 'std', 'minmax', None or two quantiles such as \(0.25, 0.75\), not 'none'",
    ),
    "theory beside a schedule": (
        lambda: simulate(learning_rate=rs.schedules.InverseSqrt(0.5)).plot(theory=True),
        "of a constant learning rate, .*, and this run's is a schedule, InverseSqrt; leave theory out, or",
    ),
    "theory beside a function of the step": (
        lambda: simulate(learning_rate=lambda t: 0.5 / (1 + t)).plot(theory=True),
        "this run's is a function of the step; leave theory out",
    ),
    "theory beside many rates": (
        lambda: simulate(learning_rate=[0.1, 0.2, 0.3, 0.4]).plot(theory=True),
        "theory over 4 learning rates cannot be told apart; simulate at most 3",
    ),
    "who knows what when, without iterates": (
        lambda: rs.plots.spacetime(simulate()),
        "has no iterates, of which there must be one of each worker .*; simulate with keep_iterates=True",
    ),
    "who knows what when, of some workers": (
        lambda: rs.plots.spacetime(simulate(keep_iterates=[0, 2])),
        "kept the iterates of 2 of 6 workers, and no mean of all; simulate with keep_iterates=True",
    ),
    "more entries than a vector has": (
        lambda: simulate(rs.algorithms.ChocoSGD(rs.compressors.TopK(D + 1), 0.3)),
        r"TopK\(4\) keeps 4 numbers of a vector, and vectors have 3 here; take k from 1 to 3, or .*Identity",
    ),
    "more entries than a vector has, at random": (
        lambda: simulate(rs.algorithms.BEER(rs.compressors.RandomK(40), 0.3)),
        r"RandomK\(40\) keeps 40 numbers of a vector, and vectors have 3 here",
    ),
    "a merge after the end": (
        lambda: simulate(rs.algorithms.SingleMerge(merge_at=6)),
        r"SingleMerge\(merge_at=6, .*\) needs at least 6 steps and the run has 5: .*; take more steps",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_with_the_mend(name):
    call, sentence = REFUSED[name]
    with pytest.raises(ValueError, match=sentence):
        call()


def test_what_stands_next_to_it_is_allowed():
    """Limits: k = d, a merge after the last step, no band, a rate that no step asks for."""
    choco = simulate(rs.algorithms.ChocoSGD(rs.compressors.TopK(D), 0.3))
    merged = simulate(rs.algorithms.SingleMerge(merge_at=5))
    assert not choco.diverged.any()
    assert (
        merged.frame.consensus_distance.iloc[-1] < 1e-30 < merged.frame.consensus_distance.iloc[-2]
    )
    ax = simulate(replicas=3, oracle=rs.oracles.Gaussian(0.1)).plot(band=None)
    assert len(ax.lines) == 1
    assert not ax.collections
    part = simulate(rs.algorithms.SingleMerge(merge_at=8), keep_state=True)
    assert part.extend(3).frame.consensus_distance.iloc[-1] < 1e-30
    simulate(learning_rate=lambda t: 1 / (5 - t))  # step 5 is not taken


def test_a_table_of_claims_bears_compressors_that_refuse_a_length():
    for compressor in (rs.compressors.TopK(5000), rs.compressors.LowRank(1, 3)):
        assert "compressed messages" in rs.algorithms.ChocoSGD(compressor, 0.3)._repr_html_()


def quadratics(**given):
    return rs.problems.random_quadratics(**({"n": 4, "d": 2, "zeta2": 1.0, "seed": 0} | given))


TRUE_FOR_A_NUMBER = {
    "a probability": lambda: rs.faults.MessageDrop(True),
    "probabilities": lambda: rs.faults.MessageDrop([0.1, False]),
    "a fault's rate": lambda: rs.faults.LinkFailure(True, 0.5),
    "rates of workers": lambda: rs.PerWorker([0.1, True]),
    "their scale": lambda: rs.PerWorker([0.1, 0.2], True),
    "the start of a schedule": lambda: rs.schedules.InverseSqrt(True),
    "the steps of a schedule": lambda: rs.schedules.Cosine(0.1, True),
    "a learning rate": lambda: simulate(learning_rate=True),
    "learning rates": lambda: simulate(learning_rate=[0.1, True]),
    "a rate of a step": lambda: simulate(learning_rate=lambda t: t < 3),
    "an array": lambda: simulate(learning_rate=np.array([True])),
    "steps": lambda: simulate(steps=True),
    "a seed": lambda: simulate(seed=[0, True]),
    "replicas": lambda: simulate(replicas=True),
    "a momentum": lambda: rs.algorithms.DPSGD(momentum=False),
    "a level of noise": lambda: rs.oracles.Gaussian(np.bool_(True)),
    "levels of noise": lambda: rs.oracles.Gaussian([0.1, True]),
    "a compressor's size": lambda: rs.compressors.TopK(True),
    "workers": lambda: rs.topologies.ring(True),
    "heterogeneity": lambda: quadratics(zeta2=True),
    "theory": lambda: rs.theory.stable_learning_rates(
        quadratics(), rs.topologies.ring(4), rs.algorithms.D2(), seconds=True
    ),
}


@pytest.mark.parametrize("call", TRUE_FOR_A_NUMBER.values(), ids=TRUE_FOR_A_NUMBER)
def test_true_and_false_are_no_numbers(call):
    with pytest.raises((TypeError, ValueError), match=r"must (be|lie) .*, not .*(True|False)"):
        call()
