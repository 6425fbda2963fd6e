"""Initial weights with a hand-set copying circuit, which saves most of the training that a model needs to find one.

Layer 0 gets two heads that fetch the previous token and the one before; layer 1 gets two heads that look for an earlier
place with the same two preceding tokens and copy what followed there. Training starts from this and refines it.
"""

from __future__ import annotations

import torch
from transformers import LlamaForCausalLM

HEAD = 64
PAIRS = HEAD // 2
CONSTANT = 0  # residual dimension that is the same for every token
TOKEN = slice(1, 128)  # residual dimensions of the token itself
PREVIOUS = (slice(128, 192), slice(192, 256))  # residual dimensions of the token one and two places back
STILL = (*range(16, 32), *range(48, 64))  # head dimensions that rotary positions hardly turn
FIRST_ORDER = 18  # of the STILL dimensions, those that compare with the previous token


def _rows(head: int) -> slice:
    return slice(head * HEAD, (head + 1) * HEAD)


def _fetch_back(model: LlamaForCausalLM, head: int, distance: int, basis: torch.Tensor) -> None:
    """Make a head of layer 0 attend a fixed distance back and write that token into its own dimensions."""
    attention = model.model.layers[0].self_attn
    turns = model.config.rope_parameters["rope_theta"] ** (-torch.arange(8) / PAIRS)
    for projection in (attention.q_proj, attention.k_proj, attention.v_proj):
        projection.weight[_rows(head)] = 0
    first = head * HEAD
    attention.q_proj.weight[first : first + 8, CONSTANT] = 1.3
    attention.k_proj.weight[first : first + 8, CONSTANT] = 1.3 * torch.cos(distance * turns)
    attention.k_proj.weight[first + PAIRS : first + PAIRS + 8, CONSTANT] = 1.3 * torch.sin(distance * turns)
    attention.v_proj.weight[_rows(head), TOKEN] = basis
    attention.o_proj.weight[:, _rows(head)] = 0
    attention.o_proj.weight[PREVIOUS[distance - 1], _rows(head)] = 0.1 * torch.eye(HEAD)


def _match_and_copy(model: LlamaForCausalLM, head: int, basis: torch.Tensor, out: torch.Tensor) -> None:
    """Make a head of layer 1 find the continuation of the last two tokens and add it to the prediction."""
    attention = model.model.layers[1].self_attn
    for projection in (attention.q_proj, attention.k_proj, attention.v_proj):
        projection.weight[_rows(head)] = 0
    for index, still in enumerate(STILL):
        row = head * HEAD + still
        source = (index + head * PAIRS) % HEAD
        if index < FIRST_ORDER:
            attention.q_proj.weight[row, TOKEN] = 2.4 * basis[source]
            attention.k_proj.weight[row, PREVIOUS[0].start + source] = 2.4
        else:
            attention.q_proj.weight[row, PREVIOUS[0].start + source] = 1.6
            attention.k_proj.weight[row, PREVIOUS[1].start + source] = 1.6
    attention.v_proj.weight[head * HEAD : head * HEAD + out.shape[0], TOKEN] = out
    attention.o_proj.weight[:, _rows(head)] = 0
    attention.o_proj.weight[TOKEN, head * HEAD : head * HEAD + out.shape[0]] = 0.28 * out.T


def install_copying_circuit(model: LlamaForCausalLM) -> None:
    """Overwrite the random initial weights; meant for hidden size 256, head size 64 and four key-value heads."""
    with torch.no_grad():
        _install(model)


def _install(model: LlamaForCausalLM) -> None:
    width = TOKEN.stop - TOKEN.start
    embedding = model.model.embed_tokens.weight
    embedding.zero_()
    embedding[:, TOKEN] = torch.randn(embedding.shape[0], width) / width**0.5
    embedding[:, CONSTANT] = 0.5
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight.mul_(0.3)
        layer.mlp.down_proj.weight.mul_(0.3)
    basis = torch.linalg.qr(torch.randn(width, width)).Q
    for head, distance in enumerate((1, 2)):
        _fetch_back(model, head, distance, basis[:HEAD])
    copied = torch.linalg.qr(torch.randn(width, width)).Q
    _match_and_copy(model, 0, basis[:HEAD], copied[:HEAD])
    _match_and_copy(model, 1, basis[:HEAD], copied[HEAD:])
