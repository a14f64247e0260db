"""The imports keep the plan of the package: data walks one way and nobody walks back."""

import ast
import pathlib
import subprocess
import sys

import pytest

import relaysim

PACKAGE = pathlib.Path(relaysim.__file__).parent
ROOT = PACKAGE.parent
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}


def imports(path, at_import_time=False):
    """Absolute names that a file imports: ``relaysim.network``, ``relaysim.network.Mail``, …

    With ``at_import_time`` only those that run when the file is imported.
    """
    names = set()
    pending = [ast.parse(path.read_text(encoding="utf-8"))]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative import in line {node.lineno}"
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
        if at_import_time and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        pending.extend(ast.iter_child_nodes(node))
    return names


def uses(path, module, **options):
    """Whether a file imports a module or something within it."""
    return any(name == module or name.startswith(f"{module}.") for name in imports(path, **options))


def modules_within(*parts):
    return {
        name: path
        for name, path in MODULES.items()
        if any(name == part or name.startswith(f"{part}.") for part in parts)
    }


RUNNERS = ("simulation", "history", "tuning", "sweeps", "store", "analysis", "recording")
PICTURES = ("plots", "figures", "cli", "explorer")
# The explorer's figure; all that it draws into it is of plots.
DRAWING = ("plots", "figures", "explorer.picture")
LEAVES = ("blocks", "checks", "workspace", "random", "topologies")
FORBIDDEN = {
    # an importer, and what it may not import
    "mixing": ("algorithms", "network", "oracles", "problems", "configuration", *RUNNERS),
    "network": ("algorithms", "oracles", "problems", "configuration", *RUNNERS),
    "problems": ("algorithms", "mixing", "network", "oracles", "topologies", *RUNNERS),
    "oracles": ("algorithms", "mixing", "network", "problems", "topologies", *RUNNERS),
    "algorithms": ("problems", "oracles", "configuration", *RUNNERS),
    "measures": ("algorithms", "network", "mixing", "topologies", "problems", *RUNNERS),
    "compressors": ("algorithms", "network", "mixing", "topologies", "problems", *RUNNERS),
    "clocks": ("algorithms", "network", "mixing", "problems", *RUNNERS),
    "timeline": ("algorithms", "network", "mixing", "problems", "topologies", *RUNNERS),
    "rounds": ("problems", "oracles", "asynchronous", *RUNNERS),
    "asynchronous": ("problems", "oracles", "network", "rounds", *RUNNERS),
    "finite_time": ("algorithms", "network", "mixing", "problems", *RUNNERS),
    "recording": ("algorithms", "simulation", "history", "tuning", "problems"),
    "history": ("simulation", "tuning", "sweeps", "store", "analysis"),
    "simulation": ("tuning", "sweeps", "store", "analysis", "theory"),
    "theory": RUNNERS,
}


@pytest.mark.parametrize("name", LEAVES)
def test_what_everything_rests_on_rests_on_nothing(name):
    own = {n for n in imports(MODULES[name], at_import_time=True) if n.startswith("relaysim")}
    assert all(name.startswith("relaysim.support.checks") for name in own)


@pytest.mark.parametrize("importer", FORBIDDEN)
def test_nobody_walks_back(importer):
    found = modules_within(importer)
    assert found or importer == "theory"
    for name, path in found.items():
        for forbidden in FORBIDDEN[importer]:
            assert not uses(path, f"relaysim.{forbidden}"), f"{name} imports {forbidden}"


@pytest.mark.parametrize("name", MODULES)
def test_only_figures_and_the_command_line_import_pictures(name):
    path = MODULES[name]
    is_picture = name.split(".")[0] in PICTURES
    for picture in PICTURES:
        if not is_picture:
            assert not uses(path, f"relaysim.{picture}", at_import_time=True)
    if name not in modules_within(*DRAWING):
        assert not uses(path, "matplotlib"), "plots.py is the only one that draws"
    if not is_picture:
        assert not uses(path, "relaysim.figures")
        assert not uses(path, "relaysim.cli")


@pytest.mark.parametrize("name", MODULES)
def test_the_explorer_is_at_the_very_end(name):
    path = MODULES[name]
    if name != "explorer.widget":
        assert not uses(path, "ipywidgets"), "one module has widgets; the others are tested without"
    if name not in modules_within("explorer"):
        assert not uses(path, "relaysim.explorer")
    elif name not in ("explorer.picture", "explorer.script", "explorer.widget"):
        for picture in ("plots", "figures", "cli", "explorer.picture", "explorer.widget"):
            assert not uses(path, f"relaysim.{picture}"), "what is chosen knows no picture"
    else:
        assert not uses(path, "relaysim.figures")
        assert not uses(path, "relaysim.cli")


def test_importing_relaysim_does_not_import_matplotlib():
    code = "import sys, relaysim; relaysim.explore; print(*sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    imported = result.stdout.split()
    assert "relaysim.explorer.settings" in imported
    for module in ("matplotlib", "ipywidgets", "relaysim.cli", "relaysim.explorer.widget"):
        assert module not in imported


@pytest.mark.parametrize("name", MODULES)
def test_no_module_pickles_or_keeps_global_random_state(name):
    path = MODULES[name]
    for module in ("pickle", "dill", "cloudpickle", "shelve", "random"):
        assert module not in imports(path)
    legacy = {"seed", "rand", "randn", "normal", "uniform", "choice", "shuffle", "permutation"}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and node.attr in legacy:
            value = node.value
            is_global = isinstance(value, ast.Attribute) and value.attr == "random"
            assert not (is_global and getattr(value.value, "id", "") == "np"), node.lineno


@pytest.mark.parametrize("folder", ["benchmarks", "notebooks"])
def test_examples_use_public_names_only(folder):
    for path in (ROOT / folder).rglob("*.py"):
        for name in imports(path):
            parts = name.split(".")
            if parts[0] == "relaysim":
                assert not any(part.startswith("_") for part in parts[1:]), f"{path.name}: {name}"


def test_public_names_exist_and_are_listed():
    for name in relaysim.__all__:
        assert hasattr(relaysim, name)
    for module in ("topologies", "mixing", "problems", "oracles", "algorithms"):
        namespace = getattr(relaysim, module)
        for name in namespace.__all__:
            assert hasattr(namespace, name), f"{module}.{name}"
