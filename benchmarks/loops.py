"""The same simulations as plain NumPy loops over workers: what the vectorised ones are held against."""

import numpy as np


def relaysgd_loop(A, b, neighbours, learning_rate, steps, optimum, mean_hessian):
    """RelaySGD from 0, all columns recorded every step; returns the iterates and the table."""
    n, _, d = A.shape
    x = np.zeros((n, d))
    start = x.copy()
    messages = {(i, j): np.zeros(d) for i in range(n) for j in neighbours[i]}
    counts = dict.fromkeys(messages, 0)
    table = [_columns(x, optimum, mean_hessian)]
    for _ in range(steps):
        half = [x[i] - learning_rate * (A[i].T @ (A[i] @ x[i] - b[i])) for i in range(n)]
        new_messages, new_counts = {}, {}
        for i in range(n):
            for j in neighbours[i]:
                message, count = half[i], 1
                for k in neighbours[i]:
                    if k != j:
                        message = message + messages[k, i]
                        count += counts[k, i]
                new_messages[i, j], new_counts[i, j] = message, count
        messages, counts = new_messages, new_counts
        x = np.empty_like(x)
        for i in range(n):
            total, count = half[i], 1
            for j in neighbours[i]:
                total = total + messages[j, i]
                count += counts[j, i]
            x[i] = (total + (n - count) * start[i]) / n
        table.append(_columns(x, optimum, mean_hessian))
    return x, np.array(table)


def dpsgd_loop(A, b, W, learning_rate, steps, optimum, mean_hessian):
    """DP-SGD from 0, all columns recorded every step; returns the iterates and the table."""
    n, _, d = A.shape
    x = np.zeros((n, d))
    neighbours = [np.flatnonzero(W[i]) for i in range(n)]
    table = [_columns(x, optimum, mean_hessian)]
    for _ in range(steps):
        half = [x[i] - learning_rate * (A[i].T @ (A[i] @ x[i] - b[i])) for i in range(n)]
        x = np.stack([sum(W[i, j] * half[j] for j in neighbours[i]) for i in range(n)])
        table.append(_columns(x, optimum, mean_hessian))
    return x, np.array(table)


def _columns(x, optimum, mean_hessian):
    mean = x.mean(axis=0)
    error = mean - optimum
    gradient = mean_hessian @ error
    return (
        0.5 * error @ gradient,
        ((x - mean) ** 2).sum() / len(x),
        ((x - optimum) ** 2).sum() / len(x),
        gradient @ gradient,
    )
