"""The documentation site: built by the README's command, read page by page, opened in a browser."""

import dataclasses
import doctest
import functools
import html.parser
import http.server
import importlib
import os
import pathlib
import pkgutil
import re
import shutil
import threading
import types
import urllib.parse

import matplotlib.figure
import matplotlib.image
import matplotlib.patches
import pytest

import relaysim as rs
from relaysim.figures import FIGURES
from relaysim.studies.naming import ALGORITHMS

ROOT = pathlib.Path(__file__).parents[1]
DOCS = ROOT / "docs"
GUIDES = sorted(DOCS.glob("*.md"))
HELPERS = sorted(path.stem for path in (DOCS / "relaysim_site").glob("*.py"))
CODE = re.compile(r"^```(python|pycon)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
COLOURS = re.compile(r'</?span(?: class="[^"]*")?>')


# -- pages -----------------------------------------------------------------------------------------


class Page(html.parser.HTMLParser):
    """What a page has: identifiers, links, what it loads, pictures without a text, and its words."""

    LOADED = {  # noqa: RUF012
        ("img", "src"),
        ("script", "src"),
        ("link", "href"),
        ("iframe", "src"),
        ("source", "src"),
        ("video", "src"),
        ("object", "data"),
    }

    def __init__(self, path):
        super().__init__()
        self.path = path
        self.ids, self.links, self.loads, self.nameless, self.words = set(), [], [], [], []
        # Colours of code, which are most of all tags, part words and tell nothing else.
        self.feed(COLOURS.sub(" ", path.read_text(encoding="utf-8")))

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.ids.update(given[key] for key in ("id", "name") if given.get(key))
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        if tag == "form" and given.get("action"):
            self.links.append(given["action"])
        for key, value in attributes:
            if (tag, key) in self.LOADED and value and not value.startswith("data:"):
                self.loads.append(value)
        if tag == "img" and not given.get("alt"):
            self.nameless.append(given.get("src"))

    def handle_data(self, data):
        self.words.append(data)

    @functools.cached_property
    def text(self):
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="session")
def pages(site):
    """All pages of the site by their path."""
    return {str(path.relative_to(site)): Page(path) for path in sorted(site.rglob("*.html"))}


def is_external(address):
    return bool(urllib.parse.urlsplit(address).scheme or address.startswith("//"))


def target_of(page, address):
    """The file and the fragment that an address within the site means."""
    parts = urllib.parse.urlsplit(address)
    path = urllib.parse.unquote(parts.path)
    target = file_at(page.path.parent, path) if path else page.path
    return target, urllib.parse.unquote(parts.fragment)


@functools.cache
def file_at(folder, path):
    """The file that a path from a folder leads to, which for a folder is its index."""
    target = (folder / path).resolve()
    return target / "index.html" if target.is_dir() else target


@functools.cache
def is_there(path, site):
    return path.is_file() and path.is_relative_to(site)


def test_every_link_leads_somewhere(site, pages):
    by_path = {page.path: page for page in pages.values()}
    broken, followed = [], 0
    for name, page in pages.items():
        for address in {*page.links, *page.loads}:
            if is_external(address):
                continue
            target, fragment = target_of(page, address)
            followed += 1
            if not is_there(target, site) or (fragment and fragment not in by_path[target].ids):
                broken.append(f"{name}: {address}")
    assert not broken
    assert followed > 1000


def test_nothing_is_loaded_from_elsewhere(site, pages):
    loaded = {address for page in pages.values() for address in page.loads}
    assert not [address for address in loaded if is_external(address)]
    sheets = list(site.rglob("*.css"))
    assert sheets
    for sheet in sheets:
        text = re.sub(r"/\*.*?\*/", "", sheet.read_text(encoding="utf-8"), flags=re.DOTALL)
        for address in re.findall(r"""url\(\s*["']?([^"')]+)""", text):
            if not address.startswith(("data:", "#")):
                assert not is_external(address), sheet
                assert (sheet.parent / urllib.parse.urlsplit(address).path).is_file(), sheet
        assert not re.search(r"""@import\s+["']""", text), sheet


