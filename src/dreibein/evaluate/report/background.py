"""What stands behind the numbers: speed, data, configuration, the model's card."""

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from dreibein.evaluate.report.formats import digits, duration, size, whole
from dreibein.evaluate.report.markup import (
    Markup,
    Section,
    Table,
    details,
    grid,
    in_words,
    paragraph,
    text,
    tree,
)
from dreibein.evaluate.report.motion import ensemble
from dreibein.evaluate.report.run import RunRecord

HASH_SHOWN = 12  # characters of a sha256


def speed_section(record: RunRecord) -> Section:
    """How fast training, evaluation and simulation ran."""
    table = Table(("task", "speed", "on"), numeric=())
    evaluation, epochs, dynamics = record.evaluation, record.epochs, record.dynamics
    if epochs is not None and "seconds" in epochs and len(epochs["seconds"]):
        seconds = epochs["seconds"]
        speed = f"{duration(float(seconds.mean()))} per epoch, {duration(float(seconds.sum()))}"
        table.rows.append(("training", f"{speed} in all", _trained_on(record)))
    if evaluation is not None:
        timing = evaluation.timing
        threads = f", {timing.threads} threads" if timing.threads > 1 else ", 1 thread"
        table.rows.append(
            (
                f"energies and derivatives of the {evaluation.split} frames",
                f"{digits(timing.atoms_per_second)} atoms/s, "
                f"{digits(timing.frames_per_second)} frames/s (batches of {timing.batch_size})",
                f"{timing.device}, {timing.precision}"
                + (threads if timing.device == "cpu" else ""),
            )
        )
    if dynamics is not None and dynamics.summary.get("ns_per_day") is not None:
        summary = dynamics.summary
        table.rows.append(
            (
                f"simulation, {ensemble(dynamics)}, {whole(summary.get('num_atoms', 0))} atoms",
                f"{digits(summary['ns_per_day'])} ns/day",
                ", ".join(str(summary[k]) for k in ("device", "precision") if k in summary),
            )
        )
    if not table.rows:
        missing = "No speed was recorded in this folder. It comes with"
        return Section(
            "speed", "Speed", missing=missing, command="dreibein evaluate RUN DATA -o RUN"
        )
    return Section("speed", "Speed", table.render())


def _trained_on(record: RunRecord) -> str:
    card = (record.model or {}).get("card", {})
    words = [str(card[key]) for key in ("device", "precision") if card.get(key)]
    return ", ".join(words) or "–"


def data_section(record: RunRecord) -> Section:
    """Where the labels came from: files, keys, units with reasons, split."""
    parts = []
    if record.splits:
        parts.append(_splits(record.splits))
    training = record.provenance
    test = record.evaluation.data if record.evaluation else {}
    if training:
        parts.append(_provenance(training, "Training and validation" if test else ""))
    if test and (not training or test.get("sha256") != training.get("sha256")):
        parts.append(_provenance(test, "Test" if training else ""))
    if not parts:
        return Section(
            "data",
            "Data",
            missing="No record of the data in this folder: it is written by",
            command="dreibein train",
        )
    return Section("data", "Data", "".join(parts))


def _splits(splits: Mapping[str, Any]) -> Markup:
    words = []
    for name in ("train", "validation", "test"):
        frames = splits.get(name)
        if isinstance(frames, list) and frames:
            words.append(f"{name} {whole(len(frames))}")
    seed = f", drawn with seed {splits['seed']}" if splits.get("seed") is not None else ""
    return paragraph(f"Frames: {' · '.join(words)}{seed}.", css="lead") if words else Markup("")


