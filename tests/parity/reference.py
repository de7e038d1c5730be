"""What transformers computes for the same tokens: loss, gradients, and a few steps of torch's AdamW."""

import copy
import functools

import torch
import torch.nn.functional as F
import transformers

from compare import Gradients

IGNORED = -100


@functools.lru_cache(maxsize=2)
def _loaded(path, dtype):
    model = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=dtype)
    return model.train()


def load(path, dtype=torch.float32):
    """A model no one else changes, if its user leaves the weights alone; gradients are cleared."""
    model = _loaded(str(path), dtype)
    model.zero_grad(set_to_none=True)
    return model


def summed_loss(model, ids, labels=None):
    """Sum over target tokens of one document run alone: logits as the model has them, cross-entropy of those in fp64."""
    logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, :-1]
    targets = torch.tensor((labels or ids)[1:], dtype=torch.int64)
    return F.cross_entropy(logits.double(), targets, ignore_index=IGNORED, reduction="sum")


def target_tokens(documents):
    return sum(len(ids) - 1 for ids in documents)


def accumulate(model, documents):
    """Adds the gradients of the mean loss over all targets of `documents` to the model; returns that loss."""
    count, total = target_tokens(documents), 0.0
    for ids in documents:
        loss = summed_loss(model, ids) / count
        loss.backward()
        total += loss.item()
    return total


def named_gradients(model):
    return {name: p.grad.detach().float().clone() for name, p in model.named_parameters()}


def norm(tensors):
    return sum(torch.linalg.vector_norm(t.double()).item() ** 2 for t in tensors.values()) ** 0.5


def first_step(path, documents, dtype=torch.float32):
    """Documents are run one by one and their sums added: what packing must be equal to."""
    model = load(path, dtype)
    loss = accumulate(model, documents)
    tensors = named_gradients(model)
    model.zero_grad(set_to_none=True)
    return Gradients(loss, norm(tensors), tensors)


def mean_loss(path, documents):
    model = load(path)
    with torch.no_grad():
        return sum(summed_loss(model, ids).item() for ids in documents) / target_tokens(documents)


def train(path, batches, learning_rate, weight_decay=0.0, clip_norm=0.0, betas=(0.9, 0.95), epsilon=1e-8):
    """Losses, gradient norms and final weights of plain torch training, one optimizer step a batch of documents."""
    model = copy.deepcopy(load(path))
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=learning_rate, betas=betas, eps=epsilon)
    losses, norms = [], []
    for documents in batches:
        optimizer.zero_grad(set_to_none=True)
        losses.append(accumulate(model, documents))
        norms.append(norm(named_gradients(model)))
        if clip_norm:
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
        optimizer.step()
    return losses, norms, {name: p.detach().clone() for name, p in model.named_parameters()}
