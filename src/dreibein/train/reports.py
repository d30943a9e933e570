"""One line per epoch for people."""

from collections.abc import Mapping

from dreibein.systems.fields import FIELDS
from dreibein.train.config import TrainingConfig

ERRORS = (
    ("val_forces_mae_mev_per_a", "forces", "meV/Å"),
    ("val_energy_mae_mev", "energy", "meV"),
    ("val_stress_mae_mev_per_a3", "stress", "meV/Å³"),
)


def epoch_line(row: Mapping[str, float | None], config: TrainingConfig, total_steps: int) -> str:
    """Epoch, step, learning rate, losses, validation errors, seconds, and the time left.

    Args:
        row: A row of `metrics.csv`.
        config: For the number of epochs.
        total_steps: Of the whole run.
    """
    value = {name: number for name, number in row.items() if number is not None}
    parts = [
        f"epoch {value['epoch']:.0f}/{config.epochs}",
        f"step {value['step']:.0f}",
        f"lr {value['lr']:.1e}",
        f"train loss {value['train_loss']:.4g}{_terms(value, 'train')}",
    ]
    if "val_loss" in value:
        parts.append(f"val loss {value['val_loss']:.4g}")
        errors = _errors(value)
        if errors:
            parts.append("val MAE " + ", ".join(errors))
    parts.append(f"{value['seconds']:.2g} s/epoch")
    steps = total_steps / config.epochs
    left = (total_steps - value["step"]) / max(steps, 1.0) * value["seconds"]
    parts.append(f"{duration(left)} left")
    return " | ".join(parts)


def short_note(row: Mapping[str, float | None], config: TrainingConfig) -> str:
    """Epoch and validation errors, for beside a progress bar."""
    parts = [f"epoch {row['epoch']}/{config.epochs}"]
    parts += _errors({name: number for name, number in row.items() if number is not None})
    return ", ".join(parts)


def _errors(value: Mapping[str, float]) -> list[str]:
    """Validation errors with units: forces, energy, stress, then every other label."""
    found = [f"{label} {_short(value[k])} {unit}" for k, label, unit in ERRORS if k in value]
    known = {key for key, _, _ in ERRORS} | {"val_energy_per_atom_mae_mev"}
    for key, number in value.items():
        name, mae, _ = key.removeprefix("val_").partition("_mae")
        if key.startswith("val_") and mae and key not in known:
            unit = FIELDS[name].unit if name in FIELDS else ""
            found.append(f"{name} {_short(number)} {unit}".rstrip())
    return found


def _short(number: float) -> str:
    """Three digits, no exponent for large numbers."""
    return f"{number:.0f}" if number >= 100 else f"{number:.3g}"


def _terms(value: Mapping[str, float], which: str) -> str:
    first, last = f"{which}_", "_loss"
    keys = [k for k in value if k.startswith(first) and k.endswith(last) and k != first + "loss"]
    terms = [f"{k.removeprefix(first).removesuffix(last)} {value[k]:.3g}" for k in keys]
    return f" ({', '.join(terms)})" if len(terms) > 1 else ""


def duration(seconds: float) -> str:
    """A span of time in its largest two units.

    >>> duration(5000.0), duration(42.3), duration(100000.0)
    ('1 h 23 min', '42 s', '1 d 4 h')
    """
    minutes, hours, days = seconds / 60.0, seconds / 3600.0, seconds / 86400.0
    if minutes < 1.0:
        return f"{seconds:.0f} s"
    if hours < 1.0:
        return f"{minutes:.0f} min"
    if days < 1.0:
        return f"{int(hours)} h {int(minutes) % 60} min"
    return f"{int(days)} d {round(hours) % 24} h"
