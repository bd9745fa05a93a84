"""What users type for a model, taken apart: ``model?parameter=value&parameter=value``."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl


def parted(text: str) -> tuple[str, dict[str, Any]]:
    """The model and its parameters. Values are JSON where they read as JSON, else text."""
    model, _, query = text.partition("?")
    return model, {key: _value(value) for key, value in parse_qsl(query, keep_blank_values=True)}


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
