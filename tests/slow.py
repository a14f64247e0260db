"""Update rules as they stand on paper: loops over workers and neighbours, nothing vectorised.

Iterates are lists of vectors, one per worker; messages are dictionaries from a directed edge
``(sender, receiver)``. The tests compare every algorithm with its rule here.

A gradient is a function ``gradient(step, worker, x)`` of one worker's vector.
"""

import dataclasses
from statistics import NormalDist

import numpy as np


def run(
    algorithm,
    topology,
    gradient,
    x0,
    rates,
    mixing=None,
    arrives=None,
    seed=0,
    smoothness=None,
    examples=None,
    lies=None,
    late=None,
    down=None,
):
    """Iterates ``(steps + 1, n, d)`` of an algorithm, one step for each of ``rates``,
    which are numbers, or lists of one for each worker.

    ``mixing`` is a list of matrices that repeats, Metropolis weights by default; further rounds of a step
    use the next ones unless it has a function ``further(step, k)``. ``arrives(edges, step,
    further)`` says of messages, a list of (sender, receiver), which arrive, each time that some cross; all do
    by default. ``further`` is k ≥ 1 in the k-th round of a step that consensus control adds.
    ``smoothness`` are the workers' L_i, by default those of gradients without noise. ``examples`` has their
    ``counts``, the ``gradient(worker, number, x)`` on one of them, and ``draw()``, which gives each worker
    the numbers of its next batch.
    ``lies(W, x)`` has by (sender, receiver) what is told instead of the sender's own; all are honest by
    default. ``late(step, sent)`` has, of what is sent by (sender, receiver), what is there instead: the
    newest that is, or None; all is in time by default. ``down(step)`` are the links (i, j), i < j, that are
    known to be out of order.
    """
    rule = RULES[type(algorithm).__name__]
    options = {f.name: getattr(algorithm, f.name) for f in dataclasses.fields(algorithm)}
    start = [np.array(x, dtype=float) for x in x0]
    world = World(topology, gradient, mixing, arrives, seed, smoothness, lies)
    world.late, world.down = late, down or (lambda step: set())
    world.examples = examples
    steps = rule(world, start, list(rates), **options)
    return np.array([start, *steps])


def of(rate, i):
    """The rate of worker i, of one for all or of one for each."""
    return rate[i] if np.ndim(rate) else rate


def least_squares_gradient(A, b):
    """∇f_i(x) = A_iᵀ(A_i x − b_i), for one worker at a time."""

    def gradient(step, worker, x):
        return A[worker].T @ (A[worker] @ x - b[worker])

    return gradient


def neighbours_of(topology):
    """For every worker the sorted list of its neighbours."""
    neighbours = [[] for _ in range(topology.n)]
    for a, b in topology.edges.tolist():
        neighbours[a].append(b)
        neighbours[b].append(a)
    return [sorted(others) for others in neighbours]


def hop_distances(neighbours):
    """Matrix of hop distances, by a breadth-first walk from every worker (inf where no path)."""
    n = len(neighbours)
    distances = np.full((n, n), np.inf)
    for root in range(n):
        distances[root, root] = 0
        reached = [root]
        for worker in reached:
            for other in neighbours[worker]:
                if distances[root, other] == np.inf:
                    distances[root, other] = distances[root, worker] + 1
                    reached.append(other)
    return distances


def metropolis(neighbours):
    """W_ij = 1 / (1 + max(deg_i, deg_j)) on edges, the rest of each row on its diagonal."""
    n = len(neighbours)
    W = np.zeros((n, n))
    for i in range(n):
        for j in neighbours[i]:
            W[i, j] = 1 / (1 + max(len(neighbours[i]), len(neighbours[j])))
        W[i, i] = 1 - sum(W[i, j] for j in neighbours[i])
    return W


class World:
    """The workers: their neighbours, trees, gossip weights and gradients."""

    def __init__(
        self, topology, gradient, mixing, arrives=None, seed=0, smoothness=None, lies=None
    ):
        self.n, self.step, self.seed = topology.n, 0, seed
        self.lies = lies or (lambda W, x: {})
        self.smoothness, self.late = smoothness, None
        self.gradient = gradient
        self.arrives = arrives or (lambda edges, step, further: [True] * len(edges))
        if hasattr(topology, "first"):
            self.trees = [neighbours_of(topology.first), neighbours_of(topology.second)]
        else:
            neighbours = neighbours_of(topology)
            self.trees = [neighbours]
            self.matrices = [metropolis(neighbours)] if mixing is None else mixing

    def gradients(self, step, x):
        return [self.gradient(step, i, x[i]) for i in range(self.n)]

    def hears(self, edges, further=0):
        return list(self.arrives(edges, self.step, further))

    def weights(self, step, further=0):
        """W of a step, or of the k-th further round of it, whose messages are the next to cross."""
        self.step = step
        if further and hasattr(self.matrices, "further"):
            return self.matrices.further(step, further)
        return self.matrices[(step + further) % len(self.matrices)]

    def mix(self, W, x, further=0):
        """Σ_j W_ij x_j; a row without the weights of lost messages is scaled to its sum again."""
        edges = [(j, i) for i in range(self.n) for j in range(self.n) if W[i, j] != 0 and i != j]
        arrived = dict(zip(edges, self.hears(edges, further), strict=True))
        told = self.lies(W, x)
        if self.late:
            told = self.late(self.step, {(j, i): x[j] for j, i in edges})
            arrived = {edge: vector is not None for edge, vector in told.items()}
        result = []
        for i in range(self.n):
            total, weight = W[i, i] * x[i], W[i, i]
            for j in range(self.n):
                if arrived.get((j, i)):
                    total, weight = total + W[i, j] * told.get((j, i), x[j]), weight + W[i, j]
            if all(arrived[j, k] for j, k in edges if k == i):
                result.append(total)
            else:
                result.append(total / weight if weight else x[i])
        return result

    def heard(self, W, x):
        """For every worker the weights and vectors of its neighbours by W."""
        told = self.lies(W, x)
        return [
            [(W[i, j], told.get((j, i), x[j])) for j in range(self.n) if j != i and W[i, j] != 0]
            for i in range(self.n)
        ]

    def mean(self, x):
        return sum(x[1:], x[0]) / self.n


class Relay:
    """RelaySum's messages; with two trees coordinate c travels on tree c mod 2."""

    def __init__(self, world, d):
        self.world, self.round = world, 0
        self.d = d
        self.messages = [
            {(i, j): (np.zeros(d), 0) for i in range(world.n) for j in tree[i]}
            for tree in world.trees
        ]

    def send(self, payload):
        """m_{i→j} = s_i + Σ_{k ∈ N_i∖j} m_{k→i} of the round before; likewise counts."""
        renewed = []
        for tree, messages in zip(self.world.trees, self.messages, strict=True):
            sent = {}
            for i in range(self.world.n):
                for j in tree[i]:
                    total, count = payload[i].copy(), 1
                    for k in tree[i]:
                        if k != j:
                            total = total + messages[k, i][0]
                            count = count + messages[k, i][1]
                    sent[i, j] = (total, count)
            edges = sorted(sent, key=lambda edge: edge[::-1])
            arrives = self.world.arrives(edges, self.round, 0)
            for edge, arrived in zip(edges, arrives, strict=True):
                if not arrived:
                    sent[edge] = (np.zeros(self.d), 0)
            if self.world.late:
                there = self.world.late(self.round, {edge: sent[edge] for edge in edges})
                sent = {edge: found or (np.zeros(self.d), 0) for edge, found in there.items()}
            renewed.append(sent)
        self.messages, self.round = renewed, self.round + 1

    def collect(self, payload):
        """Sum_i = s_i + Σ_j m_{j→i} and Cnt_i, the latter for each coordinate."""
        sums, counts = [], []
        for i in range(self.world.n):
            total, count = payload[i].copy(), np.ones(self.d)
            for c in range(self.d):
                which = c % len(self.world.trees)
                for j in self.world.trees[which][i]:
                    message, heard = self.messages[which][j, i]
                    total[c] += message[c]
                    count[c] += heard
            sums.append(total)
            counts.append(count)
        return sums, counts

    def exchange(self, payload, overlap):
        """One round; with overlap a worker collects what had arrived before it."""
        if overlap:
            collected = self.collect(payload)
            self.send(payload)
            return collected
        self.send(payload)
        return self.collect(payload)


