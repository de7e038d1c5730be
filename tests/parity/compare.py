"""The tolerances of docs/numerics.md and the comparison that applies them. Returns what is wrong; asserts nothing itself."""

import dataclasses
import statistics

import torch

LOSS = 2e-6
GRADIENT_NORM = 5e-6
LOSS_CURVE = 1e-4
UPDATE = 1e-3


@dataclasses.dataclass(frozen=True)
class GradientLimits:
    """Relative L2 errors over the tensors of a model."""

    median: float
    worst: float


REAL_MODEL = GradientLimits(median=1e-5, worst=1e-4)
TINY_MODEL = GradientLimits(median=1e-5, worst=1e-5)


@dataclasses.dataclass
class Gradients:
    """The first step of a run: mean loss over target tokens, and the gradients of that mean, by Hugging Face name."""

    loss: float
    norm: float
    tensors: dict


def relative(value, reference):
    return abs(value - reference) / abs(reference)


def relative_l2(value, reference):
    value, reference = value.double(), reference.double()
    return (torch.linalg.vector_norm(value - reference) / torch.linalg.vector_norm(reference)).item()


def names_differ(ours, reference):
    missing, extra = sorted(reference.keys() - ours.keys()), sorted(ours.keys() - reference.keys())
    return [f"tensors missing: {missing[:3]}, extra: {extra[:3]}"] if missing or extra else []


def errors_by_tensor(ours, reference):
    return {name: relative_l2(ours[name], reference[name]) for name in reference}


def gradient_problems(ours, reference, limits):
    """What keeps `ours` from being the reference's first step; empty if nothing does. NaN is a problem."""
    problems = names_differ(ours.tensors, reference.tensors)
    if problems:
        return problems
    if not relative(ours.loss, reference.loss) <= LOSS:
        problems.append(f"loss {ours.loss!r}, reference {reference.loss!r}: {relative(ours.loss, reference.loss):.1e} > {LOSS}")
    if not relative(ours.norm, reference.norm) <= GRADIENT_NORM:
        error = relative(ours.norm, reference.norm)
        problems.append(f"gradient norm {ours.norm!r}, reference {reference.norm!r}: {error:.1e} > {GRADIENT_NORM}")
    errors = errors_by_tensor(ours.tensors, reference.tensors)
    median, worst = statistics.median(errors.values()), max(errors, key=errors.get)
    if not median <= limits.median:
        problems.append(f"median gradient error {median:.1e} > {limits.median}")
    if not all(error <= limits.worst for error in errors.values()):
        problems.append(f"gradient of {worst}: error {errors[worst]:.1e} > {limits.worst}")
    return problems


def update_problems(ours, reference, start):
    """Compares w10 - w0, so that weights that hardly moved do not hide a wrong update."""
    problems = names_differ(ours, reference)
    for name in reference if not problems else ():
        error = relative_l2(ours[name].double() - start[name].double(), reference[name].double() - start[name].double())
        if not error <= UPDATE:
            problems.append(f"update of {name}: error {error:.1e} > {UPDATE}")
    return problems


def curve_problems(ours, reference):
    if len(ours) != len(reference):
        return [f"{len(ours)} losses, reference has {len(reference)}"]
    return [
        f"loss of step {step}: {a!r}, reference {b!r}"
        for step, (a, b) in enumerate(zip(ours, reference), 1)
        if not relative(a, b) <= LOSS_CURVE
    ]
