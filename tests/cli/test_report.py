import webbrowser

import pytest
import typer
from typer.testing import CliRunner

from dreibein.cli.report import report

app = typer.Typer()
app.command()(report)


@pytest.fixture
def run(tmp_path):
    (tmp_path / "metrics.csv").write_text("epoch,step,train_loss\n1,10,0.5\n2,20,0.25\n")
    return tmp_path


def test_prints_the_path(run):
    result = CliRunner().invoke(app, [str(run)], catch_exceptions=False)
    assert result.exit_code == 0
    assert result.stdout.strip() == str(run / "report.html")
    assert "2 epochs" in (run / "report.html").read_text()


def test_open(run, monkeypatch):
    opened = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    CliRunner().invoke(app, [str(run), "--open"], catch_exceptions=False)
    assert opened == [(run / "report.html").resolve().as_uri()]


def test_nothing_there(tmp_path):
    with pytest.raises(ValueError, match="nothing to report"):
        CliRunner().invoke(app, [str(tmp_path)], catch_exceptions=False)
