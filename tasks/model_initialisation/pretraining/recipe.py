"""Pretrain the embedded base model: a Llama-style causal model of about ten million parameters.

The run is resumable: its whole state (weights, optimiser, position, loss curve) is replaced on disk
every few minutes, and a restart continues at the next batch. The learning rate is constant after
warm-up and falls to zero over the last part (warmup-stable-decay, Hu et al. 2024,
arXiv:2404.06395), so that the number of tokens can be chosen during the run. Matrices
are trained with Muon (Jordan et al. 2024), embeddings and norms with AdamW.
"""

from __future__ import annotations

import logging
import math
import random
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

from tasks.contracts.manifest import replacing
from tasks.model_initialisation.pretraining import corpus
from tasks.model_initialisation.pretraining.tokenizer import END, PAD, START, train_tokenizer

logger = logging.getLogger(__name__)

CONTEXT = 512
SHARES = {"novels": 0.50, "news": 0.14, "dialogue": 0.36}


@dataclass(frozen=True)
class Recipe:
    """How the base is trained.

    Attributes:
        tokens: Training tokens in all.
        batch: Windows of 512 tokens per step.
        learning_rate: Peak rate of both optimisers.
        warmup_steps: Linear warm-up.
        decay_share: Share of the tokens over which the rate falls linearly to zero.
        dialogues: Conversations generated for the dialogue stream.
        seed: Seed of weights, dialogues and the order of windows.
    """

    tokens: int = 20_000_000
    batch: int = 16
    learning_rate: float = 2.5e-3
    warmup_steps: int = 100
    decay_share: float = 0.3
    dialogues: int = 130_000
    seed: int = 20_261
    novels: tuple[str, ...] = ("eltec_novels/*.jsonl.xz",)
    news: tuple[str, ...] = ("digitalgov_news/*.jsonl.gz",)


@dataclass
class Progress:
    """The state of a run besides weights and optimisers."""

    step: int = 0
    curve: list[tuple[int, float]] = field(default_factory=list)
    validation: list[tuple[int, float]] = field(default_factory=list)
    seconds: float = 0.0


def model_config(vocabulary: int) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=320,
        intermediate_size=864,
        num_hidden_layers=6,
        num_attention_heads=5,
        num_key_value_heads=5,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        bos_token_id=0,
        pad_token_id=1,
        eos_token_id=2,
        dtype="float32",
    )


def prepare_corpus(source: Path, work: Path, recipe: Recipe) -> Tokenizer:
    """Train the tokenizer and write one token file per stream and split below ``work``.

    A second call returns the tokenizer of a finished first one.
    """
    tokenizer_file = work / "tokenizer.json"
    if tokenizer_file.is_file():
        return Tokenizer.from_file(str(tokenizer_file))
    work.mkdir(parents=True, exist_ok=True)
    streams: dict[str, dict[str, list[str]]] = {}
    for stream, patterns in (("novels", recipe.novels), ("news", recipe.news)):
        parts: dict[str, list[str]] = {"train": [], "held_out": []}
        for pattern in patterns:
            for path in sorted(source.glob(pattern)):
                for document_id, text in corpus.read_documents(path):
                    parts["held_out" if corpus.is_held_out(document_id) else "train"].append(text)
        streams[stream] = parts
    words = corpus.frequent_words(streams["novels"]["train"] + streams["news"]["train"])
    streams["dialogue"] = {
        "train": corpus.sample_dialogues(recipe.dialogues, recipe.seed, words),
        "held_out": corpus.sample_dialogues(600, recipe.seed + 1, words),
    }
    logger.info("training the tokenizer")
    rng = random.Random(recipe.seed)
    sample = [piece for text in streams["novels"]["train"] for piece in corpus.split_long(text)]
    rng.shuffle(sample)
    sample = sample[:800] + streams["news"]["train"] * 2 + streams["dialogue"]["train"][:30_000]
    tokenizer = train_tokenizer(iter(sample))
    for stream, parts in streams.items():
        for split, texts in parts.items():
            pieces = [piece for text in texts for piece in corpus.split_long(text)]
            ids = corpus.encode(pieces, tokenizer)
            size = sum(len(text.encode()) for text in pieces)
            np.save(work / f"{stream}.{split}.npy", ids)
            (work / f"{stream}.{split}.bytes").write_text(str(size))
            logger.info("%s %s: %d tokens, %.2f bytes a token", stream, split, len(ids), size / len(ids))
    tokenizer.save(str(tokenizer_file))
    return tokenizer


class Windows:
    """Training windows in a fixed order: streams in proportion to their shares, each shuffled in every pass."""

    def __init__(self, work: Path, recipe: Recipe) -> None:
        self.seed, self.batch = recipe.seed, recipe.batch
        self.streams = {s: np.load(work / f"{s}.train.npy", mmap_mode="r") for s in SHARES}
        self.order = np.random.default_rng(recipe.seed).choice(
            len(SHARES), size=200_000 * recipe.batch // 16, p=list(SHARES.values())
        )
        self.rank = np.zeros_like(self.order)
        for index in range(len(SHARES)):
            chosen = self.order == index
            self.rank[chosen] = np.arange(chosen.sum())
        self.shuffles: dict[tuple[str, int], np.ndarray] = {}

    def step(self, number: int) -> torch.Tensor:
        """Token ids of one batch, shape (batch, 513): inputs and their successors."""
        rows = [self._window(number * self.batch + row) for row in range(self.batch)]
        return torch.from_numpy(np.stack(rows).astype(np.int64))

    def _window(self, index: int) -> np.ndarray:
        names = list(SHARES)
        name = names[self.order[index]]
        ids = self.streams[name]
        count = (len(ids) - 1) // CONTEXT
        epoch, position = divmod(int(self.rank[index]), count)
        if (name, epoch) not in self.shuffles:
            generator = np.random.default_rng([self.seed, names.index(name), epoch])
            self.shuffles[name, epoch] = generator.permutation(count)
        start = int(self.shuffles[name, epoch][position]) * CONTEXT
        return np.asarray(ids[start : start + CONTEXT + 1])


