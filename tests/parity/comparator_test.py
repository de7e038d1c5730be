"""The comparison refuses what it must: gradients scaled by ranks or micro-batches, and values just outside a tolerance.

AdamW and clipping hide a constant factor from the weights, so these are what stands between a scaling mistake and a green run.
"""

import dataclasses

import pytest
import torch

import compare
import engine
import models


@pytest.fixture(scope="module")
def two_ranks(model_path, reference_step, tmp_path_factory):
    """A real run of two ranks and its reference, which agree."""
    directory = tmp_path_factory.mktemp("two-ranks")
    documents = models.tiny_documents([101])
    data = models.write_jsonl(directory / "data.jsonl", documents)
    config = engine.job(
        model_path("llama-grouped"), data, directory, data={"sequence_length": 101}, parallelism={"sequence": 2}
    )
    run = engine.run(config, directory, ["--dump-gradients", directory / "gradients"])
    (step,) = run.steps
    ours = compare.Gradients(step["loss"], step["grad_norm"], engine.load_directory(directory / "gradients"))
    reference = reference_step("llama-grouped", documents)
    assert compare.gradient_problems(ours, reference, compare.TINY_MODEL) == []
    return ours, reference


@pytest.mark.parametrize("factor", [2, 1 / 2, 3, 1 / 3, 4, 1 / 4])
def test_gradients_scaled_by_ranks_or_micro_batches_are_refused(two_ranks, factor):
    ours, reference = two_ranks
    scaled = {name: tensor * factor for name, tensor in ours.tensors.items()}
    for wrong in (
        dataclasses.replace(ours, tensors=scaled),
        dataclasses.replace(ours, norm=ours.norm * factor),
        dataclasses.replace(ours, tensors=scaled, norm=ours.norm * factor),
    ):
        assert compare.gradient_problems(wrong, reference, compare.TINY_MODEL)
        assert compare.gradient_problems(wrong, reference, compare.REAL_MODEL)


def test_one_tensor_scaled_is_refused(two_ranks):
    ours, reference = two_ranks
    for name in ours.tensors:
        wrong = dataclasses.replace(ours, tensors=ours.tensors | {name: ours.tensors[name] * 2})
        assert any(name in problem for problem in compare.gradient_problems(wrong, reference, compare.REAL_MODEL))


def test_values_just_outside_a_tolerance_are_refused(two_ranks):
    _, reference = two_ranks
    name = next(iter(reference.tensors))
    nudged = {key: tensor * (1 + 1.1e-5) for key, tensor in reference.tensors.items()}
    for wrong in (
        dataclasses.replace(reference, loss=reference.loss * (1 + 1.1 * compare.LOSS)),
        dataclasses.replace(reference, norm=reference.norm * (1 - 1.1 * compare.GRADIENT_NORM)),
        dataclasses.replace(reference, tensors=nudged),
        dataclasses.replace(reference, tensors=reference.tensors | {name: reference.tensors[name] * (1 + 1.1e-4)}),
    ):
        assert compare.gradient_problems(wrong, reference, compare.REAL_MODEL)


def test_values_just_inside_a_tolerance_pass(two_ranks):
    _, reference = two_ranks
    near = compare.Gradients(
        reference.loss * (1 + 0.9 * compare.LOSS),
        reference.norm * (1 + 0.9 * compare.GRADIENT_NORM),
        {name: tensor.double() * (1 + 0.9e-5) for name, tensor in reference.tensors.items()},
    )
    assert compare.gradient_problems(near, reference, compare.TINY_MODEL) == []


def test_missing_extra_and_nan_tensors_are_refused(two_ranks):
    ours, reference = two_ranks
    name = next(iter(ours.tensors))
    without = {key: tensor for key, tensor in ours.tensors.items() if key != name}
    for tensors in (without, ours.tensors | {"extra": torch.ones(1)}, ours.tensors | {name: ours.tensors[name] * float("nan")}):
        assert compare.gradient_problems(dataclasses.replace(ours, tensors=tensors), reference, compare.REAL_MODEL)
    assert compare.gradient_problems(dataclasses.replace(ours, loss=float("nan")), reference, compare.REAL_MODEL)
