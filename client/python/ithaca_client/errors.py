"""Errors of the service as one exception."""

import grpc
from google.rpc import error_details_pb2, status_pb2

_DETAILS_KEY = "grpc-status-details-bin"


class IthacaError(Exception):
    """What the coordinator answered instead of a result.

    code: grpc.StatusCode. reason: such as "JOB_NOT_FOUND", or "". mistakes: (field, sentence) of every bad field.
    """

    def __init__(self, code, message, reason="", mistakes=()):
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.mistakes = list(mistakes)


def from_rpc_error(error: grpc.RpcError) -> IthacaError:
    """Reads google.rpc.Status from the trailing metadata, where there is one."""
    reason, mistakes = "", []
    details = dict(error.trailing_metadata() or ()).get(_DETAILS_KEY)
    for detail in status_pb2.Status.FromString(details).details if details else ():
        info, bad_request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        if detail.Unpack(info):
            reason = info.reason
        elif detail.Unpack(bad_request):
            mistakes = [(each.field, each.description) for each in bad_request.field_violations]
    return IthacaError(error.code(), error.details(), reason, mistakes)