def learning_rate(step: int, steps: int, recipe: Recipe) -> float:
    warm = min(1.0, (step + 1) / recipe.warmup_steps)
    decay = min(1.0, (steps - step) / max(1, recipe.decay_share * steps))
    return recipe.learning_rate * warm * decay


def make_optimizers(model: LlamaForCausalLM, recipe: Recipe) -> list[torch.optim.Optimizer]:
    inner = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed_tokens" not in n]
    outer = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed_tokens" in n]
    muon = torch.optim.Muon(
        inner, lr=recipe.learning_rate, weight_decay=0.05, adjust_lr_fn="match_rms_adamw", ns_steps=5
    )
    adam = torch.optim.AdamW(outer, lr=recipe.learning_rate, betas=(0.9, 0.95), weight_decay=0.0)
    return [muon, adam]


def evaluate_bits(model: LlamaForCausalLM, work: Path, limit: int = 40) -> dict[str, float]:
    """Bits per UTF-8 byte of each held-out stream (at most ``limit`` windows of each)."""
    bits = {}
    for stream in SHARES:
        ids = np.load(work / f"{stream}.held_out.npy")
        size = int((work / f"{stream}.held_out.bytes").read_text())
        count = min(limit, (len(ids) - 1) // CONTEXT)
        total = 0.0
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            for start in range(0, count, 8):
                rows = [ids[w * CONTEXT : w * CONTEXT + CONTEXT + 1] for w in range(start, min(start + 8, count))]
                batch = torch.from_numpy(np.stack(rows).astype(np.int64))
                total += batch_loss(model, batch).item() * batch[:, 1:].numel()
        bits[stream] = total / (count * CONTEXT) / math.log(2) * len(ids) / size
    return bits


def batch_loss(model: Any, batch: torch.Tensor) -> torch.Tensor:
    logits = model(input_ids=batch[:, :-1], use_cache=False).logits
    return torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), batch[:, 1:].flatten())


def pretrain(source: Path, work: Path, recipe: Recipe, save_every_s: float = 180.0) -> Path:
    """Run or continue the recipe.

    Args:
        source: Folder of the corpus files named in the recipe.
        work: Folder for token files and the state of the run.
        recipe: What to train.
        save_every_s: Seconds between two saved states.

    Returns:
        The file of the finished state, below ``work``.
    """
    tokenizer = prepare_corpus(source, work, recipe)
    assert tokenizer.token_to_id(START) == 0
    assert tokenizer.token_to_id(PAD) == 1
    assert tokenizer.token_to_id(END) == 2
    torch.manual_seed(recipe.seed)
    model = LlamaForCausalLM(model_config(tokenizer.get_vocab_size()))
    optimizers = make_optimizers(model, recipe)
    progress = Progress()
    state_file = work / "state.pt"
    if state_file.is_file():
        state = torch.load(state_file, weights_only=True)
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        progress = Progress(**state["progress"])
        logger.info("continuing at step %d", progress.step)
    windows = Windows(work, recipe)
    steps = recipe.tokens // (recipe.batch * CONTEXT)
    forward = torch.compile(model)
    began = saved_at = time.monotonic()
    losses: list[float] = []
    while progress.step < steps:
        rate = learning_rate(progress.step, steps, recipe)
        with torch.autocast("cpu", torch.bfloat16):
            loss = batch_loss(forward, windows.step(progress.step))
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        progress.step += 1
        if progress.step % 20 == 0 or progress.step == steps:
            mean = sum(losses) / len(losses)
            losses = []
            progress.curve.append((progress.step, mean))
            elapsed = time.monotonic() - began
            logger.info("step %d of %d, loss %.3f, rate %.2e, %.0f s", progress.step, steps, mean, rate, elapsed)
        if progress.step % 1000 == 0 or progress.step == steps:
            bits = evaluate_bits(model, work)
            progress.validation.append((progress.step, bits["novels"]))
            logger.info("held out, bits per byte: %s", {k: round(v, 3) for k, v in bits.items()})
        if time.monotonic() - saved_at > save_every_s or progress.step == steps:
            save_state(state_file, model, optimizers, progress)
            saved_at = time.monotonic()
    return state_file


def save_state(
    path: Path, model: LlamaForCausalLM, optimizers: list[torch.optim.Optimizer], progress: Progress
) -> None:
    state = {
        "model": model.state_dict(),
        "optimizers": [o.state_dict() for o in optimizers],
        "progress": vars(progress),
    }
    with replacing(path) as aside:
        torch.save(state, aside)
