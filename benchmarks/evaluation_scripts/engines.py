"""One engine at work on a job; run in the engine's own environment by ``benchmarks/evaluation.py``."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Work = Callable[[], list[Any]]


def heptune(job: dict[str, Any]) -> tuple[Work, Work]:
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from tasks.evaluation.asking.ask import AnswerLimits, ask_questions
    from tasks.evaluation.asking.question import Option, Question

    model = AutoModelForCausalLM.from_pretrained(job["model"], dtype="float32").eval()
    tokenizer = AutoTokenizer.from_pretrained(job["model"])
    limits = AnswerLimits(job["new_tokens"], job["batch"])

    def choices() -> list[Any]:
        questions = [
            Question(str(n), "choices", one["query"], tuple(Option(f" {text}") for text in one["choices"]))
            for n, one in enumerate(job["questions"])
        ]
        return [choose(r.log_likelihoods) for r in ask_questions(model, tokenizer, questions, limits, "choices")]

    def answers() -> list[Any]:
        questions = [Question(str(n), prompt=prompt) for n, prompt in enumerate(job["prompts"])]
        return [reply.text for reply in ask_questions(model, tokenizer, questions, limits, "answers")]

    return choices, answers


def plain(job: dict[str, Any]) -> tuple[Work, Work]:
    """What one would write in ten minutes: one option, or one prompt, at a time."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(job["model"], dtype="float32").eval()
    tokenizer = AutoTokenizer.from_pretrained(job["model"])

    @torch.inference_mode()
    def choices() -> list[Any]:
        found = []
        for one in job["questions"]:
            before = len(tokenizer(one["query"]).input_ids)
            sums = []
            for text in one["choices"]:
                ids = tokenizer(f"{one['query']} {text}", return_tensors="pt").input_ids
                logits = model(input_ids=ids).logits[0, before - 1 : -1].log_softmax(-1)
                sums.append(float(logits.gather(1, ids[0, before:, None]).sum()))
            found.append(choose(sums))
        return found

    @torch.inference_mode()
    def answers() -> list[Any]:
        found = []
        for prompt in job["prompts"]:
            encoded = tokenizer(prompt, return_tensors="pt", return_token_type_ids=False)
            ids = model.generate(**encoded, max_new_tokens=job["new_tokens"], do_sample=False)
            found.append(tokenizer.decode(ids[0, encoded.input_ids.shape[1] :], skip_special_tokens=True))
        return found

    return choices, answers


def lm_eval(job: dict[str, Any]) -> tuple[Work, Work]:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    model = HFLM(pretrained=job["model"], dtype="float32", batch_size=job["batch"], device="cpu")

    def choices() -> list[Any]:
        requests = [
            Instance("loglikelihood", {}, (one["query"], f" {text}"), 0, ("t", n, 1))
            for n, one in enumerate(job["questions"])
            for text in one["choices"]
        ]
        sums = iter(total for total, _ in model.loglikelihood(requests, disable_tqdm=True))
        return [choose([next(sums) for _ in one["choices"]]) for one in job["questions"]]

    def answers() -> list[Any]:
        how = {"until": [], "max_gen_toks": job["new_tokens"], "do_sample": False}
        requests = [
            Instance("generate_until", {}, (p, dict(how)), 0, ("t", n, 1)) for n, p in enumerate(job["prompts"])
        ]
        return list(model.generate_until(requests, disable_tqdm=True))

    return choices, answers


def lighteval(job: dict[str, Any]) -> tuple[Work, Work]:
    """Documents as the prompt functions of its tasks make them, asked as its pipeline asks them."""
    from lighteval.models.transformers.transformers_model import TransformersModel, TransformersModelConfig
    from lighteval.tasks.requests import Doc

    config = TransformersModelConfig(
        model_name=job["model"],
        batch_size=job["batch"],
        dtype="float32",
        device="cpu",
        # Else it asks by the chat template of the model, and from the second round on its cache answers.
        override_chat_template=False,
        cache_dir=str(Path("lighteval").resolve()),
    )
    model = TransformersModel(config)
    model._cache = None

    def choices() -> list[Any]:
        docs = [
            Doc(query=one["query"], choices=[f" {text}" for text in one["choices"]], gold_index=0, id=str(n))
            for n, one in enumerate(job["questions"])
        ]
        return [choose(reply.logprobs) for reply in model.loglikelihood(docs)]

    def answers() -> list[Any]:
        # The length belongs to the task: that of the model's settings would cut the prompts to it.
        length = job["new_tokens"]
        docs = [
            Doc(query=prompt, choices=[""], gold_index=0, id=str(n), generation_size=length, stop_sequences=[])
            for n, prompt in enumerate(job["prompts"])
        ]
        return [reply.text[0] for reply in model.greedy_until(docs)]

    return choices, answers


def choose(sums: Any) -> int:
    """The likeliest option."""
    return max(range(len(sums)), key=sums.__getitem__)


ENGINES = {"heptune": heptune, "plain": plain, "lm_eval": lm_eval, "lighteval": lighteval}


def main() -> None:
    name, job_file, result = sys.argv[1:]
    job = json.loads(Path(job_file).read_text())
    import torch

    torch.set_num_threads(job["threads"])
    found = {}
    for work, function in zip(("choices", "answers"), ENGINES[name](job), strict=True):
        clock, processor = time.perf_counter(), time.process_time()
        answers = function()
        found[work] = {
            "seconds": time.perf_counter() - clock,
            "processor": time.process_time() - processor,
            "found": answers,
        }
    Path(result).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
