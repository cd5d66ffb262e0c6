"""Personal data by Microsoft's Presidio (https://github.com/microsoft/presidio), with the extra ``pii``.

Presidio's recognisers for e-mail addresses, phone numbers (Google's libphonenumber), IBANs, payment cards (Luhn), IP
addresses and national ids, beside the built-in patterns, so that it finds whatever they do. Names and places need a
spaCy model: the name of an installed package (``en_core_web_lg``) or a folder; nothing is ever downloaded. Without
one, names, places and addresses stay in the text.

``min_score`` is Presidio's confidence: a checksum that holds gives 1.0, a phone number alone 0.4, a word such as
"mobile" or "passport" nearby adds 0.35. Order numbers may pass for phone numbers and national ids; where texts are
full of them, raise it.

Example:
    ``{name: pii, finder: {name: presidio, spacy_model: en_core_web_lg, countries: [us, uk, in]}}``
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from tasks.contracts.errors import PipelineError
from tasks.contracts.params import Reads, Section
from tasks.corpus.personal_data.found import Found, Kind, read_plainly
from tasks.corpus.personal_data.patterns import SUSPECT, SUSPECT_IP

if TYPE_CHECKING:
    import pyarrow as pa

Country = Literal[
    "au", "ca", "de", "es", "fi", "in", "it", "kr", "ng", "ph", "pl", "se", "sg", "th", "tr", "uk", "us", "za"
]

KINDS: dict[str, Kind] = {
    "EMAIL_ADDRESS": "email",
    "PHONE_NUMBER": "phone",
    "IBAN_CODE": "iban",
    "CREDIT_CARD": "card",
    "IP_ADDRESS": "ip",
    "PERSON": "name",
    "LOCATION": "place",
}
# Presidio's recognisers of numbers that the state or its health service gives to a person.
NATIONAL: dict[str, tuple[str, ...]] = {
    "au": ("AuTfnRecognizer", "AuMedicareRecognizer"),
    "ca": ("CaSinRecognizer",),
    "de": ("DeIdCardRecognizer", "DeTaxIdRecognizer", "DeSocialSecurityRecognizer", "DePassportRecognizer"),
    "es": ("EsNifRecognizer", "EsNieRecognizer", "EsPassportRecognizer"),
    "fi": ("FiPersonalIdentityCodeRecognizer",),
    "in": ("InAadhaarRecognizer", "InPanRecognizer", "InVoterRecognizer", "InPassportRecognizer"),
    "it": ("ItFiscalCodeRecognizer", "ItIdentityCardRecognizer", "ItPassportRecognizer", "ItDriverLicenseRecognizer"),
    "kr": ("KrRrnRecognizer", "KrPassportRecognizer", "KrDriverLicenseRecognizer"),
    "ng": ("NgNinRecognizer",),
    "ph": ("PhUmidRecognizer", "PhPassportRecognizer"),
    "pl": ("PlPeselRecognizer",),
    "se": ("SePersonnummerRecognizer",),
    "sg": ("SgFinRecognizer",),
    "th": ("ThTninRecognizer",),
    "tr": ("TrNationalIdRecognizer",),
    "uk": ("UkNinoRecognizer", "NhsRecognizer", "UkDrivingLicenceRecognizer", "UkPassportRecognizer"),
    "us": ("UsSsnRecognizer", "UsItinRecognizer", "UsPassportRecognizer", "UsLicenseRecognizer"),
    "za": ("ZaIdNumberRecognizer", "ZaPassportRecognizer"),
}
PEOPLE = {"PER": "PERSON", "PERSON": "PERSON", "GPE": "LOCATION", "LOC": "LOCATION", "FAC": "LOCATION"}
BATCH_SIZE = 64


class Presidio(Section):
    """Presidio's recognisers and the built-in patterns."""

    name: Literal["presidio"] = "presidio"
    kinds: tuple[Kind, ...] = Field(
        default=(), description="what is looked for; empty: all but names and places, and these with a spaCy model"
    )
    spacy_model: Annotated[str | None, Reads("module")] = Field(
        default=None, description="installed package or folder; finds names and places"
    )
    language: str = Field(default="en", description="of the texts, ISO 639-1")
    countries: tuple[Country, ...] = Field(default=("us", "uk"), description="whose national ids are looked for")
    phone_regions: tuple[str, ...] = Field(
        default=("US", "GB", "DE", "FR", "IL", "IN", "CA", "BR"),
        description="whose phone numbers are known without a country code, ISO 3166-1",
    )
    min_score: float = Field(default=0.4, ge=0, le=1, description="Presidio's confidence from which on it counts")

    @model_validator(mode="after")
    def _names_need_a_model(self) -> Presidio:
        if self.spacy_model is None and (needed := {"name", "place"} & set(self.kinds)):
            raise ValueError(
                f"{', '.join(sorted(needed))} cannot be found without spacy_model; "
                "name an installed spaCy model or its folder"
            )
        return self

    @property
    def wanted(self) -> frozenset[Kind]:
        """The kinds that are searched for."""
        numbers: tuple[Kind, ...] = ("email", "phone", "iban", "card", "ip", "national_id")
        return frozenset(self.kinds or (numbers if self.spacy_model is None else (*numbers, "name", "place")))

    def screen(self, texts: pa.Array) -> pa.Array:
        import pyarrow.compute as pc

        # National ids contain digits; names can be any text.
        if {"name", "place"} & self.wanted:
            return pc.not_equal(texts, "")
        return pc.match_substring_regex(texts, rf"\p{{Nd}}|{SUSPECT}|{SUSPECT_IP}")

    def find(self, texts: Sequence[str]) -> list[list[Found]]:
        from tasks.corpus.personal_data.identifiers import find_plain

        engine = _make_engine(self)
        plain: list[str] = []

        def collect(text: str) -> list[Found]:
            plain.append(text)
            return []

        for text in texts:
            read_plainly(text, collect)
        documents = engine.nlp_engine.process_batch(plain, self.language, batch_size=BATCH_SIZE)
        wanted = tuple(self.wanted)
        found_per_text = [self._analyze(engine, text, parts, find_plain(text, wanted)) for text, parts in documents]
        return [read_plainly(text, partial(_known, each)) for text, each in zip(texts, found_per_text, strict=True)]

    def _analyze(self, engine: Any, text: str, parts: Any, plain: list[Found]) -> list[Found]:
        results = engine.analyze(
            text, self.language, entities=_entities(engine), score_threshold=self.min_score, nlp_artifacts=parts
        )
        scored = [(r.score, Found(r.start, r.end, KINDS.get(r.entity_type, "national_id"))) for r in results]
        scored += [(1.0, found) for found in plain]
        return merge([pair for pair in scored if pair[1].kind in self.wanted])