class RehungRelay(Relay):
    """The same where links of a graph take the place of tree links that are out of order.

    A message here is a vector with the list of whose payloads it holds; none may be there twice.
    """

    def __init__(self, world, d, graph):
        super().__init__(world, d)
        (self.tree,) = ([list(others) for others in tree] for tree in world.trees)
        self.links = [tuple(edge) for edge in graph.edges.tolist()]
        self.wires = sorted(
            [*self.links, *((j, i) for i, j in self.links)], key=lambda edge: edge[::-1]
        )
        self.held = {(i, j): (np.zeros(d), []) for i in range(world.n) for j in self.tree[i]}

    def side(self, tree, i, j):
        """Workers on i's side of the tree's link i–j."""
        reached = [i]
        for worker in reached:
            reached += [k for k in tree[worker] if k not in reached and {worker, k} != {i, j}]
        return set(reached)

    def spanning(self, down):
        """Of all links, those in order first, then those of the tree, each that closes no circle."""
        order = sorted(
            self.links,
            key=lambda link: (
                link in down,
                link[1] not in self.tree[link[0]],
                self.links.index(link),
            ),
        )
        part, tree = list(range(self.world.n)), [[] for _ in self.tree]
        for i, j in order:
            if part[i] != part[j]:
                part = [part[i] if each == part[j] else each for each in part]
                tree[i].append(j)
                tree[j].append(i)
        return tree

    def send(self, payload):
        old, self.tree = self.tree, self.spanning(self.world.down(self.round))
        new = self.tree

        def lies_within(links, workers):
            return any(i in workers and j in workers for i, j in links)

        out = [(i, j) for i, j in self.links if j in old[i] and j not in new[i]]
        put_in = [(i, j) for i, j in self.links if j in new[i] and j not in old[i]]
        held = {(i, j): (np.zeros(self.d), []) for i in range(self.world.n) for j in new[i]}
        for i, j in held:
            if j in old[i] and not (
                lies_within(out, self.side(old, i, j)) and lies_within(put_in, self.side(new, j, i))
            ):
                held[i, j] = self.held[i, j]
        arrives = dict(zip(self.wires, self.world.arrives(self.wires, self.round, 0), strict=True))
        sent = {}
        for i, j in held:
            total, workers = payload[i].copy(), [i]
            for k in new[i]:
                if k != j:
                    total, workers = total + held[k, i][0], workers + held[k, i][1]
            assert len(set(workers)) == len(workers), "a worker is held twice"
            sent[i, j] = (total, workers) if arrives[i, j] else (np.zeros(self.d), [])
        self.held, self.round = sent, self.round + 1

    def collect(self, payload):
        sums, counts = [], []
        for i in range(self.world.n):
            total, workers = payload[i].copy(), [i]
            for j in self.tree[i]:
                total, workers = total + self.held[j, i][0], workers + self.held[j, i][1]
            assert len(set(workers)) == len(workers), "a worker is counted twice"
            sums.append(total)
            counts.append(np.full(self.d, float(len(workers))))
        return sums, counts


class Momentum:
    """m ← βm + (1 − β)g, with m = 0 at the start."""

    def __init__(self, beta, x0):
        self.beta = beta
        self.buffers = [np.zeros_like(x) for x in x0]

    def direction(self, gradients):
        for i, gradient in enumerate(gradients):
            self.buffers[i] = self.beta * self.buffers[i] + (1 - self.beta) * gradient
        return list(self.buffers)


def relay_sgd(world, x0, rates, momentum, overlap, unheard, repair):
    n, x, d, smooth = world.n, x0, len(x0[0]), Momentum(momentum, x0)
    relay = Relay(world, d) if repair is None else RehungRelay(world, d, repair)
    for step, rate in enumerate(rates):
        m = smooth.direction(world.gradients(step, x))
        half = [x[i] - of(rate, i) * m[i] for i in range(n)]
        sums, counts = relay.exchange(half, overlap)
        new = []
        for i in range(n):
            if unheard == "counts":
                new.append(sums[i] / counts[i])
            elif unheard == "initial":
                new.append((sums[i] + (n - counts[i]) * x0[i]) / n)
            elif unheard == "previous":
                new.append((sums[i] + (n - counts[i]) * x[i]) / n)
            elif unheard == "own":
                new.append((sums[i] + (n - counts[i]) * half[i]) / n)
        x = new
        yield x


def relay_sgd_grad(world, x0, rates, momentum, overlap):
    n, x, relay, smooth = world.n, x0, Relay(world, len(x0[0])), Momentum(momentum, x0)
    for step, rate in enumerate(rates):
        sums, _ = relay.exchange(smooth.direction(world.gradients(step, x)), overlap)
        x = [x[i] - of(rate, i) / n * sums[i] for i in range(n)]
        yield x


def relay_sgd_mix(world, x0, rates, alpha, momentum):
    n, x, relay, smooth = world.n, x0, Relay(world, len(x0[0])), Momentum(momentum, x0)
    for step, rate in enumerate(rates):
        m = smooth.direction(world.gradients(step, x))
        payload = [(1 - alpha) * x[i] - of(rate, i) * m[i] for i in range(n)]
        sums, counts = relay.exchange(payload, overlap=True)
        x = [alpha * x[i] + (sums[i] + (1 - alpha) * x0[i] * (n - counts[i])) / n for i in range(n)]
        yield x


def dpsgd(world, x0, rates, momentum, overlap, consensus):
    """X ← X½ + a(W − I)X½ with X½ = X − γM; with overlap X ← X + a(W − I)X − γM."""
    n, x, smooth = world.n, x0, Momentum(momentum, x0)
    for step, rate in enumerate(rates):
        m = smooth.direction(world.gradients(step, x))
        before = x if overlap else [x[i] - of(rate, i) * m[i] for i in range(n)]
        mixed = world.mix(world.weights(step), before)
        x = [(1 - consensus) * before[i] + consensus * mixed[i] for i in range(n)]
        if overlap:
            x = [x[i] - of(rate, i) * m[i] for i in range(n)]
        yield x


def dsgd_ac(world, x0, rates, power, start, floor):
    """X ← X + a_t(W − I)X − γ_t G, a_t = floor + (1 − floor)(γ_t/γ_start)^p from ``start`` on."""
    n, x = world.n, x0
    for step, rate in enumerate(rates):
        part = 1.0
        if step >= start and rates[start]:
            part = floor + (1 - floor) * min(rate / rates[start], 1.0) ** power
        g = world.gradients(step, x)
        mixed = world.mix(world.weights(step), x)
        x = [x[i] + part * (mixed[i] - x[i]) - of(rate, i) * g[i] for i in range(n)]
        yield x


def d2(world, x0, rates, form):
    """X_1 = W(X_0 − γG_0); X_{t+1} = W(2X_t − X_{t−1} − γ_t G_t + γ_{t−1} G_{t−1}), or, scaled,
    W(X_t − γ_t ((X_{t−1} − X_t)/γ_{t−1} + G_t − G_{t−1})).
    """
    yield from two_step(world, x0, rates, world.weights, form)


