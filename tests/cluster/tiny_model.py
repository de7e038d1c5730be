"""Writes a tiny random Llama and documents of ready token ids into a directory: what a real engine trains in seconds."""

import json
import pathlib
import random
import sys

import torch
import transformers

directory = pathlib.Path(sys.argv[1])
torch.manual_seed(0)
config = transformers.LlamaConfig(
    vocab_size=97, hidden_size=48, intermediate_size=64, num_hidden_layers=2, num_attention_heads=3, num_key_value_heads=1,
    max_position_embeddings=256, bos_token_id=1, eos_token_id=2, tie_word_embeddings=True,
)  # fmt: skip
model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
model.save_pretrained(directory / "model")

generator = random.Random(0)
with open(directory / "documents.jsonl", "w") as file:
    for _ in range(64):
        file.write(json.dumps({"input_ids": [generator.randrange(3, 97) for _ in range(200)]}) + "\n")
