"""A language model of 120 KB with random weights, written in a moment: it says nothing sensible, and the same each time."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

WORDS = ["▁the", "▁of", "▁and", "▁to", "▁in", "▁is", "▁door", "▁audit", "▁two", "▁open", "▁found", ".", ",", "▁", ":", "user", "system",
         "assistant", *"etaoinsrhldu"]
TEMPLATE = ("{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
            "{% if add_generation_prompt %}assistant:{% endif %}")
WIDTH, HEADS, INNER = 32, 4, 64


def write(path: Path, *, seed: int = 7, name: str = "tiny", template: str = TEMPLATE) -> Path:
    """The model. Another ``seed`` is other weights under the same header; texts are spelled in bytes where no word fits."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *WORDS]
    kinds = gguf.TokenType
    random = np.random.default_rng(seed)

    def drawn(*shape: int) -> np.ndarray:
        return random.standard_normal(shape).astype(np.float32) / np.float32(shape[-1] ** 0.5)

    to = gguf.GGUFWriter(str(path), "llama")
    to.add_name(name)
    to.add_context_length(32_768)
    to.add_embedding_length(WIDTH)
    to.add_block_count(1)
    to.add_feed_forward_length(INNER)
    to.add_head_count(HEADS)
    to.add_head_count_kv(HEADS)
    to.add_layer_norm_rms_eps(1e-5)
    to.add_rope_dimension_count(WIDTH // HEADS)
    to.add_vocab_size(len(tokens))
    to.add_tokenizer_model("llama")
    to.add_token_list(tokens)
    to.add_token_scores([0.0] * 259 + [-float(rank) for rank in range(len(WORDS))])
    to.add_token_types([kinds.UNKNOWN, kinds.CONTROL, kinds.CONTROL] + [kinds.BYTE] * 256 + [kinds.NORMAL] * len(WORDS))
    to.add_bos_token_id(1)
    to.add_eos_token_id(2)
    to.add_chat_template(template)
    heads = drawn(len(tokens), WIDTH) * WIDTH ** 0.5
    heads[:259] = 0  # bytes and the end are never the likeliest: all it says is words, until it is told to stop
    to.add_tensor("token_embd.weight", drawn(len(tokens), WIDTH) * np.float32(WIDTH ** 0.5))
    to.add_tensor("output.weight", heads.astype(np.float32))
    for part, shape in {"attn_q": (WIDTH, WIDTH), "attn_k": (WIDTH, WIDTH), "attn_v": (WIDTH, WIDTH), "attn_output": (WIDTH, WIDTH),
                        "ffn_gate": (INNER, WIDTH), "ffn_up": (INNER, WIDTH), "ffn_down": (WIDTH, INNER)}.items():
        to.add_tensor(f"blk.0.{part}.weight", drawn(*shape))
    for part in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        to.add_tensor(f"{part}.weight", np.ones(WIDTH, np.float32))
    to.write_header_to_file()
    to.write_kv_data_to_file()
    to.write_tensors_to_file()
    to.close()
    return path
