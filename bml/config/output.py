"""A configuration written back: YAML that loads to the same document, and a JSON Schema for editors."""

from __future__ import annotations

from typing import Any

import yaml
from pydantic.json_schema import models_json_schema

from bml.config.model import STAGES, Document
from bml.config.params import parameter_model
from bml.config.tree import scalar
from bml.registry import names, resolve
from bml.types import ConfigError


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    """Quoted whenever our reader would take the plain word for something else; ``$`` is doubled."""
    try:
        is_plain = scalar(text) == text and not isinstance(scalar(text), (int, float))
    except ValueError:
        is_plain = False
    node: yaml.Node = dumper.represent_scalar(
        "tag:yaml.org,2002:str", text.replace("$", "$$"), style=None if is_plain else '"'
    )
    return node


_Dumper.add_representer(str, _text)


def to_yaml(document: dict[str, Any]) -> str:
    """``document`` (see :attr:`bml.config.model.Config.document`) as YAML; keys keep their order.

    Loads to the same document; hidden secrets must first be put back as ``${NAME}``.
    """
    return str(yaml.dump(document, Dumper=_Dumper, sort_keys=False, default_flow_style=False, width=110))


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of the file, with the parameters of every registered function.

    Imports every module that registers functions (torch among them when it is installed).
    """
    schema = Document.model_json_schema(by_alias=True)
    definitions = schema.setdefault("$defs", {})
    calls = {kind: _calls(kind, definitions) for kind in dict.fromkeys(kind for kind, _ in STAGES.values())}
    properties = definitions["StagesSpec"]["properties"]
    for stage, (kind, default) in STAGES.items():
        call: dict[str, Any] = {"anyOf": calls[kind], "description": f"default: {default}" if default else "required"}
        properties[stage] = {"type": "array", "minItems": 1, "items": call} if stage == "preprocess" else call
    for unused in ("CallSpec", "RequiredCall"):
        definitions.pop(unused, None)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "bml configuration"}


def _calls(kind: str, definitions: dict[str, Any]) -> list[dict[str, Any]]:
    """One branch a function: its name, and its parameters as pydantic sees them."""
    out = []
    for name in names(kind):
        model = parameter_model(resolve(name, kind))
        try:
            by_model, shared = models_json_schema(
                [(model, "validation")], by_alias=True, ref_template="#/$defs/{model}"
            )
        except Exception as error:
            raise ConfigError(f"{name}: a parameter's annotation has no JSON Schema ({error})") from error
        inner = shared.get("$defs", {})
        own = by_model[(model, "validation")]
        definitions[name] = inner.pop(own["$ref"].rsplit("/", 1)[-1]) if "$ref" in own else own
        definitions.update(inner)
        given: dict[str, Any] = {"fn": {"const": name}, "with": {"$ref": f"#/$defs/{name}"}}
        out.append({"type": "object", "properties": given, "required": ["fn"], "additionalProperties": False})
    return out
