"""A tiny base model and small data sets for tests, made in a second."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from tasks.contracts.records import EXAMPLES, content_id
from tasks.contracts.tables import write_table
from tasks.model_initialisation.pretraining.corpus import render_dialogue
from tasks.model_initialisation.pretraining.dialogue import sample_dialogue
from tasks.model_initialisation.pretraining.tokenizer import train_tokenizer, wrap_tokenizer

LABELS = ("open_hours", "lost_item", "book_room", "late_fee")


def make_tiny_model(folder: Path, seed: int = 0) -> Path:
    """A Llama of 2 layers, 64 wide, 600 tokens, context 256, with the chat template of the base."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    rng = random.Random(seed)
    texts = [render_dialogue(sample_dialogue(rng, ["stone", "river"])) for _ in range(300)]
    tokenizer = wrap_tokenizer(train_tokenizer(iter(texts), vocabulary=600), context=256)
    torch.manual_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=256,
            tie_word_embeddings=True,
            bos_token_id=0,
            pad_token_id=1,
            eos_token_id=2,
        )
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def example_rows(count: int, seed: int = 0, source: str = "tiny") -> list[dict[str, object]]:
    """Rows of the `Example` shape with one of four labels each; the answer follows from the label."""
    rng = random.Random(seed)
    rows: list[dict[str, object]] = []
    for number in range(1, count + 1):
        label = rng.choice(LABELS)
        ticket = rng.randint(1000, 9999)
        messages = [
            {"role": "user", "content": f"Question about {label.replace('_', ' ')}, ticket {ticket}."},
            {"role": "assistant", "content": f"We will help with {label.replace('_', ' ')} now."},
        ]
        name = content_id(messages)
        rows.append(
            {"id": name, "messages": messages, "source": source, "row": number, "label": label, "cluster": name}
        )
    return rows


def write_examples(path: Path, rows: list[dict[str, object]]) -> Path:
    write_table(pa.Table.from_pylist(rows, schema=EXAMPLES), path, EXAMPLES)
    return path


def make_tiny_encoder(folder: Path, words: Sequence[str], synonyms: Mapping[str, str], longest: int = 16) -> Path:
    """A sentence-transformers folder whose vector of a text is the mean of random vectors of its words.

    Args:
        folder: Where to.
        words: All it knows; any other word is one and the same to it.
        synonyms: Word to the word whose vector it has.
        longest: Tokens it reads at once, the two around a text included.
    """
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from tokenizers import Tokenizer, normalizers
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    places = {word: place for place, word in enumerate([*marks, *words])}
    tokenizer = Tokenizer(WordLevel(places, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(mark, places[mark]) for mark in ("[CLS]", "[SEP]")]
    )
    torch.manual_seed(0)
    model = BertModel(
        BertConfig(
            vocab_size=len(places),
            hidden_size=64,
            intermediate_size=8,
            num_hidden_layers=0,
            num_attention_heads=2,
            max_position_embeddings=longest,
        )
    )
    vectors = torch.nn.init.normal_(model.embeddings.word_embeddings.weight.data)
    vectors[:4] = 0
    for word, other in synonyms.items():
        vectors[places[word]] = vectors[places[other]]
    for part in (model.embeddings.position_embeddings, model.embeddings.token_type_embeddings):
        torch.nn.init.zeros_(part.weight)
    plain = folder.with_name(f"{folder.name}_plain")
    model.save_pretrained(plain)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", model_max_length=longest
    ).save_pretrained(plain)
    encoder = Transformer(str(plain), max_seq_length=longest)
    SentenceTransformer(modules=[encoder, Pooling(64)], device="cpu").save(str(folder))
    return folder
