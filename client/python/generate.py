"""Generates the Python code of the contract (ithaca/v1/*.proto) with grpcio-tools. It is never committed."""

import argparse
import pathlib
import sys

from grpc_tools import protoc

PROTO_ROOT = pathlib.Path(__file__).resolve().parents[2] / "proto"


def generate(out: pathlib.Path) -> None:
    """Writes ithaca/v1/*_pb2.py, *_pb2.pyi and *_pb2_grpc.py below `out`, which is made if missing."""
    out.mkdir(parents=True, exist_ok=True)
    files = sorted(str(path) for path in (PROTO_ROOT / "ithaca" / "v1").glob("*.proto"))
    code = protoc.main(
        ["protoc", f"-I{PROTO_ROOT}", f"-I{protoc_includes()}", f"--python_out={out}", f"--pyi_out={out}",
         f"--grpc_python_out={out}", *files])
    if code != 0:
        raise RuntimeError(f"protoc ended with {code}")


def protoc_includes() -> str:
    """The directory with google/protobuf/*.proto that grpcio-tools brings."""
    import grpc_tools

    return str(pathlib.Path(grpc_tools.__file__).parent / "_proto")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=pathlib.Path, help="directory to write to; put it on PYTHONPATH")
    generate(parser.parse_args().out)
    sys.exit(0)
