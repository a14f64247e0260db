"""The how-to pages: every answer runs after the first lines of its page alone, and is short."""

import doctest
import pathlib
import re

import pytest

HOWTO = pathlib.Path(__file__).parents[1] / "docs" / "howto"
CODE = re.compile(r"^```(python|pycon)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
LONGEST = 10
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def answers():
    """Each answer of each page, with the lines that the page begins with."""
    for path in sorted(HOWTO.glob("*.md")):
        beginning, *sections = re.split(
            r"^## ", path.read_text(encoding="utf-8"), flags=re.MULTILINE
        )
        for section in sections:
            title = section.partition("\n")[0]
            yield pytest.param(beginning, section, id=f"{path.stem}: {title}")


def run(text, names):
    """Run blocks one after another; what they print to a reader must be what they print here."""
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    for kind, code in CODE.findall(text):
        if kind == "python":
            exec(compile(code, "how-to", "exec"), names)
        else:
            examples = doctest.DocTestParser().get_doctest(code, names, "how-to", None, 0)
            report = []
            runner.run(examples, out=report.append, clear_globs=False)
            names.update(examples.globs)
            assert not runner.failures, "".join(report)


@pytest.mark.parametrize(("beginning", "section"), list(answers()))
def test_an_answer_runs_by_itself(beginning, section, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where it saves
    names = {"__name__": "howto"}
    run(beginning, names)
    run(section, names)


@pytest.mark.parametrize(("beginning", "section"), list(answers()))
def test_an_answer_has_ten_lines_at_most_and_a_check(beginning, section):
    blocks = CODE.findall(section)
    assert {kind for kind, _ in blocks} == {"python", "pycon"}
    for kind, code in blocks:
        written = [line for line in code.splitlines() if line.strip()]
        assert kind == "pycon" or len(written) <= LONGEST, code
    assert set(re.findall(r"^```(\w+)", beginning + section, flags=re.MULTILINE)) <= {
        "python",
        "pycon",
    }


def test_every_answer_is_in_the_list():
    listed = re.findall(
        r"^- \[(.+)\]\((\w+)\.md#", (HOWTO / "index.md").read_text("utf-8"), re.MULTILINE
    )
    given = [each.id.partition(": ") for each in answers()]
    assert sorted((page, title) for page, _, title in given) == sorted((p, t) for t, p in listed)
