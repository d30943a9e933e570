"""Shared fixtures: deterministic hypothesis, and reference data that may be absent."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Triton reads it when it is imported, by whichever test comes first; nothing else uses Triton here
os.environ.setdefault("TRITON_INTERPRET", "1")

settings.register_profile(
    "dreibein",
    derandomize=True,
    deadline=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("dreibein")


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of reference data beside the checkout; tests that need it are skipped without it."""
    path = Path(__file__).resolve().parents[2] / "shared"
    if not path.is_dir():
        pytest.skip(f"reference data not found beside the checkout ({path.name}/)")
    return path
