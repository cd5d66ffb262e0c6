"""What makes a release an embedder: the files by which ``sentence-transformers`` reads a folder.

Without them it writes a text into the chat template and takes the state of the last token, whatever was trained.
"""

from __future__ import annotations

from pathlib import Path

from tasks.contracts.manifest import read_json, write_json
from tasks.language_models.pooling import FOLDER, MODES, Pooling


def write_embedder(folder: Path, pooling: Pooling) -> list[Path]:
    """Have a model folder read as contrastive training made vectors, of texts alone.

    Args:
        folder: A transformers folder.
        pooling: How the states of a text's tokens became its vector.

    Returns:
        The files.
    """
    config = read_json(folder / "config.json")
    width = (config.get("text_config") or config)["hidden_size"]
    states = {"method": "forward", "method_output_name": "last_hidden_state"}
    module = "sentence_transformers.models"
    files = {
        "modules.json": [
            {"idx": 0, "name": "0", "path": "", "type": f"{module}.Transformer"},
            {"idx": 1, "name": "1", "path": FOLDER, "type": f"{module}.Pooling"},
        ],
        "sentence_bert_config.json": {
            "transformer_task": "feature-extraction",
            "modality_config": {"text": states},
            "module_output_name": "token_embeddings",
        },
        f"{FOLDER}/config.json": {
            "embedding_dimension": width,
            "pooling_mode": MODES[pooling],
            "include_prompt": True,
        },
    }
    (folder / FOLDER).mkdir(exist_ok=True)
    for name, content in files.items():
        write_json(folder / name, content)
    return [folder / name for name in files]
