"""The command line, run as a user runs it, and in process where that is enough."""

import contextlib
import io
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import relaysim as rs
from relaysim import cli
from relaysim.figures import FIGURES
from relaysim.studies import naming
from relaysim.studies.experiment import OPTIONS
from relaysim.studies.options import FIXED, TUNED
from relaysim.studies.settings import complete


def test_quick_figure_is_written_whole(tmp_path, capsys):
    folder = tmp_path / "new" / "folder"
    assert cli.main(["figure", "heterogeneity", "--quick", "--out", str(folder)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[3].startswith("Suboptimality f(x̄) − f(x*) against steps on 8 workers")
    assert printed[:3] == [str(folder / f"heterogeneity.{kind}") for kind in ("png", "pdf", "csv")]
    assert sorted(path.name for path in folder.iterdir()) == [
        "heterogeneity.csv",
        "heterogeneity.pdf",
        "heterogeneity.png",
    ]
    assert (folder / "heterogeneity.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "heterogeneity.pdf").read_bytes().startswith(b"%PDF")
    table = pd.read_csv(folder / "heterogeneity.csv")
    assert set(table.zeta2) == {0.0, 0.1, 10.0}
    assert set(table.method) == {"DP-SGD (gossip)", "Gradient tracking", "D²", "RelaySGD"}


def test_failed_figure_leaves_an_older_one(tmp_path, capsys, monkeypatch):
    def broken(quick, **_):
        from matplotlib.figure import Figure

        from relaysim.figures import Result

        return Result(Figure(), "no frame", "")

    monkeypatch.setitem(FIGURES, "heterogeneity", broken)
    (tmp_path / "heterogeneity.csv").write_text("older")
    with pytest.raises(AttributeError):
        cli.main(["figure", "heterogeneity", "--out", str(tmp_path)])
    assert (tmp_path / "heterogeneity.csv").read_text() == "older"
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["figure", "heterogenety"], "did you mean 'heterogeneity'?"),
        (["figur", "heterogeneity"], "did you mean 'figure'?"),
        (["store", "chek", "a.db"], "unknown command 'chek'; did you mean 'check'?"),
        (["run", "--measure", "accuracy"], "--measure accuracy; it is an option of tune"),
        (["run", "--algorithm", "RelaySDG"], "did you mean 'RelaySGD'?"),
        (["run", "--topology", "rnig"], "did you mean 'ring'?"),
        (["run", "--topology", "ring"], "spanning_tree"),
        (["run", "--algorithm", "RelaySGD(momentum=2)"], "momentum must lie in [0, 1), not 2"),
        (["run", "--algorithm", "RelaySGD(speed=2)"], "unexpected keyword argument 'speed'"),
        (["run", "--algorithm", "RelaySGD(__import__('os'))"], "cannot read algorithm"),
        (["run", "--topology", "torus(4"], "cannot read topology"),
        (["run", "--learning-rate", "-1"], "at least 0"),
        (["run", "--steps", "many"], "invalid int value: 'many'"),
        (["run", "--steps", "5", "--learning-rate", "0.1", "--save", "x.txt"], "must end in .npz"),
        (["run", "--steps", "5", "--learning-rate", "0.1", "--plot", "no/x.png"], "no folder"),
        (["run", "--nonsense"], "unrecognized arguments: --nonsense"),
        (["run", "--zeta-2", "1"], "did you mean '--zeta2'?"),
        (["run", "--csv", "-", "--json", "-"], "only one of --csv and --json can be -"),
        (["run", "--learning-rate", "0.1", "--csv", "x.json"], "must end in .csv"),
        (["run", "--learning-rate", "0.1", "--target", "-1"], "target must be positive"),
        (["run", "--learning-rate", "0.1", "--criterion", "plateau"], "--criterion is for tuning"),
        (["tune", "--over", "momentun=[0.5]"], "did you mean 'momentum'?"),
        (["tune", "--over", "momentum=0.5"], "write momentum=[0.5]"),
        (["tune", "--measure", "gradient"], "did you mean 'gradient_norm'?"),
        (["tune", "--steps", "5"], "unrecognized arguments: --steps"),
        (["theory", "--learning-rate", "InverseSqrt(1.0)"], "theory is about constant rates"),
        (["list", "faultz"], "did you mean 'faults'?"),
        ([], "required: COMMAND"),
    ],
)
def test_errors_are_one_line_and_status_2(arguments, message, capsys):
    assert cli.main(arguments) == 2
    output = capsys.readouterr()
    assert message in output.err
    assert output.err.count("\n") == 1
    assert output.out == ""


