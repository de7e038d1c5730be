"""A coordinator with real workers and fake engines, and the generated Python code of the contract."""

import os
import pathlib
import signal
import subprocess
import sys

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
PYTHON_CLIENT = REPOSITORY / "client" / "python"


def pytest_configure(config):
    """Generates the contract's code once, before any test imports it."""
    cache = pathlib.Path(os.environ["ITHACA_CLIENTS_CACHE"]) / f"generated-{os.getpid()}"
    sys.path.insert(0, str(PYTHON_CLIENT))
    import generate

    generate.generate(cache)
    sys.path.insert(0, str(cache))  # only now: Python remembers that a directory was not there
    config.ithaca_generated = cache


def pytest_unconfigure(config):
    import shutil

    shutil.rmtree(config.ithaca_generated, ignore_errors=True)


class Service:
    """ithacad on free ports of loopback with two CPU slots, in a directory of its own."""

    def __init__(self, directory: pathlib.Path):
        self.directory = directory
        self.process = None
        self.grpc_address, self.http_address = "127.0.0.1:0", "127.0.0.1:0"

    def start(self) -> None:
        """Returns when it listens; after a stop, on the same ports."""
        self.process = subprocess.Popen(
            [os.environ["ITHACAD"], "--state-dir", self.directory / "state", "--listen", self.grpc_address, "--http",
             self.http_address, "--cpu-slots", "2", "--worker-path", os.environ["ITHACA_WORKER"], "--engine-path",
             os.environ["FAKE_ENGINE"]],
            stdout=subprocess.PIPE, stderr=open(self.directory / "ithacad.log", "ab"), text=True)
        ready = self.process.stdout.readline()
        assert ready.startswith("ithacad listening "), (ready, (self.directory / "ithacad.log").read_text())
        words = dict(word.split("=") for word in ready.split()[2:])
        self.grpc_address, self.http_address = words["grpc"], words["http"]

    def stop(self) -> None:
        """Drains it; training goes on."""
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            assert self.process.wait(timeout=60) == 0
            self.process.stdout.close()
            self.process = None

    def job(self, name: str, steps: int, script: dict = {}) -> dict:
        """A job of two ranks whose engines play `script`, in the words of the job file."""
        import json

        model = self.directory / name
        model.mkdir()
        (model / "fake_engine.json").write_text(json.dumps(script))
        return {"name": name, "model": {"path": str(model)}, "data": {"train": ["/documents.txt"], "sequence_length": 4096},
                "parallelism": {"sequence": 2}, "training": {"steps": steps}}


@pytest.fixture
def service(tmp_path):
    """A running service. At the end every job is ended first, so that no process is left."""
    import ithaca_client

    running = Service(tmp_path)
    running.start()
    yield running
    if running.process is None:
        running.start()
    with ithaca_client.Client(running.grpc_address) as client:
        for job in client.list("state=QUEUED|STARTING|RUNNING|STOPPING|BACKOFF"):
            client.cancel(job.id, grace_seconds=0)
            for _ in client.watch(job.id):
                pass
    running.stop()
