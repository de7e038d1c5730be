"""The exported directory is a model that transformers loads, and it computes what the engine computed with it."""

import pytest
import torch
import transformers

import compare
import engine
import models
import reference


@pytest.mark.parametrize("name", ["llama-uneven-heads", "llama3-rope", "llama-one-kv-head", "qwen3"])
def test_the_export_scores_in_transformers_as_in_the_engine(name, model_path, tmp_path):
    held_out = models.tiny_documents([96, 96], seed=5)
    evaluation = models.write_jsonl(tmp_path / "eval.jsonl", held_out)
    data = models.write_jsonl(tmp_path / "data.jsonl", models.tiny_documents([96] * 3))
    config = engine.job(
        model_path(name), data, tmp_path,
        data={"sequence_length": 96, "eval": [{"path": str(evaluation)}]}, parallelism={"sequence": 2},
        training={"steps": 3}, evaluation={"every_steps": 3},
    )  # fmt: skip
    run = engine.run(config, tmp_path)
    assert run.losses
    export = engine.exported(tmp_path)
    measured = run.ranks[0].named("eval")[-1]
    assert measured["target_tokens"] == reference.target_tokens(held_out)
    assert compare.relative(measured["loss"], reference.mean_loss(export, held_out)) <= compare.LOSS


def test_an_export_after_no_change_is_the_model_it_came_from(model_path, tmp_path):
    data = models.write_jsonl(tmp_path / "data.jsonl", models.tiny_documents([96]))
    config = engine.job(
        model_path("qwen3-tied"), data, tmp_path,
        data={"sequence_length": 96}, parallelism={"sequence": 2}, training={"steps": 1, "learning_rate": 1.0e-30},
    )  # fmt: skip
    engine.run(config, tmp_path)
    before = reference.load(model_path("qwen3-tied"))
    after = transformers.AutoModelForCausalLM.from_pretrained(engine.exported(tmp_path))
    ids = torch.tensor(models.tiny_documents([50]))
    with torch.no_grad():
        assert torch.equal(before(ids).logits, after(ids).logits)
