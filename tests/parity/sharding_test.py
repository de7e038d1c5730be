"""Optimizer state divided over the ranks: the same training, with one thread bit for bit, from and to the same checkpoints."""

import pytest

import engine
import models

STEPS = 4


def train(path, directory, sharding, **sections):
    data = models.write_jsonl(directory / "data.jsonl", models.tiny_documents([64] * 2 * STEPS))
    defaults = {"parallelism": {"sequence": 3, "replicas": 1}, "checkpoint": {"directory": str(directory / "checkpoints"), "every_steps": 2}}
    config = engine.job(
        path, data, directory, data={"sequence_length": 64}, memory={"sharding": sharding},
        training={"steps": STEPS, "global_batch": 2, "optimizer": {"weight_decay": 0.1, "clip_norm": 0.0}}, resources={"threads_per_rank": 1},
        **(defaults | sections),
    )  # fmt: skip
    return engine.run(config, directory)


def checkpoint_bytes(directory, step=STEPS):
    files = directory / "checkpoints" / f"step-{step:08d}"
    return [(files / name).read_bytes() for name in ("model.safetensors", "optimizer.safetensors")]


@pytest.mark.parametrize("grid", [{"sequence": 3, "replicas": 1}, {"sequence": 2, "replicas": 2}])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_sharded_training_is_bitwise_the_same(grid, dtype, model_path, tmp_path):
    path = model_path("llama-uneven-heads")
    sections = {"parallelism": grid, "model": {"dtype": dtype}}
    whole = train(path, tmp_path / "whole", "none", **sections)
    sharded = train(path, tmp_path / "sharded", "optimizer", **sections)
    assert sharded.losses == whole.losses
    assert checkpoint_bytes(tmp_path / "sharded") == checkpoint_bytes(tmp_path / "whole")
    (plan,) = sharded.ranks[0].named("plan")
    assert plan["sharding"] == "optimizer"


@pytest.mark.parametrize("before, after", [("none", "optimizer"), ("optimizer", "none"), ("optimizer", "optimizer")])
def test_a_run_goes_on_with_its_state_divided_otherwise(before, after, model_path, tmp_path):
    path = model_path("llama-uneven-heads")
    train(path, tmp_path / "unbroken", "none")
    train(path, tmp_path / "first", before)
    resumed = {"directory": str(tmp_path / "second" / "checkpoints"), "every_steps": 2,
               "resume_from": str(tmp_path / "first" / "checkpoints" / "step-00000002")}  # fmt: skip
    run = train(path, tmp_path / "second", after, checkpoint=resumed)
    assert [step["step"] for step in run.steps] == [3, 4]
    assert checkpoint_bytes(tmp_path / "second") == checkpoint_bytes(tmp_path / "unbroken")
