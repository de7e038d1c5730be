"""Fetches the demo's text: Isaac Newton, "Opticks" (fourth edition, 1730; in the public domain), 560 kB of English prose.

    python tools/demo/corpus.py [--out DIR]

It lies in a Debian and Ubuntu package as test data of a compressor; `apt-get download` and `dpkg -x` need no root and install
nothing. The default directory is $ITHACA_CACHE/opticks (ITHACA_CACHE defaults to ~/.cache/ithaca). Three files:

    opticks.txt   the whole book
    train.jsonl   the book without its last part, one document per chapter-sized piece
    heldout.txt   the last part, the Queries of Book III, which training never sees
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import tempfile

PACKAGE = "golang-github-andybalholm-brotli-dev"
MEMBER = "Isaac.Newton-Opticks.txt"
HELD_OUT_CHARACTERS = 24_000
PIECE_CHARACTERS = 60_000


def cache_directory():
    return pathlib.Path(os.environ.get("ITHACA_CACHE") or pathlib.Path.home() / ".cache" / "ithaca")


def fetch_book(work):
    as_root = ["-o", "APT::Sandbox::User=root"] if os.geteuid() == 0 else []
    subprocess.run(["apt-get", *as_root, "download", "-qq", PACKAGE], cwd=work, check=True)
    (package,) = work.glob("*.deb")
    subprocess.run(["dpkg", "-x", package, work / "root"], check=True)
    (book,) = (work / "root").rglob(MEMBER)
    return book.read_text(encoding="utf-8")


def pieces(text, size):
    """Cuts text into parts of about `size` characters, each ending at a blank line."""
    start = 0
    while start < len(text):
        end = text.find("\n\n", start + size)
        end = len(text) if end < 0 or len(text) - end < size // 2 else end + 2
        yield text[start:end]
        start = end


def write_corpus(out):
    if (out / "heldout.txt").exists():
        print(f"corpus: {out} is there")
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    work = pathlib.Path(tempfile.mkdtemp(prefix=".corpus-", dir=out.parent))
    try:
        print(f"corpus: Newton's Opticks, from the package {PACKAGE}, to {out}", flush=True)
        book = fetch_book(work)
        cut = book.index("\n\n", len(book) - HELD_OUT_CHARACTERS) + 2
        staged = work / "corpus"
        staged.mkdir()
        (staged / "opticks.txt").write_text(book, encoding="utf-8")
        (staged / "heldout.txt").write_text(book[cut:], encoding="utf-8")
        lines = [json.dumps({"text": piece}, ensure_ascii=False) for piece in pieces(book[:cut], PIECE_CHARACTERS)]
        (staged / "train.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        staged.rename(out)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, default=cache_directory() / "opticks")
    write_corpus(parser.parse_args().out)


if __name__ == "__main__":
    main()
