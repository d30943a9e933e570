"""Atoms, cells, units, fields and graphs; no angular momentum here."""
