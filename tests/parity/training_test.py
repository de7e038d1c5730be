"""Ten optimizer steps: the losses and the update of every tensor are those of torch.optim.AdamW on transformers."""

import pytest

import compare
import engine
import models
import reference

STEPS = 10


@pytest.mark.parametrize(
    "name, ranks, optimizer",
    [
        ("llama-grouped", 1, {"clip_norm": 0.0, "weight_decay": 0.0}),
        ("llama-uneven-heads", 2, {"clip_norm": 1.0, "weight_decay": 0.1}),
        ("qwen3", 4, {"clip_norm": 0.5, "weight_decay": 0.0}),
    ],
)
def test_ten_steps_of_a_tiny_model_are_those_of_torch(name, ranks, optimizer, model_path, tmp_path):
    batches = [[ids] for ids in models.tiny_documents([96] * STEPS)]
    compare_training(model_path(name), batches, 96, ranks, optimizer, 1.0e-3, tmp_path)


def test_ten_steps_of_the_real_model_are_those_of_torch(model_path, tmp_path):
    batches = [[ids] for ids in models.book_documents([256] * STEPS)]
    compare_training(model_path("smollm2"), batches, 256, 2, {"clip_norm": 1.0, "weight_decay": 0.0}, 2.0e-5, tmp_path)


def compare_training(path, batches, length, ranks, optimizer, learning_rate, directory):
    data = models.write_jsonl(directory / "data.jsonl", [ids for batch in batches for ids in batch])
    config = engine.job(
        path, data, directory,
        data={"sequence_length": length}, parallelism={"sequence": ranks},
        training={"steps": len(batches), "learning_rate": learning_rate, "optimizer": optimizer},
    )  # fmt: skip
    run = engine.run(config, directory)
    losses, norms, weights = reference.train(path, batches, learning_rate, **optimizer)
    assert compare.curve_problems(run.losses, losses) == []
    assert compare.curve_problems([step["grad_norm"] for step in run.steps], norms) == []
    start = dict(reference.load(path).named_parameters())
    assert compare.update_problems(engine.load_directory(engine.exported(directory)), weights, start) == []
