"""Speed and memory of one training step on a CPU, beside transformers, in one interleaved run.

    python tools/bench/bench.py [--length 4096] [--steps 3] [--pairs 5] [--others 2] [--ranks 1,2,3] [--model DIR]

Every pair is the engine on one rank at its least memory (FRUGAL), and transformers, with sdpa attention, gradient checkpointing (the
usual way to fit a long sequence) and torch's fused AdamW; the order alternates from pair to pair. Each is a process of its own with
the same threads, the same model in fp32, the same tokens and the same environment: the glibc settings that halve transformers' peak
(freed blocks of 1 MiB and more go back at once). The engine sets its allocation itself (worker/engine/memory/host_cache.h), whatever
the environment. The first pairs are followed by the engine on more ranks and with other memory settings, and by transformers with
glibc's defaults. The first step of a run warms it up and is not counted. All must compute the same losses, or the benchmark ends with
an error.

The ratio of the first row is the median of the pairs' ratios; others are ratios of medians. Tokens a second: those of the counted
steps over their wall time. Memory: the highest RssAnon of /proc/PID/status, sampled every 20 ms, less its value when the process had
its libraries loaded and nothing else (for the engine, when it starts; for Python, after its imports). Of several ranks: the fullest,
and the sum.

Writes docs/benchmarks.json and the tables of docs/benchmarks.md.
"""

import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "parity"))
SAMPLE_SECONDS = 0.02
MEBIBYTE = 2**20
# What of glibc's settings suits the reference best.
ALLOCATOR = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "1048576"}
REFERENCE, REFERENCE_DEFAULTS = "transformers", "transformers, glibc's default allocator settings"
FRUGAL = {"attention_outputs": "recompute", "loss_chunk": 256, "mlp_tile": 1024}
RECOMPUTE, KEEP = {"layer_inputs": "recompute", "attention_outputs": "keep"}, {"layer_inputs": "keep"}
LEARNING_RATE = 2.0e-5
LOSS_TOLERANCE = 1.0e-4  # relative, over the steps of a run
TARGET_SPEED, TARGET_MEMORY = 1.10, 0.60


def anonymous_bytes(pid):
    try:
        for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    except (FileNotFoundError, ProcessLookupError):
        pass
    return 0


class MemorySampler:
    """Highest anonymous memory of processes, from a thread; used as a context."""

    def __init__(self, pids):
        self.peak = dict.fromkeys(pids, 0)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample)

    def _sample(self):
        while not self._stop.wait(SAMPLE_SECONDS):
            for pid in self.peak:
                self.peak[pid] = max(self.peak[pid], anonymous_bytes(pid))

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()


def run_transformers(model, tokens, arguments, allocator):
    """One process; it reports the memory after its imports and the time of each step."""
    command = [sys.executable, __file__, "--child", "--model", str(model), "--steps", str(arguments.steps), "--tokens", str(tokens)]
    environment = os.environ | allocator | {"OMP_NUM_THREADS": str(arguments.threads), "CUDA_VISIBLE_DEVICES": ""}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    with MemorySampler([process.pid]) as memory:
        records = [json.loads(line) for line in process.stdout]
        if process.wait() != 0:
            sys.exit("bench: transformers failed")
    base = records[0]["anonymous_bytes_after_import"]
    return measured(records[1:], arguments.length, [memory.peak[process.pid] - base])


