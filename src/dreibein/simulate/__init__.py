"""A potential in engines: calculators, dynamics, relaxation."""
