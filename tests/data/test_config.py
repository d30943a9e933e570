"""The configuration: typed, closed, described."""

import pytest
from pydantic import ValidationError

from dreibein.data import DataConfig


def test_every_field_is_described():
    schema = DataConfig.model_json_schema()
    for name, field in schema["properties"].items():
        assert field.get("description"), name
    assert schema["additionalProperties"] is False


def test_forms_of_sources_and_portions():
    config = DataConfig(sources="a.xyz", validation="b.xyz", test=0.5)
    assert (config.sources, config.validation, config.test) == (["a.xyz"], ["b.xyz"], 0.5)
    assert DataConfig(sources=["a"], validation=50).validation == 50
    assert isinstance(DataConfig(sources=["a"], validation=50).validation, int)
    again = DataConfig.model_validate_json(config.model_dump_json())
    assert again == config


def test_unknown_keys_and_empty_sources():
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        DataConfig(sources="a", key={})
    with pytest.raises(ValidationError, match="at least 1 item"):
        DataConfig(sources=[])
    with pytest.raises(ValidationError, match="the stress order 'xx' must name xx yy zz yz xz xy"):
        DataConfig(sources="a", stress_convention={"order": "xx"})
