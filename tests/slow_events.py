"""Asynchronous rules as they stand on paper: one event after the other, all workers flowing together.

The events themselves are a rule's own draw, as a simulation has it; what they do is written down here.
"""

import numpy as np
from scipy.linalg import expm

from relaysim.engine.timeline import UNITS_AHEAD
from relaysim.support.streams import Streams


def events_of(algorithm, topology, steps, seed=0):
    """(unit, time, first, second) of all events of a run, in order."""
    rule = algorithm.rule(topology)
    generator = Streams([seed], None).generator("algorithm", seed)
    found = []
    for start in range(0, steps, UNITS_AHEAD):
        drawn = rule.draw(generator, start, UNITS_AHEAD)
        found += zip(*(part.tolist() for part in drawn), strict=True)
    return [event for event in found if event[0] < steps]


def run(algorithm, topology, gradient, x0, rates, seed=0):
    """Iterates ``(steps + 1, n, d)``; ``gradient(worker, x, unit)`` is asked in the order of the events."""
    events = events_of(algorithm, topology, len(rates), seed)
    kind = type(algorithm).__name__
    rule = {
        "A2CiD2": Momentum,
        "DADAO": Dadao,
        "SwarmSGD": Blocking if getattr(algorithm, "blocking", 0) else NonBlocking,
    }
    world = rule[kind](algorithm, topology, [x.copy() for x in x0])
    found = [np.array(world.x)]
    for unit, rate in enumerate(rates):
        now = 0.0
        meetings = sum(event[0] == unit and event[3] >= 0 for event in events)
        numbers = Streams([seed], None).generator("algorithm", seed, unit)
        world.numbers = iter(numbers.random((meetings, 2 * len(x0[0]))))
        for _, time, first, second in (event for event in events if event[0] == unit):
            world.flow(time - now)
            now = time
            if second < 0:
                world.descend(first, rate * gradient(first, world.point(first), unit))
            else:
                world.meet(first, second)
        world.flow(1 - now)
        found.append(np.array(world.x))
    return np.array(found)


class Momentum:
    """x and x̃ of every worker, moved by the matrix exponential of the flow."""

    def __init__(self, algorithm, topology, x):
        self.x, self.tilde = x, [each.copy() for each in x]
        n = topology.n
        L = np.zeros((n, n))
        for i, j in topology.edges.tolist():
            rate = algorithm.rate / 2 * (1 / topology.degrees[i] + 1 / topology.degrees[j])
            L[i, i] += rate
            L[j, j] += rate
            L[i, j] -= rate
            L[j, i] -= rate
        chi1 = 1 / np.linalg.eigvalsh(L)[1]
        inverse = np.linalg.inv(L + np.ones((n, n)) / n)
        chi2 = max(
            (inverse[i, i] + inverse[j, j] - 2 * inverse[i, j]) / 2
            for i, j in topology.edges.tolist()
        )
        self.eta, self.alpha_tilde = 1 / (2 * np.sqrt(chi1 * chi2)), 0.5 * np.sqrt(chi1 / chi2)
        if not algorithm.accelerated:
            self.eta, self.alpha_tilde = 0.0, 0.5
        if algorithm.momentum_rate is not None:
            self.eta = algorithm.momentum_rate

    def flow(self, elapsed):
        exponential = expm(elapsed * self.eta * np.array([[-1.0, 1.0], [1.0, -1.0]]))
        for i in range(len(self.x)):
            self.x[i], self.tilde[i] = exponential @ np.stack([self.x[i], self.tilde[i]])

    def point(self, i):
        return self.x[i]

    def descend(self, i, change):
        self.x[i] = self.x[i] - change
        self.tilde[i] = self.tilde[i] - change

    def meet(self, i, j):
        D = self.x[i] - self.x[j]
        self.x[i], self.x[j] = self.x[i] - D / 2, self.x[j] + D / 2
        self.tilde[i] = self.tilde[i] - self.alpha_tilde * D
        self.tilde[j] = self.tilde[j] + self.alpha_tilde * D


