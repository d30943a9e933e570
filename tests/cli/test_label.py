"""`dreibein label` on the command line."""

import ase.io
import pytest
import typer
from typer.testing import CliRunner

from dreibein.cli.label import label, make_config


@pytest.fixture
def verb():
    app = typer.Typer()
    app.command()(label)
    return app


def test_labels_a_molecule_and_says_what_it_did(verb, tmp_path):
    pytest.importorskip("tblite", reason="tblite is not installed (extra label)")
    pytest.importorskip("rdkit", reason="rdkit is not installed (extra label)")
    output = tmp_path / "water.extxyz"
    options = (
        "--method GFN1-xTB --temperature 300 --frames 6 --trajectories 2 --equilibration 10 "
        "--interval 5 --timestep 0.5 --friction 20 --workers 1 --seed 2"
    )
    result = CliRunner().invoke(verb, ["O", "-o", str(output), *options.split()])
    assert result.exit_code == 0, result.output
    frames = ase.io.read(output, ":")
    assert len(frames) == 6
    assert frames[0].info["temperature"] == 300.0
    assert frames[0].info["level_of_theory"] == "GFN1-xTB"
    assert "step 0.5 fs, friction 20/ps" in frames[0].info["sampling"]
    for said in ("6 at GFN1-xTB", "autocorrelation", "eV/Å rms", "0 broken frames kept"):
        assert said in " ".join(result.output.split())


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        ({"structure": "O", "temperature_k": -1.0}, "temperature_k: .*greater than 0, got -1.0"),
        (
            {"structure": "a.xyz", "single_points": True, "frames": 5},
            "single points have no dynamics: leave out frames",
        ),
    ],
)
def test_wrong_options_are_one_sentence(choices, said):
    with pytest.raises(ValueError, match=said) as caught:
        make_config(choices)
    assert "\n" not in str(caught.value)


def test_a_wrong_method_names_the_nearest(verb, tmp_path):
    options = ["O", "-o", str(tmp_path / "out.extxyz"), "--method", "GFN2-xBT"]
    result = CliRunner().invoke(verb, options)
    assert isinstance(result.exception, ValueError)
    assert "nearest are GFN2-xTB" in str(result.exception)
