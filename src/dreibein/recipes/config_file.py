"""YAML and command line to a configuration; every mistake is one sentence with its place."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from dreibein.models.catalog import DEFAULT
from dreibein.models.storage import read_header
from dreibein.recipes.config import RunConfig
from dreibein.recipes.config_names import did_you_mean, explained, fields_at, in_section

# entries that say of which kind a section is, and what holds without them
TAGS: dict[str, str | None] = {"kind": None, "architecture": DEFAULT}
# hyperparameters that a run may change in the model it starts from: every weight keeps its place
OPEN = ("knots", "targets")
Path_ = tuple[str | int, ...]
Model = TypeVar("Model", bound=BaseModel)


@dataclass
class Settings:
    """Plain nested values and where each was written.

    Attributes:
        values: As YAML gives them.
        places: Path of a value to "file, line n" or "--set …".
    """

    values: dict[str, Any] = field(default_factory=dict)
    places: dict[Path_, str] = field(default_factory=dict)

    def place(self, path: Path_) -> str:
        """Where the value at `path`, or the section it should be in, was written."""
        below = [place for p, place in self.places.items() if p[: len(path)] == path and path]
        if below and path not in self.places:
            return below[-1]
        for end in range(len(path), -1, -1):
            if path[:end] in self.places:
                return self.places[path[:end]]
        return "the configuration"

    def set(self, path: Path_, value: Any, place: str) -> None:
        """Put a value, making sections on the way.

        Raises:
            ValueError: A value stands where a section is needed.
        """
        section = self.values
        for depth, key in enumerate(path[:-1], start=1):
            inner = section.get(str(key))
            if inner is None:
                inner = {}
            elif key == "schedule" and isinstance(inner, str):
                inner = {"kind": inner}  # the short form of a schedule
            if not isinstance(inner, dict):
                whole = ".".join(map(str, path[:depth]))
                raise ValueError(f"{place}: {whole} is {inner!r}, not a section with entries")
            section[str(key)] = inner
            section = inner
        key = str(path[-1])
        if key in TAGS and section.get(key, TAGS[key]) != value:
            section.clear()  # entries of another kind mean nothing here
        section[key] = value
        for known in [p for p in self.places if p[: len(path)] == path]:
            del self.places[known]
        self.places[path] = place


def read_settings(path: str | Path) -> Settings:
    """Read a YAML file of nested sections.

    Raises:
        ValueError: Not YAML, not a mapping, or the same key twice in a section.
        OSError: No such file.
    """
    path = Path(path)
    text = path.read_text(encoding="utf-8")
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ValueError(f"{path}{line}: not valid YAML: {error.problem}") from error
    settings = Settings(values or {}, {(): str(path)})
    if not isinstance(settings.values, dict):
        raise ValueError(f"{path}: expected sections data, model and training")
    if node is not None:
        _note_places(node, (), path, settings.places)
    return settings


def _note_places(node: yaml.Node, at: Path_, path: Path, places: dict[Path_, str]) -> None:
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.value in seen:
                raise ValueError(
                    f"{path}, line {line}: the key '{key.value}' stands twice in one section, "
                    f"first on line {seen[key.value]}: keep one"
                )
            seen[key.value] = line
            places[(*at, key.value)] = f"{path}, line {line}"
            _note_places(value, (*at, key.value), path, places)
    elif isinstance(node, yaml.SequenceNode):
        for k, value in enumerate(node.value):
            places[(*at, k)] = f"{path}, line {value.start_mark.line + 1}"
            _note_places(value, (*at, k), path, places)


def apply_overrides(settings: Settings, overrides: Sequence[str]) -> None:
    """Apply `section.key=value` in order; they win over the file.

    What says of which kind a section is comes first, since it drops what another kind had there:
    `model.channels=8 model.architecture=locaformer` keeps the 8.

    Raises:
        ValueError: No `=`, or a value that is not YAML.
    """
    for text in sorted(overrides, key=lambda t: t.partition("=")[0].split(".")[-1] not in TAGS):
        key, equals, value = text.partition("=")
        path = tuple(part.strip() for part in key.split("."))
        place = f"--set {text}"
        if not equals or not all(path):
            raise ValueError(f"{place}: write it as section.key=value, such as training.lr=5e-4")
        try:
            parsed = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ValueError(f"{place}: the value is not valid YAML") from error
        settings.set(path, parsed, place)


def with_model_of_start(settings: Settings) -> Settings:
    """Fill the section `model` from the file that `finetune.model` names.

    Raises:
        ValueError: A hyperparameter was asked for that the file's weights do not fit.
        OSError: No such file.
    """
    section = settings.values.get("finetune")
    path = section.get("model") if isinstance(section, Mapping) else None
    if not isinstance(path, str):
        return settings  # nothing to start from, or a mistake that validation will name
    wanted = settings.values.get("model") or {}
    trained = read_header(path)["config"]
    for key, value in wanted.items():
        if key not in OPEN and key in trained and trained[key] != value:
            raise ValueError(
                f"{settings.place(('model', key))}: model.{key} is {value}, but {path} was trained "
                f"with {trained[key]}: leave it out, or train a new model"
            )
    return Settings({**settings.values, "model": {**trained, **wanted}}, settings.places)


def validate(model: type[Model], settings: Settings) -> Model:
    """The typed configuration of plain values.

    Raises:
        ValueError: One sentence on the first mistake: place, key, and the nearest valid name.
    """
    try:
        return model.model_validate(settings.values)
    except ValidationError as error:
        raise ValueError(_sentence(model, settings, error)) from None


def load_config(
    path: str | Path | None = None,
    overrides: Sequence[str] = (),
    start: Settings | None = None,
) -> RunConfig:
    """Configuration of a run: a start, a YAML file, overrides; later ones win.

    Args:
        path: YAML file with sections data, model, training.
        overrides: `section.key=value`.
        start: What stands below them, such as a preset.

    Raises:
        ValueError: One sentence on the first mistake.
        OSError: No such file.

    >>> load_config(overrides=["data.sources=a.xyz", "training.lr=5e-4"]).training.lr
    0.0005
    """
    settings = start or Settings()
    if path is not None:
        settings = stacked(settings, read_settings(path))
    apply_overrides(settings, overrides)
    return validate(RunConfig, with_model_of_start(settings))


def stacked(low: Settings, high: Settings) -> Settings:
    """Settings of both; where both have a value that of `high` counts."""
    # `training:` with nothing below it is no value
    values = {name: value for name, value in high.values.items() if value is not None}
    return Settings(merged(low.values, values), low.places | high.places)


def merged(low: Mapping[str, Any], high: Mapping[str, Any]) -> dict[str, Any]:
    """Nested sections of both; where both have a value that of `high` counts."""
    result = dict(low)
    for key, value in high.items():
        below = result.get(key)
        if isinstance(below, dict) and isinstance(value, dict) and _same_kind(below, value):
            result[key] = merged(below, value)
        else:
            result[key] = value
    return result


def _same_kind(low: Mapping[str, Any], high: Mapping[str, Any]) -> bool:
    return all(
        tag not in high or low.get(tag, default) == high[tag] for tag, default in TAGS.items()
    )


def _sentence(model: type[BaseModel], settings: Settings, error: ValidationError) -> str:
    """What is wrong first, where, and what to write instead."""
    first = error.errors()[0]
    path = _written(settings.values, first["loc"])
    place, name = settings.place(path), ".".join(map(str, path))
    if first["type"] == "extra_forbidden":
        hint = did_you_mean(model, path, settings.values)
        return f"{place}: unknown key '{path[-1]}' {in_section(path[:-1])}; {hint}"
    if first["type"] == "unknown_label":
        word, near = first["ctx"]["name"], first["ctx"]["near"]
        place = settings.place((*path, word))
        return f"{place}: unknown key '{word}' {in_section(path)}; did you mean '{near}'?"
    if first["type"] == "missing" and isinstance(first["loc"][-1], str):
        absent = (*path, first["loc"][-1])
        info = fields_at(model, path, settings.values).get(str(absent[-1]))
        meaning = f": {info.description.split(' (')[0]}" if info and info.description else ""
        return f"{place}: {'.'.join(map(str, absent))} is missing{meaning}"
    reasons = [explained(e) for e in error.errors() if _written(settings.values, e["loc"]) == path]
    reason = " or ".join(dict.fromkeys(reasons)).replace(" or expected ", " or ")
    given = first["input"]
    if first["type"] == "union_tag_invalid":
        (tag, given) = next((t, given[t]) for t in TAGS if t in given)
        name, place = f"{name}.{tag}", settings.place((*path, tag))
    return f"{place}: {name or 'the configuration'} is {_shown(given)}: {reason}"


def _written(values: Any, loc: tuple[int | str, ...]) -> Path_:
    """The part of a pydantic location that the user wrote: without the tags of unions."""
    path: list[str | int] = []
    for part in loc:
        inside = isinstance(values, dict) and part in values
        inside = inside or (
            isinstance(values, list) and isinstance(part, int) and part < len(values)
        )
        if inside:
            path.append(part)
            values = values[part]
    return tuple(path)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
