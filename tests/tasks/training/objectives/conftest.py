from __future__ import annotations

from pathlib import Path

import pytest

from tasks.language_models.folder.model_folder import load_tokenizer


@pytest.fixture(scope="session")
def teacher(initial: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with the student's vocabulary and decided opinions, whose output layer is wider; read only."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("teacher")
    config = AutoConfig.from_pretrained(initial)
    config.initializer_range, config.vocab_size = 0.3, config.vocab_size + 8
    torch.manual_seed(4)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    load_tokenizer(initial).save_pretrained(folder)
    return folder
