"""Wording: a prompt as the messages a chat model is sent, and how many tokens a text is taken to be."""

from __future__ import annotations

from collections.abc import Sequence

from memgang.model import Prompt

BYTES_PER_TOKEN = 4


def messages(prompt: Prompt) -> list[dict[str, str]]:
    """System and user message for a prompt, in the order that lets a provider's prompt cache work.

    The passages come before the question: several questions over the same passages share a prefix.
    """
    said = [{"role": "system", "content": prompt.system}] if prompt.system else []
    parts = [prompt.instruction]
    parts += [f"[{number}] {passage}" for number, passage in enumerate(prompt.passages, 1)]
    if prompt.question:
        parts.append(f"Question: {prompt.question}")
    if prompt.passages:
        parts.append(
            f"Answer in about {prompt.words} words, from the numbered passages alone. Write one statement per line, "
            "each a whole sentence that ends with the numbers of the passages it rests on, like this: [1] or [2][5]. "
            "Keep to the order of the passages. No headings, no bullets, nothing before or after the statements."
        )
    elif prompt.question:
        parts.append(f"Answer in about {prompt.words} words.")
    said.append({"role": "user", "content": "\n\n".join(part for part in parts if part)})
    return said


def estimate(text: str) -> int:
    """Tokens in a text where nobody reports them: one for every 4 bytes of UTF-8 begun. A rule, not a measurement."""
    return -(-len(text.encode("utf-8", "surrogatepass")) // BYTES_PER_TOKEN)


def estimate_messages(said: Sequence[dict[str, str]]) -> int:
    """Tokens in a list of messages by the same rule."""
    return sum(estimate(message["content"]) for message in said)
