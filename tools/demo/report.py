"""The last page of the demo, from what the command-line client printed as JSON, the newest scrape, and transformers.

    report.py --work DIR --model DIR --held-out FILE --length TOKENS --page URL
"""

import argparse
import json
import pathlib
import re
import sys

MEBIBYTE = 2**20
LOSS_TOLERANCE = 1e-4


def json_values(text):
    """Every value in a text of JSON documents, one after another; lists are opened."""
    decoder, position, values = json.JSONDecoder(), 0, []
    while position < len(text):
        value, position = decoder.raw_decode(text, position)
        values += value if isinstance(value, list) else [value]
        position = len(text) - len(text[position:].lstrip())
    return values


def load_job(work, name):
    (job,) = json_values((work / f"{name}.json").read_text().strip())
    records = json_values((work / f"{name}-steps.json").read_text().strip())
    steps = [record["step"] for record in records if isinstance(record.get("step"), dict)]
    evals = [record["eval"] for record in records if isinstance(record.get("eval"), dict)]
    return job, steps, evals


def print_losses(two, one):
    print("step   loss SP=2     loss SP=1     relative difference   tokens/s SP=2")
    agree = True
    for index, step in enumerate(two):
        row = f"{int(step['step']):>4}   {step['loss']:<13.8f}"
        if index < len(one):
            difference = abs(step["loss"] - one[index]["loss"]) / one[index]["loss"]
            agree = agree and difference <= LOSS_TOLERANCE
            row += f" {one[index]['loss']:<13.8f} {difference:<21.1e}"
        else:
            row += f" {'':<13} {'':<21}"
        print(f"{row} {step['tokens_per_second']:.0f}")
    return agree and 0 < len(one) <= len(two)


def print_speed_and_memory(jobs):
    for name, (job, steps, _) in jobs.items():
        settled = steps[1:] or steps
        speed = sum(int(s["tokens"]) for s in settled) / sum(s["seconds"] for s in settled)
        peaks = ", ".join(f"rank {r.get('rank', 0)}: {int(r['peak_memory_bytes']) / MEBIBYTE:,.0f} MiB" for r in job["ranks"])
        print(f"{name}: {speed:,.0f} tokens/s; peak memory {peaks}")


def print_scrape(file):
    wanted = re.compile(
        r"^ithaca_(job_(step|loss|grad_norm|tokens_per_second|tokens_total)|rank_memory_peak_bytes|slots(_used)?)[{ ]"
    )
    for line in file.read_text().splitlines():
        if wanted.match(line):
            print("  " + line)


def score_and_write(directory, held_out, length):
    """Loss on the held-out window, and a continuation, by transformers on one directory."""
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    window = tokenizer(held_out, return_tensors="pt", truncation=True, max_length=length).input_ids
    prompt = tokenizer("The Rays of Light, when they pass out of Glass into Air,", return_tensors="pt")
    with torch.no_grad():
        loss = model(window, labels=window).loss.item()
        written = model.generate(**prompt, max_new_tokens=40, do_sample=False, repetition_penalty=1.2)[0]
    return loss, window.shape[1], " ".join(tokenizer.decode(written, skip_special_tokens=True).split())


def report(arguments):
    work = arguments.work
    two, one = load_job(work, "sp2"), load_job(work, "sp1")
    agree = print_losses(two[1], one[1])
    print()
    print_speed_and_memory({"SP=2": two, "SP=1": one})
    print("\nWhat /metrics said while SP=2 ran:")
    print_scrape(work / "scrape.txt")

    held_out = arguments.held_out.read_text(encoding="utf-8")
    export = two[0]["export_path"]
    before, tokens, _ = score_and_write(arguments.model, held_out, arguments.length)
    after, _, sentence = score_and_write(export, held_out, arguments.length)
    ours = [evaluation["loss"] for evaluation in two[2]]
    print(f"\nHeld-out window of {tokens} tokens, nats a token   before   after")
    print(f"  by the engine, in the job                  {ours[0]:.4f}   {ours[-1]:.4f}")
    print(f"  by transformers, model and exported model  {before:.4f}   {after:.4f}")
    print(f"transformers writes from the exported model: {sentence}")
    print(f"\nexported model: {export}\nstatus page:    {arguments.page}\nlogs and state: {work}/state")
    if not agree:
        sys.exit("demo: SP=2 and SP=1 disagree")
    if tokens == arguments.length and max(abs(ours[0] - before), abs(ours[-1] - after)) > LOSS_TOLERANCE:
        sys.exit("demo: the engine and transformers disagree on the held-out window")
    if not after < before:
        sys.exit("demo: training did not lower the held-out loss")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--held-out", type=pathlib.Path, required=True)
    parser.add_argument("--length", type=int, required=True)
    parser.add_argument("--page", required=True)
    report(parser.parse_args())


if __name__ == "__main__":
    main()
