"""A folder is a layer: reads every #include and fails on an edge that the layer table does not have.

The table is the one in docs/architecture.md. Who may include a layer may also include what that layer's headers are made of, so a
row lists everything that may appear in the folder's files.
"""

import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SOURCE_SUFFIXES = {".h", ".cc", ".cu", ".cuh"}
GENERATED_PROTOS = "ithaca/v1/"

STD, POSIX, SOCKETS = "std", "posix", "sockets"
CORE_LIBRARIES = {STD, "protobuf", "absl", "json"}

# folder -> (folders of ours, libraries) it may include, beside itself.
LAYERS = {
    "proto": (set(), CORE_LIBRARIES | {"yaml"}),
    "server/core": ({"proto", "worker/plan"}, CORE_LIBRARIES),
    "server/store": ({"proto", "worker/plan", "server/core"}, CORE_LIBRARIES | {"sqlite", POSIX}),
    "server/launcher": ({"proto", "worker/plan", "server/core"}, CORE_LIBRARIES | {"curl", POSIX}),
    "server/rpc": ({"proto", "worker/plan", "server/core"}, CORE_LIBRARIES | {"grpc", "openssl", POSIX, SOCKETS}),
    "server/metrics": ({"proto", "worker/plan", "server/core"}, CORE_LIBRARIES | {"prometheus", POSIX, SOCKETS}),
    "server": (
        {"proto", "worker/plan", "server/core", "server/store", "server/launcher", "server/rpc", "server/metrics"},
        CORE_LIBRARIES | {"grpc", "cli", POSIX, SOCKETS},
    ),
    "worker/plan": (set(), {STD, "json"}),
    "worker/agent": ({"proto", "worker/plan"}, CORE_LIBRARIES | {"grpc", "cli", POSIX, SOCKETS}),
    "worker/engine": ({"worker/plan"}, {STD, "json", "torch", "cuda", "pcre2", "utf8proc", "openssl", "openmp", "zlib", POSIX, SOCKETS}),
    "client": ({"proto", "worker/plan"}, CORE_LIBRARIES | {"grpc", "cli", "yaml", POSIX, SOCKETS}),
}
# gRPC only where a status becomes one; the clock of the process only in the clock.
EXTRA_LIBRARIES = {"proto/grpc_status.h": {"grpc"}, "proto/grpc_status.cc": {"grpc"}}
SYSTEM_CLOCK = {"server/core/clock.h", "server/core/clock.cc"}

LIBRARIES = [
    ("grpc", r"grpc(pp|\+\+)?/|.*\.grpc\.pb\.h$"),
    ("protobuf", r"google/(protobuf|rpc|api)/|.*\.pb\.h$"),
    ("absl", r"absl/"),
    ("json", r"nlohmann/"),
    ("yaml", r"yaml-cpp/"),
    ("sqlite", r"sqlite3\.h$"),
    ("curl", r"curl/"),
    ("openssl", r"openssl/"),
    ("prometheus", r"prometheus/|CivetServer|civetweb"),
    ("cli", r"CLI/"),
    ("torch", r"(torch|ATen|c10|caffe2|gloo)/"),
    ("cuda", r"(cuda|cub|cutlass|thrust|nvtx3|cooperative_groups)|(nccl|cudnn|cublas|nvml).*\.h$|cuda/"),
    ("pcre2", r"pcre2\.h$"),
    ("utf8proc", r"utf8proc\.h$"),
    ("openmp", r"omp\.h$"),
    ("zlib", r"zlib\.h$"),
    (SOCKETS, r"(sys/(socket|un)|netdb|ifaddrs)\.h$|(netinet|arpa|net)/"),
    (
        POSIX,
        r"(sys|linux|asm)/|(unistd|fcntl|poll|spawn|signal|dirent|dlfcn|malloc|pthread|sched|pwd|grp|termios|getopt|libgen|glob|"
        r"syslog|immintrin|x86intrin|execinfo|sysexits)\.h$",
    ),
    (STD, r"[a-z0-9_]+$|(stdint|stddef|stdlib|stdio|string|math|errno|time|limits|assert|float|stdbool)\.h$"),
]


