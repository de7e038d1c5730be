"""Random models as Hugging Face directories, and safetensors read and written with torch alone."""

import ctypes
import json
import pathlib

import torch

TINY_LLAMA = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 128, "intermediate_size": 256,
    "num_hidden_layers": 3, "num_attention_heads": 8, "num_key_value_heads": 4, "vocab_size": 512,
    "max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": True, "hidden_act": "silu",
}  # fmt: skip
TINY_QWEN3 = TINY_LLAMA | {
    "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "head_dim": 32, "num_key_value_heads": 2, "tie_word_embeddings": False,
}  # fmt: skip
QWEN3_4B = {
    "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": 2560, "intermediate_size": 9728,
    "num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936,
    "max_position_embeddings": 1 << 20, "rms_norm_eps": 1e-6, "rope_theta": 1000000.0, "tie_word_embeddings": True, "hidden_act": "silu",
}  # fmt: skip
SMOLLM2_135M = TINY_LLAMA | {
    "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
    "vocab_size": 49152, "max_position_embeddings": 8192, "rope_theta": 100000.0,
}  # fmt: skip
DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F64": torch.float64, "I64": torch.int64}


def shapes(config):
    """Every weight's name and shape."""
    width, inner, vocabulary = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    head = config.get("head_dim") or width // config["num_attention_heads"]
    queries, keys = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    yield "model.embed_tokens.weight", (vocabulary, width)
    for layer in range(config["num_hidden_layers"]):
        name = f"model.layers.{layer}."
        yield name + "input_layernorm.weight", (width,)
        yield name + "post_attention_layernorm.weight", (width,)
        if config["model_type"] == "qwen3":
            yield name + "self_attn.q_norm.weight", (head,)
            yield name + "self_attn.k_norm.weight", (head,)
        yield name + "self_attn.q_proj.weight", (queries, width)
        yield name + "self_attn.k_proj.weight", (keys, width)
        yield name + "self_attn.v_proj.weight", (keys, width)
        yield name + "self_attn.o_proj.weight", (width, queries)
        yield name + "mlp.gate_proj.weight", (inner, width)
        yield name + "mlp.up_proj.weight", (inner, width)
        yield name + "mlp.down_proj.weight", (width, inner)
    yield "model.norm.weight", (width,)
    if not config["tie_word_embeddings"]:
        yield "lm_head.weight", (vocabulary, width)


def write_model(directory, config, dtype=torch.bfloat16, device="cpu", seed=1):
    """A model of random weights, deviation 0.02; written once."""
    directory = pathlib.Path(directory)
    file = directory / "model.safetensors"
    if file.exists():
        return directory
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config, indent=1))
    size = torch.empty(0, dtype=dtype).element_size()
    header, offset = {}, 0
    for name, shape in shapes(config):
        count = size * torch.Size(shape).numel()
        header[name] = {"dtype": "F32" if size == 4 else "BF16", "shape": list(shape), "data_offsets": [offset, offset + count]}
        offset += count
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    generator = torch.Generator(device).manual_seed(seed)
    partial = file.with_suffix(".partial")
    with open(partial, "wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for name, shape in shapes(config):
            if len(shape) == 1:
                weight = torch.ones(shape)
            else:
                weight = torch.randn(shape, generator=generator, device=device) * 0.02
            weight = weight.to(dtype).cpu().contiguous()
            out.write((ctypes.c_char * (weight.numel() * size)).from_address(weight.data_ptr()))
    partial.rename(file)
    return directory


def read_safetensors(file):
    data = bytearray(pathlib.Path(file).read_bytes())
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        dtype = DTYPES[entry["dtype"]]
        count = (end - begin) // torch.empty(0, dtype=dtype).element_size()
        # A copy: the data of a file need not be aligned.
        values = bytearray(data[8 + length + begin : 8 + length + end])
        tensors[name] = torch.frombuffer(values, dtype=dtype, count=count).reshape(entry["shape"]).clone()
    return tensors


def write_tokens(file, vocabulary, length, documents, seed=3):
    generator = torch.Generator().manual_seed(seed)
    with open(file, "w") as out:
        for _ in range(documents):
            out.write(json.dumps({"input_ids": torch.randint(vocabulary, (length,), generator=generator).tolist()}) + "\n")
    return file
