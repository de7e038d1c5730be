"""client/python against a real service."""

import urllib.request

import grpc
import pytest

import ithaca_client
from ithaca.v1 import job_pb2


@pytest.fixture
def client(service):
    with ithaca_client.Client(service.grpc_address) as client:
        yield client


def test_a_job_is_submitted_and_watched_to_its_end(service, client):
    job = client.submit(service.job("book", steps=5))
    assert job.state in (job_pb2.JOB_STATE_QUEUED, job_pb2.JOB_STATE_STARTING)
    states = [seen.state for seen in client.watch(job.id)]
    assert states[-1] == job_pb2.JOB_STATE_SUCCEEDED
    assert states == sorted(states)  # the numbers of the states it passes rise
    assert [step.step for step in client.steps(job.id)] == [1, 2, 3, 4, 5]
    ended = client.get(job.id)
    assert ended.progress.step == 5
    assert ended.end_time.ToDatetime() >= ended.create_time.ToDatetime()


def test_the_same_request_is_the_same_job(service, client):
    spec = service.job("once", steps=2)
    first = client.submit(spec, request_id="request-1")
    second = client.submit(spec, request_id="request-1")
    assert first.id == second.id
    assert [job.id for job in client.list()] == [first.id]
    with pytest.raises(ithaca_client.IthacaError) as error:
        client.submit(service.job("another", steps=2), request_id="request-1")
    assert error.value.code == grpc.StatusCode.ALREADY_EXISTS
    assert error.value.reason == "REQUEST_ID_REUSED"


def test_validate_only_stores_nothing(service, client):
    assert client.submit(service.job("dry", steps=2), validate_only=True).id == ""
    assert list(client.list()) == []


def test_all_mistakes_come_back_at_once(service, client):
    spec = service.job("bad", steps=2)
    spec["name"] = "Bad Name"
    spec["priority"] = 5000
    spec["data"]["sequence_length"] = 1
    spec["training"] = {"learning_rate": -1.0}
    spec["restart"] = {"max_restarts": -1}
    with pytest.raises(ithaca_client.IthacaError) as error:
        client.submit(spec)
    assert error.value.code == grpc.StatusCode.INVALID_ARGUMENT
    assert {field for field, _ in error.value.mistakes} >= {
        "name", "priority", "data.sequence_length", "training.learning_rate", "training.steps", "restart.max_restarts"}


def test_an_unknown_key_is_refused_before_anything_is_sent(service, client):
    with pytest.raises(ValueError, match="sequence_lenght is not a key of DataSpec"):
        client.submit({"name": "a", "data": {"sequence_lenght": 8}})


def test_jobs_are_listed_newest_first_and_filtered(service, client):
    first = client.submit(dict(service.job("first", steps=1), labels={"team": "a"}))
    second = client.submit(service.job("second", steps=1))
    assert [job.id for job in client.list()] == [second.id, first.id]
    assert [job.id for job in client.list("labels.team=a")] == [first.id]


def test_a_hanging_job_is_cancelled(service, client):
    job = client.submit(service.job("stuck", steps=9, script={"actions": [{"at_step": 2, "do": "hang"}]}))
    for seen in client.watch(job.id):
        if seen.state == job_pb2.JOB_STATE_RUNNING:
            client.cancel(job.id, grace_seconds=1)
    assert seen.state == job_pb2.JOB_STATE_CANCELLED


def test_an_unknown_job_has_its_reason(client):
    with pytest.raises(ithaca_client.IthacaError) as error:
        client.get("no-such-job")
    assert error.value.code == grpc.StatusCode.NOT_FOUND
    assert error.value.reason == "JOB_NOT_FOUND"


def test_a_watch_survives_a_restart_of_the_coordinator(service, client, tmp_path):
    gate = tmp_path / "gate"
    script = {"actions": [{"at_step": 2, "do": "wait_for_file", "text": str(gate)}]}
    job = client.submit(service.job("restarted", steps=4, script=script))
    restarted = False
    for seen in client.watch(job.id):
        if seen.state == job_pb2.JOB_STATE_RUNNING and not restarted:
            service.stop()
            service.start()
            gate.touch()
            restarted = True
    assert restarted
    assert seen.state == job_pb2.JOB_STATE_SUCCEEDED
    assert [step.step for step in client.steps(job.id)] == [1, 2, 3, 4]
    assert seen.attempt == 1


def test_health_and_reflection_answer(service):
    from grpc_health.v1 import health_pb2, health_pb2_grpc
    from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

    with grpc.insecure_channel(service.grpc_address) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=30)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        assert "ithaca.v1.JobService" in ProtoReflectionDescriptorDatabase(channel).get_services()


def test_metrics_page_is_read_by_prometheus_own_parser(service, client):
    from prometheus_client.parser import text_string_to_metric_families

    job = client.submit(service.job("measured", steps=3))
    for _ in client.watch(job.id):
        pass
    with urllib.request.urlopen(f"http://{service.http_address}/metrics", timeout=30) as page:
        families = list(text_string_to_metric_families(page.read().decode()))
    assert any(family.name.startswith("ithaca_") for family in families)