def sources(*folders):
    """Files that git tracks or would track, below the given folders."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "--", *folders], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return sorted(f for f in listed.stdout.split() if pathlib.Path(f).suffix in SOURCE_SUFFIXES and (ROOT / f).exists())


def includes(file):
    text = (ROOT / file).read_text(encoding="utf-8")
    for number, line in enumerate(text.splitlines(), 1):
        found = re.match(r'\s*#\s*include\s*(["<])([^">]+)[">]', line)
        if found:
            yield number, found.group(2)


def layer_of(path):
    """The most specific row of the table that owns a path, or None."""
    owners = [layer for layer in LAYERS if path.startswith(layer + "/")]
    return max(owners, key=len, default=None)


def library_of(header):
    return next((name for name, pattern in LIBRARIES if re.match(pattern, header)), None)


def edge_problem(file, header):
    """Why `file` may not include `header`, or None."""
    layer = layer_of(file)
    folders, libraries = LAYERS[layer]
    libraries = libraries | EXTRA_LIBRARIES.get(file, set())
    if header.startswith(GENERATED_PROTOS):
        wanted = "grpc" if header.endswith(".grpc.pb.h") else None
        if layer != "proto" and "proto" not in folders:
            return f"{layer} must not include the protos"
        return f"{layer} must not include gRPC" if wanted and wanted not in libraries else None
    if (ROOT / header).exists():
        target = layer_of(header)
        if target is None:
            return f"{header} belongs to no layer"
        return None if target == layer or target in folders else f"{layer} must not include {target}"
    library = library_of(header)
    if library is None:
        return f"{header} is in no known library: put it in the table, or include our files by their path from the root"
    return None if library in libraries else f"{layer} must not include {library}"


def test_every_include_is_an_edge_of_the_layer_table():
    problems = []
    files = sources("proto", "server", "worker", "client")
    for file in files:
        if layer_of(file) is None:
            problems.append(f"{file}: no layer owns this folder")
            continue
        for number, header in includes(file):
            problem = edge_problem(file, header)
            if problem:
                problems.append(f"{file}:{number}: {problem} ({header})")
    assert len(files) > 50
    assert not problems, "\n" + "\n".join(problems)


@pytest.mark.parametrize(
    "file, header",
    [
        ("server/core/registry.cc", "grpcpp/grpcpp.h"),
        ("server/core/registry.cc", "sqlite3.h"),
        ("server/core/registry.cc", "sys/socket.h"),
        ("server/rpc/job_service.cc", "server/core/../launcher/launcher.h"),
        ("server/rpc/job_service.cc", "ATen/ATen.h"),
        ("worker/plan/memory_plan.h", "absl/status/status.h"),
        ("worker/engine/trainer.cc", "ithaca/v1/job.pb.h"),
        ("worker/engine/trainer.cc", "absl/time/time.h"),
        ("worker/agent/agent.cc", "torch/torch.h"),
        ("worker/agent/agent.cc", "worker/engine/errors.h"),
        ("client/main.cc", "worker/engine/errors.h"),
        ("client/main.cc", "server/core/registry.h"),
        ("proto/job_file.cc", "grpcpp/grpcpp.h"),
        ("proto/job_file.cc", "no_such_library.h"),
    ],
)
def test_a_forbidden_edge_is_found(file, header):
    assert edge_problem(file, header) is not None


def test_no_file_mixes_the_control_world_and_the_tensor_world():
    mixed = []
    for file in sources("proto", "server", "worker", "client", "tests"):
        libraries = {library_of(header) for _, header in includes(file)}
        if libraries & {"torch", "cuda"} and libraries & {"grpc", "protobuf", "absl"}:
            mixed.append(file)
    assert not mixed


def test_the_core_takes_the_time_from_its_clock():
    asking = re.compile(r"absl::Now\(\)|system_clock::now|steady_clock::now|\btime\(nullptr\)|gettimeofday|clock_gettime")
    found = [
        f"{file}:{number}"
        for file in sources("server/core")
        if file not in SYSTEM_CLOCK
        for number, line in enumerate((ROOT / file).read_text(encoding="utf-8").splitlines(), 1)
        if asking.search(line.split("//")[0])
    ]
    assert not found


def test_no_folder_is_a_drawer():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    drawers = {part for file in tracked for part in pathlib.Path(file).parts[:-1]} & {"util", "utils", "common", "misc", "helpers"}
    assert not drawers


def line_limit(file):
    path = pathlib.Path(file)
    if path.suffix in {".h", ".cuh"}:
        return 150
    return 100 if path.name == "main.cc" else 400


def test_files_answer_one_question():
    long = []
    for file in sources("proto", "server", "worker", "client", "tests"):
        lines = len((ROOT / file).read_text(encoding="utf-8").splitlines())
        if lines > line_limit(file):
            long.append(f"{file}: {lines} lines, more than {line_limit(file)}")
    assert not long, "\n" + "\n".join(long)