def exact_diffusion(world, x0, rates, form):
    yield from two_step(world, x0, rates, lambda t: (world.weights(t) + np.eye(world.n)) / 2, form)


def two_step(world, x0, rates, weights, form):
    n, x, before, pull_before = world.n, x0, None, None
    for step, rate in enumerate(rates):
        gradients = world.gradients(step, x)
        pull = [of(rate, i) * gradients[i] for i in range(n)]
        if step == 0:
            target = [x[i] - pull[i] for i in range(n)]
        else:
            change = rate / rates[step - 1] if form == "scaled" else 1
            back = [change * (before[i] - x[i] - pull_before[i]) for i in range(n)]
            target = [x[i] - back[i] - pull[i] for i in range(n)]
        x, before, pull_before = world.mix(weights(step), target), x, pull
        yield x


def nids(world, x0, rates):
    """X_1 = X_0 − γG_0 alone; X_{t+1} = ½(I + W)(2X_t − X_{t−1} − γ_t G_t + γ_{t−1} G_{t−1})."""
    n, x, before, pull_before = world.n, x0, None, None
    for step, rate in enumerate(rates):
        gradients = world.gradients(step, x)
        pull = [of(rate, i) * gradients[i] for i in range(n)]
        if step == 0:
            new = [x[i] - pull[i] for i in range(n)]
        else:
            target = [2 * x[i] - before[i] - pull[i] + pull_before[i] for i in range(n)]
            new = world.mix((world.weights(step) + np.eye(n)) / 2, target)
        x, before, pull_before = new, x, pull
        yield x


def led(world, x0, rates, period):
    """Φ = X; K times Φ ← Φ − γG(Φ) − Y/K; X = ½(I + W)Φ; Y ← Y + Φ − X, Y_0 = 0."""
    n, x, y = world.n, x0, [np.zeros_like(start) for start in x0]
    for step, rate in enumerate(rates):
        g = world.gradients(step, x)
        x = [x[i] - of(rate, i) * g[i] - y[i] / period for i in range(n)]
        if (step + 1) % period == 0:
            phi, x = x, world.mix((world.weights(step) + np.eye(n)) / 2, x)
            y = [y[i] + phi[i] - x[i] for i in range(n)]
        yield x


def kgt(world, x0, rates, period, rate):
    """K times X' ← X' − γ(G(X') + C), from X' = X; Z = the mean of G + C; X ← W(X − η(X − X'));
    C ← C − Z + WZ, C_0 = 0.
    """
    n, x, share, start, seen = world.n, x0, rate, x0, []
    c = [np.zeros_like(each) for each in x0]
    for step, rate in enumerate(rates):
        g = world.gradients(step, x)
        x = [x[i] - of(rate, i) * (g[i] + c[i]) for i in range(n)]
        seen.append([g[i] + c[i] for i in range(n)])
        if len(seen) == period:
            z = [sum(each[i] for each in seen) / period for i in range(n)]
            W = world.weights(step)
            x = world.mix(W, [start[i] - share * (start[i] - x[i]) for i in range(n)])
            around = world.mix(W, z)
            c = [c[i] - z[i] + around[i] for i in range(n)]
            start, seen = x, []
        yield x


def prox_skip(world, x0, rates, probability):
    """Z = X − γG − Y; with probability p X = ½(I + W)Z and Y ← Y + p(Z − X), else X = Z; Y_0 = 0."""
    n, x, generator = world.n, x0, algorithm_stream(world)
    y = [np.zeros_like(each) for each in x0]
    for step, rate in enumerate(rates):
        g = world.gradients(step, x)
        z = [x[i] - of(rate, i) * g[i] - y[i] for i in range(n)]
        mixed = world.mix((world.weights(step) + np.eye(n)) / 2, z)
        x = z
        if probability == 1 or generator.random() < probability:
            x = mixed
            y = [y[i] + probability * (z[i] - x[i]) for i in range(n)]
        yield x


def scaffold(world, x0, rates, period, participation):
    """y_i ← y_i − γ(g_i − c_i + c), K times; c_i ← the mean of its g_i; x = the mean of those y_i, and
    c ← c + the sum over them of what c_i changed, over n.
    """
    n, x, generator = world.n, x0, algorithm_stream(world)
    count = next(s for s in range(1, n + 1) if s / n >= participation)
    own, server = [np.zeros_like(each) for each in x0], np.zeros_like(x0[0])
    for step, rate in enumerate(rates):
        if step % period == 0:
            taking, seen = list(range(n)), [[] for _ in range(n)]
            if participation < 1:
                drawn = generator.random(n)
                taking = sorted(range(n), key=lambda i: drawn[i])[:count]
        g = world.gradients(step, x)
        x = list(x)
        for i in taking:
            x[i] = x[i] - of(rate, i) * (g[i] - own[i] + server)
            seen[i].append(g[i])
        if (step + 1) % period == 0:
            mean = sum(x[i] for i in taking) / count
            x = [mean.copy() for _ in range(n)]
            for i in taking:
                renewed = sum(seen[i]) / period
                server, own[i] = server + (renewed - own[i]) / n, renewed
        yield x


def dlm(world, x0, rates, penalty):
    """X' = X − γ(G + cLX + Y), Y ← Y + cLX' with L = I − W and Y_0 = 0."""
    n, x, y = world.n, x0, [np.zeros_like(start) for start in x0]
    for step, rate in enumerate(rates):
        g, mixed = world.gradients(step, x), world.mix(world.weights(step), x)
        apart = [penalty * (x[i] - mixed[i]) for i in range(n)]
        if step:
            y = [y[i] + apart[i] for i in range(n)]
        x = [x[i] - of(rate, i) * (g[i] + apart[i] + y[i]) for i in range(n)]
        yield x


def admm(world, x0, rates, relaxation):
    """x_i = prox_{γ f_i/s_i}(S_i/s_i), S_i = Σ_j W_ij z_ij and T_i = Σ_j W_ij z_ji over i's neighbours, which
    are itself where it has none; z_ij ← (1 − α)z_ij − α(z_ji − 2x_j), summed up; x_i⁰ for all at the start.
    """
    n, d, a = world.n, len(x0[0]), relaxation
    mine = theirs = None
    for step, rate in enumerate(rates):
        W = np.array(world.weights(step))
        for i in range(n):
            W[i, i] = 0 if any(W[i, j] for j in range(n) if j != i) else 1
        s = [sum(W[i]) for i in range(n)]
        if mine is None:
            mine = theirs = [s[i] * x0[i] for i in range(n)]
        x = []
        for i in range(n):
            at_0 = world.gradient(step, i, np.zeros(d))
            hessian = np.array([world.gradient(step, i, e) - at_0 for e in np.eye(d)])
            t, v = of(rate, i) / s[i], mine[i] / s[i]
            x.append(np.linalg.solve(np.eye(d) + t * hessian, v - t * at_0))
        around = [sum(W[i, j] * x[j] for j in range(n)) for i in range(n)]
        mine, theirs = (
            [(1 - a) * mine[i] - a * (theirs[i] - 2 * around[i]) for i in range(n)],
            [(1 - a) * theirs[i] - a * (mine[i] - 2 * s[i] * x[i]) for i in range(n)],
        )
        yield x


