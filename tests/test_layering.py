"""The imports keep the plan of the package: data walks one way and nobody walks back."""

import ast
import functools
import importlib
import json
import pathlib
import subprocess
import sys
import types

import pytest

import relaysim

PACKAGE = pathlib.Path(relaysim.__file__).parent
ROOT = PACKAGE.parent
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}
FACE = "__init__"

#: What runs, short of running it.
PARTS = (
    "support bibliography topologies compressors schedules mixing problems oracles attacks faults network "
    "algorithms measures"
)
#: The rooms, from the ground up (a module at the top is one too), and which others each may import.
ROOMS = {
    "version": "",
    "support": "",
    "bibliography": "support",
    "plots": "support",
    "topologies": "support plots",
    "compressors": "support",
    "schedules": "support",
    "mixing": "support topologies",
    "problems": "support plots",
    "oracles": "support problems",
    "attacks": "support",
    "faults": "support topologies attacks",
    "network": "support topologies mixing attacks faults problems",
    "algorithms": "support topologies compressors schedules mixing faults network",
    "measures": "support problems oracles",
    "theory": f"{PARTS} version plots",
    "records": f"{PARTS} version plots theory",
    "engine": f"{PARTS} version records",
    "studies": f"{PARTS} version plots theory records engine",
    "analysis": f"{PARTS} version plots theory records engine studies",
    "explorer": f"{PARTS} version plots theory records engine studies analysis",
    "figures": f"{PARTS} version plots theory records engine studies analysis",
    "cli": f"{PARTS} version plots theory records engine studies analysis figures",
    "__main__": "cli",
    FACE: f"{PARTS} version plots theory records engine studies analysis explorer figures",
}
#: What some files may not import, though others in their room may.
STRICTER = {
    "mixing.clocks": "mixing",
    "mixing.finite_time": "mixing",
    "engine.timeline": (
        "algorithms network mixing problems topologies records engine.simulation engine.recording"
    ),
    "engine.rounds": "problems oracles records engine.events engine.simulation engine.recording",
    "engine.events": (
        "problems oracles network records engine.rounds engine.simulation engine.recording"
    ),
    "engine.recording": "algorithms problems records engine.simulation",
}
LEAVES = (
    "support.blocks",
    "support.checks",
    "support.names",
    "support.numbers",
    "support.workspace",
    "support.streams",
    "topologies",
)
PICTURES = ("plots", "figures", "cli", "__main__", "explorer")
# The explorer's figure; all that it draws into it is of plots.
DRAWING = ("plots", "figures", "explorer.picture")
# What is slow to import, or needs an extra, waits until it is asked for by name.
IMPORT_BY_NAME = (FACE, "explorer", "support.fast")
LONGEST_FILE, MOST_AT_THE_TOP = 450, 10


# All of them read the same files, which are parsed once.
pytestmark = pytest.mark.xdist_group("layering")


@functools.cache
def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"))


@functools.cache
def imports(path, at_import_time=False):
    """Absolute names that a file imports: ``relaysim.network``, ``relaysim.network.Mail``, …

    With ``at_import_time`` only those that run when the file is imported; else also those within functions
    and those for annotations alone.
    """
    names = set()
    pending = [tree(path)]
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
        if at_import_time and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            pending.extend(node.orelse)
            continue
        pending.extend(ast.iter_child_nodes(node))
    return names


def imports_by_name(path):
    """What a file imports of the package by `importlib`, as far as the name is written there."""
    found = []
    for node in ast.walk(tree(path)):
        called = getattr(node, "func", None)  # importlib.import_module, or a name for it
        name = getattr(called, "attr", None) or getattr(called, "id", "")
        if "import_module" in name:
            texts = [part.value for part in ast.walk(node) if isinstance(part, ast.Constant)]
            found += [text for text in texts if str(text).startswith("relaysim")]
    return found


@functools.cache
def owners(path, at_import_time=False):
    """What a file imports, and all that it is within."""
    names = imports(path, at_import_time)
    return {
        ".".join(parts[: k + 1])
        for parts in (n.split(".") for n in names)
        for k in range(len(parts))
    }


def uses(path, module, **options):
    """Whether a file imports a module or something within it."""
    return module in owners(path, **options)


def modules_within(*parts):
    return {
        name: path
        for name, path in MODULES.items()
        if any(name == part or name.startswith(f"{part}.") for part in parts)
    }


def room_of(name):
    return name.partition(".")[0]


@functools.cache
def arrows():
    """For each file the files that it imports, within functions as well: ``{name: {name, …}}``."""
    found = {}
    for name, path in MODULES.items():
        named = [n for n in imports(path) if n.startswith("relaysim.")] + imports_by_name(path)
        # A beginning alone, of a name put together as it runs, may be anything.
        named = {n.removeprefix("relaysim.") for n in named if not n.endswith(".")}
        # What is no file comes from the one that it is imported from, which may be the package's face.
        named |= {n.rpartition(".")[0] or FACE for n in named - set(MODULES)}
        found[name] = (named & set(MODULES)) - {name}
    return found


