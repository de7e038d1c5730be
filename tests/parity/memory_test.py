"""Memory stands after the second step: every step asks for the same blocks, and finds them."""

import engine
import models


def test_peak_memory_does_not_grow_after_the_second_step(model_path, tmp_path):
    # At this length the largest blocks of a layer are of the size that glibc's heap fragments over.
    documents = models.book_documents([4096, 3000, 1096, 4096])
    data = models.write_jsonl(tmp_path / "data.jsonl", documents)
    config = engine.job(
        model_path("smollm2"), data, tmp_path,
        data={"sequence_length": 4096, "packing": True}, parallelism={"sequence": 2}, memory={"layer_inputs": "keep"},
        training={"steps": 3}, checkpoint={"directory": ""},
    )  # fmt: skip
    peaks = [step["memory"]["peak"] for step in engine.run(config, tmp_path).steps]
    assert len(peaks) == 3
    assert peaks[-1] <= peaks[1] * 1.01, peaks
