"""What is named like a credential is in no key, and its value is readable in no outline."""

from __future__ import annotations

import json
from typing import Any

import pytest

from memgang.canonical import call_key, canonical, outline
from memgang.credentials import are_headers, is_credential, public
from memgang.model import Call

SECRET = bytes(range(32))
CANARY = "canary-of-thirty-characters-77"

HIDDEN = ("api_key", "x-api-key", "api-key", "apikey", "apiKey", "OpenAIKey", "X_API_KEY", "accessToken", "token",
          "client_secret", "password",
          "Authorization", "Proxy-Authorization", "auth", "credentials", "api_keys", "Cookie", "aws_secret_access_key")
SHOWN = ("max_tokens", "maxTokens", "tokenizer", "eos_token", "monkey", "keyword", "author", "tokens", "model", "", "\u212aey")


@pytest.mark.parametrize("name", HIDDEN)
def test_a_name_of_a_credential_is_known_in_all_its_spellings(name: str) -> None:
    """With lines of either kind, joined, in capitals."""
    assert is_credential(name) and "a" in public({"a": 1, name: CANARY}) and name not in public({"a": 1, name: CANARY})


@pytest.mark.parametrize("name", SHOWN)
def test_a_name_that_only_looks_like_one_is_left(name: str) -> None:
    """What says how an answer will be stays part of the key."""
    assert not is_credential(name) and public({name: CANARY}) == {name: CANARY}


def test_settings_are_public_at_any_depth() -> None:
    """In dicts and lists; numbers and fields of schemas stay, and tools with what they are let in with."""
    schema = {"type": "object", "properties": {"key": {"type": "string"}, "token": {"const": "x"}}, "required": ["key"]}
    said: dict[str, Any] = {"routes": [{"api-key": CANARY, "to": ["a", {"apikey": CANARY}]}], "stop_token_ids": [1, 2], "format": schema,
                            "logit_bias": {5: -100, 7: {(1, 2): 3}}}
    assert public(said) == said | {"routes": [{"to": ["a", {}]}]}
    tools = {"builtin_tools": [{"type": "mcp", "authorization": CANARY}], "mcp_servers": [{"authorization_token": CANARY}]}
    assert public({"extra_body": tools}) == {"extra_body": tools}
    assert CANARY not in str(public({"properties": {"api_key": CANARY}, "auth": {"deep": [CANARY]}, "pair": ({"token": CANARY},)}))


@pytest.mark.parametrize("long", [False, True], ids=["short call", "long call"])
@pytest.mark.parametrize("place", [
    {"tools": [{"type": "mcp", "authorization": CANARY}]},
    {"tools": [{"type": "mcp", "headers": {"x-anything": CANARY}}]},
    {"tools": [{"type": "mcp", "http_headers": [["x-anything", CANARY]]}]},
    {"parameters": {"extra_body": {"api_key": CANARY}}},
    {"parameters": {"extra_body": {"deep": [[{"x-api-key": [CANARY]}]]}}},
    {"arguments": {"accessToken": CANARY}},
    {"arguments": {"pass\u00e9Key": CANARY}},
], ids=str)
def test_an_outline_shows_no_credential_however_short(place: dict[str, Any], long: bool) -> None:
    """Its keyed hash stands there, so that two calls that differ in it still differ; and so do their keys."""
    more: dict[str, Any] = {"messages": ["x" * 30] * 40} if long else {}
    texts, keys = [], []
    for value in (CANARY, CANARY[::-1]):
        put = json.loads(json.dumps(place).replace(CANARY, value))
        form = canonical(Call("llm", "f", "1", **put | more), "default")
        texts.append(outline(form, SECRET, 700))
        keys.append(call_key(form, SECRET))
    assert CANARY not in texts[0] and CANARY[:8] not in texts[0] and "f" in json.loads(texts[0])["function"]
    assert texts[0] != texts[1] and keys[0] != keys[1]


def test_names_of_headers_are_known() -> None:
    """By their last word."""
    assert are_headers("headers") and are_headers("extraHeaders") and are_headers("default-headers") and not are_headers("headers_only")
