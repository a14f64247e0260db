"""Numbers that the authors of the RelaySum paper published beside their code, to compare with.

Source: outputs in the folder paper-figures of the public repository epfml/relaysgd. Their objective
lacks the ½ of ours, so that their target 1e-6 is 5e-7 here; their random generator is not ours.
"""

from __future__ import annotations

__all__ = ["ALL_REDUCE_RATE", "CORRECTION_FACTOR", "KEY_LEMMA", "STEPS_TO_TARGET", "TUNED_STEPS"]

#: Figure 2: median steps to 1e-6 over ten seeds, by (algorithm, topology), then by ζ² and n.
STEPS_TO_TARGET: dict[tuple[str, str], dict[tuple[float, int], float]] = {
    ("All-reduce", "ring"): {
        (0.01, 6): 9.0,
        (0.01, 24): 7.0,
        (0.01, 96): 6.0,
        (1.0, 6): 9.0,
        (1.0, 24): 7.0,
        (1.0, 96): 6.0,
    },
    ("D²", "ring"): {
        (0.01, 6): 19.0,
        (0.01, 24): 72.5,
        (0.01, 96): 204.0,
        (1.0, 6): 19.0,
        (1.0, 24): 72.5,
        (1.0, 96): 205.0,
    },
    ("Gradient tracking", "ring"): {
        (0.01, 6): 49.0,
        (0.01, 24): 711.5,
        (0.01, 96): 7916.5,
        (1.0, 6): 49.0,
        (1.0, 24): 711.5,
        (1.0, 96): 7956.5,
    },
    ("Gradient tracking", "binary_tree"): {
        (0.01, 6): 157.5,
        (0.01, 24): 890.0,
        (0.01, 96): 3259.5,
        (1.0, 6): 158.5,
        (1.0, 24): 885.5,
        (1.0, 96): 3259.5,
    },
    ("RelaySGD", "chain"): {
        (0.01, 6): 21.0,
        (0.01, 24): 70.5,
        (0.01, 96): 244.0,
        (1.0, 6): 21.0,
        (1.0, 24): 70.5,
        (1.0, 96): 244.0,
    },
    ("RelaySGD", "binary_tree"): {
        (0.01, 6): 15.0,
        (0.01, 24): 27.0,
        (0.01, 96): 36.5,
        (1.0, 6): 15.0,
        (1.0, 24): 27.0,
        (1.0, 96): 36.5,
    },
}

#: The rate at which the search behind figure 2 ended for all-reduce, for every problem and n. Its table has
#: half of it, 0.78125, as for all methods that are tuned to be fastest.
ALL_REDUCE_RATE = 1.5625

#: Figures 7 and 8: steps to 1e-6 at the tuned rate, one random problem, by figure, method and ζ².
TUNED_STEPS: dict[str, dict[str, dict[float, int]]] = {
    "heterogeneity": {
        "DP-SGD (gossip)": {0.0: 13, 0.1: 1469, 10.0: 19818},
        "D²": {0.0: 18, 0.1: 34, 10.0: 54},
        "Gradient tracking": {0.0: 10, 0.1: 301, 10.0: 641},
        "RelaySGD": {0.0: 51, 0.1: 51, 10.0: 54},
    },
    "star": {
        "D²": {0.0: 65, 0.01: 65, 0.1: 65},
        "Gradient tracking": {0.0: 9, 0.01: 280, 0.1: 295},
        "RelaySGD": {0.0: 8, 0.01: 8, 0.1: 8},
    },
    "relaysgd-vs-grad": {},
}

#: Figure 6: the learning-rate correction measured by an impulse, by topology and n.
CORRECTION_FACTOR: dict[str, dict[int, float]] = {
    "chain": {2: 1.0, 4: 1.4999999999629174, 8: 2.75000000033135, 16: 5.37499999957357},
    "binary_tree": {2: 1.0, 4: 1.3749999999171454, 8: 2.156250000114744, 16: 3.320312500436733},
    "star": {2: 1.0, 4: 1.3749999999171454, 8: 1.6562499997258142, 16: 1.8203124994391737},
}

#: Figure 5: the smallest m/p, by topology and n.
KEY_LEMMA: dict[str, dict[int, float]] = {
    "chain": {
        2: 9.35241003204277,
        4: 32.91653243957954,
        8: 91.2363850350176,
        16: 150.88197618446165,
    },
    "binary_tree": {
        2: 9.35241003204277,
        4: 23.221261303350225,
        8: 58.52487726049536,
        16: 114.66732995478992,
    },
    "star": {
        2: 9.35241003204277,
        4: 23.221261303350303,
        8: 36.51642222187592,
        16: 60.10688894232183,
    },
}
