"""Compares tokenize_lines with Hugging Face `tokenizers`, id by id, and fails on the first text that differs.

  compare_with_hugging_face.py TOKENIZE_LINES [--tokenizer tokenizer.json]... [--text FILE]... [--seed N] [--random N]

Without --tokenizer it takes those of the models in $ITHACA_CACHE and trains small byte-level BPE tokenizers of every style
that Ithaca supports. Texts are the lines and the whole of the given files (by default this repository's documents, the
Python library and the demo's book) and random strings of many scripts, white space, digits, special tokens and broken
words. Exit status 77: `tokenizers` is not installed.
"""

import argparse
import glob
import json
import os
import random
import subprocess
import sys
import tempfile
import time

try:
    from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
except ImportError:
    print("skipped: the Python package tokenizers is not installed")
    sys.exit(77)

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def byte_level(use_regex, add_prefix_space=False):
    return pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space, use_regex=use_regex)


def split(pattern, behavior="isolated", invert=False):
    return pre_tokenizers.Split(pattern, behavior, invert)


def then_bytes(*parts, **kwargs):
    return pre_tokenizers.Sequence([*parts, byte_level(kwargs.get("use_regex", False))])


def styles():
    """Name -> (normalizer, pre_tokenizer, ignore_merges, unknown token)."""
    nfc = normalizers.NFC()
    return {
        "gpt2": (None, byte_level(True), False, None),
        "gpt2_prefix_space": (None, byte_level(True, add_prefix_space=True), False, None),
        "llama3": (None, then_bytes(split(Regex(LLAMA3))), True, None),
        "qwen": (nfc, then_bytes(split(Regex(QWEN))), False, None),
        "o200k": (normalizers.Sequence([nfc]), then_bytes(split(Regex(O200K))), False, None),
        "smollm2": (None, then_bytes(pre_tokenizers.Digits(individual_digits=True), use_regex=True), False, None),
        "digits_together": (None, then_bytes(pre_tokenizers.Digits(individual_digits=False), use_regex=True), False, "<unk>"),
        "removed": (None, then_bytes(split(Regex(r"\s+"), "removed"), split("ab", "merged_with_previous")), False, None),
        "merged_with_next": (None, then_bytes(split(Regex(r"[\w']"), "merged_with_next", invert=True)), False, None),
        "merged_with_previous": (nfc, then_bytes(split(Regex(r"\W"), "merged_with_previous")), False, None),
        "contiguous": (None, then_bytes(split(Regex(r"\d|\S"), "contiguous")), False, None),
        "empty_matches": (None, then_bytes(split(Regex(r"x*"), "isolated")), False, None),
    }


def train(name, style, corpus):
    normalizer, pre_tokenizer, ignore_merges, unknown = style
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges, unk_token=unknown, fuse_unk=name == "digits_together"))
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    # Where there is an unknown token some bytes are left out of the vocabulary, so that it is used.
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    if unknown is not None:
        alphabet = [character for character in alphabet if ord(character) < 0x100]
    specials = ["<|begin|>", "<|end|>"] + ([unknown] if unknown else [])
    limit = {"limit_alphabet": len(alphabet)} if unknown else {}
    trainer = trainers.BpeTrainer(vocab_size=3000, initial_alphabet=alphabet, special_tokens=specials, show_progress=False,
                                  **limit)
    tokenizer.train_from_iterator(corpus, trainer)
    tokenizer.add_special_tokens([AddedToken("<|left|>", lstrip=True), AddedToken("<|right|>", rstrip=True, special=True)])
    tokenizer.add_tokens([
        AddedToken("both", lstrip=True, rstrip=True, normalized=True), AddedToken("word", single_word=True),
        AddedToken("<|begin|>more", normalized=False), AddedToken("caf\u0065\u0301", normalized=True), "été", "  ", "\t\t",
        AddedToken("_u_", single_word=True, lstrip=True, normalized=False)])
    begin = tokenizer.token_to_id("<|begin|>")
    template = processors.TemplateProcessing(single="<|begin|> $A", special_tokens=[("<|begin|>", begin)])
    if name in ("llama3", "smollm2"):
        tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), template])
    elif name == "gpt2":
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<|begin|> $A <|end|>", special_tokens=[("<|begin|>", begin), ("<|end|>", tokenizer.token_to_id("<|end|>"))])
    else:
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer


# Code points of many scripts, assigned long enough ago that every library knows them.
RANGES = [(0x20, 0x7E)] * 4 + [(0xA1, 0x24F), (0x300, 0x36F), (0x370, 0x3FF), (0x400, 0x4FF), (0x531, 0x556), (0x5D0, 0x5EA),
          (0x621, 0x64A), (0x64B, 0x669), (0x904, 0x939), (0x93E, 0x94D), (0x966, 0x96F), (0xE01, 0xE3A), (0x1100, 0x11FF),
          (0x1E00, 0x1EFF), (0x1F00, 0x1F15), (0x2000, 0x206F), (0x20A0, 0x20BF), (0x2150, 0x218B), (0x2460, 0x24FF),
          (0x3000, 0x30FF), (0x4E00, 0x9FA5), (0xAC00, 0xD7A3), (0xF900, 0xFA2D), (0xFB00, 0xFB06), (0xFE00, 0xFE0F),
          (0xFF01, 0xFF5E), (0x10330, 0x1034A), (0x1D400, 0x1D454), (0x1F130, 0x1F189), (0x1F300, 0x1F64F), (0x20000, 0x2A6D6)]
