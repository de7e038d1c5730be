"""Runs the engine and prints the plan's estimate of memory beside what a rank really took, as a Markdown table.

    python tests/worker/plan/measure_memory.py --model DIR [--cases 2048x1:recompute,2048x2:keep,...] [--bfloat16]

A case is LENGTHxRANKS:keep|recompute|segments (RETENTIONS). Measured: the highest VmHWM of the ranks, in /proc/PID/status, over two steps.
"""

import argparse
import json
import pathlib
import random
import sys
import tempfile
import threading

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests" / "parity"))
import engine  # noqa: E402

SAMPLE_SECONDS = 0.01
MEBIBYTE = 2**20
# What stays between forward and backward: all activations, each layer's input and attention output, or segments' inputs.
RETENTIONS = {
    "keep": {"layer_inputs": "keep"},
    "recompute": {"layer_inputs": "recompute", "attention_outputs": "keep"},
    "segments": {"attention_outputs": "recompute"},
}


def status_bytes(pid):
    """VmHWM and RssAnon of a process; zeros once it is gone."""
    found = {"VmHWM": 0, "RssAnon": 0}
    try:
        for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in found:
                found[name] = int(value.split()[0]) * 1024
    except (FileNotFoundError, ProcessLookupError):
        pass
    return found


class PeakSampler(threading.Thread):
    """Highest VmHWM and RssAnon of each process until stop()."""

    def __init__(self, pids):
        super().__init__()
        self.peaks = {pid: {"VmHWM": 0, "RssAnon": 0} for pid in pids}
        self._done = threading.Event()

    def run(self):
        while not self._done.wait(SAMPLE_SECONDS):
            for pid, peak in self.peaks.items():
                for name, value in status_bytes(pid).items():
                    peak[name] = max(peak[name], value)

    def stop(self):
        self._done.set()
        self.join()


def measure(model, length, ranks, retention, dtype="float32"):
    """-> the plan event, and the fullest rank's peaks in bytes."""
    vocabulary = json.loads((pathlib.Path(model) / "config.json").read_text())["vocab_size"]
    with tempfile.TemporaryDirectory() as directory:
        directory = pathlib.Path(directory)
        data = directory / "tokens.jsonl"
        tokens = random.Random(7)
        data.write_text("".join(json.dumps({"input_ids": [tokens.randrange(vocabulary) for _ in range(length)]}) + "\n" for _ in range(2)))
        config = engine.job(
            model, data, directory,
            model={"dtype": dtype}, data={"sequence_length": length}, parallelism={"sequence": ranks},
            training={"steps": 2}, memory=RETENTIONS[retention], checkpoint={"directory": ""},
        )  # fmt: skip
        samplers = []

        def watch(processes):
            sampler = PeakSampler([rank.process.pid for rank in processes])
            samplers.append(sampler)
            sampler.start()
            for rank in processes:
                rank.process.wait()
            sampler.stop()

        run = engine.run(config, directory, during=watch)
        peaks = samplers[0].peaks.values()
        return run.ranks[0].named("plan")[0], {name: max(peak[name] for peak in peaks) for name in ("VmHWM", "RssAnon")}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--cases", default="512x1:recompute,2048x1:recompute,2048x1:keep,2048x1:segments,2048x2:recompute,2048x3:recompute")
    parser.add_argument("--bfloat16", action="store_true")
    arguments = parser.parse_args()
    print("| tokens | ranks | retention | estimate MiB | peak MiB | estimate / peak | anonymous MiB |\n|---|---|---|---|---|---|---|")
    for case in arguments.cases.split(","):
        shape, retention = case.split(":")
        length, ranks = map(int, shape.split("x"))
        plan, peaks = measure(arguments.model, length, ranks, retention, "bfloat16" if arguments.bfloat16 else "float32")
        estimate = plan["total_bytes"]
        print(f"| {length} | {ranks} | {retention} | {estimate / MEBIBYTE:.0f} | {peaks['VmHWM'] / MEBIBYTE:.0f} "
              f"| {estimate / peaks['VmHWM']:.3f} | {peaks['RssAnon'] / MEBIBYTE:.0f} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
