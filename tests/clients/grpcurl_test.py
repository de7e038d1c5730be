"""grpcurl, which knows of the service only what reflection tells it."""

import json
import os
import pathlib
import shutil
import subprocess

import pytest

MODULE = "github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.3"


@pytest.fixture(scope="session")
def grpcurl():
    """The program: installed, or built once by the Go that is here."""
    cache = pathlib.Path(os.environ["ITHACA_CLIENTS_CACHE"])
    found = shutil.which("grpcurl") or shutil.which(cache / "grpcurl")
    if found:
        return found
    go = shutil.which("go") or shutil.which("/usr/local/go/bin/go")
    if go is None:
        pytest.skip("no grpcurl, and no Go to build it")
    built = subprocess.run([go, "install", MODULE], env=dict(os.environ, GOBIN=str(cache), GOFLAGS="-modcacherw"),
                           capture_output=True, text=True, timeout=800)
    if built.returncode != 0:
        pytest.skip(f"no grpcurl: this Go cannot build it: {built.stderr.strip().splitlines()[-1:]}")
    return str(cache / "grpcurl")


def call(grpcurl, *arguments):
    done = subprocess.run([grpcurl, "-plaintext", *arguments], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def messages(text):
    """The JSON objects of a stream, one after the other."""
    decoder, position, found = json.JSONDecoder(), 0, []
    while position < len(text.rstrip()):
        message, position = decoder.raw_decode(text, position)
        found.append(message)
        position += len(text[position:]) - len(text[position:].lstrip())
    return found


def test_a_job_is_submitted_and_watched_by_reflection(grpcurl, service):
    address = service.grpc_address
    services = call(grpcurl, address, "list").split()
    assert {"ithaca.v1.JobService", "ithaca.v1.WorkerService", "grpc.health.v1.Health"} <= set(services)
    assert "WatchJob" in call(grpcurl, address, "describe", "ithaca.v1.JobService")

    spec = service.job("curled", steps=3)
    spec["data"]["train"] = [{"path": path} for path in spec["data"]["train"]]
    job = json.loads(call(grpcurl, "-d", json.dumps({"job_spec": spec, "request_id": "curl-1"}), address,
                          "ithaca.v1.JobService/CreateJob"))
    watched = messages(call(grpcurl, "-d", json.dumps({"job_id": job["id"]}), address, "ithaca.v1.JobService/WatchJob"))
    assert watched[-1]["job"]["state"] == "JOB_STATE_SUCCEEDED"
    steps = messages(call(grpcurl, "-d", json.dumps({"job_id": job["id"]}), address, "ithaca.v1.JobService/StreamMetrics"))
    assert [message["step"]["step"] for message in steps if "step" in message] == ["1", "2", "3"]


def test_errors_carry_details_that_reflection_can_read(grpcurl, service):
    done = subprocess.run([grpcurl, "-plaintext", "-d", '{"job_spec": {"name": "Bad Name"}}', service.grpc_address,
                           "ithaca.v1.JobService/CreateJob"], capture_output=True, text=True, timeout=300)
    assert done.returncode != 0
    assert "InvalidArgument" in done.stderr
    assert "google.rpc.BadRequest" in done.stderr and "data" in done.stderr
