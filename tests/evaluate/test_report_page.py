"""The report in a real browser: nothing missing, no error, no request, and it answers."""

import re
import shutil

import pytest

from dreibein.evaluate.report import write_report

FIGURES = {
    "fig-learning-loss",
    "fig-learning-errors",
    "fig-parity-energy",
    "fig-parity-forces",
    "fig-histogram-forces",
    "fig-elements",
    "fig-frame",
    "fig-uncertainty-energy",
    "fig-coverage-energy",
    "fig-smoothness",
    "fig-dynamics",
}
SHORT_FIGURES = {"fig-learning-loss", "fig-learning-errors"}
STRESS_FIGURES = {"fig-parity-stress", "fig-histogram-stress"}
STATES = """Object.fromEntries([...document.querySelectorAll("figure")].map((f) => [f.id,
    f.dataset.state === "drawn" && Boolean(f.querySelector(".main-svg, canvas")) &&
    f.querySelector(".canvas").getBoundingClientRect().height > 100]))"""
PAUSE = "new Promise((resolve) => setTimeout(resolve, 500))"
TOO_WIDE = "document.documentElement.scrollWidth > window.innerWidth"


def faults(browser, page, expected):
    """Everything wrong with a page that should show the expected figures."""
    browser.open(page)
    drawn = browser.value(STATES)
    found = [f"missing: {name}" for name in sorted(expected - set(drawn))]
    found += [f"not drawn: {name}" for name, state in drawn.items() if not state]
    found += [f"error: {error}" for error in browser.errors]
    found += [f"request: {url}" for url in browser.requests]
    if browser.value(TOO_WIDE):
        found.append("wider than the window")
    return found


@pytest.fixture(scope="module")
def page(run_folder):
    return write_report(run_folder)


def test_molecular_run(browser, page, tmp_path):
    assert faults(browser, page, FIGURES) == []
    assert page.stat().st_size < 8e6
    assert browser.value("document.querySelector('h1').textContent") == "small run"
    text = browser.value("document.body.innerText")
    assert "physical laws measured hold" in text
    assert "within 2 σ" in text
    assert "<script>alert(1)</script> method" in text  # of the card, as text
    assert "warm <b>" in text
    assert "</pre><b>" in browser.value("document.querySelector('pre').textContent")

    title = "document.getElementById('frame-title').textContent"
    first = browser.value(title)
    click = (
        "document.querySelectorAll('tr[data-row]')[1].click(); new Promise(r => setTimeout(r, 500))"
    )
    browser.value(click)
    assert browser.value(title) != first
    traces = "document.querySelector('#fig-frame .canvas').data.length"
    with_arrows = browser.value(traces)
    for choice, count in (("none", with_arrows - 2), ("error", with_arrows - 1)):
        browser.value(f"document.querySelector('input[value={choice}]').click()")
        browser.value(PAUSE)
        assert browser.value(traces) == count
    assert "prediction minus reference" in browser.value(
        "document.getElementById('frame-scale').textContent"
    )
    key = "new KeyboardEvent('keydown', {key: 'ArrowDown', bubbles: true})"
    browser.value(f"document.querySelectorAll('tr[data-row]')[1].dispatchEvent({key})")
    assert browser.value("document.querySelectorAll('tr[data-row]')[2].className") == "chosen"

    colors = "document.querySelector('#fig-learning-loss .main-svg text').style.fill"
    light = browser.value(colors)
    dark = {"name": "prefers-color-scheme", "value": "dark"}
    browser.call("Emulation.setEmulatedMedia", features=[dark])
    for _ in range(20):
        if browser.value(colors) != light:
            break
        browser.value(PAUSE)
    assert browser.value(colors) != light
    assert not browser.errors
    assert not browser.requests
    browser.screenshot(tmp_path / "page.png")
    assert (tmp_path / "page.png").stat().st_size > 50_000


def test_periodic_run_on_a_narrow_window(browser, crystal_run):
    size = {"width": 820, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.call("Emulation.setDeviceMetricsOverride", **size)
    assert faults(browser, write_report(crystal_run), FIGURES | STRESS_FIGURES) == []


@pytest.fixture(scope="module")
def short_page(run_folder, tmp_path_factory):
    """A run of which nothing but the learning curves exists."""
    folder = tmp_path_factory.mktemp("unfinished")
    shutil.copy(run_folder / "metrics.csv", folder)
    return write_report(folder)


def test_unfinished_run(browser, short_page):
    assert faults(browser, short_page, SHORT_FIGURES) == []
    text = browser.value("document.body.innerText")
    assert "not evaluated on test frames yet" in text
    assert "dreibein evaluate RUN DATA -o RUN" in text


BROKEN_SCRIPT = "<script>throw new Error('broken')</script></body>"
OUTSIDE_SCRIPT = '<script src="https://example.org/a.js"></script></body>'
MUTANTS = {
    "broken figure": (
        r'(id="fig-learning-loss".*?application/json">)\{',
        r"\1{{",
        "not drawn: fig-l",
    ),
    "lost figure": (
        r'<figure class="plot" id="fig-learning-loss".*?</figure>',
        "",
        "missing: fig-l",
    ),
    "outside image": ("<footer>", '<footer><img src="https://example.org/a.png">', "error: "),
    "outside script": ("</body>", OUTSIDE_SCRIPT, "error: "),
    "exception": ("</body>", BROKEN_SCRIPT, "error: "),
    "too wide": ("<footer>", '<footer><div style="width:9000px">a</div>', "wider"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_mutants_are_caught(browser, short_page, tmp_path, name):
    pattern, replacement, said = MUTANTS[name]
    broken, count = re.subn(pattern, replacement, short_page.read_text(), count=1, flags=re.DOTALL)
    assert count == 1
    path = tmp_path / "report.html"
    path.write_text(broken)
    assert any(fault.startswith(said) for fault in faults(browser, path, SHORT_FIGURES))
