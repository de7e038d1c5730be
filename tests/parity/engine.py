"""Runs ithaca-engine as a group of processes, as torchrun, mpirun or a shell would, and collects what they say."""

import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import threading
import time

import safetensors.torch

ROOT = pathlib.Path(__file__).resolve().parents[2]
ENGINE = pathlib.Path(os.environ.get("ITHACA_ENGINE") or ROOT / "build" / "bin" / "ithaca-engine")
TIMEOUT_SECONDS = 900


def job(model, data, directory, /, **sections):
    """A run.json for a deterministic CPU run. Sections override keys: job(..., training={"steps": 3})."""
    ranks = sections.get("parallelism", {}).get("sequence", 1)
    config = {
        "name": "parity",
        "model": {"path": str(model), "dtype": "float32"},
        "data": {"train": [{"path": str(data)}], "packing": False, "shuffle": False},
        "parallelism": {"sequence": ranks, "replicas": 1},
        "training": {
            "steps": 1,
            "global_batch": 1,
            "learning_rate": 1.0e-3,
            "schedule": {"type": "constant"},
            "optimizer": {"beta1": 0.9, "beta2": 0.95, "epsilon": 1.0e-8, "weight_decay": 0.0, "clip_norm": 0.0},
        },
        "checkpoint": {"directory": str(directory / "checkpoints")},
        "resources": {"device": "cpu", "threads_per_rank": max(1, (os.cpu_count() or 2) // ranks)},
    }
    for section, keys in sections.items():
        config.setdefault(section, {}).update(keys)
    return config


class Rank:
    """One engine process; a thread reads its events so that it never waits for us."""

    def __init__(self, rank, command, environment, directory):
        self.rank = rank
        self.events = []
        self._changed = threading.Condition()
        self._ended = False
        self.log = directory / f"rank{rank}.log"
        read_end, write_end = os.pipe()
        command_read, self._command_end = os.pipe()
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [*command, "--events-fd", str(write_end), "--commands-fd", str(command_read)],
                env=environment, stdout=log, stderr=log, pass_fds=(write_end, command_read),
            )  # fmt: skip
        os.close(write_end)
        os.close(command_read)
        self._reader = threading.Thread(target=self._read, args=(read_end,), daemon=True)
        self._reader.start()

    def _read(self, read_end):
        with os.fdopen(read_end, encoding="utf-8") as lines:
            for line in lines:
                with self._changed:
                    self.events.append(json.loads(line))
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def named(self, name):
        return [event for event in list(self.events) if event["event"] == name]

    def wait_for(self, name, count=1, seconds=TIMEOUT_SECONDS):
        """The count-th event of a name, or None if the process ended without it."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while len(self.named(name)) < count and not self._ended and time.monotonic() < deadline:
                self._changed.wait(deadline - time.monotonic())
        found = self.named(name)
        return found[count - 1] if len(found) >= count else None

    def send(self, command):
        os.write(self._command_end, (json.dumps({"command": command}) + "\n").encode())

    def close(self):
        self._reader.join(timeout=10)
        os.close(self._command_end)


@dataclasses.dataclass
class Run:
    codes: list
    ranks: list

    @property
    def steps(self):
        return self.ranks[0].named("step")

    @property
    def losses(self):
        return [step["loss"] for step in self.steps]

    def story(self):
        """What a person needs when a run went wrong."""
        failed = [event for rank in self.ranks for event in rank.named("failed")]
        logs = "\n".join(f"--- rank {r.rank}\n{r.log.read_text(errors='replace')[-2000:]}" for r in self.ranks)
        return f"exit codes {self.codes}, failed events {failed}\n{logs}"


def run(config, directory, arguments=(), during=None, expect=0, variables=lambda rank: {}):
    """Starts config's ranks, waits for all of them, and checks the exit code (one, or one a rank). `during(ranks)` runs
    meanwhile; `variables(rank)` adds to a rank's environment."""
    directory.mkdir(parents=True, exist_ok=True)
    config_file = directory / "run.json"
    config_file.write_text(json.dumps(config, indent=1))
    world = config["parallelism"].get("sequence", 2) * config["parallelism"]["replicas"]
    command = [str(ENGINE), "--config", str(config_file), *map(str, arguments)]
    inherited = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")}

    def start(rank, port):
        group = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        environment = inherited if world == 1 else inherited | {key: str(value) for key, value in group.items()}
        return Rank(rank, command, environment | variables(rank), directory)

    ranks = [start(0, 0)]
    try:
        if world > 1:
            listening = ranks[0].wait_for("listening", seconds=120)
            assert listening, f"rank 0 never listened\n{Run([ranks[0].process.poll()], ranks).story()}"
            ranks += [start(rank, listening["port"]) for rank in range(1, world)]
        if during:
            during(ranks)
        codes = [rank.process.wait(TIMEOUT_SECONDS) for rank in ranks]
    finally:
        for rank in ranks:
            if rank.process.poll() is None:
                rank.process.send_signal(signal.SIGKILL)
                rank.process.wait()
            rank.close()
    result = Run(codes, ranks)
    assert codes == (expect if isinstance(expect, list) else [expect] * world), result.story()
    return result


def load_directory(directory):
    """Every tensor of a directory's safetensors files."""
    tensors = {}
    for file in sorted(pathlib.Path(directory).glob("*.safetensors")):
        tensors.update(safetensors.torch.load_file(file))
    return tensors


def exported(directory):
    return directory / "checkpoints" / "export"
