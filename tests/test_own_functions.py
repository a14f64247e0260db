"""What a user's measures, partitions and rules of events return comes in through the gate."""

import dataclasses

import numpy as np
import pytest

import relaysim as rs
from relaysim.measures import Measure
from relaysim.problems.partitions import Partition

PROBLEM = rs.problems.random_quadratics(n=4, d=2, zeta2=1.0, seed=0)
RING = rs.topologies.ring(4)


def measured(measure):
    return rs.simulate(
        PROBLEM, RING, rs.algorithms.DPSGD(), learning_rate=0.1, steps=2, measures=[measure]
    )


def writes(x):
    x -= 1
    return x.sum()


MASKED = np.ma.masked_array(1.0, mask=True)
WRONG = {
    "masked": (lambda x: MASKED, ValueError, "masked entries in what"),
    "complex": (lambda x: 1j * x.sum(), TypeError, "must return real numbers, not complex128"),
    "nothing": (lambda x: None, TypeError, "must return real numbers, not object"),
    "text": (lambda x: "one", TypeError, "must return real numbers, not <U3"),
    "in place": (writes, ValueError, r"measure 'own' writes into an array .* \(x -= 1\)"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_function_of_x_is_looked_at(case):
    function, error, message = WRONG[case]
    with pytest.raises(error, match=message):
        measured(("own", function))


@pytest.mark.parametrize("case", ["masked", "complex", "in place"])
def test_a_measure_is_looked_at(case):
    function, error, message = WRONG[case]

    def of(iterates, problem):
        found = [function(x) for x in iterates]
        return np.ma.stack(found) if case == "masked" else np.array(found)

    with pytest.raises(error, match=message):
        measured(Measure("own", of))


def test_a_function_whose_shape_changes_is_told_so():
    shapes = iter([(), (1,), (), (1,)])
    with pytest.raises(ValueError, match="one shape for all records"):
        measured(("own", lambda x: np.zeros(next(shapes))))


# -- partitions --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("partition", "error", "message"),
    [
        (
            np.ma.masked_array([0, 1, 0], mask=[0, 1, 0]),
            ValueError,
            "masked entries in the partition",
        ),
        (
            [np.ma.masked_array([0, 1], mask=[0, 1]), [2]],
            ValueError,
            "masked entries in the partition",
        ),
        ([0, 10**15, 1], ValueError, "workers without any example: 2, 3"),
        (np.array([0, 2**63 + 1, 1], dtype=np.uint64), ValueError, "name a worker"),
        ([[0, 1j], [2]], TypeError, "all whole numbers"),
        ([[True, False], [True]], TypeError, "all whole numbers"),
        ([0.0, 1.0, 0.0], ValueError, "name a worker"),
    ],
    ids=["masked", "masked list", "far", "wraps", "complex", "booleans", "floats"],
)
def test_partitions_of_something_else_are_refused(partition, error, message):
    with pytest.raises(error, match=message):
        Partition.of(partition, 3)


def test_owners_beyond_the_workers_are_refused():
    with pytest.raises(ValueError, match="names worker 2; there are 0 to 1"):
        Partition.of([0, 1, 2], 3, n=2)


def test_owners_may_be_unsigned():
    found = Partition.of(np.array([0, 1, 0], dtype=np.uint64), 3)
    assert [index.tolist() for index in found.indices] == [[0, 2], [1]]


# -- rules of events ----------------------------------------------------------------------------------


class Changed:
    """A rule one of whose functions returns something else for x."""

    def __init__(self, rule, name, change):
        self._rule, self._name, self._change = rule, name, change

    def __getattr__(self, name):
        found = getattr(self._rule, name)
        if name != self._name:
            return found

        def changed(*given):
            rows = found(*given)
            if name == "meet":
                return rows[0]._replace(x=self._change(rows[0].x)), rows[1]
            return rows._replace(x=self._change(rows.x))

        return changed


@dataclasses.dataclass(frozen=True)
class Wrong(rs.algorithms.A2CiD2):
    name: str = "flow"
    change: object = None

    def rule(self, topology):
        return Changed(super().rule(topology), self.name, self.change)


@pytest.mark.parametrize("name", ["flow", "descend", "meet"])
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda x: x + 1j, TypeError, "real numbers, not of complex128"),
        (
            lambda x: np.ma.masked_array(x, mask=np.ones(x.shape)),
            ValueError,
            "masked entries in x as",
        ),
        (lambda x: x[0], ValueError, r"must have shape"),
        (lambda x: x.astype(object), TypeError, "not of object"),
    ],
    ids=["complex", "masked", "shape", "object"],
)
def test_rows_that_a_rule_returns_are_looked_at(name, change, error, message):
    with pytest.raises(error, match=message):
        rs.simulate(PROBLEM, RING, Wrong(name=name, change=change), learning_rate=0.1, steps=3)