def gradient_tracking(world, x0, rates, form, momentum):
    """X ← W(X − γY), as DIGing WX − γY; Y ← WY + M⁺ − M, as ATC-DIGing W(Y + M⁺ − M); Y_0 = M_0, and M is G
    where there is no momentum.
    """
    n, x, smooth = world.n, x0, Momentum(momentum, x0)
    m = smooth.direction(world.gradients(0, x))
    y = m
    for step, rate in enumerate(rates):
        W = world.weights(step)
        if form == "diging":
            mixed = world.mix(W, x)
            x = [mixed[i] - of(rate, i) * y[i] for i in range(n)]
        else:
            x = world.mix(W, [x[i] - of(rate, i) * y[i] for i in range(n)])
        if form != "atc":
            y = world.mix(W, y)
        yield x
        before, m = m, smooth.direction(world.gradients(step + 1, x))
        y = [y[i] + m[i] - before[i] for i in range(n)]
        if form == "atc":
            y = world.mix(world.weights(step + 1), y)


def on_batch(world, x, batch):
    """The mean gradient at x_i over the examples of each worker's batch."""
    own = world.examples.gradient
    return [sum(own(i, s, x[i]) for s in batch[i]) / len(batch[i]) for i in range(world.n)]


def on_all(world, x):
    return on_batch(world, x, [range(m) for m in world.examples.counts])


def gt_saga(world, x0, rates, refresh):
    """V = ∇f_s(X) − T_s + mean T;  Y ← W(Y + V − V⁻);  X ← W(X − γY);  T_s ← ∇f_s(X before)."""
    n, x, examples = world.n, x0, world.examples
    y = v = [np.zeros_like(each) for each in x0]
    tables = [[examples.gradient(i, s, x0[i]) for s in range(examples.counts[i])] for i in range(n)]
    for step, rate in enumerate(rates):
        if refresh == "fresh" and step:
            for i, batch in enumerate(examples.draw()):
                for s in batch:
                    tables[i][s] = examples.gradient(i, s, x[i])
        drawn = examples.draw()
        new = []
        for i in range(n):
            seen = sum(tables[i][s] for s in drawn[i]) / len(drawn[i])
            now = sum(examples.gradient(i, s, x[i]) for s in drawn[i]) / len(drawn[i])
            new.append(now - seen + sum(tables[i]) / len(tables[i]))
        if refresh == "used":
            for i in range(n):
                for s in drawn[i]:
                    tables[i][s] = examples.gradient(i, s, x[i])
        W = world.weights(step)
        y = world.mix(W, [y[i] + new[i] - v[i] for i in range(n)])
        x, v = world.mix(W, [x[i] - of(rate, i) * y[i] for i in range(n)]), new
        yield x


def gt_sarah(world, x0, rates, period):
    """V = ∇f(X) now and then, else V + ∇f_s(X) − ∇f_s(X⁻);  Y ← WY + V − V⁻;  X ← WX − γY."""
    n, x, before = world.n, x0, x0
    y = v = [np.zeros_like(each) for each in x0]
    for step, rate in enumerate(rates):
        if step % period == 0:
            estimate = on_all(world, x)
        else:
            drawn = world.examples.draw()
            now, then = on_batch(world, x, drawn), on_batch(world, before, drawn)
            estimate = [v[i] + now[i] - then[i] for i in range(n)]
        before = x
        x, y, v = tracked(world, step, rate, x, y, v, estimate)
        yield x


def gt_svrg(world, x0, rates, period):
    """V = ∇f_s(X) − ∇f_s(X̃) + ∇f(X̃), X̃ = X now and then;  Y ← WY + V − V⁻;  X ← WX − γY."""
    n, x = world.n, x0
    y = v = [np.zeros_like(each) for each in x0]
    for step, rate in enumerate(rates):
        if step % period == 0:
            snapshot, full = x, on_all(world, x)
            estimate = full
        else:
            drawn = world.examples.draw()
            now, then = on_batch(world, x, drawn), on_batch(world, snapshot, drawn)
            estimate = [now[i] - then[i] + full[i] for i in range(n)]
        x, y, v = tracked(world, step, rate, x, y, v, estimate)
        yield x


def tracked(world, step, rate, x, y, v, estimate):
    """X, Y and V after Y ← WY + V − V⁻;  X ← WX − γY."""
    W = world.weights(step)
    mixed = world.mix(W, y)
    y = [mixed[i] + estimate[i] - v[i] for i in range(world.n)]
    mixed = world.mix(W, x)
    return [mixed[i] - of(rate, i) * y[i] for i in range(world.n)], y, estimate


def quasi_global_momentum(world, x0, rates, momentum, form):
    """X' = W(X − γ(βM + G)), by the toy code divided by 1 + β;  M ← βM + (1 − β)(X − X')/γ."""
    n, x, m = world.n, x0, [np.zeros_like(start) for start in x0]
    for step, rate in enumerate(rates):
        g = world.gradients(step, x)
        pull = [momentum * m[i] + g[i] for i in range(n)]
        if form == "toy":
            pull = [each / (1 + momentum) for each in pull]
        new = world.mix(world.weights(step), [x[i] - of(rate, i) * pull[i] for i in range(n)])
        m = [momentum * m[i] + (1 - momentum) * (x[i] - new[i]) / of(rate, i) for i in range(n)]
        x = new
        yield x


def pushed(world, C, x):
    """Worker j sends C_ij x_j to every i; what i gets is added up."""
    got = [0 * x[i] for i in range(world.n)]
    for j in range(world.n):
        for i in range(world.n):
            if C[i, j] != 0:
                got[i] = got[i] + C[i, j] * x[j]
    return got


def push_on_topology(world, x0, rates, rounds):
    """u_i ← u_i − γ g_i(u_i / w_i), and then rounds in which j shares out u_j and w_j."""
    u, w, z = x0, [1.0] * world.n, x0
    for step, rate in enumerate(rates):
        gradients = world.gradients(step, z)
        u = [u[i] - of(rate, i) * gradients[i] for i in range(world.n)]
        for k in range(rounds):
            C = world.weights(rounds * step + k)
            u, w = pushed(world, C, u), pushed(world, C, w)
        z = [u[i] / w[i] for i in range(world.n)]
        yield z


def push_diging(world, x0, rates):
    """y_i shares out and follows the gradient, u_i moves by it and shares out; x_i = u_i / v_i."""
    u, v, x, y, gradients = x0, [1.0] * world.n, x0, None, None
    for step, rate in enumerate(rates):
        renewed = world.gradients(step, x)
        if step == 0:
            y = renewed
        else:
            y = pushed(world, world.weights(step - 1), y)
            y = [y[i] + renewed[i] - gradients[i] for i in range(world.n)]
        gradients = renewed
        C = world.weights(step)
        u = pushed(world, C, [u[i] - of(rate, i) * y[i] for i in range(world.n)])
        v = pushed(world, C, v)
        x = [u[i] / v[i] for i in range(world.n)]
        yield x


def push_pull(world, x0, rates):
    """x_i averages what it hears of x_j − γ y_j with R; y_j is shared out with C and follows the gradient."""
    x, y, gradients = x0, None, None
    for step, rate in enumerate(rates):
        renewed = world.gradients(step, x)
        if step == 0:
            y = renewed
        else:
            y = pushed(world, world.weights(2 * step - 1), y)
            y = [y[i] + renewed[i] - gradients[i] for i in range(world.n)]
        gradients = renewed
        R = world.weights(2 * step)
        x = world.mix(R, [x[i] - of(rate, i) * y[i] for i in range(world.n)])
        yield x


