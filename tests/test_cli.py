"""The command line, run as a user runs it, and in process where that is enough."""

import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import relaysim as rs
from relaysim import cli
from relaysim.figures import FIGURES


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
        ([], "required: COMMAND"),
    ],
)
def test_errors_are_one_line_and_status_2(arguments, message, capsys):
    assert cli.main(arguments) == 2
    output = capsys.readouterr()
    assert message in output.err
    assert output.err.count("\n") == 1
    assert output.out == ""


def test_list_names_everything_with_a_line_of_description(capsys):
    assert cli.main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    listed = {line.split()[0].partition("(")[0]: line for line in lines if line.startswith("  ")}
    methods = [name for name in rs.algorithms.__all__ if name != "Critical"]
    for name in [*methods, *FIGURES, "chain", "double_binary_tree", "torus"]:
        assert len(listed[name].split()) > 3


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


@pytest.mark.parametrize(
    "command", [("-m", "relaysim"), ("-c", AS_A_SCRIPT)], ids=["module", "script"]
)
def test_both_ways_to_the_command_line(command):
    def run(*arguments):
        return subprocess.run(
            [sys.executable, *command, *arguments], capture_output=True, text=True, check=False
        )

    told = run("--version")
    assert (told.returncode, told.stdout, told.stderr) == (0, f"relaysim {rs.__version__}\n", "")
    refused = run("nope")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("relaysim: unknown command 'nope'")


def test_run_tunes_when_no_rate_is_given(capsys):
    assert cli.main(["run", "--n", "8", "--d", "4", "--steps", "20"]) == 0
    assert "tuned learning rate" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["list"], ["run", "--help"]])
def test_output_that_has_no_greek_letters(arguments):
    script = "import sys; from relaysim.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env={**os.environ, "PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
