"""The stages that need a GPU. See run.sh for how to call this."""

import argparse
import datetime
import json
import math
import os
import pathlib
import re
import subprocess
import sys
import time
import urllib.request

BUNDLE = pathlib.Path(__file__).resolve().parent
STAGE_SECONDS = 540
RUN_SECONDS = 240
# Of the summed gradients, relative L2 against fp32 on the CPU: the worst tensor, and the gradient norm. Random tiny models.
GRADIENT_TOLERANCE = {"float32": (1e-4, 1e-5), "bfloat16": (0.1, 0.02)}
LOSS_TOLERANCE = {"float32": 1e-5, "bfloat16": 5e-3}


class Context:
    def __init__(self, arguments):
        self.rehearse = arguments.rehearse
        self.device = "cpu" if arguments.rehearse else "cuda"
        self.out = pathlib.Path(arguments.out or os.environ.get("OUT") or BUNDLE / "results").resolve()
        self.work = pathlib.Path(arguments.work or self.out / "work").resolve()
        self.deadline = 0.0

    def remaining(self):
        return self.deadline - time.monotonic()

    def save(self, stage, result):
        self.out.mkdir(parents=True, exist_ok=True)
        partial = self.out / f"{stage}.partial"
        partial.write_text(json.dumps(result | {"rehearsal": self.rehearse}, indent=1) + "\n")
        partial.rename(self.out / f"{stage}.json")

    def load(self, stage):
        """What an earlier call left; a rehearsal is no result."""
        file = self.out / f"{stage}.json"
        result = json.loads(file.read_text()) if file.exists() else {}
        return result if result.get("rehearsal", self.rehearse) == self.rehearse else {}