def sgp(world, x0, rates, rounds, network):
    """Push-sum with its weights: i keeps half and sends half to i + 2^(k mod ⌈log₂ n⌉). A worker that does
    not hear its peer keeps its other half too.
    """
    if network == "topology":
        yield from push_on_topology(world, x0, rates, rounds)
        return
    n = world.n
    x, z, w = x0, x0, [1.0] * n
    period = 1
    while 2**period < n:
        period += 1
    k = 0
    for step, rate in enumerate(rates):
        world.step = step
        gradients = world.gradients(step, z)
        x = [x[i] - of(rate, i) * gradients[i] for i in range(n)]
        for _ in range(rounds):
            hop = 2 ** (k % period) % n
            edges = [((i - hop) % n, i) for i in range(n)] if n > 1 else []
            arrived = {i: sent for (i, _), sent in zip(edges, world.hears(edges), strict=True)}
            received_x = [x[i] / 2 for i in range(n)]
            received_w = [w[i] / 2 for i in range(n)]
            for i in range(n):
                j = (i + hop) % n
                sender = i if arrived.get(i, True) else j
                received_x[j] = received_x[j] + x[sender] / 2
                received_w[j] = received_w[j] + w[sender] / 2
            x, w = received_x, received_w
            k += 1
        z = [x[i] / w[i] for i in range(n)]
        yield z


def all_reduce(world, x0, rates, momentum, count):
    n, x, smooth = world.n, x0, Momentum(momentum, x0)
    for step, rate in enumerate(rates):
        m = smooth.direction(world.gradients(step, x))
        mean = world.mean([x[i] - of(rate, i) * m[i] for i in range(n)])
        x = [mean.copy() for _ in range(n)]
        yield x


def extra(world, x0, rates):
    """X¹ = W₀X⁰ − γG⁰; X^{t+2} = (I + W_{t+1})X^{t+1} − ½(I + W_t)X^t − γ(G^{t+1} − G^t)."""
    n, x, before, pull_before, mixed_before = world.n, x0, None, None, None
    for step, rate in enumerate(rates):
        gradients = world.gradients(step, x)
        pull = [of(rate, i) * gradients[i] for i in range(n)]
        mixed = world.mix(world.weights(step), x)
        if step == 0:
            new = [mixed[i] - pull[i] for i in range(n)]
        else:
            old = [(before[i] + mixed_before[i]) / 2 for i in range(n)]
            new = [x[i] + mixed[i] - old[i] - (pull[i] - pull_before[i]) for i in range(n)]
        x, before, pull_before, mixed_before = new, x, pull, mixed
        yield x


def decentlam(world, x0, rates, momentum):
    n, x, m = world.n, x0, [np.zeros_like(start) for start in x0]
    for step, rate in enumerate(rates):
        g = world.gradients(step, x)
        mixed = world.mix(world.weights(step), [x[i] - of(rate, i) * g[i] for i in range(n)])
        m = [momentum * m[i] + (x[i] - mixed[i]) / of(rate, i) for i in range(n)]
        x = [x[i] - of(rate, i) * m[i] for i in range(n)]
        yield x


def heavy_ball_consensus(world, x0, rates, momentum):
    """X' = (1 + η)WX − ηX⁻ − (1 − η)γG."""
    n, x, before = world.n, x0, x0
    for step, rate in enumerate(rates):
        W, gradients = world.weights(step), world.gradients(step, x)
        eta = fastest_momentum(W) if momentum is None else momentum
        mixed = world.mix(W, x)
        x, before = (
            [
                (1 + eta) * mixed[i] - eta * before[i] - (1 - eta) * of(rate, i) * gradients[i]
                for i in range(n)
            ],
            x,
        )
        yield x


def fastest_momentum(W):
    """η = (1 − √(1 − λ²))/(1 + √(1 − λ²)), λ = ‖W − J‖."""
    root = np.sqrt(1 - np.linalg.norm(W - 1 / len(W), 2) ** 2)
    return (1 - root) / (1 + root)


def mudag(world, x0, rates, rounds, strong_convexity):
    """X' = PZ, Z = Y − γG(Y) + C, C ← C + X' − Z, which is X' = P(Y + X − Y⁻ − γG(Y) + γG(Y⁻)); then
    Y' = X' + (1 − α)/(1 + α)(X' − X). P is K times A ← (1 + η)WA − ηA⁻, of which A − Z is added up here.
    """
    n, x, y, c = world.n, x0, x0, [0 * x for x in x0]
    for step, rate in enumerate(rates):
        W, gradients = world.weights(step), world.gradients(step, y)
        eta, K = fastest_momentum(W), rounds
        if K is None:
            gap = 1 - np.linalg.norm(W - 1 / n, 2)
            ratio = max(smoothness_in(world, len(x[0]))) / strong_convexity
            K = int(np.ceil(max(np.log(ratio), 2) / gap**0.5))
        z = [y[i] - of(rate, i) * gradients[i] + c[i] for i in range(n)]
        moved = old = [0 * x for x in x0]
        for _ in range(K):
            a = [z[i] + moved[i] for i in range(n)]
            mixed = [moved[i] + sum(W[i, j] * (a[j] - a[i]) for j in range(n)) for i in range(n)]
            moved, old = [(1 + eta) * mixed[i] - eta * old[i] for i in range(n)], moved
        c = [c[i] + moved[i] for i in range(n)]
        before, x = x, [z[i] + moved[i] for i in range(n)]
        root = np.sqrt(strong_convexity * rate)
        beta = (1 - root) / (1 + root) if rate else 0.0
        y = [x[i] + beta * (x[i] - before[i]) for i in range(n)]
        yield x


def momentum_consensus(world, x0, rates, momentum, omega):
    """d_i = ω Σ_j w_ij (x_j − x_j⁻) + (1 − ω)(x_i − x_i⁻)."""
    n, x, before = world.n, x0, x0
    for step, rate in enumerate(rates):
        W, g = world.weights(step), world.gradients(step, x)
        mixed, moved = world.mix(W, x), [x[i] - before[i] for i in range(n)]
        around = world.mix(W, moved) if omega else moved
        push = [omega * around[i] + (1 - omega) * moved[i] for i in range(n)]
        x, before = [mixed[i] - of(rate, i) * g[i] + momentum * push[i] for i in range(n)], x
        yield x


def delayed_gradient(world, x0, rates, delay):
    n, x, past = world.n, x0, [x0]
    for step, rate in enumerate(rates):
        g = world.gradients(step, past[max(0, step - delay)])
        mixed = world.mix(world.weights(step), x)
        x = [mixed[i] - of(rate, i) * g[i] for i in range(n)]
        past.append(x)
        yield x


def local_sgd(world, x0, rates, period, count, growth, tolerance, falls_to):
    n, x, before = world.n, x0, world.mean(x0)
    own, period = period, np.max(period)
    k = 0
    for step, rate in enumerate(rates):
        g = world.gradients(step, x)
        part = falls_to ** (k / (period - 1)) if period > 1 else 1.0
        works = [not np.ndim(own) or k < own[i] for i in range(n)]
        x = [x[i] - of(rate, i) * part * g[i] if works[i] else x[i] for i in range(n)]
        k += 1
        if k == period:
            mean = world.mean(x)
            x = [mean.copy() for _ in range(n)]
            if np.linalg.norm(mean - before) < tolerance * np.linalg.norm(before):
                period = growth * period
            before, k = mean, 0
        yield x


def clipped_gossip(world, x0, rates, radius):
    n, x = world.n, x0
    for step, rate in enumerate(rates):
        W, g = world.weights(step), world.gradients(step, x)
        half = [x[i] - of(rate, i) * g[i] for i in range(n)]
        x = []
        for i, messages in enumerate(world.heard(W, half)):
            distances = sorted(np.sqrt(np.sum((v - half[i]) ** 2)) for _, v in messages)
            tau = radius
            if radius is None and messages:
                tau = distances[-2] if len(distances) > 1 else distances[-1]
            moved = half[i]
            for weight, v in messages:
                distance = np.sqrt(np.sum((v - half[i]) ** 2))
                part = min(1.0, tau / distance) if distance > 0 else 1.0
                moved = moved + weight * part * (v - half[i])
            x.append(moved)
        yield x