class Dadao:
    """Six vectors of every worker, moved by the matrix exponential of the flow; as published, for L = 1/(4γ).

    y and z are published in the units of gradients: here they are divided by L, which is then left out.
    """

    def __init__(self, algorithm, topology, x):
        nu = 1 / (2 * algorithm.condition)
        root = np.sqrt(nu)
        self.nu, self.delta, self.gamma_tilde = nu, root / 4, 1 / (4 * root)
        eta, alpha, alpha_tilde, theta = root / 8, root / 4, root / 8, 1 / (2 * root)
        self.matrix = np.zeros((6, 6))
        self.matrix[0, [0, 1]] = -eta, eta
        self.matrix[1, [0, 1]] = eta, -eta
        self.matrix[2, [2, 3]] = -alpha, alpha
        self.matrix[3, [1, 2, 4]] = -theta * nu, -theta, -theta
        self.matrix[4, [4, 5]] = -alpha, alpha
        self.matrix[5, [4, 5]] = alpha_tilde, -alpha_tilde
        n, edges = topology.n, topology.edges.tolist()
        L = np.zeros((n, n))
        for i, j in edges:
            L[i, i] += 1 / len(edges)
            L[j, j] += 1 / len(edges)
            L[i, j] -= 1 / len(edges)
            L[j, i] -= 1 / len(edges)
        chi1, inverse = 1 / np.linalg.eigvalsh(L)[1], np.linalg.pinv(L)
        chi2 = max((inverse[i, i] + inverse[j, j] - 2 * inverse[i, j]) / 2 for i, j in edges)
        self.beta_tilde = 2 * chi1 / np.sqrt(2 * chi1 * chi2) / root
        self.rows = [np.stack([z, z, 0 * z, 0 * z, 0 * z, 0 * z]) for z in x]

    @property
    def x(self):
        return [each[0] for each in self.rows]

    def flow(self, elapsed):
        exponential = expm(elapsed * self.matrix)
        self.rows = [exponential @ each for each in self.rows]

    def point(self, i):
        return self.rows[i][0]

    def descend(self, i, change):
        own = self.rows[i]
        v = 4 * change - self.nu * own[0] - own[3]
        own[0] -= v / 4
        own[1] -= self.gamma_tilde * v
        own[3] += (self.delta + 1) * v

    def meet(self, i, j):
        one, other = self.rows[i], self.rows[j]
        D = (one[2] + one[4]) - (other[2] + other[4])
        one[4] -= D / 2
        other[4] += D / 2
        one[5] -= self.beta_tilde * D
        other[5] += self.beta_tilde * D


class Blocking:
    """One model a worker; both ends of a pair have taken their local steps when they meet."""

    def __init__(self, algorithm, topology, x):
        self.x, self.quantizer = x, algorithm.quantizer

    def flow(self, elapsed):
        pass

    def point(self, i):
        return self.x[i]

    def descend(self, i, change):
        self.x[i] = self.x[i] - change

    def meet(self, i, j):
        to_i, to_j = self.exchanged(i, j)
        self.x[i], self.x[j] = self.x[i] / 2 + to_i / 2, self.x[j] / 2 + to_j / 2

    def exchanged(self, i, j):
        """x_j as i has it, and x_i as j has it."""
        d = len(self.x[i])
        u = next(self.numbers)
        return self.sent(self.x[j], self.x[i], u[d:]), self.sent(self.x[i], self.x[j], u[:d])

    def sent(self, x, reference, uniform):
        """x as the holder of ``reference`` has it: the nearest grid point of the class that was sent."""
        if self.quantizer is None:
            return x
        s, q = self.quantizer.spacing, self.quantizer.levels
        found = np.empty(len(x))
        for k in range(len(x)):
            point = round(x[k] / s)
            if self.quantizer.rounding == "stochastic":
                point = int(np.floor(x[k] / s + uniform[k]))
            code = point % q
            near = int(np.floor(reference[k] / s))
            candidates = [p for p in range(near - q, near + q + 1) if p % q == code]
            found[k] = s * min(candidates, key=lambda p: abs(s * p - reference[k]))
        return found


class NonBlocking(Blocking):
    """x is what others see; a worker's own steps go on from its model after its last meeting."""

    def __init__(self, algorithm, topology, x):
        super().__init__(algorithm, topology, x)
        self.live = [each.copy() for each in x]
        self.steps = [np.zeros_like(each) for each in x]  # −γ times the gradients since

    def point(self, i):
        return self.live[i]

    def descend(self, i, change):
        self.live[i] = self.live[i] - change
        self.steps[i] = self.steps[i] - change

    def meet(self, i, j):
        to_i, to_j = self.exchanged(i, j)
        self.x[i] = self.x[i] / 2 + to_i / 2 + self.steps[i]
        self.live[i], self.steps[i] = self.x[i].copy(), np.zeros_like(self.x[i])
        self.x[j] = self.x[j] / 2 + to_j / 2
