"""The client itself."""

import os
import uuid
from typing import Iterator, Optional

import grpc

from ithaca.v1 import job_pb2, job_service_pb2, job_service_pb2_grpc
from ithaca_client.errors import from_rpc_error
from ithaca_client.job_file import job_spec

_MODEL_CONFIG_LIMIT = 1 << 20
_CHANNEL_OPTIONS = [("grpc.enable_http_proxy", 0), ("grpc.max_receive_message_length", 16 << 20)]


class Client:
    """Talks to one coordinator. May be shared by threads. Every method raises IthacaError."""

    def __init__(self, server: Optional[str] = None, channel: Optional[grpc.Channel] = None, timeout: float = 30.0):
        """server: "HOST:PORT", by default ITHACA_SERVER, else 127.0.0.1:7070. channel: used instead, for TLS.
        timeout: seconds a call may take; streams have none."""
        server = server or os.environ.get("ITHACA_SERVER") or "127.0.0.1:7070"
        self._channel = channel or grpc.insecure_channel(server, options=_CHANNEL_OPTIONS)
        self._stub = job_service_pb2_grpc.JobServiceStub(self._channel)
        self._timeout = timeout

    def close(self) -> None:
        self._channel.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def submit(self, job, request_id: Optional[str] = None, validate_only: bool = False) -> job_pb2.Job:
        """Creates a job from a JobSpec or a dictionary. The same request_id with the same job gives the same job.
        The model's config.json is sent along where it can be read, so that the memory plan is checked first."""
        spec = job_spec(job)
        return self._call(self._stub.CreateJob, job_service_pb2.CreateJobRequest(
            job_spec=spec, request_id=request_id or uuid.uuid4().hex, validate_only=validate_only,
            model_config_json=_model_config(spec.model.path)))

    def get(self, job_id: str) -> job_pb2.Job:
        return self._call(self._stub.GetJob, job_service_pb2.GetJobRequest(job_id=job_id))

    def list(self, filter: str = "") -> Iterator[job_pb2.Job]:
        """Jobs, newest first; filter such as "state=RUNNING AND labels.team=nlp"."""
        request = job_service_pb2.ListJobsRequest(filter=filter, page_size=200)
        while True:
            page = self._call(self._stub.ListJobs, request)
            yield from page.jobs
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def cancel(self, job_id: str, grace_seconds: Optional[int] = None) -> job_pb2.Job:
        request = job_service_pb2.CancelJobRequest(job_id=job_id)
        if grace_seconds is not None:
            request.grace_period.seconds = grace_seconds
        return self._call(self._stub.CancelJob, request)

    def watch(self, job_id: str) -> Iterator[job_pb2.Job]:
        """The job now and after every change, until it is over. Survives a restart of the coordinator."""
        request = job_service_pb2.WatchJobRequest(job_id=job_id)
        return (answer.job for answer in self._stream(self._stub.WatchJob, request))

    def steps(self, job_id: str, follow: bool = False) -> Iterator[job_pb2.StepMetrics]:
        """Every step so far; with follow, goes on until the job is over."""
        request = job_service_pb2.StreamMetricsRequest(job_id=job_id, follow=follow)
        return (answer.step for answer in self._stream(self._stub.StreamMetrics, request) if answer.HasField("step"))

    def _call(self, method, request):
        try:
            return method(request, timeout=self._timeout)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from None

    def _stream(self, method, request):
        """Reads a stream; after a lost connection waits for the coordinator and goes on at the cursor."""
        while True:
            try:
                for answer in method(request, wait_for_ready=bool(request.cursor)):
                    request.cursor = answer.cursor
                    yield answer
                return
            except grpc.RpcError as error:
                if error.code() != grpc.StatusCode.UNAVAILABLE or not request.cursor:
                    raise from_rpc_error(error) from None


def _model_config(model_path: str) -> str:
    path = os.path.join(model_path, "config.json")
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(_MODEL_CONFIG_LIMIT + 1)
    except (OSError, UnicodeDecodeError):
        return ""
    return text if len(text) <= _MODEL_CONFIG_LIMIT else ""
