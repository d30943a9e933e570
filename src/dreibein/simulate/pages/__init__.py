"""Self-contained HTML pages of simulations: their frame, style, plot and molecule viewer."""

from dreibein.simulate.pages.page import asset, render, table, text

__all__ = ["asset", "render", "table", "text"]