def _provenance(record: Mapping[str, Any], title: str) -> Markup:
    """One data set: its sources and its labels; anything of another form as a tree."""
    head = f"<h3>{text(title)}</h3>" if title else ""
    sources = record.get("sources")
    if not isinstance(sources, list) or not all(isinstance(s, Mapping) for s in sources):
        return Markup(head + tree(record))
    files = Table(("source", "format", "frames", "atoms", "level of theory", "sha256"))
    files.numeric = (2, 3)
    for source in sources:
        name = str(source.get("name", "–"))
        files.rows.append(
            (
                Markup(f'<span title="{text(name)}">{text(PurePath(name).name)}</span>'),
                source.get("kind") or "–",
                _count(source.get("frames")),
                _count(source.get("atoms")),
                source.get("level_of_theory") or record.get("level_of_theory") or "–",
                Markup(f"<code>{text(str(source.get('sha256') or '–')[:HASH_SHOWN])}</code>"),
            )
        )
    notes = "".join(paragraph(note, css="note") for note in record.get("notes") or [])
    return Markup(head + files.render() + _labels(sources).render() + notes)


def _count(value: Any) -> str:
    return whole(value) if isinstance(value, int) else "–"


def _labels(sources: list[Mapping[str, Any]]) -> Table:
    """Key and unit of every label, and why they were taken."""
    several = len(sources) > 1
    table = Table(("label", *(["source"] if several else []), "key", "frames", "unit", "reason"))
    table.numeric = (3,) if several else (2,)
    for source in sources:
        keys, units = source.get("keys") or {}, source.get("units") or {}
        for label in dict.fromkeys([*units, *keys]):
            key, unit = keys.get(label) or {}, units.get(label) or {}
            found = ""
            if key:
                found = f"{key.get('key', '')} ({key.get('place', '')})"
            where = [PurePath(str(source.get("name", ""))).name] if several else []
            frames = f"{_count(key.get('frames'))} of {_count(key.get('of'))}" if key else ""
            table.rows.append((label, *where, found, frames, _unit(unit), unit.get("reason", "")))
    return table


def _unit(unit: Mapping[str, Any]) -> str:
    if not unit:
        return ""
    if unit.get("factor") == 1.0:
        return str(unit.get("unit"))
    factor = unit.get("factor")
    by = f" (× {digits(float(factor), 6)})" if isinstance(factor, int | float) else ""
    return f"{unit.get('unit')} → {unit.get('converted_to')}{by}"


def model_section(record: RunRecord) -> Section:
    """The model file: what it is and how it was made."""
    if record.model is None:
        return Section(
            "model",
            "Model card",
            missing="No model.safetensors in this folder: it is written by",
            command="dreibein train",
        )
    facts = dict(record.model)
    card, num_bytes = facts.pop("card"), facts.pop("bytes")
    facts["elements"] = ", ".join(facts["elements"])
    inner = _card(card) if card else paragraph("The file carries no card.", css="missing")
    left = f"<h3>Model file, {size(num_bytes)}</h3>{tree(facts)}"
    return Section("model", "Model card", grid(left, f"<h3>Training card</h3>{inner}"))


def _card(card: Mapping[str, Any]) -> str:
    """The training card; errors of the splits side by side."""
    errors = card.get("errors")
    rest = {key: value for key, value in card.items() if key != "errors"}
    if not isinstance(errors, Mapping) or not all(isinstance(e, Mapping) for e in errors.values()):
        return tree(card)
    table = Table(("error", *errors))
    for name in dict.fromkeys(name for split in errors.values() for name in split):
        values = [split.get(name) for split in errors.values()]
        cells = [digits(v) if isinstance(v, int | float) else "–" for v in values]
        table.rows.append((in_words(name), *cells))
    return tree(rest) + (table.render() if table.rows else "")


def config_section(record: RunRecord) -> Section:
    """The resolved configuration."""
    if record.config is None:
        return Section(
            "config",
            "Configuration",
            missing="No config.yaml in this folder: it is written by",
            command="dreibein train",
        )
    pre = Markup(f"<pre>{text(record.config)}</pre>")
    return Section("config", "Configuration", details("Every resolved choice (config.yaml)", pre))
