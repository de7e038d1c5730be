"""Starts the bundle's engines as a group and collects their events."""

import json
import os
import pathlib
import subprocess
import time

# One GPU carries several ranks: NCCL takes each for a host of its own, and they talk over the loopback interface.
NCCL_ON_ONE_GPU = {
    "NCCL_SOCKET_IFNAME": "lo", "NCCL_IB_DISABLE": "1", "NCCL_P2P_DISABLE": "1", "NCCL_SHM_DISABLE": "1", "NCCL_NET": "Socket",
    "NCCL_NVLS_ENABLE": "0", "NCCL_MNNVL_ENABLE": "0", "NCCL_CUMEM_HOST_ENABLE": "0",
}  # fmt: skip


class RunFailed(Exception):
    """`codes`: the exit code of each rank, None if it had to be killed; `said`: the messages of their `failed` events."""

    def __init__(self, text, codes, said):
        super().__init__(text)
        self.codes = codes
        self.said = said

    def out_of_memory(self):
        """Whether the job was too large: refused by its plan, or the GPU's memory ran out. Any other failure is a fault."""
        refused = any("does not fit" in message for message in self.said)
        return all(code == 20 or (code == 10 and refused) for code in self.codes)


def job(model, tokens, device, length, /, **sections):
    config = {
        "name": "gpu-stage",
        "model": {"path": str(model), "dtype": "float32"},
        "data": {"train": [str(tokens)], "sequence_length": length, "packing": False, "shuffle": False},
        "parallelism": {"sequence": 1},
        "training": {"steps": 1, "learning_rate": 1e-3, "schedule": {"type": "constant"}, "optimizer": {"clip_norm": 0.0}},
        "resources": {"device": device},
    }
    for section, keys in sections.items():
        config.setdefault(section, {}).update(keys)
    return config


def events_of(file):
    events = []
    for line in pathlib.Path(file).read_text(errors="replace").splitlines():
        try:
            events.append(json.loads(line))
        except ValueError:
            pass  # a line that was cut off
    return events


def run_engine(bundle, config, directory, arguments=(), environment=None, seconds=300):
    """-> events of rank 0. Every rank's events and log stay in `directory`. Raises RunFailed with what they said."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "run.json").write_text(json.dumps(config, indent=1))
    ranks = config["parallelism"]["sequence"]
    deadline = time.monotonic() + seconds
    processes = []

    def start(rank, port):
        variables = os.environ | (environment or {})
        if ranks > 1:
            variables |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1",
                          "MASTER_PORT": str(port), "NCCL_HOSTID": f"ithaca-rank-{rank}"}  # fmt: skip
        with open(directory / f"events{rank}", "wb") as events, open(directory / f"log{rank}", "wb") as log:
            fd = events.fileno()
            command = [str(bundle / "bin" / "ithaca-engine"), "--config", str(directory / "run.json"), "--events-fd", str(fd), *arguments]
            processes.append(subprocess.Popen(command, env=variables, stdout=log, stderr=log, pass_fds=[fd], stdin=subprocess.DEVNULL))

    def wait_for_port():
        while time.monotonic() < deadline and processes[0].poll() is None:
            for event in events_of(directory / "events0"):
                if event["event"] == "listening":
                    return event["port"]
            time.sleep(0.1)
        return None

    try:
        start(0, 0)
        port = wait_for_port() if ranks > 1 else 0
        if port is not None:
            for rank in range(1, ranks):
                start(rank, port)
            for process in processes:
                process.wait(max(1.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        pass
    finally:
        codes = [process.poll() for process in processes]
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.wait()
    if codes != [0] * ranks:
        said = [event.get("message", "") for rank in range(len(codes)) for event in events_of(directory / f"events{rank}") if event["event"] == "failed"]
        tail = (directory / "log0").read_text(errors="replace")[-1500:]
        text = f"exit codes {codes} (None: still running after {seconds:.0f} s); {said}; log of rank 0 ends: {tail}"
        raise RunFailed(text, codes, said)
    return events_of(directory / "events0")


def named(events, name):
    return [event for event in events if event["event"] == name]
