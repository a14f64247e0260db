"""Every file here says what it claims, where that comes from, and whether it is tight or a bound."""

import ast
import pathlib

import pytest

FILES = sorted(set(pathlib.Path(__file__).parent.glob("test_*.py")) - {pathlib.Path(__file__)})


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_claim_has_a_source_and_a_kind(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    lines = (ast.get_docstring(tree) or "").splitlines()
    assert lines[0].startswith("Claim: ")
    assert any(line.startswith("Source: ") for line in lines)
    assert any(line.startswith(("Tight", "A bound")) for line in lines)
    called = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    if any(line.startswith("Tight") for line in lines):
        assert called & {"tight", "assert_limit"}
    else:
        assert "bounded" in called
