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

LLAMA, QWEN3 = transformers.LlamaConfig, transformers.Qwen3Config
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
}


def make_tiny(name, directory):
    """Writes a random model; norm weights are random too, so that a norm applied in the wrong place shows."""
    torch.manual_seed(sorted(TINY).index(name))
    model = transformers.AutoModelForCausalLM.from_config(TINY[name](), dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.uniform_(0.5, 1.5)
    model.save_pretrained(directory / name)
    return directory / name


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
