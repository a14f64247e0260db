"""Sweeps that are shared and killed, in short; `benchmarks/soak` has the long form."""

import os
import pathlib
import re
import subprocess
import sys

import pandas as pd
import pytest

import relaysim as rs

HERE = pathlib.Path(__file__).parent
SOAK = HERE.parent / "benchmarks" / "soak"
RELAYSIM = f"""#!/bin/sh
exec {sys.executable} -c "import sys; from relaysim.cli import main; sys.exit(main())" "$@"
"""


@pytest.mark.slow
def test_a_shared_sweep_that_is_killed_has_everything_once():
    command = "--kills 8 --processes 2 --groups 12 --gradient 0.03 --mean 0.4"
    found = subprocess.run(
        [sys.executable, SOAK / "shared_sweep.py", *command.split()],
        env=os.environ | {"PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert found.returncode == 0, found.stdout + found.stderr
    kills, again = map(int, re.match(r"(\d+) kills, .* \((\d+) again\)", found.stdout).groups())
    assert kills >= 4
    assert again <= kills
    assert "24 of 24 settings stored, bits the same" in found.stdout


@pytest.mark.slow
def test_the_job_array_of_the_documentation_divides_the_work(tmp_path):
    page = (HERE.parent / "docs" / "reliability.md").read_text("utf-8")
    (script,) = re.findall(r"```sh\n(#!/bin/bash\n#SBATCH.*?)```", page, re.DOTALL)
    (tmp_path / "job").write_text(script)
    (tmp_path / "relaysim").write_text(RELAYSIM)
    (tmp_path / "relaysim").chmod(0o755)
    (tmp_path / "sweep.toml").write_text(
        'n = 4\nd = 2\nlearning_rate = [0.1, 0.2]\nsteps = 5\ntopology = ["chain", "star"]\n'
    )
    path = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
    jobs = [
        subprocess.Popen(
            ["bash", "job"],
            cwd=tmp_path,
            env=os.environ | {"PATH": path, "PYTHONPATH": os.getcwd(), "SLURM_ARRAY_TASK_ID": task},
        )
        for task in "12"
    ]
    assert [job.wait(timeout=120) for job in jobs] == [0, 0]
    alone = rs.sweep(tmp_path / "sweep.toml", progress=False)
    for task in "12":
        found = pd.read_csv(tmp_path / f"sweep.{task}.csv")
        pd.testing.assert_frame_equal(found[["step", "distance"]], alone[["step", "distance"]])
    assert len(rs.load_sweep(tmp_path / "sweep.db")) == len(alone)