PIECES = ["<|begin|>", "<|end|>", "<|left|>", "<|right|>", "<|begin|>more", "both", "word", "_u_", "cafe\u0301", "été", "  ", "\t\t",
          "caf\u00e9", "'s", "'S", "'ſ", "'LL", "'t", "'re", " ", "  ", "   ", "\n", "\r\n", "\n\n", "\t", "\x0b", "\x0c", "\x85", "\u00a0",
          "\u180e", "\u2028", "\u3000", "\u200b", "\u200d", "\ufeff", "1", "23", "456", "7890", "٣", "Ⅷ", "½", "ab", "x", "xxx", "the", "The",
          "<|", "|>", "<", "e\u0301", "\u1100\u1161\u11a8", "Å", "\u212b", "ﬁ", "\x00", "_", "-", "K", "ß"]


def random_text(rng):
    text = []
    for _ in range(rng.randint(0, 40)):
        kind = rng.random()
        if kind < 0.4:
            text.append(rng.choice(PIECES))
        elif kind < 0.5:
            text.append(rng.choice(PIECES) * rng.randint(2, 30))
        else:
            low, high = rng.choice(RANGES)
            text.extend(chr(rng.randint(low, high)) for _ in range(rng.randint(1, 8)))
    return "".join(text)


def random_bytes_text(rng):
    return bytes(rng.randrange(256) for _ in range(rng.randint(0, 60))).decode("utf-8", errors="replace")


def read_texts(paths):
    texts = []
    for path in paths:
        with open(path, encoding="utf-8", errors="replace", newline="") as file:
            texts.append(file.read())
    return texts


def compare(program, name, path, texts):
    tokenizer = Tokenizer.from_file(path)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    start = time.perf_counter()
    expected = [[tokenizer.encode(text, add_special_tokens=special).ids for text in texts] for special in (False, True)]
    seconds = (time.perf_counter() - start) / 2
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    lines = "".join(json.dumps(text) + "\n" for text in texts)
    speed = ""
    for special in (False, True):
        command = [program, path] + (["--special"] if special else [])
        run = subprocess.run(command, input=lines, capture_output=True, text=True, check=False)
        if run.returncode != 0:
            sys.exit(f"{name}: {' '.join(command)} ended with {run.returncode}: {run.stderr}")
        speed = run.stderr.strip()
        got = [[int(token) for token in line.split()] for line in run.stdout.split("\n")[:-1]]
        if len(got) != len(texts):
            sys.exit(f"{name}: {len(got)} results for {len(texts)} texts")
        for text, ours, theirs in zip(texts, got, expected[special]):
            if ours != theirs:
                at = next((i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b), min(len(ours), len(theirs)))
                sys.exit(f"{name} (special {special}): {text[:300]!r} differs at token {at}\n ithaca       {ours[at:at + 20]}"
                         f"\n hugging face {theirs[at:at + 20]} {[tokenizer.id_to_token(t) for t in theirs[at:at + 20]]}")
    tokens = sum(map(len, expected[0]))
    print(f"{name}: {len(texts)} texts, {megabytes:.1f} MB, {tokens} tokens equal; ithaca {speed}, tokenizers {megabytes / seconds:.1f} MB/s")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--tokenizer", action="append", default=[])
    parser.add_argument("--text", action="append", default=[])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--random", type=int, default=1500)
    options = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    rng = random.Random(options.seed)
    root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../../..")
    library = os.path.dirname(os.__file__)
    cache = os.environ.get("ITHACA_CACHE") or os.path.expanduser("~/.cache/ithaca")
    paths = options.text or sorted(glob.glob(f"{root}/docs/*.md") + glob.glob(f"{root}/worker/engine/data/*.cc") +
                                   glob.glob(f"{library}/[ce]*.py") + glob.glob(f"{cache}/opticks/heldout.txt"))
    whole = read_texts(paths)
    texts = [""] + whole + [line for text in whole for line in text.splitlines(keepends=True)]
    texts += [random_text(rng) for _ in range(options.random)] + [random_bytes_text(rng) for _ in range(options.random)]
    texts += [" " * 100_000, "a" * 100_000, "ab" * 50_000 + "\n" * 50_000]
    for path in options.tokenizer or glob.glob(f"{cache}/*/tokenizer.json"):
        compare(options.program, path, path, texts)
    if options.tokenizer:
        return
    corpus = [line for text in whole for line in text.splitlines(keepends=True)][:30_000]
    corpus += [random_text(rng) for _ in range(options.random)]
    with tempfile.TemporaryDirectory() as directory:
        for name, style in styles().items():
            path = os.path.join(directory, name + ".json")
            train(name, style, corpus).save(path)
            compare(options.program, name, path, texts)


if __name__ == "__main__":
    main()
