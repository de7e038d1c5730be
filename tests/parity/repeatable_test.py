"""On a CPU a run is a function of its inputs: bitwise the same again, and bitwise the same when it was stopped in between."""

import pytest

import engine
import models

STEPS = 6
LONG = 100_000  # no run gets there


def training_job(path, directory, **checkpoint):
    documents = models.tiny_documents([70, 33, 96, 12, 96, 51, 80])
    data = models.write_jsonl(directory / "data.jsonl", documents)
    return engine.job(
        path, data, directory,
        data={"sequence_length": 96, "packing": True, "shuffle": True}, parallelism={"sequence": 2},
        training={"steps": STEPS, "global_batch": 2, "schedule": {"type": "cosine", "warmup_steps": 2}, "seed": 7},
        checkpoint=checkpoint, resources={"threads_per_rank": 1},
    )  # fmt: skip


def outcome(run):
    return [(step["step"], step["loss"], step["grad_norm"], step["learning_rate"]) for step in run.steps]


def exported_bytes(directory):
    return {file.name: file.read_bytes() for file in sorted(engine.exported(directory).glob("*.safetensors"))}


@pytest.fixture(scope="module")
def unbroken(model_path, tmp_path_factory):
    directory = tmp_path_factory.mktemp("unbroken")
    run = engine.run(training_job(model_path("llama-uneven-heads"), directory), directory)
    assert len(run.steps) == STEPS
    return outcome(run), exported_bytes(directory)


def test_the_same_run_twice_is_bitwise_equal(unbroken, model_path, tmp_path):
    run = engine.run(training_job(model_path("llama-uneven-heads"), tmp_path), tmp_path)
    assert (outcome(run), exported_bytes(tmp_path)) == unbroken


def test_another_seed_is_another_run(unbroken, model_path, tmp_path):
    config = training_job(model_path("llama-uneven-heads"), tmp_path)
    config["training"]["seed"] = 8
    assert outcome(engine.run(config, tmp_path)) != unbroken[0]


def stop_after(steps):
    """Asks for a stop once so many steps were seen; how many more are taken is up to the machine."""

    def during(ranks):
        assert ranks[0].wait_for("step", count=steps)
        for rank in ranks:
            rank.send("stop")

    return during


def test_stopped_and_resumed_is_bitwise_equal_to_unbroken(model_path, tmp_path):
    path = model_path("llama-uneven-heads")
    config = training_job(path, tmp_path, every_steps=1, keep=2)
    config["training"]["steps"] = LONG
    stopped = engine.run(config, tmp_path, during=stop_after(2), expect=75)
    config["checkpoint"]["resume_from"] = "latest"
    resumed = engine.run(config, tmp_path, during=stop_after(3), expect=75)
    assert resumed.steps[0]["step"] == stopped.steps[-1]["step"] + 1
    last = resumed.steps[-1]["step"]

    whole = tmp_path / "unbroken"
    config = training_job(path, whole, every_steps=1, keep=LONG)
    config["training"]["steps"] = LONG
    unbroken = engine.run(config, whole, during=stop_after(last), expect=75)
    assert outcome(stopped) + outcome(resumed) == outcome(unbroken)[:last]
    for name in ("model.safetensors", "optimizer.safetensors"):
        files = [directory / "checkpoints" / f"step-{last:08d}" / name for directory in (tmp_path, whole)]
        assert files[0].read_bytes() == files[1].read_bytes(), name
