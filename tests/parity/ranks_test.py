"""Ranks with different memory make one plan; a rank that fails alone says why, and the others end with it."""

import shutil

import engine
import models

LONG = 100_000  # steps; no run gets there


def training_job(path, directory, **sections):
    data = models.write_jsonl(directory / "data.jsonl", models.tiny_documents([64, 64]))
    return engine.job(path, data, directory, **{"data": {"sequence_length": 64}, "parallelism": {"sequence": 2}} | sections)


def ranks_on_host(counts):
    """As if so many ranks shared the memory of this rank's host."""
    return lambda rank: {"LOCAL_WORLD_SIZE": str(counts[rank])}


def failures(run):
    return [[event["message"] for event in rank.named("failed")] for rank in run.ranks]


def test_the_plan_is_for_the_rank_with_least_memory(model_path, tmp_path):
    config = training_job(model_path("llama-grouped"), tmp_path)
    run = engine.run(config, tmp_path, variables=ranks_on_host([1, 2]))
    mirrored = engine.run(config, tmp_path / "mirrored", variables=ranks_on_host([2, 1]))
    plans = [each.ranks[0].named("plan") for each in (run, mirrored)]
    assert len(plans[0]) == len(plans[1]) == 1
    least, most = sorted(engine.run(config, tmp_path / str(n), variables=ranks_on_host([n, n])).ranks[0].named("plan")[0]["capacity_bytes"] for n in (1, 2))
    assert least < most
    assert [plan[0]["capacity_bytes"] for plan in plans] == [least, least]
    assert run.losses == mirrored.losses


def test_what_does_not_fit_one_rank_ends_all_with_the_same_sentence(model_path, tmp_path):
    config = training_job(model_path("llama-grouped"), tmp_path)
    for counts in ([1, 100_000], [100_000, 1]):
        told = failures(engine.run(config, tmp_path, variables=ranks_on_host(counts), expect=10))
        assert len(told[0]) == len(told[1]) == 1
        assert told[0] == told[1] and "does not fit in memory" in told[0][0]


def test_the_world_says_how_many_ranks_share_a_sequence(model_path, tmp_path):
    config = training_job(model_path("llama-uneven-heads"), tmp_path)
    del config["parallelism"]["sequence"]
    run = engine.run(config, tmp_path)
    assert run.ranks[0].named("plan")[0]["sequence_ranks"] == 2


def test_a_rank_that_fails_alone_says_why_and_the_others_lose_a_peer(model_path, tmp_path):
    config = training_job(model_path("llama-grouped"), tmp_path, training={"steps": LONG})
    checkpoints = tmp_path / "checkpoints"

    def put_a_file_in_the_place_of_the_directory(ranks):
        assert ranks[0].wait_for("step")
        shutil.rmtree(checkpoints)
        checkpoints.write_text("")
        ranks[0].send("checkpoint")

    run = engine.run(config, tmp_path, during=put_a_file_in_the_place_of_the_directory, expect=[40, 31])
    told = failures(run)
    assert len(told[0]) == len(told[1]) == 1
    assert str(checkpoints) in told[0][0]
    assert run.ranks[0].named("failed")[0]["time"] <= run.ranks[1].named("failed")[0]["time"]
