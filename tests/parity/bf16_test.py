"""In bf16 the engine is at most 1.5 times as far from the fp32 reference as transformers in bf16 is."""

import statistics

import pytest
import torch

import compare
import engine
import models
import reference

FACTOR = 1.5
BF16_EPSILON = 2.0**-8


@pytest.mark.parametrize("name, ranks, length", [("qwen3", 2, 101), ("llama-uneven-heads", 4, 101), ("smollm2", 2, 256)])
def test_bf16_is_as_close_to_fp32_as_that_of_transformers(name, ranks, length, model_path, reference_step, tmp_path):
    documents = models.book_documents([length]) if name == "smollm2" else models.tiny_documents([length])
    data = models.write_jsonl(tmp_path / "data.jsonl", documents)
    config = engine.job(
        model_path(name), data, tmp_path,
        model={"dtype": "bfloat16"}, data={"sequence_length": length}, parallelism={"sequence": ranks},
    )  # fmt: skip
    run = engine.run(config, tmp_path, ["--dump-gradients", tmp_path / "gradients"])

    exact = reference_step(name, documents)
    theirs = reference.first_step(model_path(name), documents, torch.bfloat16)
    our_errors = compare.errors_by_tensor(engine.load_directory(tmp_path / "gradients"), exact.tensors)
    their_errors = compare.errors_by_tensor(theirs.tensors, exact.tensors)
    assert statistics.median(our_errors.values()) <= FACTOR * statistics.median(their_errors.values())
    assert max(our_errors.values()) <= FACTOR * max(their_errors.values())
    # A single number may be right by luck, so a loss within bf16's own resolution is never held against the engine.
    their_loss_error = compare.relative(theirs.loss, exact.loss)
    assert compare.relative(run.steps[0]["loss"], exact.loss) <= FACTOR * max(their_loss_error, BF16_EPSILON)
