"""The top of the page: one line of verdict and the main numbers."""

from dreibein.evaluate.errors import GPA_PER_MEV_A3, metric_name
from dreibein.evaluate.records import Evaluation
from dreibein.evaluate.report.formats import digits, duration, percent, whole
from dreibein.evaluate.report.markup import Card, Markup, cards, pill, text
from dreibein.evaluate.report.motion import drift, ensemble
from dreibein.evaluate.report.run import RunRecord


def verdict(record: RunRecord) -> str:
    """The whole run in one sentence, and whether the laws hold."""
    evaluation = record.evaluation
    if evaluation is None:
        if record.epochs is not None:
            return "Trained, not evaluated on test frames yet."
        return "Not evaluated on test frames yet."
    words = []
    force = evaluation.metrics.get(metric_name("forces", "mae"))
    energy = evaluation.metrics.get(metric_name("energy_per_atom", "mae"))
    if force is not None:
        words.append(f"forces err by {digits(force)} meV/Å")
    if energy is not None:
        words.append(f"energies {'' if words else 'err '}by {digits(energy)} meV/atom")
    frames = whole(evaluation.counts.get("frames", 0))
    errors = (
        f"On {frames} {evaluation.split} frames, {' and '.join(words)} on average." if words else ""
    )
    return f"{errors} {_laws(evaluation)}".strip()


def _laws(evaluation: Evaluation) -> str:
    checks = evaluation.checks
    if checks is None:
        return ""
    failed = checks.failed
    if not failed:
        return f"All {checks.judged} physical laws measured hold."
    names = ", ".join(dict.fromkeys(check.law for check in failed))
    return f"{len(failed)} of {checks.judged} physical laws do not hold: {names}."


def main_cards(record: RunRecord) -> list[Card]:
    """The main numbers, those that exist."""
    found: list[Card] = []
    evaluation = record.evaluation
    if evaluation is not None:
        found += _error_cards(evaluation)
    if record.dynamics is not None and drift(record.dynamics) is not None:
        summary = record.dynamics.summary
        error = summary.get("drift_error_mev_per_atom_ps")
        plus = f"± {digits(error, 2)} · " if error is not None else ""
        time = f"{digits(summary.get('time_ps'))} ps of {ensemble(record.dynamics)}"
        found.append(
            Card("Energy drift", digits(drift(record.dynamics), 2), "meV/atom/ps", plus + time)
        )
    if evaluation is not None:
        timing = evaluation.timing
        found.append(
            Card(
                "Speed",
                digits(timing.atoms_per_second),
                "atoms/s",
                f"energy and derivatives, {timing.device}, {timing.precision}",
            )
        )
    if record.model is not None:
        found.append(_model_card(record))
    return found


def _error_cards(evaluation: Evaluation) -> list[Card]:
    metrics, spread = evaluation.metrics, evaluation.spread

    def error(quantity: str, statistic: str = "mae") -> float | None:
        return metrics.get(metric_name(quantity, statistic))

    found = []
    force = error("forces")
    if force is not None:
        detail = f"RMSE {digits(error('forces', 'rmse'))}"
        if "forces" in spread:
            detail += f" · {percent(force, spread['forces'])} of the mean force"
        found.append(Card("Force MAE", digits(force), "meV/Å", detail))
    energy = error("energy_per_atom")
    if energy is not None:
        detail = f"RMSE {digits(error('energy_per_atom', 'rmse'))}"
        detail += f" · {digits(error('energy'))} meV per frame"
        found.append(Card("Energy MAE", digits(energy), "meV/atom", detail))
    stress = error("stress")
    if stress is not None:
        detail = f"RMSE {digits(error('stress', 'rmse'))}"
        detail += f" · {digits(stress * GPA_PER_MEV_A3)} GPa"
        found.append(Card("Stress MAE", digits(stress), "meV/Å³", detail))
    return found


def _model_card(record: RunRecord) -> Card:
    facts = record.model or {}
    config = facts["hyperparameters"]
    words = [f"{whole(facts['parameters'])} parameters"]
    if "layers" in config:
        words.append(f"{config['layers']} layer{'' if config['layers'] == 1 else 's'}")
    words.append(f"cutoff {facts['cutoff']:g} Å")
    names = {
        "tensornet": "TensorNet",
        "locaformer": "LoCaFormer",
        "localized": config.get("convolution"),
        "tensor_field": f"tensor field, {config.get('interaction')}",
        "local_field": f"local field, {config.get('interaction')}",
    }
    name = names.get(facts["architecture"], facts["architecture"])
    return Card("Model", str(name or "model"), "", ", ".join(words))


def header(record: RunRecord, *, made: str) -> Markup:
    """Eyebrow, name, verdict, status and cards."""
    symbols = " ".join((record.model or {}).get("elements", []))
    status = ""
    checks = record.evaluation.checks if record.evaluation else None
    if checks is not None:
        bad = len(checks.failed)
        status += (
            pill("failed", f"{bad} of {checks.judged} laws broken")
            if bad
            else pill("passed", f"{checks.judged} of {checks.judged} laws hold")
        )
    if symbols:
        status += pill("neutral", symbols)
    if record.epochs is not None and "seconds" in record.epochs:
        total = float(record.epochs["seconds"].sum())
        status += pill("neutral", f"trained {duration(total)}")
    name = record.folder.resolve().name
    return Markup(
        f'<header><div class="eyebrow">{LOGO}<span>dreibein · report of {text(made)}</span></div>'
        f"<h1>{text(name)}</h1>"
        f'<p class="verdict">{text(verdict(record))}</p><div class="pills">{status}</div>'
        f"{cards(main_cards(record))}</header>"
    )


LOGO = (
    '<svg viewBox="0 0 24 24" width="22" height="22" aria-hidden="true" fill="none" '
    'stroke-width="2.4" stroke-linecap="round"><path d="M12 13V3" stroke="var(--blue)"/>'
    '<path d="M12 13L3.5 19" stroke="var(--teal)"/><path d="M12 13L20.5 19" '
    'stroke="var(--orange)"/></svg>'
)