def a_circle(graph):
    """Nodes of a directed graph that lie on a circle, in its order; none where there is no circle."""
    way, done = [], set()

    def walk(node):
        if node in way:
            return way[way.index(node) :]
        if node in done:
            return []
        way.append(node)
        for after in sorted(graph.get(node, ())):
            if circle := walk(after):
                return circle
        done.add(way.pop())
        return []

    for node in sorted(graph):
        if circle := walk(node):
            return circle
    return []


# -- rooms -----------------------------------------------------------------------------------------


def test_every_room_has_a_row_and_stands_on_lower_ones():
    assert {room_of(name) for name in MODULES} == set(ROOMS)
    for floor, (room, row) in enumerate(ROOMS.items()):
        assert set(row.split()) <= set([*ROOMS][:floor]), f"{room} stands on what is above it"
    # What must not come in by a longer row.
    assert ROOMS["plots"] == "support"
    assert not {"problems", "engine"} & set(ROOMS["algorithms"].split())
    assert not {"engine", "records"} & set(ROOMS["theory"].split())


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_what_its_row_allows(room):
    allowed = {room, *ROOMS[room].split()}
    for name in modules_within(room):
        beyond = {other for other in arrows()[name] if room_of(other) not in allowed}
        assert not beyond, f"{name} imports {beyond}"


@pytest.mark.parametrize("importer", STRICTER)
def test_some_files_import_less_than_their_room(importer):
    for forbidden in STRICTER[importer].split():
        assert not uses(MODULES[importer], f"relaysim.{forbidden}"), forbidden


def test_no_file_is_on_a_circle():
    assert not a_circle(arrows())


def test_no_room_is_on_a_circle():
    between = {room: set() for room in ROOMS}
    for name, others in arrows().items():
        between[room_of(name)] |= {room_of(other) for other in others} - {room_of(name)}
    assert not a_circle(between)


def test_the_search_for_circles_finds_them():
    assert a_circle({"a": {"b", "c"}, "b": {"d"}, "c": {"d"}, "d": set()}) == []
    assert a_circle({"a": {"b"}, "b": {"c", "d"}, "c": {"e"}, "d": {"b"}}) == ["b", "d"]
    assert a_circle({"a": {"a"}}) == ["a"]
    assert a_circle({"z": {"a"}, "a": {"b"}, "b": {"z"}}) == ["a", "b", "z"]


def test_arrows_count_what_is_imported_within_functions():
    assert "plots" in arrows()["topologies.graph"]
    assert not uses(MODULES["topologies.graph"], "relaysim.plots", at_import_time=True)
    assert "explorer.widget" in arrows()["explorer"]


def test_files_are_short():
    for name, path in MODULES.items():
        lines = len(path.read_text(encoding="utf-8").splitlines())
        assert lines <= LONGEST_FILE, f"{name} has {lines} lines"


def test_few_files_stand_at_the_top():
    assert len(list(PACKAGE.glob("*.py"))) <= MOST_AT_THE_TOP


@pytest.mark.parametrize("name", LEAVES)
def test_what_everything_rests_on_rests_on_nothing(name):
    for path in modules_within(name).values():
        own = {n for n in imports(path, at_import_time=True) if n.startswith("relaysim")}
        leaves = ("checks", "names", "numbers")
        allowed = (f"relaysim.{name}.", *(f"relaysim.support.{leaf}." for leaf in leaves))
        assert all(f"{n}.".startswith(allowed) for n in own)


def test_only_figures_and_the_command_line_import_pictures():
    drawing = modules_within(*DRAWING)
    for name, path in MODULES.items():
        is_picture = room_of(name) in PICTURES
        for picture in PICTURES:
            if not is_picture:
                assert not uses(path, f"relaysim.{picture}", at_import_time=True), name
        if name not in drawing:
            assert not uses(path, "matplotlib"), f"{name}: plots is the only one that draws"
        if not is_picture:
            # The face names what waits for who reads types.
            assert not uses(path, "relaysim.figures", at_import_time=name == FACE), name
            assert not uses(path, "relaysim.cli"), name
        assert name in IMPORT_BY_NAME or not imports_by_name(path), name


def test_the_explorer_is_at_the_very_end():
    explorer = modules_within("explorer")
    for name, path in MODULES.items():
        if name not in ("explorer.widget", "explorer.controls"):
            assert not uses(path, "ipywidgets"), (
                f"{name}: few modules have widgets; the others are tested without"
            )
        if name not in explorer:
            assert not uses(path, "relaysim.explorer", at_import_time=name == FACE), name
        elif name not in ("explorer.picture", "explorer.script", "explorer.widget"):
            for picture in ("plots", "figures", "cli", "explorer.picture", "explorer.widget"):
                assert not uses(path, f"relaysim.{picture}"), f"{name}: it knows no picture"
        else:
            assert not uses(path, "relaysim.figures"), name
            assert not uses(path, "relaysim.cli"), name


@functools.cache
def imported(*statements):
    """The modules that are there after each of these statements, in a process of its own."""
    code = "; ".join(["import sys", *(f"{each}; print(*sys.modules)" for each in statements)])
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return [set(line.split()) for line in result.stdout.splitlines()]


