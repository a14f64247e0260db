"""What users hand over, and what their functions return, comes in through one gate."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array

import relaysim as rs
from relaysim.problems.acceptance import NEAR_ZERO, stationarity
from relaysim.support.checks import label_values, real_array, real_matrix

N, D = 6, 3
RING = rs.topologies.ring(N)
CENTERS = np.random.default_rng(0).normal(size=(N, D))
METHODS = (rs.algorithms.DPSGD(), rs.algorithms.D2(), rs.algorithms.A2CiD2())
MASKED = np.ma.masked_array(np.ones((N, D)), mask=np.eye(N, D, dtype=bool))
over_methods = pytest.mark.parametrize("algorithm", METHODS, ids=repr)


def simulate(problem, algorithm=METHODS[0], **options):
    options = {"learning_rate": 0.2, "steps": 30} | options
    return rs.simulate(problem, RING, algorithm, **options)


def spread(array, x):
    return array.reshape(array.shape + (1,) * (x.ndim - 2))


class Hill:
    """f_i(x) = ½‖x − c_i‖², with what a test puts in its place."""

    def __init__(self, **own):
        self.n, self.d, self.centers = N, D, CENTERS
        self.__dict__.update(own)

    def gradient(self, x):
        return x - spread(self.centers, x)

    def value(self, x):
        return 0.5 * ((x - self.centers) ** 2).sum() / self.n


# -- read-only views -------------------------------------------------------------------------------


class InPlace(Hill):
    def gradient(self, x):
        x -= spread(self.centers, x)
        return x


class InPlaceWithOut(Hill):
    def gradient(self, x, out=None):
        np.subtract(x, spread(self.centers, x), out=x)
        return x


class InPlaceValue(Hill):
    def value(self, x):
        x *= 2
        return x.sum()


class InPlaceRows(Hill):
    def gradient_of(self, workers, x):
        x -= self.centers[workers]
        return x


class InPlaceSample(Hill):
    examples = np.full(N, 5)

    def sampled_gradient(self, x, index):
        index[:] = 0
        return x - spread(self.centers, x)


@pytest.mark.parametrize(
    ("problem", "options", "message"),
    [
        (InPlace(), {}, r"gradient writes .*test_gate.py \(x -= spread\(self.centers, x\)\)"),
        (InPlace(), {"replicas": 2}, r"gradient writes .* \(x -= spread"),
        (InPlace(), {"algorithm": METHODS[2]}, r"gradient writes .* \(x -= spread"),
        (InPlaceWithOut(), {}, r"gradient writes .* \(np.subtract\(x, .*out=x\)\)"),
        (InPlaceValue(), {}, r"value writes .* \(x \*= 2\)"),
        (InPlaceRows(), {"algorithm": METHODS[2]}, r"gradient_of writes .* \(x -= self"),
        (
            InPlaceSample(),
            {"oracle": rs.oracles.Minibatch(2)},
            r"sampled_gradient writes .* \(index\[:\] = 0\)",
        ),
    ],
)
def test_a_problem_that_writes_into_what_it_reads_is_told_the_line(problem, options, message):
    with pytest.raises(ValueError, match=message):
        simulate(problem, **options)


def test_the_line_is_that_of_the_problem():
    code = InPlace.gradient.__code__
    with pytest.raises(ValueError, match=rf"in line {code.co_firstlineno + 1} of test_gate\.py"):
        simulate(InPlace())


def test_an_error_of_the_problems_own_is_left_as_it_is():
    class Refusing(Hill):
        def gradient(self, x):
            raise ValueError("not today")

    with pytest.raises(ValueError, match=r"^not today$"):
        simulate(Refusing())


@over_methods
def test_a_gradient_may_return_what_it_was_given(algorithm):
    class Bowl(Hill):
        def gradient(self, x):
            return x

        def value(self, x):
            return 0.5 * x @ x

    class Copying(Bowl):
        def gradient(self, x):
            return x.copy()

    x0 = CENTERS
    found, expected = (simulate(p(), algorithm, x0=x0).x for p in (Bowl, Copying))
    np.testing.assert_array_equal(found, expected)


# -- what problems return --------------------------------------------------------------------------


@over_methods
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda g: g + 0j, TypeError, "gradient must be an array of real numbers, not of complex"),
        (
            lambda g: np.ma.masked_array(g, mask=g > 0),
            ValueError,
            "masked entries in the problem's",
        ),
        (lambda g: g.astype(object), TypeError, "not of object"),
        (lambda g: g[:1], ValueError, "it must have that of x, a row for each worker"),
        (lambda g: g * np.nan, ValueError, "NaN at the start, in coordinate 0 of worker 0"),
    ],
)
def test_gradients_that_are_none_are_refused(algorithm, change, error, message):
    class Strange(Hill):
        def gradient(self, x):
            return change(super().gradient(x))

    with pytest.raises(error, match=message):
        simulate(Strange(), algorithm)


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (1j, TypeError, "value must be an array of real numbers, not of complex"),
        (np.nan, ValueError, "the problem's value is NaN at the start"),
        ("much", TypeError, "real numbers"),
        (None, TypeError, "not of object"),
        (np.ones(D), ValueError, r"must be one number, not an array of shape \(3,\)"),
    ],
)
def test_values_that_are_none_are_refused(value, error, message):
    with pytest.raises(error, match=message):
        simulate(Hill(value=lambda x: value))


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"suboptimality": lambda x: x}, r"suboptimality must have shape \(\d+,\), not \(3, \d+\)"),
        ({"suboptimality": lambda x: x[0] + 1j}, "suboptimality must be an array of real numbers"),
        ({"mean_gradient": lambda x: x[0]}, r"mean_gradient must have shape"),
        (
            {"suboptimality_and_gradient": lambda x: x},
            r"must return a pair, f\(x\) − f\(x\*\) and ∇f",
        ),
        (
            {"suboptimality_and_gradient": lambda x: (x, x)},
            r"suboptimality_and_gradient must have shape \(\d+,\), not \(3, \d+\)",
        ),
        (
            {"suboptimality_and_gradient": lambda x: (x[0], x[0])},
            r"suboptimality_and_gradient must have shape \(3, \d+\), not \(\d+,\)",
        ),
        ({"optimum": np.full(D, np.nan)}, "optimum has an entry that is not finite, at index"),
        ({"optimum": np.zeros(D) + 1j}, "optimum must be an array of real numbers"),
    ],
)
def test_what_a_problem_may_offer_is_looked_at_too(own, message):
    own = {"optimum": CENTERS.mean(axis=0)} | own
    with pytest.raises((TypeError, ValueError), match=message):
        simulate(Hill(**own))


@pytest.mark.parametrize(
    "examples", [np.ones(N), np.ones(N + 1, dtype=int), np.zeros(N, dtype=int)]
)
def test_examples_are_whole_numbers(examples):
    problem = InPlaceSample(examples=examples)
    with pytest.raises(ValueError, match="how many each worker has"):
        simulate(problem, oracle=rs.oracles.Minibatch(1))


def test_a_sampled_gradient_need_not_take_out():
    class Sampled(InPlaceSample):
        def sampled_gradient(self, x, index):
            return self.gradient(x)

    found = simulate(Sampled(), oracle=rs.oracles.Minibatch(2)).x
    np.testing.assert_array_equal(found, simulate(Hill()).x)


# -- what users hand over --------------------------------------------------------------------------

COMPLEX = np.full((N, N), 1 / N) + 0j
OBJECTS = np.full((N, N), 1 / N).astype(object)
LABELS = np.arange(12.0) % 2
MISSING = np.where(LABELS == 0, np.nan, 1)


@pytest.mark.parametrize(
    "call",
    [
        lambda: simulate(Hill(), x0=CENTERS + 1j),
        lambda: simulate(Hill(), x0=MASKED),
        lambda: simulate(Hill(), x0=CENTERS.astype(object)),
        lambda: simulate(Hill(), learning_rate=np.ma.masked_array([0.1, 0.2], mask=[0, 1])),
        lambda: simulate(Hill(), learning_rate=[0.1, 0.2j]),
        lambda: simulate(Hill(), learning_rate=np.complex64(0.1 + 1j)),
        lambda: simulate(Hill(), learning_rate=lambda t: 0.1j),
        lambda: simulate(Hill(), learning_rate=lambda t: np.ma.masked),
        lambda: simulate(Hill(), mixing=COMPLEX),
        lambda: simulate(Hill(), mixing=csr_array(COMPLEX)),
        lambda: simulate(Hill(), mixing=OBJECTS),
        lambda: simulate(Hill(), mixing=np.ma.masked_array(COMPLEX.real, mask=np.eye(N))),
        lambda: rs.mixing.lazy(COMPLEX),
        lambda: rs.mixing.lazy(csr_array(COMPLEX)),
        lambda: rs.mixing.lazy(OBJECTS),
        lambda: rs.theory.spectral_gap(COMPLEX),
        lambda: rs.problems.LeastSquares(MASKED[None], np.ones((1, N))),
        lambda: rs.problems.LeastSquares(np.ones((1, N, D)), 1j * np.ones((1, N))),
        lambda: rs.problems.DiagonalQuadratic(np.ones((N, D)), MASKED),
        lambda: rs.problems.DiagonalQuadratic(np.ones((N, D)), CENTERS + 0j),
        lambda: rs.problems.MatrixQuadratic(MASKED[None]),
        lambda: rs.problems.Logistic([[[1j], [2.0]]], [[0, 1]], l2=0.1),
        lambda: rs.problems.Logistic(MASKED[None, :2], [[0, 1]], l2=0.1),
        lambda: rs.problems.Logistic([[[1.0], [2.0]]], [[0, np.nan]], l2=0.1),
        lambda: rs.problems.Logistic(
            [[[1.0], [2.0]]], [np.ma.masked_array([0, 1], [1, 0])], l2=0.1
        ),
        lambda: rs.problems.Logistic([[[1.0], [2.0]]], [["a", None]], l2=0.1),
        lambda: rs.problems.data.Dataset(np.ones((12, 2)), MISSING),
        lambda: rs.problems.data.Dataset(np.ones((12, 2)) * 1j, LABELS),
        lambda: rs.problems.partitions.iid(MISSING, n=3),
        lambda: rs.problems.partitions.dirichlet(MISSING, n=3, alpha=1.0),
        lambda: rs.faults.MessageDrop([0.1, 0.2j]),
        lambda: rs.topologies.from_edges(3, np.ma.masked_array([[0, 1], [1, 2]], [[0, 0], [1, 0]])),
        lambda: rs.faults.Byzantine([True, False]),  # a mask, not workers 1 and 0
        lambda: rs.faults.Crash(0.1, workers=[False, True]),
        lambda: simulate(Hill(), keep_iterates=[True, False]),
        lambda: simulate(Hill(), record=[True, False]),
        lambda: simulate(Hill(), seed=[False, True]),
        lambda: simulate(Hill(), learning_rate=True),
        lambda: simulate(Hill(), steps=np.True_),
        lambda: rs.schedules.InverseSqrt(True),
        lambda: rs.compressors.TopK(True),
        lambda: rs.oracles.Gaussian(np.complex64(1)),
        lambda: rs.analysis.power_law([1, 2, 3], np.ma.masked_array([1, 2, 3], [1, 0, 0])),
    ],
)
def test_what_is_no_array_of_numbers_is_refused(call):
    with pytest.raises((TypeError, ValueError), match=r"real|masked|number|missing|classes"):
        call()


def test_complex_points_are_refused_by_problems():
    quadratic = rs.problems.DiagonalQuadratic(np.ones((N, D)), CENTERS)
    logistic = rs.problems.Logistic([[[1.0], [2.0]]], [[0, 1]], l2=0.1)
    for call in (quadratic.value, quadratic.suboptimality, logistic.value, logistic.curvature_at):
        with pytest.raises(TypeError, match="x must be an array of real numbers"):
            call(np.ones(D) + 1j)


@pytest.mark.parametrize("name", ["masked_array", "list"])
def test_the_mask_of_a_part_counts(name):
    part = np.ma.masked_array([1.0, 2.0], mask=[False, True])
    with pytest.raises(ValueError, match=r"masked entries in A.*\.filled\(0\)"):
        real_array(part if name == "masked_array" else [part, [1.0, 2.0]], "A")
    whole = np.ma.masked_array([1.0, 2.0], mask=[False, False])
    assert type(real_array(whole, "A")) is np.ndarray


def test_the_gate_says_what_is_wrong():
    with pytest.raises(ValueError, match=r"A must have shape \(2, 2\), not \(2,\)"):
        real_array([1, 2], "A", shape=(2, 2))
    with pytest.raises(ValueError, match=r"A has an entry that is not finite, at index \(1,\)"):
        real_array([1, np.inf], "A", finite=True)
    assert real_array([1e308, 1e308], "A", finite=True).tolist() == [1e308, 1e308]
    frame = pd.DataFrame({"a": [0.5, 1.0], "b": [True, False]})
    with pytest.raises(TypeError, match=r"not of object; .* as with \.astype\(float\)"):
        real_matrix(frame.to_numpy(), "features")
    with pytest.raises(ValueError, match="label 1 of labels is missing"):
        label_values(np.array(["a", None], dtype=object))
    given = np.ones(2)
    assert real_array(given, "A") is given
    assert not np.shares_memory(real_array(given, "A", copy=True), given)


# -- the optimum -----------------------------------------------------------------------------------


@dataclasses.dataclass
class Spring:
    """f_i(x) = ½ h ‖x − c_i‖² with the optimum that it is given."""

    centers: np.ndarray
    optimum: np.ndarray
    h: float = 1.0

    def __post_init__(self):
        self.n, self.d = self.centers.shape

    def gradient(self, x):
        return self.h * (x - spread(self.centers, x))

    def value(self, x):
        return 0.5 * self.h * ((x - self.centers) ** 2).sum() / self.n


def test_a_wrong_optimum_is_refused_with_both_numbers():
    wrong = Spring(CENTERS, CENTERS.sum(axis=0))
    there = np.linalg.norm(CENTERS.sum(axis=0) - CENTERS.mean(axis=0))
    start = np.linalg.norm(CENTERS.mean(axis=0))
    with pytest.raises(
        ValueError, match=rf"optimum is none: .* {there:.3g} there and {start:.3g} at"
    ):
        simulate(wrong)


@pytest.mark.parametrize("scale", [1e-150, 1.0, 1e150])
@pytest.mark.parametrize("h", [1e-100, 1.0, 1e100])
@pytest.mark.parametrize("apart", [0.0, 1.0, 1e6])
def test_the_criterion_has_no_units(scale, h, apart):
    best = np.array([1.0, -2.0, 0.5])
    centers = scale * (best + apart * (CENTERS - CENTERS.mean(axis=0)))
    start = np.zeros(D)
    for factor, passes in ((0, True), (1e-8, True), (0.1 * NEAR_ZERO, True), (0.01, False)):
        optimum = scale * best * (1 + factor)
        found, allowed, _ = stationarity(Spring(centers, optimum, h), start)
        if apart < 1e6 or factor != 0.01:
            assert (found <= allowed) == passes, factor


def test_heterogeneity_does_not_hide_a_wrong_optimum():
    apart = CENTERS - CENTERS.mean(axis=0)
    for zeta in (1.0, 1e3, 1e6):
        centers = 1 + zeta * apart
        simulate(Spring(centers, centers.mean(axis=0)))
        with pytest.raises(ValueError, match="optimum is none"):
            simulate(Spring(centers, centers.mean(axis=0) + 0.01))


def test_starts_that_tell_nothing_of_scale_do_not_refuse():
    same = np.zeros((N, D))
    for error in (0.0, 1e-12, 1e-9):
        simulate(Spring(same, np.full(D, error)))  # it starts at the true optimum
        simulate(Spring(same + 3, np.full(D, 3 + error)), x0=np.full(D, 3 + error))
        simulate(Spring(same + 3, np.full(D, 3 + error)), x0=np.full(D, 3.0))
    with pytest.raises(ValueError, match="optimum is none"):
        simulate(Spring(same + 3, np.ones(D)), x0=np.ones(D))  # it starts at a wrong one


def test_an_optimum_found_by_a_solver_passes():
    generator = np.random.default_rng(0)
    features = generator.normal(size=(4, 20, 3))
    labels = features[..., 0] + generator.normal(size=(4, 20)) > 0
    exact = rs.problems.Logistic(features, labels, l2=0.1)

    class Solved:
        n, d = exact.n, exact.d
        gradient, value = exact.gradient, exact.value
        optimum = exact.optimum * (1 + 1e-8)

    run = {"learning_rate": 0.5, "steps": 5}
    rs.simulate(Solved(), rs.topologies.ring(4), METHODS[0], **run)
    Solved.optimum = exact.optimum + 0.05
    with pytest.raises(ValueError, match="optimum is none"):
        rs.simulate(Solved(), rs.topologies.ring(4), METHODS[0], **run)


def test_a_wrong_optimum_is_refused_wherever_runs_begin():
    wrong = Spring(CENTERS, CENTERS.mean(axis=0) + 1)
    with pytest.raises(ValueError, match="optimum is none"):
        rs.tune(wrong, RING, METHODS[0])
    with pytest.raises(ValueError, match="optimum is none"):
        simulate(wrong, replicas=3)


# -- frames -----------------------------------------------------------------------------------------

FRAME = pd.DataFrame(
    {
        "a": [0.5, -1.0, 2.0, 0.25],
        "b": [True, False, True, True],
        "c": [3, 1, 2, 0],
        "d": pd.array([1, 0, 2, 5], dtype="Int64"),
        "e": pd.array([True, True, False, True], dtype="boolean"),
        "f": pd.array([0.0, 1.0, 0.0, 2.5], dtype=pd.SparseDtype(float)),
        "g": pd.Series([1, 2, 3, 4], dtype="uint8"),
    }
)


def test_columns_of_any_numbers_are_read_as_such():
    right = np.column_stack([[float(entry) for entry in FRAME[name]] for name in FRAME])
    for read in (real_array, real_matrix):
        assert np.array_equal(read(FRAME, "features"), right)
    for name in FRAME:
        assert np.array_equal(real_array(FRAME[name], "x"), right[:, list(FRAME).index(name)])
        assert np.array_equal(real_array(FRAME[name].array, "x"), real_array(FRAME[name], "x"))


def test_logistic_regression_on_a_frame_with_booleans():
    frame = pd.get_dummies(FRAME.assign(word=["u", "v", "u", "w"]))
    labels = pd.Series([True, False, True, True], dtype="boolean")
    split = [[0, 1], [2, 3]]
    found = rs.problems.Logistic(frame, labels, l2=0.1, partition=split)
    right = rs.problems.Logistic(
        frame.astype(float).to_numpy(), labels.to_numpy(bool), l2=0.1, partition=split
    )
    assert np.array_equal(found.optimum, right.optimum)
    assert np.array_equal(found.predict(found.optimum, frame), right.predict(right.optimum))
    parts = [frame.iloc[:2], frame.iloc[2:]]
    each = rs.problems.Logistic(parts, [labels[:2], labels[2:]], l2=0.1)
    assert np.abs(each.optimum - right.optimum).max() < 1e-12
    data = rs.problems.data.Dataset(frame, labels)
    assert np.array_equal(data.features, frame.astype(float))


@pytest.mark.parametrize(
    "column",
    [
        ["u", "v", "u", "w"],
        [True, None, False, True],
        pd.Series(["1", "2", "1", "2"], dtype="category"),
        pd.to_datetime(["2020", "2021", "2022", "2023"]),
        np.array([1, 2j, 3, 4]),
    ],
    ids=["words", "missing", "categories", "dates", "complex"],
)
def test_a_column_that_is_no_numbers_is_named(column):
    with pytest.raises(TypeError, match=r"its column 'odd' is of .*astype"):
        rs.problems.Logistic(
            FRAME.assign(odd=column), [0, 1, 0, 1], l2=0.1, partition=[[0, 1], [2, 3]]
        )


def test_a_missing_number_of_a_frame_is_not_finite():
    frame = FRAME.assign(d=pd.array([1, None, 2, 5], dtype="Int64"))
    with pytest.raises(ValueError, match="not finite, in example 1, column 3"):
        rs.problems.Logistic(frame, [0, 1, 0, 1], l2=0.1, partition=[[0, 1], [2, 3]])


@pytest.mark.parametrize(
    "labels",
    [
        pd.Series([1, pd.NA, 0]),
        pd.Series(["a", None, "b"], dtype="string"),
        pd.Series([1, None, 0], dtype="Int64"),
        pd.to_datetime(pd.Series(["2020", None, "2021"])),
    ],
    ids=["objects", "string", "Int64", "dates"],
)
def test_missing_labels_of_any_kind_are_refused(labels):
    with pytest.raises(ValueError, match="label 1 of labels is missing"):
        label_values(labels)


@pytest.mark.usefixtures("step_by_step")
def test_a_table_is_a_mixing_matrix_if_its_rows_and_columns_are_in_one_order():
    ring, names = rs.topologies.ring(4), list("abcd")
    problem = rs.problems.random_quadratics(n=4, d=2, zeta2=1.0, seed=0)
    run = {"learning_rate": 0.1, "steps": 3}
    W = rs.mixing.uniform(ring, 0.3).toarray()
    table = pd.DataFrame(W, index=names, columns=names)
    expected = rs.simulate(problem, ring, rs.algorithms.DPSGD(), mixing=W, **run)
    for mixing in (table, [table], lambda step: table):
        found = rs.simulate(problem, ring, rs.algorithms.DPSGD(), mixing=mixing, **run)
        assert found.x.tobytes() == expected.x.tobytes()
    assert rs.theory.spectral_gap(table) == rs.theory.spectral_gap(W)
    setting = {"algorithm": "DPSGD", "topology": "ring", "n": 4, "d": 2, "zeta2": 1.0, **run}
    by_sweep = rs.sweep(setting | {"mixing": table}, progress=False)
    np.testing.assert_allclose(by_sweep.suboptimality, expected.frame.suboptimality, rtol=1e-12)
    with pytest.raises(ValueError, match=r"rows of the mixing matrix are .* put them in one order"):
        rs.simulate(problem, ring, rs.algorithms.DPSGD(), mixing=table[names[::-1]], **run)
    with pytest.raises(TypeError, match=r"its column 'a' is of .*; fill in what is missing"):
        rs.simulate(problem, ring, rs.algorithms.DPSGD(), mixing=table.astype(str), **run)
    with pytest.raises(TypeError, match=r"or a sequence of them, not 0\.5"):
        rs.simulate(problem, ring, rs.algorithms.DPSGD(), mixing=0.5, **run)


def test_what_a_problem_says_of_its_optimal_value_is_its_value_there():
    class Stated(Hill):
        optimum = CENTERS.mean(axis=0)

    right = Stated().value(Stated.optimum)
    found = simulate(Stated(optimal_value=right)).frame.suboptimality
    np.testing.assert_array_equal(found, simulate(Stated()).frame.suboptimality)
    with pytest.raises(ValueError, match=r"optimal_value is .*, and its value at its optimum is"):
        simulate(Stated(optimal_value=right + 0.1))


def test_no_starting_point_is_refused():
    with pytest.raises(ValueError, match=r"no starting point, of shape \(\d+, 3, 0\)"):
        simulate(Hill(), x0=np.zeros((N, D, 0)))


def test_what_is_neither_true_nor_false_is_refused_before_work():
    for name, value in (("keep_state", 3), ("progress", "yes")):
        with pytest.raises(TypeError, match=f"{name} must be True or False, not {value!r}"):
            simulate(Hill(), **{name: value})
    for n_jobs, error in ((0, ValueError), ("two", TypeError)):
        with pytest.raises(error, match="n_jobs must be a"):
            rs.sweep({"n": 4, "steps": 2, "learning_rate": 0.1}, n_jobs=n_jobs)


def test_a_function_of_matrices_that_was_not_called_is_named():
    with pytest.raises(
        TypeError, match=r"function metropolis itself.*: mixing=metropolis\(topology\)"
    ):
        rs.simulate(
            rs.problems.random_quadratics(n=4, d=2, zeta2=1.0, seed=0),
            rs.topologies.ring(4),
            rs.algorithms.DPSGD(),
            learning_rate=0.1,
            steps=2,
            mixing=rs.mixing.metropolis,
        )


def test_an_option_of_a_method_among_settings_is_told_where_it_belongs():
    for given in ("DPSGD", ["D2", "DPSGD()"], rs.algorithms.DPSGD()):
        with pytest.raises(
            ValueError, match=r"'momentum'; it is an option of DPSGD, written .*momentum=…"
        ):
            rs.sweep({"algorithm": given, "momentum": [0, 0.5], "steps": 2})
    with pytest.raises(ValueError, match=r"unknown setting 'zeta'; did you mean 'zeta2'"):
        rs.sweep({"zeta": 1.0})


def test_a_run_may_start_at_an_optimum_of_value_zero():
    class Fitted(Hill):
        optimal_value = 0.0
        optimum = np.full(D, 1 / 3)

        def value(self, x):
            return 0.5 * ((x - self.optimum) ** 2).sum() + 1e-33

        def gradient(self, x):
            return x - self.optimum.reshape(-1, *(1,) * (x.ndim - 2))

    for x0 in (Fitted.optimum, Fitted.optimum + 1e-14, np.zeros(D)):
        assert simulate(Fitted(), x0=np.tile(x0, (N, 1))).frame.suboptimality.iloc[-1] >= 0
