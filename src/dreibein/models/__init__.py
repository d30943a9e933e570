"""One architecture, one file; model files."""
