"""Spectra from trajectories and from harmonic lines."""