def machine(context):
    import torch

    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    return {"gpu": gpu, "torch": torch.__version__, "cuda": torch.version.cuda,
            "when": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")}  # fmt: skip


def tiny(context, name):
    import models

    config = {"llama": models.TINY_LLAMA, "qwen3": models.TINY_QWEN3}[name]
    model = models.write_model(context.work / f"tiny-{name}", config, dtype=models.torch.float32)
    tokens = models.write_tokens(context.work / f"tiny-{name}" / "tokens.jsonl", config["vocab_size"], 256, 4)
    return model, tokens


def gradients(context, label, model, tokens, device, dtype, ranks=1, environment=None):
    """The first step's gradients and two steps' losses and gradient norms."""
    import models
    import processes

    base = context.work / label
    config = processes.job(model, tokens, device, 256, model={"dtype": dtype}, parallelism={"sequence": ranks}, training={"steps": 3})
    processes.run_engine(BUNDLE, config, base / "dump", ["--dump-gradients", str(base / "dump")], environment, RUN_SECONDS)
    steps = processes.named(processes.run_engine(BUNDLE, config, base / "train", (), environment, RUN_SECONDS), "step")
    return {"tensors": models.read_safetensors(base / "dump" / "gradients.safetensors"), "losses": [s["loss"] for s in steps],
            "norms": [s["grad_norm"] for s in steps]}  # fmt: skip


def compare(got, want, dtype):
    worst = max(((got["tensors"][n].double() - t.double()).norm() / t.double().norm()).item() for n, t in want["tensors"].items())
    norm = abs(got["norms"][0] / want["norms"][0] - 1)
    loss = max(abs(a / b - 1) for a, b in zip(got["losses"], want["losses"], strict=True))
    tensor_limit, norm_limit = GRADIENT_TOLERANCE[dtype]
    passed = worst <= tensor_limit and norm <= norm_limit and loss <= LOSS_TOLERANCE[dtype]
    return {"passed": passed, "worst_gradient": worst, "gradient_norm": norm, "loss": loss, "steps": len(want["losses"])}


def stage_paths(context):
    """Every CUDA operation, and whole training steps on one rank, beside fp32 on the CPU."""
    report = context.work / "cuda_paths.json"
    report.parent.mkdir(parents=True, exist_ok=True)
    test = subprocess.run([BUNDLE / "bin" / "cuda_paths_test", f"--gtest_output=json:{report}"], timeout=RUN_SECONDS, capture_output=True, text=True)
    (context.out / "cuda_paths.log").write_text(test.stdout + test.stderr)
    operations = json.loads(report.read_text())
    cases = [case for suite in operations["testsuites"] for case in suite["testsuite"]]
    skipped = sum(case["result"] == "SKIPPED" for case in cases)
    failed = [case["name"] for case in cases if case.get("failures")]
    result = {"operations": {"run": len(cases) - skipped, "skipped": skipped, "failed": failed}, "models": {}}
    for name in ("llama", "qwen3"):
        model, tokens = tiny(context, name)
        want = gradients(context, f"paths/{name}-cpu", model, tokens, "cpu", "float32")
        for dtype in ("float32", "bfloat16"):
            got = gradients(context, f"paths/{name}-{dtype}", model, tokens, context.device, dtype)
            result["models"][f"{name} {dtype}"] = compare(got, want, dtype)
    passed = not failed and (skipped == 0 or context.rehearse) and all(m["passed"] for m in result["models"].values())
    return result | {"passed": passed}


def collectives(context, model, tokens):
    """NCCL if two ranks on one GPU can form a group, else Gloo on CUDA tensors; and what NCCL said."""
    import processes

    if context.rehearse:
        return "gloo", {}, "rehearsal on the CPU"
    try:
        config = processes.job(model, tokens, "cuda", 256, parallelism={"sequence": 2})
        processes.run_engine(BUNDLE, config, context.work / "nccl" / "probe", (), processes.NCCL_ON_ONE_GPU, 120)
        return "nccl", processes.NCCL_ON_ONE_GPU, ""
    except processes.RunFailed as failure:
        return "gloo", {"ITHACA_COLLECTIVES": "gloo"}, str(failure)


def stage_nccl(context):
    """Two and four ranks on the one GPU beside one rank: losses, gradients, gradient norms."""
    model, tokens = tiny(context, "llama")
    backend, environment, said = collectives(context, model, tokens)
    result = {"collectives": backend, "nccl_said": said, "runs": {}}
    for dtype in ("float32", "bfloat16"):
        want = gradients(context, f"nccl/{dtype}-1", model, tokens, context.device, dtype)
        for ranks in (2, 4):
            got = gradients(context, f"nccl/{dtype}-{ranks}", model, tokens, context.device, dtype, ranks, environment)
            result["runs"][f"{dtype}, {ranks} ranks"] = compare(got, want, dtype)
    return result | {"passed": all(run["passed"] for run in result["runs"].values())}


def start_coordinator(context, state):
    slots = ["--cpu-slots", "1"] if context.rehearse else []
    with open(context.out / "ithacad.log", "wb") as log:
        process = subprocess.Popen(
            [BUNDLE / "bin" / "ithacad", "--state-dir", state, "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", *slots],
            stdout=subprocess.PIPE, stderr=log, text=True)  # fmt: skip
    ready = re.search(r"grpc=(\S+) http=(\S+)", process.stdout.readline())
    if not ready:
        process.kill()
        raise RuntimeError("ithacad did not start; see ithacad.log")
    return process, ready[1], ready[2]


def stage_service(context):
    """A job through coordinator, worker and engine on one slot, and what /metrics says."""
    import processes

    model, tokens = tiny(context, "qwen3")
    config = processes.job(model, tokens, context.device, 256, training={"steps": 20})
    config["name"] = "gpu-service"
    job_file = context.work / "service.json"
    job_file.write_text(json.dumps(config))
    state = context.work / f"state-{int(time.time())}"
    coordinator, address, http = start_coordinator(context, state)
    try:
        watch = subprocess.run([BUNDLE / "bin" / "ithaca", "submit", job_file, "--watch", "--server", address],
                               timeout=RUN_SECONDS, capture_output=True, text=True)  # fmt: skip
        got = subprocess.run([BUNDLE / "bin" / "ithaca", "get", "latest", "--server", address, "-o", "json"],
                             timeout=60, capture_output=True, text=True)  # fmt: skip
        metrics = urllib.request.urlopen(f"http://{http}/metrics", timeout=30).read().decode()
    finally:
        coordinator.terminate()
        coordinator.wait(60)
    series = [line for line in metrics.splitlines() if line.startswith("ithaca_") and "gpu-service" in line]
    exported = list(state.glob("jobs/*/checkpoints/export/model*.safetensors"))
    passed = watch.returncode == 0 and "SUCCEEDED" in got.stdout + watch.stdout and bool(series) and bool(exported)
    return {"passed": passed, "exit_code": watch.returncode, "metric_series": len(series), "exported": len(exported),
            "output": (watch.stdout + watch.stderr)[-2000:], "sample": series[:12]}  # fmt: skip


def measure_length(context, model, tokens, length, vocabulary):
    import models
    import processes

    models.write_tokens(tokens, vocabulary, length, 3)
    config = processes.job(model, tokens, context.device, length, model={"dtype": "bfloat16"}, training={"steps": 3})
    events = processes.run_engine(BUNDLE, config, context.work / "qwen3-4b" / str(length), (), None, max(60, context.remaining()))
    plan, steps = processes.named(events, "plan")[0], processes.named(events, "step")
    counted = steps[1:]
    seconds = sum(step["seconds"] for step in counted)
    return {"tokens": length, "tokens_per_second": length * len(counted) / seconds, "mfu": [step.get("mfu") for step in counted],
            "peak_bytes": max(step["memory"]["peak"] for step in steps), "planned_bytes": plan.get("total_bytes"),
            "losses": [step["loss"] for step in steps], "seconds_by_phase": counted[-1]["seconds_by_phase"],
            "layer_inputs": plan.get("layer_inputs"), "loss_chunk": plan.get("loss_chunk")}  # fmt: skip


def stage_qwen3_4b(context):
    """A model of Qwen3-4B's shape with random weights, bf16: longer and longer sequences until one does not fit."""
    # Only a lack of memory or of time is an end; a run that fails for another reason fails the stage.
    import models
    import processes

    config = models.QWEN3_4B
    length = 8192
    if context.rehearse:
        config = config | {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "vocab_size": 1024, "head_dim": 16}
        length = 128
    model = models.write_model(context.work / "qwen3-shape", config, device=context.device)
    result = context.load("qwen3-4b")
    result.setdefault("lengths", [])
    if result["lengths"]:
        length = 2 * result["lengths"][-1]["tokens"]
    result["ended"] = result["failed"] = ""
    longest = 512 if context.rehearse else 1 << 20
    while length <= longest and not result["ended"] and not result["failed"]:
        needed = 60 + (4 * result.get("last_seconds", 0))
        if needed > STAGE_SECONDS:
            result["ended"] = f"{length} tokens would take about {needed:.0f} s, more than a stage has"
            break
        if context.remaining() < needed:
            return result | {"unfinished": True, "passed": False}
        began = time.monotonic()
        try:
            result["lengths"].append(measure_length(context, model, context.work / "tokens.jsonl", length, config["vocab_size"]))
        except processes.RunFailed as failure:
            result["ended" if failure.out_of_memory() else "failed"] = f"{length} tokens: {failure}"
        else:
            result["last_seconds"] = time.monotonic() - began
        context.save("qwen3-4b", result | {"unfinished": True, "passed": False})
        length *= 2
    finite = all(math.isfinite(loss) for run in result["lengths"] for loss in run["losses"])
    return result | {"unfinished": False, "passed": bool(result["lengths"]) and finite and not result["failed"]}


def stage_million(context):
    """A model of SmolLM2-135M's shape at 1,048,576 tokens, 128 times its positions by YaRN: one step."""
    import models
    import processes

    config, length = models.SMOLLM2_135M, 1 << 20
    if context.rehearse:
        config = config | {"hidden_size": 72, "intermediate_size": 128, "num_hidden_layers": 4, "vocab_size": 1024,
                           "max_position_embeddings": 128}  # fmt: skip
        length = 512
    model = models.write_model(context.work / "smollm2-shape", config, device=context.device)
    tokens = models.write_tokens(context.work / "million.jsonl", config["vocab_size"], length, 1)
    scaling = {"type": "yarn", "factor": length / config["max_position_embeddings"]}
    job = processes.job(model, tokens, context.device, length, model={"dtype": "bfloat16", "rope_scaling": scaling},
                        training={"steps": 1})  # fmt: skip
    began = time.monotonic()
    try:
        events = processes.run_engine(BUNDLE, job, context.work / "million", (), None, max(60, context.remaining()))
    except processes.RunFailed as failure:
        return {"passed": False, "tokens": length, "failed": str(failure), "seconds": time.monotonic() - began}
    plan, (step,) = processes.named(events, "plan")[0], processes.named(events, "step")
    return {"passed": math.isfinite(step["loss"]), "tokens": length, "loss": step["loss"], "seconds": step["seconds"],
            "tokens_per_second": length / step["seconds"], "mfu": step.get("mfu"), "peak_bytes": step["memory"]["peak"],
            "planned_bytes": plan.get("total_bytes"), "attention_outputs": plan.get("attention_outputs"),
            "segment_layers": plan.get("segment_layers"), "seconds_by_phase": step["seconds_by_phase"]}  # fmt: skip


STAGES = {"paths": stage_paths, "nccl": stage_nccl, "service": stage_service, "qwen3-4b": stage_qwen3_4b, "million": stage_million}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stages", nargs="*", metavar="STAGE", help="one of " + ", ".join(STAGES))
    parser.add_argument("--dry-run", action="store_true", help="list the stages")
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, with small shapes")
    parser.add_argument("--out", help="folder for results; default $OUT, else results")
    parser.add_argument("--work", help="folder for models and logs; default: work in the results folder")
    arguments = parser.parse_args()
    unknown = set(arguments.stages) - set(STAGES)
    if unknown:
        parser.error(f"no stage {', '.join(sorted(unknown))}; there are {', '.join(STAGES)}")
    if arguments.dry_run:
        for name, stage in STAGES.items():
            print(f"{name:10} {stage.__doc__.strip()}")
        return 0
    context = Context(arguments)
    context.out.mkdir(parents=True, exist_ok=True)
    context.work.mkdir(parents=True, exist_ok=True)
    bad = False
    for name in arguments.stages or STAGES:
        before = context.load(name)
        if not arguments.stages and before and not before.get("unfinished") and before.get("passed") is not False:
            print(f"{name}: has a result", flush=True)
            continue
        print(f"{name}: {STAGES[name].__doc__.strip()}", flush=True)
        began = time.monotonic()
        context.deadline = began + STAGE_SECONDS
        try:
            result = STAGES[name](context)
        except Exception as error:  # a stage that broke is a result; the next ones still run
            result = {"passed": False, "error": f"{type(error).__name__}: {error}"}
        result |= {"stage": name, "seconds": round(time.monotonic() - began, 1), "machine": machine(context)}
        context.save(name, result)
        verdict = {True: "passed", False: "FAILED", None: "skipped"}[result["passed"]]
        print(f"{name}: {'unfinished, call again' if result.get('unfinished') else verdict} after {result['seconds']} s", flush=True)
        print(f"  {result.get('error') or result.get('skipped') or ''}".rstrip(), flush=True)
        bad = bad or result["passed"] is False
    return 1 if bad else 0


if __name__ == "__main__":
    sys.path.insert(0, str(BUNDLE))
    sys.exit(main())
