"""Errors, physical checks and the report."""
