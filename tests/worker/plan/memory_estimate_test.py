"""The plan's memory beside what a rank takes, on the real model. The band is wide; docs/memory_plan.md has the exact figures."""

import os
import pathlib

import measure_memory
import pytest

MODEL = pathlib.Path(os.environ.get("ITHACA_CACHE") or pathlib.Path.home() / ".cache" / "ithaca") / "SmolLM2-135M-Instruct"


@pytest.mark.parametrize(("length", "ranks", "layer_inputs"), [(512, 1, "recompute"), (512, 2, "keep")])
def test_a_rank_takes_what_the_plan_says(length, ranks, layer_inputs):
    plan, peaks = measure_memory.measure(MODEL, length, ranks, layer_inputs)
    assert plan["layer_inputs"] == layer_inputs
    assert 0.9 < plan["total_bytes"] / peaks["VmHWM"] < 1.2
