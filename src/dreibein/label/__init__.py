"""Reference labels from quantum chemistry."""