def transformers_child(arguments):
    import torch
    import torch.nn.functional as F
    import transformers

    print(json.dumps({"anonymous_bytes_after_import": anonymous_bytes("self")}), flush=True)
    documents = [json.loads(line)["input_ids"] for line in arguments.tokens.read_text().splitlines()]
    model = transformers.AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.float32, attn_implementation="sdpa")
    model.gradient_checkpointing_enable()
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
    for ids in documents[: arguments.steps]:
        began = time.monotonic()
        batch = torch.tensor([ids])
        loss = model(input_ids=batch, labels=batch, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        print(json.dumps({"loss": loss.item(), "seconds": time.monotonic() - began}), flush=True)


def run_engine(model, tokens, arguments, ranks, memory):
    import engine

    with tempfile.TemporaryDirectory() as directory:
        directory = pathlib.Path(directory)
        config = engine.job(
            model, tokens, directory,
            data={"sequence_length": arguments.length}, parallelism={"sequence": ranks}, memory=memory,
            training={"steps": arguments.steps, "learning_rate": LEARNING_RATE, "optimizer": {"clip_norm": 1.0}},
            checkpoint={"directory": ""}, resources={"threads_per_rank": max(1, arguments.threads // ranks)},
        )  # fmt: skip
        peaks = []

        def watch(processes):
            bases = {rank.process.pid: anonymous_bytes(rank.process.pid) for rank in processes}
            with MemorySampler(bases) as memory:
                for rank in processes:
                    rank.process.wait()
            peaks.extend(memory.peak[pid] - base for pid, base in bases.items())

        run = engine.run(config, directory, variables=lambda _: ALLOCATOR, during=watch)
        return measured(run.steps, arguments.length, peaks)


def measured(steps, length, peaks):
    counted = steps[1:]
    return {
        "tokens_per_second": length * len(counted) / sum(step["seconds"] for step in counted),
        "losses": [step["loss"] for step in steps],
        "peak_anonymous_bytes": max(peaks),
        "sum_anonymous_bytes": sum(peaks),
    }


def summary(runs):
    return {key: statistics.median(run[key] for run in runs) for key in runs[0] if key != "losses"}


def machine():
    models = [line.split(":")[1].strip() for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    return f"{models[0] if models else platform.machine()}, {os.cpu_count()} cores"


def paired_ratio(results, first, key):
    """Median over the pairs of engine / transformers, both of the same pair."""
    pairs = zip(results[first]["runs"], results[REFERENCE]["runs"])
    return statistics.median(ours[key] / theirs[key] for ours, theirs in pairs)


def table(results, first):
    reference = results[REFERENCE]["median"]
    rows = [
        "| | runs | tokens/s | x transformers | peak anonymous memory of a rank | x transformers | all ranks |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, result in results.items():
        median = result["median"]
        ratios = {key: median[key] / reference[key] for key in ("tokens_per_second", "peak_anonymous_bytes")}
        if name == first:
            ratios = {key: paired_ratio(results, first, key) for key in ratios}
        rows.append(
            f"| {name} | {len(result['runs'])} | {median['tokens_per_second']:.0f} | {ratios['tokens_per_second']:.2f} "
            f"| {median['peak_anonymous_bytes'] / MEBIBYTE:,.0f} MiB | {ratios['peak_anonymous_bytes']:.2f} "
            f"| {median['sum_anonymous_bytes'] / MEBIBYTE:,.0f} MiB |"
        )
    return "\n".join(rows)


def check_losses(runs):
    """A contestant that computes something else has not taken part."""
    expected = runs[REFERENCE][0]["losses"]
    for name, all_runs in runs.items():
        for run in all_runs:
            worst = max(abs(loss - other) / other for loss, other in zip(run["losses"], expected, strict=True))
            if worst > LOSS_TOLERANCE:
                sys.exit(f"bench: losses of {name} differ from those of transformers by {worst:.1e}: {run['losses']}, {expected}")


def verdict(results, first):
    speed, memory = (paired_ratio(results, first, key) for key in ("tokens_per_second", "peak_anonymous_bytes"))
    said = f"{first}: {speed:.2f} x the tokens/s (at least {TARGET_SPEED:.2f} wanted), {memory:.2f} x the memory (at most {TARGET_MEMORY:.2f} wanted)"
    return said, speed >= TARGET_SPEED and memory <= TARGET_MEMORY


def write_document(report, text):
    (ROOT / "docs" / "benchmarks.json").write_text(json.dumps(report, indent=1) + "\n")
    page = ROOT / "docs" / "benchmarks.md"
    begin, end = "<!-- make bench: begin -->", "<!-- make bench: end -->"
    before, rest = page.read_text().split(begin)
    page.write_text(f"{before}{begin}\n{text}\n{end}{rest.split(end)[1]}")


def bench(arguments):
    import models
    import torch
    import transformers

    documents = models.book_documents([arguments.length] * arguments.steps)
    with tempfile.TemporaryDirectory() as directory:
        tokens = models.write_jsonl(pathlib.Path(directory) / "tokens.jsonl", documents)
        contestants = {f"ithaca, P = {ranks}": (ranks, FRUGAL) for ranks in arguments.ranks}
        first, *others = contestants
        for name, memory in {"attention outputs kept": RECOMPUTE, "activations kept": KEEP}.items():
            others.append(f"{first}, {name}")
            contestants[others[-1]] = (arguments.ranks[0], memory)
        runs = {name: [] for name in [*contestants, REFERENCE, REFERENCE_DEFAULTS]}
        take = {name: (lambda kind=kind: run_engine(arguments.model, tokens, arguments, *kind)) for name, kind in contestants.items()}
        take[REFERENCE] = lambda: run_transformers(arguments.model, tokens, arguments, ALLOCATOR)
        take[REFERENCE_DEFAULTS] = lambda: run_transformers(arguments.model, tokens, arguments, {})
        for pair in range(arguments.pairs):
            order = [first, REFERENCE] if pair % 2 == 0 else [REFERENCE, first]
            for name in order + ([REFERENCE_DEFAULTS, *others] if pair < arguments.others else []):
                run = take[name]()
                runs[name].append(run)
                rate, peak = run["tokens_per_second"], run["peak_anonymous_bytes"] / MEBIBYTE
                print(f"pair {pair + 1} of {arguments.pairs}: {name}: {rate:.0f} tokens/s, {peak:,.0f} MiB", flush=True)
    runs = {name: all_runs for name, all_runs in runs.items() if all_runs}
    check_losses(runs)
    results = {name: {"median": summary(all_runs), "runs": all_runs} for name, all_runs in runs.items()}
    setting = (
        f"{arguments.model.name}, fp32, S = {arguments.length}, one sequence a step, {arguments.threads} threads in all, "
        f"the engine with memory {json.dumps(FRUGAL)} where not said otherwise, medians of interleaved runs of {arguments.steps} steps (the first not counted); "
        f"{machine()}; torch {torch.__version__}, transformers {transformers.__version__} (sdpa, gradient checkpointing)."
    )
    report = {"setting": setting, "allocator": ALLOCATOR, "engine_memory": FRUGAL, "results": results}
    said, reached = verdict(results, first)
    write_document(report, f"{setting}\n\n{table(results, first)}\n\n{said}.")
    print(f"\n{setting}\n\n{table(results, first)}\n\n{said}")
    sys.exit(0 if reached else 1)


def main():
    cache = pathlib.Path(os.environ.get("ITHACA_CACHE") or pathlib.Path.home() / ".cache" / "ithaca")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=pathlib.Path, default=cache / "SmolLM2-135M-Instruct")
    parser.add_argument("--length", type=int, default=4096)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--others", type=int, default=2, help="pairs that are followed by all the others")
    parser.add_argument("--ranks", type=lambda text: [int(part) for part in text.split(",")], default=[1, 2, 3])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--tokens", type=pathlib.Path, help=argparse.SUPPRESS)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    (transformers_child if arguments.child else bench)(arguments)


if __name__ == "__main__":
    main()
