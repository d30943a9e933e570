"""The group O(3) and its representations; no atom here."""