def trimmed_mean(world, x0, rates, trim):
    n, x = world.n, x0
    for step, rate in enumerate(rates):
        W, g = world.weights(step), world.gradients(step, x)
        half = [x[i] - of(rate, i) * g[i] for i in range(n)]
        x = []
        for i, messages in enumerate(world.heard(W, half)):
            votes = np.sort([half[i]] + [v for _, v in messages], axis=0)
            count = len(votes)
            ends = count if trim is None else trim
            while count - 2 * ends < 1:
                ends -= 1
            x.append(np.mean(votes[ends : count - ends], axis=0))
        yield x


def gossip_pga(world, x0, rates, period, count):
    n, x = world.n, x0
    for step, rate in enumerate(rates):
        W, g = world.weights(step), world.gradients(step, x)
        x = [x[i] - of(rate, i) * g[i] for i in range(n)]
        x = world.mix(W, x) if (step + 1) % period else [world.mean(x) for _ in range(n)]
        yield x


def muffliato(world, x0, rates, noise, rounds, weight):
    n, x, generator = world.n, x0, algorithm_stream(world)
    for step, rate in enumerate(rates):
        g = world.gradients(step, x)
        if noise:
            uniform = generator.random((n, len(x0[0])))
            g = [g[i] + noise * np.vectorize(NormalDist().inv_cdf)(uniform[i]) for i in range(n)]
        y = [x[i] - of(rate, i) * g[i] for i in range(n)]
        before = None
        for k in range(rounds):
            mixed = world.mix(world.weights(rounds * step + k), y)
            if before is not None:
                mixed = [weight * mixed[i] + (1 - weight) * before[i] for i in range(n)]
            before, y = y, mixed
        x = y
        yield x


def fedavg(world, x0, rates, local_steps, participation, weights):
    """Every worker counts alike: these problems know nothing of examples."""
    n, x, generator = world.n, x0, algorithm_stream(world)
    count = next(s for s in range(1, n + 1) if s / n >= participation)
    own, local_steps = np.broadcast_to(local_steps, n), np.max(local_steps)
    for step, rate in enumerate(rates):
        if step % local_steps == 0:
            taking = list(range(n))
            if participation < 1:
                drawn = generator.random(n)
                taking = sorted(range(n), key=lambda i: drawn[i])[:count]
        g = world.gradients(step, x)
        works = [i in taking and step % local_steps < own[i] for i in range(n)]
        x = [x[i] - of(rate, i) * g[i] if works[i] else x[i] for i in range(n)]
        if (step + 1) % local_steps == 0:
            total = sum(x[i] for i in taking)
            x = [total / count for _ in range(n)]
        yield x


def smoothness_in(world, d):
    """L_i of quadratics, from their gradients where they are not given."""
    smoothness = [] if world.smoothness is None else list(world.smoothness)
    for i in range(len(smoothness), world.n):
        at_0 = world.gradient(0, i, np.zeros(d))
        hessian = np.array([world.gradient(0, i, e) - at_0 for e in np.eye(d)])
        smoothness.append(max(np.linalg.eigvalsh((hessian + hessian.T) / 2)))
    return smoothness


def local_rates(world, x0, rates, switch, gossip, count):
    """x ← x − γ mean(g_i/L_i), from ``switch`` on x − γ mean(g_i)/mean(L_i); as gossip W(X − γDG)."""
    n, d, x = world.n, len(x0[0]), x0
    smoothness = smoothness_in(world, d)
    for step, rate in enumerate(rates):
        local = switch is None or step < switch
        g = world.gradients(step, x)
        half = []
        for i in range(n):
            half.append(
                x[i] - of(rate, i) / (smoothness[i] if local else sum(smoothness) / n) * g[i]
            )
        if gossip:
            x = world.mix(world.weights(step), half)
        else:
            mean = world.mean(half)
            x = [mean.copy() for _ in range(n)]
        yield x


def compressed(compressor, vector, uniform):
    """One vector, compressed entry by entry."""
    kind, d = type(compressor).__name__, len(vector)
    if kind == "Identity":
        return vector
    if kind in ("TopK", "RandomK"):
        keys = [abs(v) for v in vector] if kind == "TopK" else list(uniform)
        result = np.zeros(d)
        for _ in range(min(compressor.k, d)):
            best = max(range(d), key=lambda c: keys[c])
            result[best], keys[best] = vector[best], -1.0
        return result
    if kind == "Sign":
        size = sum(abs(v) for v in vector) / d
        return np.array([size if v >= 0 else -size for v in vector])
    if kind == "QSGD":
        s, norm = compressor.levels, np.sqrt(sum(v * v for v in vector))
        tau = 1 + min(d / s**2, np.sqrt(d) / s)
        if norm == 0:
            return np.zeros(d)
        steps = [np.floor(s * abs(v) / norm + u) for v, u in zip(vector, uniform, strict=True)]
        return np.array(
            [np.sign(v) * norm * k / (s * tau) for v, k in zip(vector, steps, strict=True)]
        )
    if kind == "RandomRounding":
        s, largest = compressor.levels, max(abs(v) for v in vector)
        if largest == 0:
            return np.zeros(d)
        steps = [np.floor(s * abs(v) / largest + u) for v, u in zip(vector, uniform, strict=True)]
        return np.array([np.sign(v) * largest * k / s for v, k in zip(vector, steps, strict=True)])
    raise ValueError(kind)


def choco(world, x0, rates, compressor, consensus_rate):
    """X½ = X − γG; X̂ ← X̂ + Q(X½ − X̂); X' = X½ + δ(W − I)X̂. Each receiver has a copy of its own of each
    neighbour, to which it adds what reaches it.
    """
    n, d, x = world.n, len(x0[0]), x0
    generator = algorithm_stream(world)
    copies = [[np.zeros(d) for _ in range(n)] for _ in range(n)]  # copies[i][j]: what i has of j
    for step, rate in enumerate(rates):
        gradients = world.gradients(step, x)
        half = [x[i] - of(rate, i) * gradients[i] for i in range(n)]
        uniform = generator.random(n * d).reshape(n, d) if compressor.random else np.zeros((n, d))
        sent = [compressed(compressor, half[i] - copies[i][i], uniform[i]) for i in range(n)]
        W = world.weights(step)
        edges = [(j, i) for i in range(n) for j in range(n) if W[i, j] != 0 and i != j]
        lost = {edge for edge, came in zip(edges, world.hears(edges), strict=True) if not came}
        for i in range(n):
            for j in range(n):
                if (j, i) not in lost:
                    copies[i][j] = copies[i][j] + sent[j]
        x = [
            half[i]
            + consensus_rate * sum(W[i, j] * (copies[i][j] - copies[i][i]) for j in range(n))
            for i in range(n)
        ]
        yield x


def lead(world, x0, rates, compressor, consensus_rate, alpha):
    """Y = X − γG + C; Ŷ = H + Q(Y − H); C ← C − (δ/2)(Ŷ − WŶ); X' = X − γG + C; H ← (1 − α)H + αŶ. Each
    receiver has an H of its own of each neighbour.
    """
    n, d, x = world.n, len(x0[0]), x0
    generator = algorithm_stream(world)
    c = [np.zeros(d) for _ in range(n)]
    copies = [[np.zeros(d) for _ in range(n)] for _ in range(n)]
    for step, rate in enumerate(rates):
        gradients = world.gradients(step, x)
        uniform = generator.random(n * d).reshape(n, d) if compressor.random else np.zeros((n, d))
        y = [x[i] - of(rate, i) * gradients[i] + c[i] for i in range(n)]
        sent = [compressed(compressor, y[i] - copies[i][i], uniform[i]) for i in range(n)]
        W = world.weights(step)
        for i in range(n):
            estimates = [copies[i][j] + sent[j] for j in range(n)]
            mixed = sum(W[i, j] * estimates[j] for j in range(n))
            c[i] = c[i] - consensus_rate / 2 * (estimates[i] - mixed)
            for j in range(n):
                copies[i][j] = (1 - alpha) * copies[i][j] + alpha * estimates[j]
        x = [x[i] - of(rate, i) * gradients[i] + c[i] for i in range(n)]
        yield x


