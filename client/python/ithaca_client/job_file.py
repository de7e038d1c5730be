"""A job in the words of the job file -> JobSpec, by walking the descriptor."""

import re

from google.protobuf import json_format

from ithaca.v1 import job_pb2


def job_spec(job) -> job_pb2.JobSpec:
    """A JobSpec from a dictionary (or from one that is a JobSpec already). Raises ValueError with the bad key."""
    if isinstance(job, job_pb2.JobSpec):
        return job
    try:
        return json_format.ParseDict(_message(job, job_pb2.JobSpec.DESCRIPTOR), job_pb2.JobSpec())
    except json_format.ParseError as error:
        raise ValueError(str(error)) from error


def _message(value, descriptor):
    if isinstance(value, str) and "path" in descriptor.fields_by_name:
        return {"path": value}
    if not isinstance(value, dict):
        raise ValueError(f"{descriptor.name} must be a dictionary, not {value!r}")
    result = {}
    for key, item in value.items():
        field = descriptor.fields_by_name.get(key)
        if field is None:
            raise ValueError(f"{key} is not a key of {descriptor.name}; known are {', '.join(descriptor.fields_by_name)}")
        is_text = field.type == field.TYPE_STRING
        if item is None or (item == "auto" and not is_text):
            continue
        result[key] = _value(item, field)
    return result


def _value(value, field):
    is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
    if is_map:
        return {str(key): str(item) for key, item in value.items()}
    convert = lambda item: item
    if field.message_type is not None:
        convert = lambda item: _message(item, field.message_type)
    elif field.enum_type is not None:
        convert = lambda item: _enum_prefix(field.enum_type) + str(item).upper()
    return [convert(item) for item in value] if isinstance(value, (list, tuple)) else convert(value)


def _enum_prefix(enum_type):
    return re.sub(r"(?<=.)([A-Z])", r"_\1", enum_type.name).upper() + "_"