def test_every_picture_has_a_text(pages):
    from_notebooks = ("notebooks/", "tour/")
    nameless = {
        name: page.nameless
        for name, page in pages.items()
        if page.nameless and not name.startswith(from_notebooks)
    }
    assert not nameless


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_method_has_a_page(site, pages, name):
    kind, page = ALGORITHMS[name], pages[f"methods/{name}.html"]
    for section in ("at-a-glance", "rule", "needs-and-guarantee", "source"):
        assert section in page.ids, f"{section}: the docstring of {name} has none"
    if isinstance(kind.label, str):
        assert kind.label in page.text
    for field in dataclasses.fields(kind):
        assert field.name in page.text
    if isinstance(kind.exact, bool):
        answer = "yes" if kind.exact else "no: it stalls"
        assert f"Reaches x* for any ζ² {answer}" in page.text
    picture = next(each for each in page.loads if each.endswith(f"{name}.png"))
    assert target_of(page, picture)[0].read_bytes().startswith(b"\x89PNG")
    assert f"methods/{name}.html" in {
        str(target_of(page, address)[0].relative_to(site))
        for page in [pages["methods/index.html"]]
        for address in page.links
        if not is_external(address)
    }


def test_every_figure_is_in_the_gallery(pages):
    page = pages["gallery/index.html"]
    for name in FIGURES:
        assert name in page.ids
        for picture in (name, f"{name}-small"):
            assert any(pathlib.PurePath(address).stem == picture for address in page.loads)
        assert re.search(rf"relaysim figure {name}( --quick)? --out figures", page.text)
    quick = page.text.count("Quick version.")
    full = page.text.count("Full version.")
    assert (quick + full, full) == (
        len(FIGURES),
        len(list((ROOT / "notebooks/pictures").glob("*.png"))),
    )


def test_every_public_name_is_in_the_api(pages):
    ids = set().union(*(page.ids for name, page in pages.items() if name.startswith("api/")))
    listed = {
        identifier.rpartition(".")[2] for identifier in ids if identifier.startswith("relaysim.")
    }
    for found in pkgutil.walk_packages(rs.__path__, "relaysim."):
        module = importlib.import_module(found.name)
        for name in getattr(module, "__all__", ()):
            if not isinstance(getattr(module, name), types.ModuleType) and not name.startswith("_"):
                assert name in listed, f"{found.name}.{name}"
    for path in ("relaysim.simulate", "relaysim.History.plot", "relaysim.algorithms.RelaySGD"):
        assert path in ids


def test_every_notebook_is_a_page(pages):
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        assert f"notebooks/{path.stem}.html" in pages


def test_formulas_have_scripts(pages):
    source = pages["methods/RelaySGD.html"].path.read_text(encoding="utf-8")
    assert "x<sub>i</sub><sup>t+½</sup>" in source
    assert "x_i^" not in pages["methods/RelaySGD.html"].text


# -- what is written by hand -----------------------------------------------------------------------


def run_blocks(path):
    """Run a guide's code from top to bottom; returns its names."""
    names = {"__name__": "guide"}
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    text = path.read_text(encoding="utf-8")
    for found in CODE.finditer(text):
        kind, code = found.groups()
        line = text.count("\n", 0, found.start()) + 1
        if kind == "python":
            exec(compile("\n" * line + code, str(path), "exec"), names)
        else:
            examples = doctest.DocTestParser().get_doctest(code, names, path.name, str(path), line)
            report = []
            runner.run(examples, out=report.append, clear_globs=False)
            names.update(examples.globs)
            assert not runner.failures, "".join(report)
    return names


@pytest.mark.parametrize("path", GUIDES, ids=lambda path: path.stem)
def test_code_of_guides_runs(path, monkeypatch):
    monkeypatch.setattr("matplotlib.pyplot.show", lambda: None)
    run_blocks(path)
    fences = set(re.findall(r"^```(\w+)", path.read_text(encoding="utf-8"), flags=re.MULTILINE))
    assert fences <= {"python", "pycon", "sh"}, "code that nothing runs"


def test_guides_have_code_to_run():
    assert sum(len(CODE.findall(path.read_text(encoding="utf-8"))) for path in GUIDES) > 10


@pytest.fixture
def diging(monkeypatch):
    """The method of the guide on how to add one, with its rule on paper in the tests' table."""
    import slow

    names = run_blocks(DOCS / "extending.md")
    monkeypatch.setitem(slow.RULES, "DIGing", names["diging"])
    return names["DIGing"]


