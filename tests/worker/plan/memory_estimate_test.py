"""The plan's memory beside what a rank takes, on the real model. The band is wide; docs/memory_plan.md has the exact figures."""

import os
import pathlib

import measure_memory
import pytest

MODEL = pathlib.Path(os.environ.get("ITHACA_CACHE") or pathlib.Path.home() / ".cache" / "ithaca") / "SmolLM2-135M-Instruct"


@pytest.mark.parametrize(("length", "ranks", "retention"), [(512, 1, "recompute"), (512, 2, "keep"), (1024, 1, "segments")])
def test_a_rank_takes_what_the_plan_says(length, ranks, retention):
    plan, peaks = measure_memory.measure(MODEL, length, ranks, retention)
    wanted = measure_memory.RETENTIONS[retention]
    assert {key: plan[key] for key in wanted} == wanted
    assert 0.9 < plan["total_bytes"] / peaks["VmHWM"] < 1.2