def beer(world, x0, rates, compressor, consensus_rate):
    """X' = X + δ(W − I)H − γV; H ← H + Q(X' − H); V' = V + δ(W − I)K + G⁺ − G; K ← K + Q(V' − K), V = G at
    first.
    """
    n, d, x = world.n, len(x0[0]), x0
    generator = algorithm_stream(world)
    of_x, of_v = ([np.zeros(d) for _ in range(n)] for _ in range(2))

    def renewed(copies, vectors):
        uniform = generator.random(n * d).reshape(n, d) if compressor.random else np.zeros((n, d))
        return [
            copies[i] + compressed(compressor, vectors[i] - copies[i], uniform[i]) for i in range(n)
        ]

    for step, rate in enumerate(rates):
        gradients = world.gradients(step, x)
        if step == 0:
            v, before = gradients, gradients
        else:
            mixed = world.mix(world.weights(step - 1), of_v)
            moved = [v[i] + consensus_rate * (mixed[i] - of_v[i]) for i in range(n)]
            v, before = [moved[i] + gradients[i] - before[i] for i in range(n)], gradients
            of_v = renewed(of_v, v)
        mixed = world.mix(world.weights(step), of_x)
        x = [x[i] + consensus_rate * (mixed[i] - of_x[i]) - of(rate, i) * v[i] for i in range(n)]
        of_x = renewed(of_x, x)
        yield x


def ada_gossip(world, x0, rates, compressor, consensus_rate, beta):
    """CHOCO's copies; s = min(1, δ/(√(v/(1 − βᵗ)) + 1e-8)) times what mixing them changes."""
    n, d, x = world.n, len(x0[0]), x0
    generator = algorithm_stream(world)
    public, v = [np.zeros(d) for _ in range(n)], [np.zeros(d) for _ in range(n)]
    for step, rate in enumerate(rates):
        gradients = world.gradients(step, x)
        half = [x[i] - of(rate, i) * gradients[i] for i in range(n)]
        uniform = generator.random(n * d).reshape(n, d) if compressor.random else np.zeros((n, d))
        sent = [compressed(compressor, half[i] - public[i], uniform[i]) for i in range(n)]
        public = [public[i] + sent[i] for i in range(n)]
        mixed = world.mix(world.weights(step), public)
        x = []
        for i in range(n):
            r = mixed[i] - public[i]
            v[i] = beta * v[i] + (1 - beta) * r * r
            s = [
                min(1.0, consensus_rate / ((e / (1 - beta ** (step + 1))) ** 0.5 + 1e-8))
                for e in v[i]
            ]
            x.append(half[i] + np.array(s) * r)
        yield x


