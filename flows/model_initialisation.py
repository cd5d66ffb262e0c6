"""Stage 2: a base model, checked, pinned and described."""

from __future__ import annotations

from flows.wiring import artifacts
from flows.wiring.params import Params
from flows.wiring.releases.source import source_access
from flows.wiring.stage import run, stage, task
from tasks.contracts.tables import read_examples
from tasks.language_models.probes.bias_probe import probe_bias
from tasks.model_initialisation.candidates import choose_base
from tasks.model_initialisation.chat_template import choose_template, render_first
from tasks.model_initialisation.checks import check_folder, open_tokenizer
from tasks.model_initialisation.describe import describe_model
from tasks.model_initialisation.fit import check_fit
from tasks.model_initialisation.generation_config import settle_generation_config
from tasks.model_initialisation.licences import check_licence
from tasks.model_initialisation.measure import measure_loss, measure_tokenizer, open_base
from tasks.model_initialisation.pin import fetch_model, pin_model
from tasks.model_initialisation.report import Findings, write_report
from tasks.model_initialisation.sample_check import check_sample
from tasks.model_initialisation.template_trial import try_template
from tasks.model_initialisation.tokenizer_trial import try_tokenizer
from tasks.model_initialisation.vocabulary import describe_padding, settle_vocabulary


@stage
def model_initialisation(params: Params) -> None:
    """Fetch the base, check its folder, choose the chat template, measure it on the data, and pin it."""
    settings = params.model_initialisation
    examples = read_examples(artifacts.TRAIN)
    access = source_access(params)
    choice = task(choose_base)(
        settings.source,
        settings.candidates,
        settings.choose,
        access,
        read_examples(artifacts.VALIDATION),
        settings.candidate_rows,
        settings.measure_up_to_parameters,
    )
    source = choice.source
    base = task(check_folder)(task(fetch_model)(source, access))
    task(check_licence)(base, settings.licenses.deny)
    task(try_tokenizer)(base.folder, examples)
    vocabulary = settings.vocabulary
    base, tokenizer = task(settle_vocabulary)(
        base, task(open_tokenizer)(base.folder), vocabulary.add, vocabulary.pad, settings.reference
    )
    task(try_template)(tokenizer, settings.chat_template, examples)
    template = task(choose_template)(
        tokenizer, settings.chat_template, settings.template_date, settings.template_arguments, settings.fold_roles
    )
    sample = task(check_sample)(examples, tokenizer)
    task(check_fit)(base.folder, tokenizer, base.weights.parameters)
    generation_config = task(settle_generation_config)(base.folder, tokenizer)
    description = task(describe_model)(base, tokenizer)
    fit = task(measure_tokenizer)(examples, tokenizer, description.context)
    model = task(open_base)(base, settings.measure_up_to_parameters)
    loss = task(measure_loss)(model, examples, tokenizer, description.context, settings.sample_rows)
    bias = task(probe_bias)(model, tokenizer)
    task(pin_model)(
        base, source, settings.reference, template, generation_config, description.facts(), artifacts.INITIAL
    )
    findings = Findings(
        base,
        description,
        source.origin(base.source_folder),
        source.facts(base.source_folder),
        settings.reference,
        template,
        sample,
        fit,
        loss,
        bias,
        vocabulary.add,
        describe_padding(tokenizer),
        render_first(examples, tokenizer),
        choice,
    )
    task(write_report)(findings, artifacts.report("model_initialisation"), artifacts.metrics("model_initialisation"))


if __name__ == "__main__":
    run(model_initialisation)