def test_the_method_of_the_guide_keeps_the_contract(diging):
    import test_contract as contract

    method = diging()
    for topology in (*contract.TREES, *contract.GRAPHS):
        for rate in (0.3, lambda step: 0.4 / (1 + 0.2 * step)):
            contract.compare_with_paper(method, topology, rate)
    for sequence in contract.SEQUENCES:
        contract.test_a_sequence_of_matrices_repeats_with_the_step(method, sequence)
    contract.test_arrays_keep_their_shapes(method)
    contract.test_a_replica_equals_its_run_alone(method, 0.5)
    contract.test_the_same_call_gives_the_same_bits(method)
    contract.test_init_and_step_change_nothing_that_they_were_given(method, 2)
    contract.test_algorithms_are_frozen_and_compare_by_their_options(method)
    contract.test_vectors_per_edge_is_what_is_sent(method)
    contract.test_exact_methods_reach_the_optimum_and_the_others_stall(method)


def test_choosing_says_which_methods_are_exact():
    text = (DOCS / "choosing.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ") and "methods/" in line]
    assert len(rows) > 10
    for row in rows:
        reaches = r"x\*" in row.split(" | ")[2]
        for name in re.findall(r"methods/(\w+)\.rst", row):
            exact = ALGORITHMS[name].exact
            if isinstance(exact, bool):
                assert exact == reaches, row


def test_the_changelog_has_this_version():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    released = re.findall(
        r"^## \[(\d+\.\d+\.\d+)\] - (\d{4}-\d{2}-\d{2})$", text, flags=re.MULTILINE
    )
    assert released[0][0] == rs.__version__
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"version: {released[0][0]}\ndate-released: {released[0][1]}" in citation


# -- what makes the pages --------------------------------------------------------------------------


@pytest.fixture
def helpers(monkeypatch):
    """The package that makes pages, by module."""
    monkeypatch.syspath_prepend(DOCS)
    return lambda name: importlib.import_module(f"relaysim_site.{name}")


@pytest.mark.parametrize("name", HELPERS)
def test_examples_of_what_makes_pages(helpers, name):
    module = helpers(name) if name != "__init__" else importlib.import_module("relaysim_site")
    assert doctest.testmod(module).failed == 0


def test_a_new_method_gets_its_page(helpers, diging, tmp_path, monkeypatch):
    monkeypatch.setitem(ALGORITHMS, "DIGing", diging)
    pictures, methods, files = helpers("pictures"), helpers("methods"), helpers("files")
    picture = tmp_path / "DIGing.png"
    pictures.draw_method("DIGing", picture, tmp_path / "DIGing.json")
    assert picture.read_bytes().startswith(b"\x89PNG")
    told = pictures.facts(files.Folder(tmp_path), "DIGing")
    assert (told["exact"], told["vectors_per_edge"], told["sent_a_step"]) == (True, 2, 60)
    text = methods.page("DIGing", diging, told)
    assert "X' = WX − γ(G − C);" in text
    assert "Nedić, Olshevsky, Shi" in text.partition("Source\n")[2]
    assert "Any connected topology." in text.partition("Needs and guarantee\n")[2]


def test_a_method_that_diverges_is_drawn_at_a_smaller_rate(helpers, monkeypatch):
    pictures = helpers("pictures")
    monkeypatch.setattr(pictures, "LEARNING_RATE", 40.0)
    history = pictures.run(rs.algorithms.DPSGD())
    assert not history.diverged.any()
    assert history.frame.learning_rate.iloc[0] < 40


def test_a_method_that_diverges_at_every_rate_is_drawn_on_another_graph(helpers, monkeypatch):
    pictures = helpers("pictures")
    history = pictures.run(rs.algorithms.Mudag(rounds=1))
    assert repr(history.topology) == "complete(16)"
    assert history.frame.learning_rate.iloc[0] == pictures.LEARNING_RATE
    assert history.frame.suboptimality.iloc[-1] < pictures.LOWEST
    monkeypatch.setattr(pictures, "LEARNING_RATE", 1e9)
    with pytest.raises(ValueError, match=r"DPSGD\(.*\) is refused or diverges on each of"):
        pictures.run(rs.algorithms.DPSGD())


def test_options_without_defaults_need_an_example(helpers):
    @dataclasses.dataclass(frozen=True)
    class Undocumented:
        """No example."""

        option: int

    with pytest.raises(
        ValueError, match="Undocumented has options without defaults and no example"
    ):
        helpers("pictures").example_of(Undocumented)


