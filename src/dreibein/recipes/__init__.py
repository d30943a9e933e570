"""Whole, typed runs: the only room that names a model, a data set and a schedule."""
