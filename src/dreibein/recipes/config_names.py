"""Valid names of a configuration, and the one that a misspelt name was meant to be."""

import difflib
import re
import types
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

NEAR = 0.6  # similarity from which a name is a likely slip of the same name


EXPECTED = {
    "int_type": "expected a whole number",
    "int_parsing": "expected a whole number",
    "int_from_float": "expected a whole number",
    "float_type": "expected a number",
    "float_parsing": "expected a number",
    "bool_parsing": "expected true or false",
    "bool_type": "expected true or false",
    "string_type": "expected text",
    "list_type": "expected a list",
    "tuple_type": "expected a list",
    "dict_type": "expected a section with entries",
    "model_type": "expected a section with entries",
    "model_attributes_type": "expected a section with entries",
    "missing": "expected more entries",
    "too_long": "expected fewer entries",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "expected {expected}",
    "union_tag_invalid": "expected {expected_tags}",
    "union_tag_not_found": "its entry {discriminator} is missing",
}


def in_section(path: tuple[str | int, ...]) -> str:
    """A section in words.

    >>> in_section(()), in_section(("training", "losses"))
    ('at the top level', 'in training.losses')
    """
    return f"in {'.'.join(map(str, path))}" if path else "at the top level"


def explained(error: Mapping[str, Any]) -> str:
    """What one pydantic error expects, in words.

    >>> explained({"type": "greater_than", "ctx": {"gt": 0}, "msg": "", "input": -1})
    'must be greater than 0'
    """
    if error["type"] in EXPECTED:
        context = error.get("ctx", {})
        text = EXPECTED[error["type"]].format(**context)
        choices = re.findall(
            r"'([^']+)'", context.get("expected_tags", context.get("expected", ""))
        )
        given = error["input"]
        if isinstance(given, Mapping):
            given = given.get("kind", given.get("architecture"))
        near = difflib.get_close_matches(str(given), choices, 1, NEAR)
        return f"{text}; did you mean '{near[0]}'?" if near else text
    return str(error["msg"]).removeprefix("Value error, ")


def did_you_mean(
    model: type[BaseModel], path: tuple[str | int, ...], values: Mapping[str, Any]
) -> str:
    """A question that names the nearest valid key: in this section, or in another.

    Args:
        model: Of the whole configuration.
        path: Of the unknown key.
        values: What the user wrote, to know which of several kinds a section is.
    """
    word, section = str(path[-1]), path[:-1]
    here = fields_at(model, section, values)
    near = difflib.get_close_matches(word, here, 1, NEAR)
    if near:
        return f"did you mean '{near[0]}'?"
    everywhere = dict(_all_names(model, ()))
    exact = [name for name in everywhere if name.split(".")[-1] == word]
    if exact:
        return f"did you mean '{exact[0]}'?"
    spelled = word.replace("_", " ").lower()
    described = [n for n, f in here.items() if spelled in (f.description or "").lower()]
    if described:
        return f"did you mean '{described[0]}'?"
    if here:
        return f"nearest is '{difflib.get_close_matches(word, here, 1, 0.0)[0]}'"
    return "this section takes no keys"


def fields_at(
    model: type[BaseModel], path: tuple[str | int, ...], values: Mapping[str, Any]
) -> dict[str, FieldInfo]:
    """Valid keys of the section at `path`."""
    models: list[type[BaseModel]] = [model]
    written: Any = values
    for part in path:
        written = written.get(part) if isinstance(written, Mapping) else None
        fields = [m.model_fields[str(part)] for m in models if str(part) in m.model_fields]
        models = [m for f in fields for m in _models_in(f.annotation)]
        models = [m for m in models if _fits(m, written)] or models
    return {name: info for m in models for name, info in m.model_fields.items()}


def _all_names(model: type[BaseModel], path: tuple[str, ...]) -> Iterator[tuple[str, FieldInfo]]:
    for name, info in model.model_fields.items():
        yield ".".join((*path, name)), info
        for inner in _models_in(info.annotation):
            yield from _all_names(inner, (*path, name))


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """Sections that a field's type allows."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Annotated, Union, types.UnionType):
        return [m for inner in get_args(annotation) for m in _models_in(inner)]
    return []


def _fits(model: type[BaseModel], written: Any) -> bool:
    """Whether a section of several kinds is of this one."""
    for tag in ("kind", "architecture"):
        info = model.model_fields.get(tag)
        if info is not None and isinstance(written, Mapping) and tag in written:
            return written[tag] in get_args(info.annotation)
    return True