@pytest.mark.parametrize(
    "tex",
    [
        r"\frac{1}{n}\sum_{i=1}^n \|x_i - \bar x\|^2 \le \rho^{2t}",
        r"\lambda_n > -\frac13 - \frac 1n \mathbf 1\pi^\top + \tilde{\mathcal O}",
        r"\lvert\lambda_2\rvert \bigl(1 - \tfrac{1}{n}\bigr) \ge \text{gap}",
        r"\mathbb{E}\lVert g\rVert^2 \leftarrow \nabla f_i(x^\star)",
    ],
)
def test_formulas_are_drawn(helpers, tex):
    picture = helpers("formulas").drawn(tex)
    assert picture.startswith("<svg")
    assert picture.count("M") > 5


def test_formulas_that_matplotlib_does_not_know(helpers):
    from docutils import nodes

    formulas = helpers("formulas")
    aligned = nodes.math_block("", r"\begin{aligned} a &= b \\ c &= d \end{aligned}")
    with pytest.raises(ValueError, match="begin"):
        formulas.drawn(aligned.astext())
    assert "<math" in formulas.set_formula(aligned, display=True)


def test_thumbnails_show_the_first_panel_at_a_size_that_can_be_read(helpers, tmp_path):
    pictures = helpers("pictures")
    figure = matplotlib.figure.Figure(figsize=(9.6, 2.0), dpi=200)
    for place, color in enumerate(("red", "blue", "green")):
        figure.add_artist(matplotlib.patches.Rectangle((place / 3, 0), 1 / 3, 1, color=color))
    figure.savefig(tmp_path / "wide.png")
    small = pictures.thumbnail(tmp_path / "wide.png", tmp_path / "small.png")
    corner = matplotlib.image.imread(small)[..., :3]
    inch = pictures.THUMBNAIL_DPI
    assert corner.shape[:2] == tuple(round(inches * inch) for inches in pictures.THUMBNAIL[::-1])
    assert corner[inch, 3 * inch].tolist() == [1, 0, 0]
    assert corner[inch, round(3.4 * inch)].tolist() == [0, 0, 1]
    assert corner[3 * inch, inch].tolist() == [1, 1, 1]


def test_pages_that_are_no_longer_made_are_removed(helpers, tmp_path):
    files = helpers("files")
    for names in (("a.rst", "b.rst"), ("b.rst",)):
        with files.Folder(tmp_path / "made") as folder:
            for name in names:
                folder.write(name, "text")
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["b.rst"]


def test_links_of_the_readme_that_leave_the_site_are_names(helpers, tmp_path):
    tour, files = helpers("tour"), helpers("files")
    readme = tmp_path / "README.md"
    readme.write_text(
        "# t\n\n## One\n[a](notebooks/a.ipynb) [b](tests/b) ![c](notebooks/c.png)\n## Citing\nno\n",
        encoding="utf-8",
    )
    with files.Folder(tmp_path / "tour") as folder:
        tour.write(folder, readme)
    text = (tmp_path / "tour" / "index.md").read_text(encoding="utf-8")
    assert "[a](../notebooks/a.ipynb) `b` ![c](../notebooks/c.png)" in text
    assert "Citing" not in text


# -- in a browser ----------------------------------------------------------------------------------


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files and says nothing."""

    def log_message(self, *_):
        pass


@pytest.fixture(scope="session")
def address(site):
    """Where the site is served, on this machine only."""
    handler = functools.partial(Quiet, directory=site)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def browser():
    """Debian's Chromium without a window, which reaches nothing but this machine."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not (program and driver):
        reason = "no chromium with chromedriver here: `apt-get install chromium chromium-driver`"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = program
    for option in (
        "--headless=new",
        "--no-sandbox",  # there is none for root
        "--disable-dev-shm-usage",
        "--window-size=1280,900",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    ):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(executable_path=driver)
    opened = webdriver.Chrome(options=options, service=service)
    opened.set_page_load_timeout(60)
    yield opened
    opened.quit()


def emulate(browser, width=1280, scheme="light"):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600},
    )
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


AT_A_DESK = " at a desk"
FOUND = """return {
    broken: [...document.images].filter(image => !image.complete || image.naturalWidth == 0)
        .map(image => image.src),
    asked: performance.getEntriesByType('resource').map(entry => entry.name),
    pictures: document.images.length,
    overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth}"""


