"""The models and texts that parity is shown on: one real, and tiny random ones with every odd shape the engine accepts."""

import json
import os
import pathlib

import torch
import transformers

CACHE = pathlib.Path(os.environ.get("ITHACA_CACHE") or pathlib.Path.home() / ".cache" / "ithaca")
REAL = CACHE / "SmolLM2-135M-Instruct"
BOOK = CACHE / "opticks" / "opticks.txt"

SHARED = dict(
    vocab_size=311, intermediate_size=80, num_hidden_layers=3, max_position_embeddings=512,
    rms_norm_eps=1e-5, initializer_range=0.1, bos_token_id=1, eos_token_id=2, attention_dropout=0.0,
)  # fmt: skip
LLAMA3_ROPE = {
    "rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip

YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 128}
LINEAR = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0}

LLAMA, QWEN3 = transformers.LlamaConfig, transformers.Qwen3Config
QWEN2, MISTRAL, SMOLLM3 = transformers.Qwen2Config, transformers.MistralConfig, transformers.SmolLM3Config
TINY = {
    "llama-grouped": lambda: LLAMA(**SHARED, hidden_size=48, num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=False),
    "llama-uneven-heads": lambda: LLAMA(
        **SHARED, hidden_size=72, num_attention_heads=9, num_key_value_heads=3, head_dim=16, tie_word_embeddings=True
    ),
    "llama-one-kv-head": lambda: LLAMA(
        **SHARED, hidden_size=40, num_attention_heads=5, num_key_value_heads=1, head_dim=24, tie_word_embeddings=False
    ),
    "llama3-rope": lambda: LLAMA(
        **SHARED, hidden_size=48, num_attention_heads=6, num_key_value_heads=6, rope_parameters=LLAMA3_ROPE, tie_word_embeddings=True
    ),
    "qwen3": lambda: QWEN3(
        **SHARED, hidden_size=48, num_attention_heads=6, num_key_value_heads=2, head_dim=16, tie_word_embeddings=False
    ),
    "qwen3-tied": lambda: QWEN3(
        **SHARED, hidden_size=48, num_attention_heads=7, num_key_value_heads=7, head_dim=8, tie_word_embeddings=True
    ),
    "qwen2": lambda: QWEN2(**SHARED, hidden_size=48, num_attention_heads=6, num_key_value_heads=2, tie_word_embeddings=True),
    "qwen2-yarn": lambda: QWEN2(
        **SHARED, hidden_size=48, num_attention_heads=4, num_key_value_heads=4, rope_parameters=YARN, tie_word_embeddings=False
    ),
    "mistral": lambda: MISTRAL(
        **SHARED, hidden_size=48, num_attention_heads=6, num_key_value_heads=2, sliding_window=None, tie_word_embeddings=False
    ),
    "mistral-window": lambda: MISTRAL(
        **SHARED, hidden_size=48, num_attention_heads=6, num_key_value_heads=2, sliding_window=19, tie_word_embeddings=False
    ),
    "qwen2-window": lambda: QWEN2(
        **SHARED, hidden_size=72, num_attention_heads=9, num_key_value_heads=3, use_sliding_window=True, sliding_window=30,
        max_window_layers=1, tie_word_embeddings=True
    ),
    "llama-linear-rope": lambda: LLAMA(
        **SHARED, hidden_size=48, num_attention_heads=4, num_key_value_heads=2, rope_parameters=LINEAR, tie_word_embeddings=True
    ),
    "smollm3": lambda: SMOLLM3(
        **(SHARED | {"num_hidden_layers": 4}), hidden_size=48, num_attention_heads=6, num_key_value_heads=2, pad_token_id=0,
        no_rope_layer_interval=2, tie_word_embeddings=True,
    ),
}


def make_tiny(kind, directory):
    """Writes a random model; norm weights are random too, so that a norm applied in the wrong place shows."""
    torch.manual_seed(sorted(TINY).index(kind))
    model = transformers.AutoModelForCausalLM.from_config(TINY[kind](), dtype=torch.float32)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                parameter.uniform_(*((-0.5, 0.5) if name.endswith("bias") else (0.5, 1.5)))
    model.save_pretrained(directory / kind)
    return directory / kind


def tiny_documents(lengths, seed=0, vocabulary=SHARED["vocab_size"]):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(3, vocabulary, (length,), generator=generator).tolist() for length in lengths]


def book_documents(lengths):
    """Consecutive runs of the book's tokens, of the given lengths."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(REAL)
    text = BOOK.read_text(encoding="utf-8")[20_000 : 20_000 + 8 * sum(lengths)]
    ids = tokenizer(text).input_ids
    starts = [sum(lengths[:i]) for i in range(len(lengths))]
    assert len(ids) >= sum(lengths)
    return [ids[start : start + length] for start, length in zip(starts, lengths)]


def write_jsonl(path, documents):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"input_ids": ids}) + "\n" for ids in documents))
    return path
