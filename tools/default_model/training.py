"""Fit token vectors to the teacher: a basis, one linear map, then one epoch of Adam."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from default_model.distil import TokenLists
from default_model.teacher import FloatArray

RIDGE = 1e-3
RATE = 0.05  # of the root mean square of the token vectors
BATCH = 1024
PAIR_WEIGHT = 10.0
SLICE = 16384


def basis_of(teacher: FloatArray, dimensions: int) -> FloatArray:
    """Return the first right singular vectors of `teacher` (n, 384), as (384, dimensions).

    The teacher's mean is left in: the directions are ordered by energy, so that a prefix of a
    vector is the best smaller vector.
    """
    _, vectors = np.linalg.eigh(teacher.T.astype(np.float64) @ teacher.astype(np.float64))
    return np.ascontiguousarray(vectors[:, ::-1][:, :dimensions], np.float32)


def ridge_map(tokens: FloatArray, lists: TokenLists, target: FloatArray) -> FloatArray:
    """Return `tokens` mapped linearly so that the direction of a text comes nearest to `target`.

    `tokens` is (tokens, 384), `target` (n, d); the result is (tokens, d), with a root mean square
    of 1. A text is the sum of its tokens at length 1: without that, long and short texts would
    pull the map apart.
    """
    table = torch.from_numpy(tokens)
    width = tokens.shape[1]
    gram, cross = np.zeros((width, width)), np.zeros((width, target.shape[1]))
    for begin in range(0, len(target), SLICE):
        rows = np.arange(begin, min(begin + SLICE, len(target)))
        sums = torch.nn.functional.normalize(_sums(table, lists, rows), dim=1)
        known = sums.numpy().astype(np.float64)
        gram += known.T @ known
        cross += known.T @ target[rows]
    gram += RIDGE * np.trace(gram) / width * np.eye(width)
    mapped = tokens @ np.linalg.solve(gram, cross)
    result: FloatArray = (mapped / np.sqrt(np.square(mapped).mean())).astype(np.float32)
    return result


def train(
    tokens: FloatArray, lists: TokenLists, *, target: FloatArray, teacher: FloatArray, seed: int
) -> FloatArray:
    """Return `tokens` (tokens, d) after one epoch of Adam against the teacher.

    The loss of a batch is 1 - cosine to `target` (n, d), plus PAIR_WEIGHT times the mean squared
    difference between the batch's pairwise dot products and those of `teacher` (n, 384).
    """
    torch.manual_seed(seed)
    table = torch.nn.Parameter(torch.from_numpy(tokens.copy()))
    order = np.random.default_rng(seed).permutation(np.flatnonzero(lists.lengths()))
    steps = len(order) // BATCH
    adam = torch.optim.Adam([table], lr=RATE)
    decay = torch.optim.lr_scheduler.LambdaLR(adam, lambda step: 1 - step / steps)
    for step in range(steps):
        rows = order[step * BATCH : (step + 1) * BATCH]
        sums = _sums(table, lists, rows)
        loss = batch_loss(sums, torch.from_numpy(target[rows]), torch.from_numpy(teacher[rows]))
        adam.zero_grad()
        loss.backward()
        adam.step()
        decay.step()
        if step % 40 == 0 or step == steps - 1:
            print(f"train: step {step + 1} of {steps}, loss {loss.item():.4f}")
    trained: FloatArray = table.detach().numpy()
    return trained


def batch_loss(sums: torch.Tensor, target: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Return the loss of one batch: own direction, and likeness among the texts of the batch."""
    made = torch.nn.functional.normalize(sums, dim=1)
    wanted = torch.nn.functional.normalize(target, dim=1)
    direction = 1 - (made * wanted).sum(1).mean()
    return direction + PAIR_WEIGHT * (made @ made.T - teacher @ teacher.T).square().mean()


def _sums(table: torch.Tensor, lists: TokenLists, rows: npt.NDArray[np.int64]) -> torch.Tensor:
    """Return the sum of the token vectors of each of the texts `rows`, (len(rows), d)."""
    lengths = lists.lengths()[rows]
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    within = np.arange(lengths.sum()) - np.repeat(starts, lengths)
    ids = lists.ids[np.repeat(lists.starts[:-1][rows], lengths) + within]
    return torch.nn.functional.embedding_bag(
        torch.from_numpy(ids), table, torch.from_numpy(starts), mode="sum"
    )
