"""The command line `ithaca` against a real service."""

import json
import os
import subprocess

import pytest


@pytest.fixture
def ithaca(service):
    def run(*arguments, code=0):
        """Runs it and returns its standard output; `code` is the exit code it must have."""
        done = subprocess.run([os.environ["ITHACA_CLI"], *arguments], capture_output=True, text=True, timeout=300,
                              env=dict(os.environ, ITHACA_SERVER=service.grpc_address))
        assert done.returncode == code, (arguments, done.stdout, done.stderr)
        return done.stdout if code == 0 else done.stdout + done.stderr

    return run


def job_file(service, name, steps, script={}):
    path = service.directory / f"{name}.json"
    path.write_text(json.dumps(service.job(name, steps, script)))
    return str(path)


def test_submit_watch_get_events_metrics_logs_delete(service, ithaca):
    lines = ithaca("submit", job_file(service, "book", 4), "--watch").splitlines()
    assert lines[0].startswith("submitted book as ")
    assert lines[-1].split()[2] == "SUCCEEDED"
    assert [line.split()[1] for line in lines if line.startswith("step ")] == ["1/4", "2/4", "3/4", "4/4"]

    job = json.loads(ithaca("get", "latest", "-o", "json"))
    assert job["state"] == "succeeded"
    assert job["progress"]["step"] == 4
    states = [event["state"] for event in json.loads(ithaca("events", job["id"], "-o", "json"))["events"]
              if event["kind"] == "state"]
    assert states[-3:] == ["starting", "running", "succeeded"]
    steps = [json.loads(line)["step"]["step"] for line in ithaca("metrics", job["id"], "-o", "json").splitlines()]
    assert steps == [1, 2, 3, 4]
    ithaca("logs", job["id"])
    assert job["id"] in ithaca("list")
    assert ithaca("delete", job["id"]) == f"deleted {job['id']}\n"
    ithaca("get", job["id"], code=5)


def test_a_failed_job_ends_the_watch_with_ten(service, ithaca):
    script = {"actions": [{"at_step": 1, "do": "exit", "value": 11}]}
    assert "FAILED" in ithaca("submit", job_file(service, "broken", 3, script), "--watch", code=10)


def test_a_job_is_cancelled_and_its_watch_ends_with_eleven(service, ithaca):
    script = {"actions": [{"at_step": 1, "do": "hang"}]}
    ithaca("submit", job_file(service, "stuck", 3, script))
    ithaca("delete", "latest", code=7)
    ithaca("cancel", "latest", "--grace", "0")
    ithaca("watch", "latest", code=11)


def test_logs_show_what_a_rank_wrote(service, ithaca):
    script = {"actions": [{"at_step": 1, "rank": 1, "do": "log", "text": "hello from one"}]}
    ithaca("submit", job_file(service, "talks", 2, script), "--watch")
    assert "rank 1 | hello from one\n" in ithaca("logs", "latest")


def test_five_mistakes_come_back_in_one_answer(service, ithaca):
    path = service.directory / "bad.yaml"
    path.write_text("name: Bad Name\nmodle: /m\ndata: {train: [], sequence_length: x}\n"
                    "training: {steps: 0}\nmemory: {sharding: zero3}\n")
    text = ithaca("submit", str(path), code=3)
    for line, field in ((1, "name"), (2, "modle"), (3, "data.sequence_length"), (4, "training.steps"),
                        (5, "memory.sharding")):
        assert f"line {line}: {field}: " in text, text


def test_a_coordinator_that_is_gone_is_one_sentence(service, ithaca):
    service.stop()
    text = ithaca("list", code=6)
    assert text.startswith(f"ithaca: the coordinator at {service.grpc_address} cannot be reached")
    assert text.count("\n") == 1
