"""Reference labels from quantum chemistry."""

from dreibein.label.calculations import Labels, Method
from dreibein.label.config import LabelConfig
from dreibein.label.generate import generate_labels
from dreibein.label.methods import make_method
from dreibein.label.summary import LabelSummary

__all__ = ["LabelConfig", "LabelSummary", "Labels", "Method", "generate_labels", "make_method"]
