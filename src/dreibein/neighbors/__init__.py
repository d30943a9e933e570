"""Which pairs of atoms are near: lists sorted by receiver."""