def test_importing_relaysim_does_not_import_matplotlib():
    _, there = imported("import relaysim", "relaysim.explore")
    assert "relaysim.explorer.settings" in there
    assert not {"matplotlib", "ipywidgets", "relaysim.cli", "relaysim.explorer.widget"} & there


def test_importing_relaysim_does_not_import_what_few_ask_for():
    there, _ = imported("import relaysim", "relaysim.explore")
    assert "scipy.sparse" in there
    # A quarter of a second: `import scipy` finds its parts when they are named.
    assert "scipy.optimize" not in there


def test_no_module_pickles_or_keeps_global_random_state():
    legacy = {"seed", "rand", "randn", "normal", "uniform", "choice", "shuffle", "permutation"}
    for name, path in MODULES.items():
        for module in ("pickle", "dill", "cloudpickle", "shelve", "random"):
            assert module not in imports(path), name
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Attribute) and node.attr in legacy:
                value = node.value
                is_global = isinstance(value, ast.Attribute) and value.attr == "random"
                is_numpy = is_global and getattr(value.value, "id", "") == "np"
                assert not is_numpy, f"{name}, line {node.lineno}"


# -- names -----------------------------------------------------------------------------------------


def code_of(path):
    """The Python of a file, or of the code cells of a notebook without what is for IPython."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return text
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    lines = "\n".join("".join(cell["source"]) for cell in cells).splitlines()
    return "\n".join(line for line in lines if not line.startswith(("%", "!")))


def listed(module):
    return getattr(module, "__all__", ())


def names_that_are_not_public(code):
    """What code uses of relaysim without it being listed there, and of anything with a leading ``_``."""
    nodes = list(ast.walk(ast.parse(code)))
    found, modules = [], {}

    def module_of(node):
        """The module of relaysim that a name or an attribute stands for, if any."""
        if isinstance(node, ast.Name):
            return modules.get(node.id)
        owner = module_of(node.value) if isinstance(node, ast.Attribute) else None
        value = getattr(owner, node.attr, None) if owner else None
        return value if isinstance(value, types.ModuleType) else None

    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                if room_of(alias.name) == "relaysim":
                    found += [alias.name] if "._" in alias.name else []
                    meant = alias.name if alias.asname else "relaysim"
                    modules[alias.asname or "relaysim"] = importlib.import_module(meant)
        elif isinstance(node, ast.ImportFrom) and room_of(node.module) == "relaysim":
            module = importlib.import_module(node.module)
            for alias in node.names:
                if "._" in node.module or alias.name not in listed(module):
                    found.append(f"{node.module}.{alias.name}")
                value = getattr(module, alias.name, None)
                if isinstance(value, types.ModuleType):
                    modules[alias.asname or alias.name] = value
    for node in nodes:
        if isinstance(node, ast.Attribute):
            is_own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            is_hidden = node.attr.startswith("_") and not node.attr.endswith("__") and not is_own
            module = module_of(node.value)
            if is_hidden or (module and node.attr not in listed(module)):
                found.append(ast.unparse(node))
    return found


@pytest.mark.parametrize("folder", ["benchmarks", "notebooks"])
def test_examples_use_public_names_only(folder):
    paths = [path for suffix in ("py", "ipynb") for path in (ROOT / folder).rglob(f"*.{suffix}")]
    codes = {path.name: code_of(path) for path in paths}
    assert any("relaysim" in code for code in codes.values()), "there is something to read"
    for name, code in codes.items():
        assert not names_that_are_not_public(code), name


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("rs.simulate", []),
        ("rs.problems.data.load()", ["rs.problems.data.load"]),
        ("rs.network.Network(chain)", ["rs.network"]),
        ("rs.theory._hidden(chain)", ["rs.theory._hidden"]),
        ("history._columns['distance']", ["history._columns"]),
        ("sorted(runs)[0]._steps", ["sorted(runs)[0]._steps"]),
        ("from relaysim.plots import style, _METHODS", ["relaysim.plots._METHODS"]),
        ("from relaysim.algorithms.base import Method", []),
        ("self._kept, type(error).__name__", []),
    ],
)
def test_the_reader_of_notebooks_sees_what_is_not_public(line, found, tmp_path):
    cells = [
        {"cell_type": "code", "source": ["%matplotlib inline\n", "import relaysim as rs"]},
        {"cell_type": "markdown", "source": ["rs._private"]},
        {"cell_type": "code", "source": [line]},
    ]
    path = tmp_path / "example.ipynb"
    path.write_text(json.dumps({"cells": cells}), encoding="utf-8")
    assert names_that_are_not_public(code_of(path)) == found


def test_public_names_exist_and_are_listed():
    for name in relaysim.__all__:
        assert hasattr(relaysim, name)
    for module in ("topologies", "mixing", "problems", "oracles", "algorithms"):
        namespace = getattr(relaysim, module)
        for name in namespace.__all__:
            assert hasattr(namespace, name), f"{module}.{name}"
