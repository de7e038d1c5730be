"""Where a run goes on: from the same run's checkpoints alone, and from the branch it is on. How it stops."""

import json

import pytest

import engine
import models

LONG = 100_000  # steps; no run gets there


def training_job(path, directory, steps, **sections):
    data = directory / "data.jsonl"
    if not data.exists():
        models.write_jsonl(data, models.tiny_documents([48, 33, 20, 48]))
    return engine.job(
        path, data, directory, **{
            "data": {"sequence_length": 48, "packing": True, "shuffle": True},
            "training": {"steps": steps, "global_batch": 1, "seed": 7},
        } | sections,
    )  # fmt: skip


def checkpoint(directory, step):
    return str(directory / "checkpoints" / f"step-{step:08d}")


def failure(run):
    events = run.ranks[0].named("failed")
    assert len(events) == 1, run.story()
    return events[0]["message"]


def warnings(run):
    return [event["message"] for event in run.ranks[0].named("warning")]


def stop_after(steps):
    def during(ranks):
        assert ranks[0].wait_for("step", count=steps)
        ranks[0].send("stop")

    return during


@pytest.fixture
def trained(model_path, tmp_path):
    """Two steps with their checkpoints."""
    path = model_path("llama-grouped")
    engine.run(training_job(path, tmp_path, 2, checkpoint={"every_steps": 1, "keep": 9}), tmp_path)
    return path, tmp_path


@pytest.mark.parametrize(
    "section, key, value, told",
    [
        ("training", "seed", 8, "seed was 7 and now is 8"),
        ("training", "global_batch", 2, "global_batch was 1 and now is 2"),
        ("data", "sequence_length", 40, "sequence_length was 48 and now is 40"),
        ("data", "packing", False, "packing was true and now is false"),
        ("data", "shuffle", False, "shuffle was true and now is false"),
    ],
)
def test_another_run_is_refused_by_name_and_values(trained, section, key, value, told):
    path, directory = trained
    config = training_job(path, directory, 4, checkpoint={"resume_from": "latest"})
    config[section][key] = value
    assert told in failure(engine.run(config, directory, expect=10))


def test_another_number_of_sequence_ranks_is_refused(trained):
    path, directory = trained
    config = training_job(path, directory, 4, parallelism={"sequence": 2}, checkpoint={"resume_from": "latest"})
    run = engine.run(config, directory, expect=10)
    assert "sequence_ranks was 1 and now is 2" in failure(run)


def test_a_corpus_that_changed_is_refused(trained):
    path, directory = trained
    models.write_jsonl(directory / "data.jsonl", models.tiny_documents([48, 33, 20, 48, 30]))
    config = training_job(path, directory, 4, checkpoint={"resume_from": "latest"})
    assert "tokens_per_epoch was 149 and now is 179" in failure(engine.run(config, directory, expect=10))


def test_bf16_does_not_go_on_from_fp32(trained):
    path, directory = trained
    config = training_job(path, directory, 4, checkpoint={"resume_from": "latest"})
    config["model"]["dtype"] = "bfloat16"
    assert "model.dtype was float32 and now is bfloat16" in failure(engine.run(config, directory, expect=10))


def test_fp32_goes_on_from_the_master_copy_of_bf16(model_path, tmp_path):
    path = model_path("llama-grouped")
    config = training_job(path, tmp_path, 2)
    config["model"]["dtype"] = "bfloat16"
    engine.run(config, tmp_path)
    masters = {
        name.removesuffix(".master"): tensor
        for name, tensor in engine.load_directory(checkpoint(tmp_path, 2)).items()
        if name.endswith(".master")
    }
    # Nothing is left to train: what is exported is what was loaded.
    engine.run(training_job(path, tmp_path, 2, checkpoint={"resume_from": "latest"}), tmp_path)
    exported = engine.load_directory(engine.exported(tmp_path))
    assert masters.keys() == exported.keys()
    for name, tensor in exported.items():
        assert tensor.equal(masters[name]), name


def test_latest_stays_on_the_branch_that_was_resumed(model_path, tmp_path):
    path = model_path("llama-grouped")
    saved = {"every_steps": 1, "keep": 9}
    engine.run(training_job(path, tmp_path, 6, checkpoint=saved), tmp_path)
    branch = saved | {"resume_from": checkpoint(tmp_path, 2)}
    run = engine.run(training_job(path, tmp_path, 4, checkpoint=branch), tmp_path)
    assert [step["step"] for step in run.steps] == [3, 4]
    assert sum("abandoned-step-" in message for message in warnings(run)) == 4
    run = engine.run(training_job(path, tmp_path, 7, checkpoint=saved | {"resume_from": "latest"}), tmp_path)
    assert [step["step"] for step in run.steps] == [5, 6, 7]


def test_latest_without_a_directory_to_look_in_is_refused(model_path, tmp_path):
    config = training_job(model_path("llama-grouped"), tmp_path, 2, checkpoint={"directory": "", "resume_from": "latest"})
    assert "checkpoint.directory" in failure(engine.run(config, tmp_path, expect=10))


def test_a_stop_saves_without_evaluating_first(model_path, tmp_path):
    config = training_job(model_path("llama-grouped"), tmp_path, LONG, evaluation={"every_steps": 1})
    config["data"]["eval"] = config["data"]["train"]
    run = engine.run(config, tmp_path, during=stop_after(2), expect=75)
    last = run.steps[-1]["step"]
    assert [event["step"] for event in run.ranks[0].named("eval")] == list(range(last))
    assert json.loads((tmp_path / "checkpoints" / f"step-{last:08d}" / "state.json").read_text())["step"] == last


def test_a_stop_without_a_checkpoint_directory_says_that_nothing_was_saved(model_path, tmp_path):
    config = training_job(model_path("llama-grouped"), tmp_path, LONG, checkpoint={"directory": ""})
    run = engine.run(config, tmp_path, during=stop_after(1), expect=75)
    assert any("nothing was saved" in message for message in warnings(run))
    assert run.ranks[0].named("finished")[0]["reason"] == "stopped"
