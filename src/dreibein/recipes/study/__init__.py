"""Studies: the same training under several choices, as a table and figures."""

from dreibein.recipes.study.config import Choice, Piece, StudyConfig
from dreibein.recipes.study.costs import Cost, transport_cost
from dreibein.recipes.study.pieces import run_study
from dreibein.recipes.study.report import write_study

__all__ = ["Choice", "Cost", "Piece", "StudyConfig", "run_study", "transport_cost", "write_study"]
