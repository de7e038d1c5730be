import functools
import os

import pytest

import engine
import models
import reference

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")


def pytest_collection_modifyitems(items):
    if not engine.ENGINE.exists():
        pytest.exit(f"{engine.ENGINE} is missing: build it, or set ITHACA_ENGINE", returncode=2)


@pytest.fixture(scope="session")
def model_path(tmp_path_factory):
    """Directory of a model by name: "smollm2", or a tiny one."""
    directory = tmp_path_factory.mktemp("models")

    @functools.cache
    def path(name):
        if name != "smollm2":
            return models.make_tiny(name, directory)
        if not (models.REAL / "config.json").exists():
            pytest.fail(f"{models.REAL} is missing: `make data` makes it")
        return models.REAL

    return path


@pytest.fixture(scope="session")
def reference_step(model_path):
    """transformers' first step, computed once for each model and list of documents."""
    cached = {}

    def step(name, documents):
        key = (name, tuple(map(tuple, documents)))
        if key not in cached:
            if name == "smollm2":
                cached.clear()
            cached[key] = reference.first_step(model_path(name), documents)
        return cached[key]

    return step
