"""What the page says, without a browser."""

import json
import re
import shutil

import numpy as np
import pytest

from dreibein.evaluate import Predictions
from dreibein.evaluate.report import write_report
from dreibein.evaluate.report.figures import element_color, log_ticks, sample, thin
from dreibein.evaluate.report.markup import Section, Table, as_json, text, tree
from dreibein.evaluate.report.parity import force_parity
from dreibein.evaluate.report.run import RunRecord, read_columns

IDS = {
    "learning",
    "parity",
    "elements",
    "worst",
    "uncertainty",
    "checks",
    "simulation",
    "speed",
    "data",
    "model",
}


@pytest.fixture
def run(run_folder, tmp_path):
    """A copy of the small run that may be changed."""
    return shutil.copytree(run_folder, tmp_path / "run")


def sections(page):
    """Section id -> whether it is empty."""
    found = re.findall(r'<section id="(\w+)"( class="empty")?>', page.read_text())
    return {name: bool(empty) for name, empty in found}


def test_complete_run_has_every_section(run):
    found = sections(write_report(run))
    assert set(found) == IDS | {"config", "engines"}
    assert {name for name, is_empty in found.items() if is_empty} == {"engines"}


def test_engines_are_shown_once_they_were_compared(run):
    ways = {"backend": "fused", "precision": "float32", "energy": -1.0, "milliseconds": 2.5}
    errors = {"energy_error": 3e-6, "forces_error": 4.5e-7, "stress_error": None}
    rows = [
        {"engine": "ASE", "agrees": True, **ways, **errors},
        {"engine": "LAMMPS", "agrees": False, **ways, **errors},
        {"engine": "OpenMM", "agrees": None, "note": "not installed <here>"},
    ]
    frame = {"formula": "Si2", "atoms": 2, "largest_force": 0.5, "largest_stress": 0.25}
    (run / "parity.json").write_text(json.dumps({**frame, "rows": rows}))
    page = write_report(run)
    assert not any(sections(page).values())
    shown = page.read_text().split('<section id="engines">')[1].split("</section>")[0]
    for words in ("Si2, 2 atoms", "stress 0.250 eV", "4.5×10⁻⁷", "agrees", "differs"):
        assert words in shown
    assert "not installed &lt;here&gt;" in shown


@pytest.mark.parametrize(
    ("removed", "empty"),
    [
        (["metrics.csv"], {"learning"}),
        (["predictions.npz"], {"parity", "uncertainty"}),
        (["evaluation.json"], {"parity", "elements", "worst", "uncertainty", "checks"}),
        (["model.safetensors"], {"model"}),
        (["md"], {"simulation"}),
        (["config.yaml"], {"config"}),
        (["splits.json", "provenance.json", "evaluation.json"], {"data", "parity", "checks"}),
    ],
)
def test_what_is_missing_is_said(run, removed, empty):
    for name in removed:
        shutil.rmtree(run / name) if (run / name).is_dir() else (run / name).unlink()
    page = write_report(run)
    found = {name for name, is_empty in sections(page).items() if is_empty}
    assert empty <= found
    assert "dreibein" in page.read_text().split('class="missing"')[1].split("</p>")[0]


def test_nothing_to_report(tmp_path):
    with pytest.raises(ValueError, match="holds nothing to report"):
        write_report(tmp_path)
    with pytest.raises(FileNotFoundError, match="no run folder"):
        write_report(tmp_path / "absent")
    assert not list(tmp_path.iterdir())


def test_damaged_file_is_named(run):
    (run / "splits.json").write_text("{")
    with pytest.raises(ValueError, match=r"splits\.json is not JSON"):
        write_report(run)
    (run / "splits.json").unlink()
    (run / "evaluation.json").write_text("{")
    with pytest.raises(ValueError, match=r"evaluation\.json"):
        write_report(run)


def test_row_under_way_is_left_out(run):
    path = run / "metrics.csv"
    whole = read_columns(path)
    with open(path, "a") as file:
        file.write("13,260")
    again = read_columns(path)
    assert len(again["epoch"]) == len(whole["epoch"]) == 12
    assert np.isnan(again["train_stress_loss"]).all()


def test_page_is_alone_and_names_no_address(run):
    page = write_report(run).read_text()
    own = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert not re.findall(r'(?:src|href)="(?!#|data:,")', own)
    assert "default-src 'none'" in own
    assert page.count("</script>") == page.count("<script")


def test_numbers_of_the_verdict(run):
    record = RunRecord.read(run)
    page = write_report(run).read_text()
    verdict = re.search(r'class="verdict">([^<]*)<', page)[1]
    assert f"On {record.evaluation.counts['frames']} test frames, forces err by" in verdict
    broken = record.evaluation.model_copy(deep=True)
    broken.checks.checks[0].status = "failed"
    broken.save(run / "evaluation.json")
    page = write_report(run).read_text()
    assert "physical laws do not hold: energy under rotation" in page
    assert "1 laws broken" not in page


def test_large_data_are_sampled_with_the_largest_errors(run_folder):
    record = RunRecord.read(run_folder)
    few = record.predictions
    times = 40_000 // len(few.z)
    arrays = {n: v for n, v in vars(few).items() if n not in ("targets", "uncertainties")}
    many = Predictions(**{name: np.concatenate([a] * times) for name, a in arrays.items()})
    _, spec, note = force_parity(many, record.evaluation)
    drawn = sum(len(trace["x"]) for trace in spec["data"] if trace.get("yaxis") == "y2") - 2
    assert drawn == 6000
    assert "6,000 of" in note
    error = np.random.default_rng(0).random(5000)
    chosen = sample(error, 100, keep=10)
    assert len(set(chosen)) == 100
    assert set(np.argsort(error)[-10:]) <= set(chosen)
    assert thin(np.arange(10_000), 50)[[0, -1]].tolist() == [0, 9999]


def test_markup_escapes_everything():
    assert "<b>" not in Table(["<b>"], [["<b>", "<b>"]]).render()
    assert "<b>" not in Section("a", "<b>", missing="<b>", command="<b>").render()
    assert "<b>" not in tree({"<b>": ["<b>", {"<b>": "<b>"}]})
    assert text('"') == "&quot;"
    assert "<" not in as_json(["</script><!--"])
    with pytest.raises(ValueError, match="JSON"):
        as_json(float("nan"))


def test_ticks_and_colors():
    assert log_ticks(-4.2, 4.1) == [1e-4, 1e-3, 1e-2, 0.1, 1, 10, 100, 1e3, 1e4]
    assert all(len(log_ticks(low, low + 0.3)) >= 1 for low in np.linspace(-3, 3, 50))
    assert len({element_color(z) for z in (1, 6, 7, 8, 9, 15, 16, 17)}) == 8
