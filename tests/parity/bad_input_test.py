"""Wrong input ends in the documented exit code and one clear sentence, with nothing trained and nothing half written."""

import json
import os
import resource
import shutil
import subprocess

import pytest
import safetensors.torch
import torch

import engine
import models

CONFIG, DATA, MODEL, CHECKPOINT_IO = 10, 11, 12, 40


@pytest.fixture
def case(model_path, tmp_path):
    """A job that would run: its model may be damaged, its corpus replaced, its keys changed."""
    model = shutil.copytree(model_path("llama-grouped"), tmp_path / "model")
    data = models.write_jsonl(tmp_path / "data.jsonl", models.tiny_documents([64] * 3))
    return engine.job(model, data, tmp_path, data={"sequence_length": 64}), model, data


def refusal(config, directory, code, world=1, limit=None):
    """Runs rank 0 alone to its end; its one `failed` event."""
    run_json = directory / "run.json"
    run_json.write_text(json.dumps(config))
    environment = os.environ | ({"RANK": "0", "WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"} if world > 1 else {})
    bound = (lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))) if limit else None
    ended = subprocess.run(
        [str(engine.ENGINE), "--config", str(run_json)],
        env=environment, capture_output=True, text=True, timeout=120, preexec_fn=bound,
    )  # fmt: skip
    events = [json.loads(line) for line in ended.stdout.splitlines()]
    failed = [event for event in events if event["event"] == "failed"]
    assert ended.returncode == code, ended.stdout + ended.stderr
    assert len(failed) == 1 and failed[0]["code"] == code, events
    left = [path.name for path in (directory / "checkpoints").glob("*")]
    assert left == [], left
    if not limit:
        assert not [event for event in events if event["event"] == "step"]
    return failed[0]["message"]


def test_a_missing_model_directory(case, tmp_path):
    config, model, _ = case
    config["model"]["path"] = str(tmp_path / "nowhere")
    assert "nowhere" in refusal(config, tmp_path, MODEL)


def test_missing_weights(case, tmp_path):
    config, model, _ = case
    (model / "model.safetensors").unlink()
    assert "model.safetensors" in refusal(config, tmp_path, MODEL)


@pytest.mark.parametrize("keep", [4, 1000, -1])
def test_truncated_weights(case, tmp_path, keep):
    config, model, _ = case
    whole = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(whole[:keep])
    assert "model.safetensors" in refusal(config, tmp_path, MODEL)


def test_a_tensor_of_another_shape_than_the_config_says(case, tmp_path):
    config, model, _ = case
    tensors = safetensors.torch.load_file(model / "model.safetensors")
    name = "model.layers.1.mlp.up_proj.weight"
    tensors[name] = torch.zeros(3, 5)
    safetensors.torch.save_file(tensors, model / "model.safetensors")
    assert name in refusal(config, tmp_path, MODEL)


def test_a_tensor_that_is_not_there(case, tmp_path):
    config, model, _ = case
    tensors = safetensors.torch.load_file(model / "model.safetensors")
    del tensors["model.norm.weight"]
    safetensors.torch.save_file(tensors, model / "model.safetensors")
    assert "model.norm.weight" in refusal(config, tmp_path, MODEL)


def test_an_architecture_that_is_not_implemented(case, tmp_path):
    config, model, _ = case
    shape = json.loads((model / "config.json").read_text())
    shape["model_type"] = "gemma3"
    (model / "config.json").write_text(json.dumps(shape))
    assert "gemma3" in refusal(config, tmp_path, MODEL)


def test_an_empty_corpus(case, tmp_path):
    config, _, data = case
    data.write_text("")
    refusal(config, tmp_path, DATA)


def test_a_bad_line_is_named_by_file_and_number(case, tmp_path):
    config, _, data = case
    data.write_text(data.read_text() + '{"input_ids": [1, 2\n')
    message = refusal(config, tmp_path, DATA)
    assert "data.jsonl" in message and "4" in message


def test_a_glob_that_matches_nothing(case, tmp_path):
    config, _, _ = case
    config["data"]["train"] = [str(tmp_path / "none-*.jsonl")]
    assert "none-*.jsonl" in refusal(config, tmp_path, DATA)


def test_a_sequence_beyond_the_positions_of_the_model(case, tmp_path):
    config, _, _ = case
    config["data"]["sequence_length"] = 513
    assert "512 positions" in refusal(config, tmp_path, CONFIG)


def test_more_ranks_than_heads(case, tmp_path):
    config, _, _ = case
    config["parallelism"]["sequence"] = 5
    assert "heads" in refusal(config, tmp_path, CONFIG, world=5)


def test_an_unknown_key(case, tmp_path):
    config, _, _ = case
    config["training"]["learning_rat"] = 1
    assert "learning_rat" in refusal(config, tmp_path, CONFIG)


def test_a_disk_that_is_full_while_a_checkpoint_is_written(case, tmp_path):
    config, _, _ = case
    refusal(config, tmp_path, CHECKPOINT_IO, limit=20_000)