def decentralized_adam(world, x0, rates, beta1, beta2, epsilon, accumulate):
    """X ← WX − γ m̂/(√v̂ + ε); m and v are renewed by the mean of ``accumulate`` gradients."""
    n, x = world.n, x0
    m, v = [np.zeros_like(z) for z in x0], [np.zeros_like(z) for z in x0]
    waiting = [[] for _ in range(n)]
    for step, rate in enumerate(rates):
        g = world.gradients(step, x)
        mixed = world.mix(world.weights(step), x)
        t = -(-(step + 1) // accumulate)
        x = []
        for i in range(n):
            first = (m[i] + (1 - beta1) * g[i]) / (1 - beta1**t)
            second = (v[i] + (1 - beta2) * g[i] ** 2) / (1 - beta2**t)
            x.append(mixed[i] - of(rate, i) * first / (second**0.5 + epsilon))
            waiting[i].append(g[i])
            if len(waiting[i]) == accumulate:
                mean = sum(waiting[i]) / accumulate
                m[i] = beta1 * (m[i] + (1 - beta1) * mean)
                v[i] = beta2 * (v[i] + (1 - beta2) * mean**2)
                waiting[i] = []
        yield x


def normalized_tracking(world, x0, rates, momentum):
    """X ← W(X + β(X − X⁻)) − γ V/‖V‖;  V ← WV + G⁺ − G, V_0 = G_0."""
    n, x, before = world.n, x0, x0
    g = world.gradients(0, x)
    v = list(g)
    for step, rate in enumerate(rates):
        W = world.weights(step)
        mixed = world.mix(W, [x[i] + momentum * (x[i] - before[i]) for i in range(n)])
        tracked = world.mix(W, v)
        new = []
        for i in range(n):
            length = sum(e * e for e in v[i]) ** 0.5
            new.append(mixed[i] - (of(rate, i) / length * v[i] if length else 0))
        x, before = new, x
        yield x
        renewed = world.gradients(step + 1, x)
        v = [tracked[i] + renewed[i] - g[i] for i in range(n)]
        g = renewed


def cesar(world, x0, rates, share, neighbours):
    """Entries cross with masks that cancel: any two who send one to the same receiver share a mask."""
    n, d, x = world.n, len(x0[0]), x0
    generator, masks = algorithm_stream(world), np.random.default_rng(5)
    k = max(1, int(np.ceil(round(share * d, 9))))
    for step, rate in enumerate(rates):
        W, g = world.weights(step), world.gradients(step, x)
        half = [x[i] - of(rate, i) * g[i] for i in range(n)]
        uniform = generator.random(n * d).reshape(n, d)
        chosen = [set(sorted(range(d), key=lambda c, i=i: uniform[i, c])[:k]) for i in range(n)]
        x = []
        for r in range(n):
            new = half[r].copy()
            for c in range(d):
                senders = [j for j in range(n) if j != r and W[r, j] != 0 and c in chosen[j]]
                if len(senders) <= neighbours:
                    continue
                messages = {j: W[r, j] * half[j][c] for j in senders}
                for a in senders:
                    for b in senders:
                        if a < b:
                            mask = masks.normal()
                            messages[a] += mask
                            messages[b] -= mask
                total = W[r, r] * half[r][c] + sum(messages.values())
                new[c] = total / (W[r, r] + sum(W[r, j] for j in senders))
            x.append(new)
        yield x


def algorithm_stream(world):
    """The random numbers that methods draw in a run of a seed."""
    seed = np.random.SeedSequence(world.seed, spawn_key=(3,))
    return np.random.Generator(np.random.PCG64(seed))


def single_merge(world, x0, rates, merge_at, probability, local_steps, count):
    n, x, generator = world.n, x0, algorithm_stream(world)
    for step, rate in enumerate(rates):
        g = world.gradients(step, x)
        x = [x[i] - of(rate, i) * g[i] for i in range(n)]
        if step + 1 == merge_at:
            mean = world.mean(x)
            x = [mean.copy() for _ in range(n)]
        elif (step + 1) % local_steps == 0:
            drawn = generator.random(2 * n).reshape(n, 2)
            ready = sorted((drawn[i, 1], i) for i in range(n) if drawn[i, 0] < probability)
            workers = [i for _, i in ready]
            for a, b in zip(workers[::2], workers[1::2], strict=False):
                mean = (x[a] + x[b]) / 2
                x[a], x[b] = mean, mean.copy()
        yield x


def dynamic_averaging(world, x0, rates, threshold, period):
    n, x, generator = world.n, x0, algorithm_stream(world)
    reference, violations = world.mean(x), 0
    for step, rate in enumerate(rates):
        g = world.gradients(step, x)
        x = [x[i] - of(rate, i) * g[i] for i in range(n)]
        if (step + 1) % period == 0:
            drawn = generator.random(n)
            chosen = [i for i in range(n) if np.sum((x[i] - reference) ** 2) > threshold]
            waiting = sorted(set(range(n)) - set(chosen), key=lambda i: drawn[i])
            violations += len(chosen)
            if violations >= n:
                chosen, waiting, violations = list(range(n)), [], 0
            if chosen:
                mean = sum(x[i] for i in chosen) / len(chosen)
                while waiting and np.sum((mean - reference) ** 2) > threshold:
                    chosen.append(waiting.pop(0))
                    mean = sum(x[i] for i in chosen) / len(chosen)
                for i in chosen:
                    x[i] = mean.copy()
                if len(chosen) == n:
                    reference = mean
        yield x


def consensus_control(world, x0, rates, base, target, most_rounds):
    """X ← WX after each step until Ξ² is at most the target; for DP-SGD and D² as they stand above."""
    n, options = world.n, {f.name: getattr(base, f.name) for f in dataclasses.fields(base)}
    last = {}

    def remembered(step, worker, x):
        last[worker] = world.gradient(step, worker, x)
        return last[worker]

    # One step at a time: the base's rule, begun anew with what it keeps.
    if type(base).__name__ == "DPSGD":
        x, smooth = x0, Momentum(options["momentum"], x0)
        keep = None
    else:
        x, keep = x0, [np.zeros_like(start) for start in x0]
    for step, rate in enumerate(rates):
        W = world.weights(step)
        g = [remembered(step, i, x[i]) for i in range(n)]
        if keep is None:
            m = smooth.direction(g)
            x = world.mix(W, [x[i] - of(rate, i) * m[i] for i in range(n)])
        else:
            half = [x[i] - of(rate, i) * g[i] + keep[i] for i in range(n)]
            x = world.mix(W, half)
            keep = [x[i] - (half[i] - keep[i]) for i in range(n)]
        limit = target
        if isinstance(target, tuple):
            limit = [each for first, each in target if first <= step][-1]
        elif hasattr(target, "smoothness"):
            L, mean = target.smoothness, world.mean([last[i] for i in range(n)])
            limit = rate * target.sigma2 / (L * n) + np.sum(mean**2) / (8 * L**2)
        for k in range(1, most_rounds + 1):
            mean = world.mean(x)
            if sum(np.sum((x[i] - mean) ** 2) for i in range(n)) / n <= limit:
                break
            W = world.weights(step, further=k)
            x = world.mix(W, x, further=k)
        yield x


def orthonormal(columns):
    """Gram–Schmidt, twice against rounding; 0 for what is 1e-10 of the longest, or less, from dependent."""
    result, longest = [], max(np.sqrt(c @ c) for c in columns)
    for vector in columns:
        for done in result + result:
            vector = vector - (done @ vector) * done
        size = np.sqrt(vector @ vector)
        result.append(vector / size if size > 1e-10 * longest else 0 * vector)
    return result


def power_gossip(world, x0, rates, rank, iterations, warm_start, rows):
    """Per edge i < j, with Δ = X_j − X_i: P = Δ orth(Q), then Q = Δᵀ orth(P), by turns."""
    n, d, x = world.n, len(x0[0]), x0
    a = rows or max(k for k in range(1, d + 1) if d % k == 0 and k * k <= d)
    b = d // a
    rank = min(rank, a, b)
    pairs = [
        (i, j) for i in range(n) for j in range(i + 1, n) if any(W[i, j] for W in world.matrices)
    ]
    generator = algorithm_stream(world)

    def drawn(size):
        """For each pair ``rank`` vectors of Gaussian numbers."""
        uniform = generator.random(len(pairs) * size * rank).reshape(len(pairs), size, rank)
        normal = np.vectorize(NormalDist().inv_cdf, otypes=[float])(uniform)
        return {pair: list(table.T) for pair, table in zip(pairs, normal, strict=True)}

    half_steps = dict.fromkeys(pairs, 0)
    if warm_start:
        P, Q = drawn(a), drawn(b)
    for step, rate in enumerate(rates):
        W, gradients = world.weights(step), world.gradients(step, x)
        x = [x[i] - of(rate, i) * gradients[i] for i in range(n)]
        awake = [(i, j) for i, j in pairs if W[i, j] != 0]
        for _ in range(iterations):
            right = [pair for pair in awake if half_steps[pair] % 2 == 0]
            left = [pair for pair in awake if half_steps[pair] % 2 == 1]
            if not warm_start and right:
                Q = drawn(b)
            if not warm_start and left:
                P = drawn(a)
            before, x = x, list(x)
            for i, j in awake:
                half_steps[i, j] += 1
                delta = (before[j] - before[i]).reshape(a, b)
                correction = np.zeros((a, b))
                if (i, j) in right:
                    V = orthonormal(Q[i, j])
                    found = [delta @ v for v in V]
                    for p, v in zip(found, V, strict=True):
                        correction += np.outer(p, v)
                else:
                    U = orthonormal(P[i, j])
                    found = [delta.T @ u for u in U]
                    for u, q in zip(U, found, strict=True):
                        correction += np.outer(u, q)
                if warm_start:
                    known = (P if (i, j) in right else Q)[i, j]
                    for column in range(rank):  # which is kept where nothing was seen
                        if np.any(found[column]):
                            known[column] = found[column]
                x[i] = x[i] + W[i, j] * correction.reshape(d)
                x[j] = x[j] - W[i, j] * correction.reshape(d)
        yield x


RULES = {
    "PowerGossip": power_gossip,
    "ConsensusControl": consensus_control,
    "SingleMerge": single_merge,
    "DynamicAveraging": dynamic_averaging,
    "ChocoSGD": choco,
    "LocalRates": local_rates,
    "LEAD": lead,
    "BEER": beer,
    "AdaGossip": ada_gossip,
    "DecentralizedAdam": decentralized_adam,
    "NormalizedTracking": normalized_tracking,
    "Cesar": cesar,
    "RelaySGD": relay_sgd,
    "RelaySGDGrad": relay_sgd_grad,
    "RelaySGDMix": relay_sgd_mix,
    "DPSGD": dpsgd,
    "DSGDAC": dsgd_ac,
    "D2": d2,
    "ExactDiffusion": exact_diffusion,
    "GradientTracking": gradient_tracking,
    "NIDS": nids,
    "DLM": dlm,
    "ADMM": admm,
    "LED": led,
    "KGT": kgt,
    "ProxSkip": prox_skip,
    "Scaffold": scaffold,
    "QuasiGlobalMomentum": quasi_global_momentum,
    "SGP": sgp,
    "PushDIGing": push_diging,
    "PushPull": push_pull,
    "AllReduce": all_reduce,
    "GTSAGA": gt_saga,
    "GTSARAH": gt_sarah,
    "GTSVRG": gt_svrg,
    "EXTRA": extra,
    "DecentLaM": decentlam,
    "MomentumConsensus": momentum_consensus,
    "HeavyBallConsensus": heavy_ball_consensus,
    "Mudag": mudag,
    "DelayedGradient": delayed_gradient,
    "LocalSGD": local_sgd,
    "FedAvg": fedavg,
    "GossipPGA": gossip_pga,
    "ClippedGossip": clipped_gossip,
    "TrimmedMean": trimmed_mean,
    "Muffliato": muffliato,
}
