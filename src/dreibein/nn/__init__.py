"""Layers that own parameters, and derivatives of energies."""