def visit(browser, address):
    """Open a page and say what is wrong with it."""
    browser.get_log("browser")
    browser.get(address)
    found = browser.execute_script(FOUND)
    return found | {"console": browser.get_log("browser")}


@pytest.fixture(scope="session")
def visits(browser, address, pages):
    """What a browser finds on each page at the width of a phone, and on one of each folder at a desk; but for
    the listings of source code, which are alike.
    """
    names = [name for name in pages if not name.startswith("_modules/")]
    emulate(browser, width=390)
    found = {name: visit(browser, address + name) for name in names}
    emulate(browser)
    for name in {pathlib.PurePosixPath(name).parent: name for name in names}.values():
        found[f"{name}{AT_A_DESK}"] = visit(browser, address + name)
    return found


def test_pages_have_all_their_pictures(visits):
    assert not {name: found["broken"] for name, found in visits.items() if found["broken"]}
    once = [found for name, found in visits.items() if not name.endswith(AT_A_DESK)]
    assert sum(found["pictures"] for found in once) > len(ALGORITHMS) + len(FIGURES)


def test_the_console_is_silent(visits):
    assert not {name: found["console"] for name, found in visits.items() if found["console"]}


def test_a_browser_asks_this_machine_only(visits, address):
    asked = {each for found in visits.values() for each in found["asked"]}
    assert asked
    assert not [each for each in asked if not each.startswith((address, "data:"))]


def test_pages_fit_a_phone(visits):
    assert not {name: found["overflow"] for name, found in visits.items() if found["overflow"] > 0}


def test_a_bad_page_would_be_found(browser, address, site):
    page = site / "bad.html"
    page.write_text(
        '<!doctype html><title>t</title><meta name="viewport" content="width=device-width">'
        # Without an icon the browser asks for one later, and the console of the next page tells of it.
        '<link rel="icon" href="data:,">'
        '<img src="nowhere.png"><img src="http://elsewhere.invalid/a.png">'
        '<div style="width: 900px">wide</div><script>missing()</script>',
        encoding="utf-8",
    )
    emulate(browser, width=390)
    found = visit(browser, f"{address}{page.name}")
    page.unlink()
    assert found["broken"] == [f"{address}nowhere.png", "http://elsewhere.invalid/a.png"]
    assert "http://elsewhere.invalid/a.png" in found["asked"]
    assert found["overflow"] > 400
    told = " ".join(entry["message"] for entry in found["console"])
    assert "nowhere.png" in told
    assert "missing is not defined" in told


@pytest.mark.parametrize("query", ["RelaySGD", "heterogeneity"])
def test_the_search_box_finds(browser, address, query):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.wait import WebDriverWait

    emulate(browser)
    browser.get_log("browser")
    browser.get(f"{address}index.html")
    browser.find_element(By.CSS_SELECTOR, "input[name=q]").send_keys(query, Keys.ENTER)
    results = WebDriverWait(browser, 30).until(
        lambda shown: shown.find_elements(By.CSS_SELECTOR, "#search-results ul.search li a")
    )
    targets = [link.get_attribute("href") for link in results]
    assert all(target.startswith(address) for target in targets)
    if query == "RelaySGD":
        WebDriverWait(browser, 30).until(
            lambda shown: any(
                "methods/RelaySGD.html" in link.get_attribute("href")
                for link in shown.find_elements(By.CSS_SELECTOR, "#search-results ul.search li a")
            )
        )
    assert browser.get_log("browser") == []


LIGHTNESS = """const [r, g, b] = getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number);
    return (r + g + b) / 3"""


def test_dark_is_dark(browser, address):
    from selenium.webdriver.common.by import By

    lightness = {}
    for scheme in ("light", "dark"):
        emulate(browser, scheme=scheme)
        browser.get(f"{address}methods/RelaySGD.html")
        browser.execute_script("localStorage.clear()")
        browser.refresh()
        lightness[scheme] = browser.execute_script(LIGHTNESS)
    assert lightness["light"] > 240
    assert lightness["dark"] < 40
    # The button turns it light, whatever the system asks for.
    (button,) = (
        each
        for each in browser.find_elements(By.CSS_SELECTOR, "button.theme-toggle")
        if each.is_displayed()
    )
    button.click()
    assert browser.execute_script(LIGHTNESS) > 240
    browser.execute_script("localStorage.clear()")
