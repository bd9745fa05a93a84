"""Embeddings: one piece, whole with one vector for each text."""

from __future__ import annotations

from memgang.answers.answer import cut, read_object, used
from memgang.errors import ModelError
from memgang.model import Usage


class Embeddings:
    """The vectors of one request."""

    whole = False
    usage = Usage(llm_calls=1)

    def __init__(self, model: str, texts: int) -> None:
        self._model, self._texts = model, texts
        self._body = b""

    def take(self, event: bytes) -> None:
        """There are no events of embeddings. Raises ModelError."""
        raise ModelError(self._model, "transient", "bad_json", "the server answered with a stream")

    def take_plain(self, body: bytes) -> None:
        """The answer. Raises ModelError."""
        fields = read_object(self._model, body)
        vectors = fields.get("data")
        if not isinstance(vectors, list) or len(vectors) < self._texts or not all(
                isinstance(v, dict) and v.get("embedding") for v in vectors):
            raise cut(self._model, "a vector for each text")
        self._body, self.whole = body, True
        self.usage = used(fields.get("usage"), "prompt_tokens", "completion_tokens", "prompt_tokens_details")

    def plain(self) -> bytes:
        """The answer as it came."""
        return self._body

    def events(self) -> list[bytes]:
        """There are none: nobody can ask for a stream."""
        return []
