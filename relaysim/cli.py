"""The command line: figures, single runs, and what there is to run."""

from __future__ import annotations

import argparse
import ast
import difflib
import pathlib
import sys
from collections.abc import Callable, Sequence

from relaysim import __version__, algorithms, oracles, problems, topologies
from relaysim.simulation import simulate
from relaysim.tuning import tune

__all__ = ["main"]

FIGURE_HELP = "draw one of the paper's figures: png, pdf and csv"


class CommandError(Exception):
    """Something on the command line that makes no sense; shown as one line."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0, or 2 with one line on standard error.

    >>> main(["figure", "heterogenity"])
    2
    """
    try:
        chosen = _parser().parse_args(arguments)
        chosen.command(chosen)
    except (CommandError, ValueError, TypeError, OSError) as error:
        print(f"relaysim: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("relaysim: interrupted; nothing was written", file=sys.stderr)
        return 130
    return 0


# -- commands --------------------------------------------------------------------------------------


def _figure(chosen) -> None:
    from relaysim.figures import FIGURES

    draw = FIGURES[_known(chosen.name, FIGURES, "figure")]
    options = {} if chosen.seed is None else {"seed": chosen.seed}
    result = draw(quick=chosen.quick, **options)
    for path in result.save(chosen.out, chosen.name):
        print(path)


def _list(chosen) -> None:
    from relaysim.figures import FIGURES

    for title, entries in (
        ("Algorithms", _algorithms()),
        ("Topologies", _topologies()),
        ("Figures", FIGURES),
    ):
        print(title)
        width = max(map(len, entries))
        for name, entry in entries.items():
            print(f"  {name:<{width}}  {entry.__doc__.strip().splitlines()[0]}")
        print()


def _run(chosen) -> None:
    topology = _call(chosen.topology, _topologies(), "topology", chosen.n)
    algorithm = _call(chosen.algorithm, _algorithms(), "algorithm")
    problem = problems.random_quadratics(
        topology.n,
        chosen.d,
        zeta2=chosen.zeta2,
        mu=chosen.mu,
        smoothness=chosen.smoothness,
        r0=chosen.r0,
        seed=chosen.problem_seed,
    )
    oracle = oracles.Gaussian(chosen.sigma2) if chosen.sigma2 else None
    rates = chosen.learning_rate
    if rates is None:
        tuned = tune(problem, topology, algorithm, target=chosen.target)
        if tuned.steps != tuned.steps:
            raise CommandError(
                f"no learning rate brings {chosen.algorithm} below {chosen.target:g}; "
                f"give one with --learning-rate, or a larger --target"
            )
        print(f"tuned learning rate {tuned.learning_rate:.6g} ({tuned.steps:.0f} steps)")
        rates = [tuned.learning_rate]
    for path, kinds in ((chosen.save, (".npz",)), (chosen.plot, (".png", ".pdf", ".svg"))):
        if path is not None and path.suffix not in kinds:
            raise CommandError(f"{str(path)!r} must end in {' or '.join(kinds)}")
        if path is not None and not path.parent.is_dir():
            raise CommandError(f"there is no folder {str(path.parent)!r} to write to")
    history = simulate(
        problem,
        topology,
        algorithm,
        learning_rate=rates[0] if len(rates) == 1 else rates,
        steps=chosen.steps,
        oracle=oracle,
        seed=chosen.seed,
        replicas=chosen.replicas,
        record=chosen.record,
    )
    last = history.frame.groupby("replica").tail(1)
    print(last.to_string(index=False, float_format=lambda value: f"{value:.6g}"))
    if chosen.save is not None:
        print(history.save(chosen.save))
    if chosen.plot is not None:
        from relaysim.history import written_aside

        figure = history.plot().figure
        with written_aside(chosen.plot) as aside:
            figure.savefig(aside)
        print(chosen.plot)


# -- arguments -------------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        hint = ""
        if "invalid choice: '" in message:
            given = message.split("invalid choice: '")[1].split("'")[0]
            hint = _closest(given, COMMANDS)
            message = f"unknown command {given!r}"
        raise CommandError(f"{message}{hint} (relaysim --help tells more)")


COMMANDS: dict[str, tuple[Callable, str]] = {
    "figure": (_figure, FIGURE_HELP),
    "run": (_run, "simulate one setting"),
    "list": (_list, "name the algorithms, topologies and figures"),
}


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="relaysim", description="Simulate decentralized optimization.")
    parser.add_argument("--version", action="version", version=f"relaysim {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)
    made = {}
    for name, (command, text) in COMMANDS.items():
        made[name] = commands.add_parser(name, help=text, description=text)
        made[name].set_defaults(command=command)

    figure = made["figure"]
    figure.add_argument("name", help="as given by relaysim list")
    figure.add_argument("--out", type=pathlib.Path, default="figures", help="folder to write to")
    figure.add_argument("--quick", action="store_true", help="a small version, in seconds")
    figure.add_argument("--seed", type=int, help="of the random problem")

    run = made["run"]
    call = "a name from relaysim list, or a call such as"
    run.add_argument("--algorithm", default="RelaySGD", help=f"{call} 'RelaySGD(momentum=0.9)'")
    run.add_argument("--topology", default="chain", help=f"{call} 'torus(4, 8)'")
    run.add_argument("--n", type=int, default=32, help="workers, for a topology given by name")
    run.add_argument("--d", type=int, default=10, help="parameters")
    run.add_argument("--zeta2", type=float, default=0.1, help="heterogeneity ζ²")
    run.add_argument("--sigma2", type=float, default=0.0, help="variance σ² of the gradient noise")
    run.add_argument("--mu", type=float, default=0.25, help="smallest Hessian eigenvalue")
    run.add_argument("--smoothness", type=float, default=1.0, help="largest Hessian eigenvalue")
    run.add_argument("--r0", type=float, default=1.0, help="distance of the optimum from 0")
    run.add_argument("--problem-seed", type=int, default=0, help="of the random problem")
    run.add_argument(
        "--learning-rate", type=float, nargs="+", help="one or several; tuned when left out"
    )
    run.add_argument("--target", type=float, default=1e-6, help="suboptimality to tune for")
    run.add_argument("--steps", type=int, default=500)
    run.add_argument("--seed", type=int, default=0, help="of the gradient noise")
    run.add_argument("--replicas", type=int, help="that many seeds, from --seed on")
    run.add_argument("--record", type=int, help="record every k-th step")
    run.add_argument("--save", type=pathlib.Path, help="write the history to this .npz file")
    run.add_argument("--plot", type=pathlib.Path, help="draw it into this .png, .pdf or .svg file")
    return parser


def _algorithms() -> dict[str, Callable]:
    return {name: getattr(algorithms, name) for name in algorithms.__all__}


def _topologies() -> dict[str, Callable]:
    made_of_numbers = set(topologies.__all__) - {
        "Topology",
        "TreePair",
        "from_edges",
        "from_networkx",
        "spanning_tree",
    }
    return {name: getattr(topologies, name) for name in sorted(made_of_numbers)}


def _call(text: str, known: dict[str, Callable], what: str, *default):
    """What ``name`` or ``name(argument, key=value)`` stands for, with plain values only."""
    name, parenthesis, _ = text.partition("(")
    build = known[_known(name.strip(), known, what)]
    if not parenthesis:
        return build(*(default if name.strip() != "social_network" else ()))
    try:
        call = ast.parse(text.strip(), mode="eval").body
        positional = [ast.literal_eval(argument) for argument in call.args]
        named = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
    except (SyntaxError, ValueError, AttributeError):
        raise CommandError(
            f"cannot read {what} {text!r}; write it as {name.strip()}(1, option=0.5)"
        ) from None
    try:
        return build(*positional, **named)
    except TypeError as error:
        raise CommandError(f"{what} {text!r}: {error}") from None


def _known(name: str, known, what: str) -> str:
    if name in known:
        return name
    raise CommandError(f"unknown {what} {name!r}{_closest(name, known)}")


def _closest(name: str, known) -> str:
    lowered = {entry.lower(): entry for entry in known}
    near = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.3)
    return f"; did you mean {lowered[near[0]]!r}?" if near else f"; known: {', '.join(known)}"