def merge(scored: Sequence[tuple[float, Found]]) -> list[Found]:
    """Merge overlapping spans into one of the kind with the highest score, then the longest span, then the first."""
    merged: list[Found] = []
    best: tuple[float, int] = (0.0, 0)
    for score, found in sorted(scored, key=lambda pair: (pair[1].start, -pair[1].end, -pair[0], pair[1].kind)):
        rank = (score, found.end - found.start)
        if merged and found.start < merged[-1].end:
            last = merged[-1]
            kind = found.kind if rank > best else last.kind
            merged[-1] = Found(last.start, max(last.end, found.end), kind)
            best = max(best, rank)
        else:
            merged.append(found)
            best = rank
    return merged


def _known(found: list[Found], _: str) -> list[Found]:
    return found


def _entities(engine: Any) -> list[str]:
    return sorted({entity for recogniser in engine.registry.recognizers for entity in recogniser.supported_entities})


@cache
def _make_engine(settings: Presidio) -> Any:
    """Presidio's analyzer.

    Raises:
        PipelineError: Presidio or the spaCy model is not there.
    """
    try:
        import presidio_analyzer.predefined_recognizers as recognizer_classes
        import spacy
        from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
        from presidio_analyzer.nlp_engine import NerModelConfiguration, SpacyNlpEngine
        from tldextract import TLDExtract
    except ImportError as error:
        raise PipelineError(
            "pii: presidio is not installed; pip install 'heptune[pii]', or finder: patterns"
        ) from error

    class Engine(SpacyNlpEngine):
        """spaCy on the CPU, from what is on the disk; a tokenizer alone where there is no model."""

        def load(self) -> None:
            pass

        def _doc_to_nlp_artifact(self, doc: Any, language: str) -> Any:
            for token in doc:
                # Words around decide; a tokenizer alone gives no lemmas.
                token.lemma_ = token.lemma_ or token.lower_
            return super()._doc_to_nlp_artifact(doc, language)

    class Emails(recognizer_classes.EmailRecognizer):
        """Presidio's, with the list of domains that comes with tldextract instead of a downloaded one."""

        domains = TLDExtract(suffix_list_urls=(), cache_dir=None)

        def validate_result(self, pattern_text: str) -> bool:
            return bool(self.domains(pattern_text).fqdn)

    nlp = _load_model(settings, spacy)
    labels = {label for labels in nlp.pipe_labels.values() for label in labels}
    engine = Engine(
        [{"lang_code": settings.language, "model_name": settings.spacy_model or "blank"}],
        NerModelConfiguration(
            model_to_presidio_entity_mapping=PEOPLE, labels_to_ignore=sorted(labels - PEOPLE.keys() - set(KINDS))
        ),
    )
    loaded: Any = engine
    loaded.nlp = {settings.language: nlp}
    language = settings.language
    recognisers: list[Any] = [
        Emails(supported_language=language),
        recognizer_classes.PhoneRecognizer(supported_language=language, supported_regions=settings.phone_regions),
        recognizer_classes.IbanRecognizer(supported_language=language),
        recognizer_classes.CreditCardRecognizer(supported_language=language),
        recognizer_classes.IpRecognizer(supported_language=language),
        *(
            getattr(recognizer_classes, name)(supported_language=language)
            for country in sorted(set(settings.countries))
            for name in NATIONAL[country]
        ),
    ]
    if settings.spacy_model is not None:
        recognisers.append(
            recognizer_classes.SpacyRecognizer(supported_language=language, supported_entities=["PERSON", "LOCATION"])
        )
    registry = RecognizerRegistry(recognizers=recognisers, supported_languages=[language])
    return AnalyzerEngine(registry=registry, nlp_engine=engine, supported_languages=[language])


def _load_model(settings: Presidio, spacy: Any) -> Any:
    model = settings.spacy_model
    if model is None:
        return spacy.blank(settings.language)
    if not (Path(model).is_dir() or spacy.util.is_package(model)):
        raise PipelineError(
            f"pii: no spaCy model {model}; install it (python -m spacy download {model}), name a folder, "
            "or leave spacy_model out and do without names and places"
        )
    nlp = spacy.load(model)
    if not {label for labels in nlp.pipe_labels.values() for label in labels} & PEOPLE.keys():
        raise PipelineError(
            f"pii: the spaCy model {model} tells none of {', '.join(sorted(PEOPLE))}; take one that tells names"
        )
    return nlp