def test_list_names_everything_as_it_is_typed(capsys):
    assert cli.main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    listed = {line.split()[0].partition("(")[0]: line for line in lines if line.startswith("  ")}
    methods = [name for name in rs.algorithms.__all__ if name != "Critical"]
    for name in [*methods, *FIGURES, "chain", "double_binary_tree", "torus", "gradient_norm"]:
        assert len(listed[name].split()) > 3
    calls = {line.strip().partition("  ")[0] for line in lines}
    kinds = [each.parts for each in OPTIONS.values() if each.parts]
    for known in [*kinds, naming.COMPRESSORS, naming.ATTACKS]:
        assert set(known) <= set(listed)
        assert {naming.typed(name, made) for name, made in known.items()} <= calls
    # Where nothing is missing, what is listed can be typed as it stands.
    for known in (naming.ALGORITHMS, naming.COMPRESSORS, naming.ATTACKS):
        for name, made in known.items():
            call = naming.typed(name, made)
            if call.count("=") > call.count(",") or call.endswith("()"):
                assert naming.named(call, known, "part") == made()
    assert "uniform(weight)" in calls


def test_list_tells_one_kind_and_one_name(capsys):
    assert cli.main(["list", "oracles"]) == 0
    assert capsys.readouterr().out.startswith("oracle: --oracle, such as Minibatch(8)\n  Exact()")
    assert cli.main(["list", "ChocoSGD"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("ChocoSGD(compressor=TopK(k=1), consensus_rate=0.1)\n\nCHOCO-SGD")
    assert "Source" in told


def test_run_saves_and_plots(tmp_path, capsys):
    saved, drawn = tmp_path / "run.npz", tmp_path / "run.png"
    arguments = ["run", "--algorithm", "D2", "--topology", "torus(3, 4)", "--d", "4"]
    arguments += ["--zeta2", "2", "--sigma2", "0.01", "--replicas", "3", "--seed", "5"]
    arguments += ["--learning-rate", "0.1", "0.2", "--steps", "40", "--record", "20"]
    assert cli.main([*arguments, "--save", str(saved), "--plot", str(drawn)]) == 0
    assert drawn.read_bytes().startswith(b"\x89PNG")
    history = rs.History.load(saved)
    problem = rs.problems.random_quadratics(n=12, d=4, zeta2=2, seed=0)
    expected = rs.simulate(
        problem,
        rs.topologies.torus(3, 4),
        rs.algorithms.D2(),
        learning_rate=[0.1, 0.2],
        steps=40,
        oracle=rs.oracles.Gaussian(0.01),
        seed=5,
        replicas=3,
        record=20,
    )
    np.testing.assert_array_equal(history.x, expected.x)
    pd.testing.assert_frame_equal(history.frame, expected.frame)


AS_A_SCRIPT = "import sys; from relaysim.cli import main; sys.exit(main())"


def outside(*command, **environment):
    """What a process of its own says."""
    return subprocess.run(
        [sys.executable, *command],
        env=os.environ | environment,
        capture_output=True,
        check=False,
    )


def test_the_package_is_a_command():
    refused = outside("-m", "relaysim", "nope")
    assert (refused.returncode, refused.stdout) == (2, b"")
    assert refused.stderr.startswith(b"relaysim: unknown command 'nope'")


def test_the_script_is_a_command_where_output_has_no_greek_letters():
    told = outside("-c", AS_A_SCRIPT, "list", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert (told.returncode, told.stderr) == (0, b"")
    assert b"gamma_t" in told.stdout


def test_version(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert not ended.value.code
    assert capsys.readouterr() == (f"relaysim {rs.__version__}\n", "")


SMALL = ["--n", "4", "--d", "2"]


def test_run_tunes_when_no_rate_is_given_and_says_so_where_nobody_watches(capsys):
    assert cli.main(["run", *SMALL, "--steps", "20"]) == 0
    said = capsys.readouterr()
    assert "tuned learning rate" in said.out
    assert said.err.startswith("relaysim: tuning the learning rate of RelaySGD(")
    assert said.err.endswith("on chain(4), up to 100000 steps\n")


def read_json(text):
    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_run_writes_tables_and_says_what_diverged(tmp_path, capsys):
    path = tmp_path / "run.json"
    arguments = ["run", *SMALL, "--algorithm", "D2", "--learning-rate", "0.5", "9", "--steps", "60"]
    assert cli.main([*arguments, "--target", "1e-3", "--csv", "-", "--json", str(path)]) == 1
    said = capsys.readouterr()
    history = rs.simulate(
        rs.problems.random_quadratics(4, 2, zeta2=0.1, seed=0),
        rs.topologies.chain(4),
        rs.algorithms.D2(),
        learning_rate=[0.5, 9.0],
        steps=60,
    )
    frame = pd.read_csv(io.StringIO(said.out))
    pd.testing.assert_frame_equal(frame, history.frame, check_dtype=False, rtol=1e-15)
    diverged = frame[frame.replica == 1].set_index("step").suboptimality.isna().idxmax()
    assert f"1 of 2 replicas diverged, by step {diverged}, at learning rate 9;" in said.err
    assert said.err.splitlines()[0] == str(path)
    written = read_json(path.read_text(encoding="utf-8"))
    assert written["diverged"] == [False, True]
    assert written["setting"]["algorithm"] == "D2()"
    assert written["setting"]["learning_rate"] == [0.5, 9.0]
    assert [row["steps_to_target"] for row in written["last"]] == [history.steps_to(1e-3)[0], None]
    assert pd.DataFrame(written["records"]).suboptimality.equals(history.frame.suboptimality)


def test_tune_finds_what_tune_finds(tmp_path, capsys):
    tried = tmp_path / "tried.csv"
    arguments = ["tune", *SMALL, "--topology", "ring", "--algorithm", "DPSGD", "--target", "1e-3"]
    arguments += ["--over", "momentum=[0.0, 0.5]", "--measure", "gradient_norm"]
    assert cli.main([*arguments, "--csv", str(tried), "--json", "-"]) == 0
    said = capsys.readouterr()
    expected = rs.tune(
        rs.problems.random_quadratics(4, 2, zeta2=0.1, seed=0),
        rs.topologies.ring(4),
        rs.algorithms.DPSGD(),
        target=1e-3,
        over={"momentum": [0.0, 0.5]},
        measure="gradient_norm",
    )
    (best,) = read_json(said.out)["best"]
    found = best["momentum"], best["learning_rate"], best["steps"]
    assert found == (expected.options["momentum"], expected.learning_rate, expected.steps)
    pd.testing.assert_frame_equal(pd.read_csv(tried), expected.frame, check_dtype=False, rtol=1e-15)
    few = ["--algorithm", "DPSGD", "--target", "1e-16", "--max-steps", "50"]
    assert cli.main(["tune", *SMALL, *few]) == 1
    assert "no learning rate brings the suboptimality of DPSGD(" in capsys.readouterr().err


def test_theory_is_what_theory_says(capsys):
    setting = [*SMALL, "--topology", "ring", "--algorithm", "DPSGD", "--sigma2", "0.1"]
    assert cli.main(["theory", *setting, "--learning-rate", "0.1", "9", "--csv", "-"]) == 0
    table = pd.read_csv(io.StringIO(capsys.readouterr().out), converters={"value": float})
    anywhere = table[table.learning_rate.isna()].set_index("quantity").value
    at_rate = table[table.learning_rate == 0.1].set_index("quantity").value
    problem = rs.problems.random_quadratics(4, 2, zeta2=0.1, seed=0)
    parts = problem, rs.topologies.ring(4), rs.algorithms.DPSGD()
    linear = rs.theory.linearize(*parts, 0.1)
    assert anywhere.zeta2 == problem.zeta2
    assert anywhere.spectral_gap == rs.theory.spectral_gap(rs.mixing.metropolis(parts[1]))
    windows = rs.theory.stable_learning_rates(*parts)
    assert [(anywhere.stable_from, anywhere.stable_to)] == windows
    assert anywhere.best_learning_rate == rs.theory.best_learning_rate(*parts).learning_rate
    assert at_rate.spectral_radius == linear.spectral_radius
    assert at_rate.plateau_suboptimality == pytest.approx(linear.plateau().suboptimality, rel=1e-12)
    assert at_rate.floor_distance == pytest.approx(linear.stationary(0.1).distance, rel=1e-12)
    # At a rate that is not stable there is no floor.
    assert table[table.learning_rate == 9].quantity.tolist() == ["spectral_radius"]
    assert cli.main(["theory", *setting, "--learning-rate", "0.1"]) == 0
    assert "DP-SGD (gossip), strongly convex, on the suboptimality" in capsys.readouterr().out


def test_theory_says_what_is_not_known(capsys):
    assert cli.main(["theory", *SMALL, "--algorithm", "ChocoSGD(TopK(1))"]) == 0
    said = capsys.readouterr()
    assert "spectral_gap" in said.out
    assert "stable_from" not in said.out
    first, second = said.err.splitlines()
    assert first.startswith("relaysim: looking for stable learning rates of ChocoSGD(")
    assert second.startswith("relaysim: not known: ChocoSGD")


def test_completion_knows_commands_options_and_names(monkeypatch, capsys):
    shtab = pytest.importorskip("shtab")
    assert cli.main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    for word in (*cli.COMMANDS, "--learning-rate", "RelaySGD", "torus", "gradient_norm", "zoo"):
        assert re.search(rf"(?<![\w-]){word}(?![\w-])", script), word
    assert {"bash", "zsh", "fish"} <= set(shtab.SUPPORTED_SHELLS)
    assert cli.main(["completion", "cmd"]) == 2
    assert "there is no completion for 'cmd'; take one of bash" in capsys.readouterr().err


def test_completion_without_its_extra_names_it(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert cli.main(["completion", "bash"]) == 2
    assert 'pip install "relaysim[completion]"' in capsys.readouterr().err


COMMANDS = (
    ["list"],
    ["run", "--help"],
    ["theory", *SMALL, "--sigma2", "0.1", "--learning-rate", "0.1"],
    ["list", "Cosine"],
)


@pytest.mark.parametrize(
    ("encoding", "arguments"),
    [("ascii", each) for each in COMMANDS]
    + [("latin-1", COMMANDS[0]), ("cp1252", COMMANDS[0]), ("cp1252", COMMANDS[1])],
)
def test_letters_that_output_lacks_are_spelled(encoding, arguments, monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding))
    with contextlib.suppress(SystemExit):  # of --help
        assert cli.main(arguments) == 0
    sys.stdout.flush()
    text = written.getvalue().decode(encoding)
    assert len(text) > 200
    assert not [line for line in text.splitlines() if "??" in line or " ? " in line]
    if encoding == "ascii" and arguments == ["list"]:
        assert "gamma_t = start / sqrt (t + 1)" in text
        assert "A^2CiD^2" in text


PAGES = ["README.md", "docs/command_line.md"]


@pytest.mark.parametrize("page", PAGES)
def test_commands_on_pages_are_ones(page):
    """Each stands for what can be run, as far as can be seen without running it."""
    text = (pathlib.Path(rs.__file__).parents[1] / page).read_text(encoding="utf-8")
    blocks = re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    commands = [line for line in lines if line.startswith("relaysim ")]
    assert commands
    for line in commands:
        words = shlex.split(line, comments=True)[1:]
        words = words[: min(words.index(sign) if sign in words else len(words) for sign in "|>")]
        chosen = vars(cli._parser().parse_args(words))
        stated = {name: value for name, value in chosen.items() if name in OPTIONS}
        stated = {name: value for name, value in stated.items() if value is not None}
        for rate in stated.pop("learning_rate", [None]):
            fixed = {} if rate is None else {"learning_rate": rate}
            kept = {
                k: v
                for k, v in stated.items()
                if OPTIONS[k].only in ("", FIXED if fixed else TUNED)
            }
            complete(kept | fixed)


def test_a_sweep_says_what_diverged(tmp_path, capsys):
    settings = tmp_path / "sweep.toml"
    lines = ("n = 8", 'topology = "ring"', 'algorithm = "DPSGD"', "steps = 30", "seed = [0, 1]")
    settings.write_text("\n".join((*lines, "learning_rate = [0.1, 50.0]")))
    assert cli.main(["sweep", str(settings)]) == 1
    assert "2 of 4 runs diverged, at learning rate 50;" in capsys.readouterr().err
    settings.write_text("\n".join((*lines, "learning_rate = [0.1, 0.2]")))
    assert cli.main(["sweep", str(settings), "--out", str(tmp_path / "table.csv")]) == 0
    assert "diverged" not in capsys.readouterr().err
    settings.write_text(
        "\n".join((*lines[:3], "cases = [{steps = 30, learning_rate = 50}, {target = 1e-3}]"))
    )
    assert cli.main(["sweep", str(settings)]) == 1
    assert "1 of 1 runs diverged, at learning rate 50;" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sweep", "{}/a.toml", "--out", "{}"], "is a folder; give the name of a file"),
        (["sweep", "{}/a.toml", "--out", "{}/a.foo"], "must end in .csv"),
        (["sweep", "{}/a.toml", "--out", "{}/none/a.csv"], "there is no folder"),
        (["run", "--steps", "1", "--save", "{}/is.npz"], "is a folder; give the name of a file"),
        (["store", "export", "{}/a.toml", "--out", "{}"], "is a folder; give the name of a file"),
        (["figure", "star", "--out", "{}/a.toml"], "--out must be a folder"),
        (["figure", "star", "--out", "{}/a.toml/b"], "--out must be a folder"),
    ],
)
def test_where_to_write_is_looked_at_before_work(arguments, message, tmp_path, capsys, monkeypatch):
    for module in (cli.batch, cli.run):
        for name in {"sweep", "simulate"} & set(vars(module)):
            monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("it works"))
    (tmp_path / "a.toml").write_text("n = 8")
    (tmp_path / "is.npz").mkdir()
    assert cli.main([each.format(tmp_path) for each in arguments]) == 2
    assert message in capsys.readouterr().err
