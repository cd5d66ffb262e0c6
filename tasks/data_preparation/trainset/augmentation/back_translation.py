"""Prompts translated into another language and back by a given model.

Source: Sennrich et al. 2016; Edunov et al. 2018. Good for: different words and word order, if the model
knows both languages. Numbers, addresses and placeholders must be the same in the result.

Example: ``{name: back_translation, language: German, writer: {name: openai, url: "http://...", model: ...}}``
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from tasks.contracts.params import Section
from tasks.data_preparation.trainset.augmentation.material import LINE, Material, Variant, judge_rewriting, tidy_answer
from tasks.language_models.writers import AnyWriter

ORDER = (
    "Translate the text between the lines into {language}. Keep numbers, names, addresses and whatever stands in "
    "brackets as they are. Do not answer it. Write the translation and nothing else.\n{line}\n{text}\n{line}"
)


class BackTranslation(Section):
    """Translates prompts into another language and back."""

    name: Literal["back_translation"] = "back_translation"
    share: float = Field(default=0.1, gt=0, le=1, description="share of the training rows that get a variant")
    language: str = Field(default="German", min_length=2, description="name of the other language, in English")
    home: str = Field(default="English", min_length=2, description="name of the language of the prompts, in English")
    writer: AnyWriter = Field(description="the model that translates")

    def rewrite(self, chosen: Sequence[int], material: Material) -> list[Variant]:
        """A variant of each chosen row, or the reason why there is none."""
        texts = [material.prompts[row] for row in chosen]
        translated = self._translate(texts, self.language, material)
        succeeded = [place for place, text in enumerate(translated) if text is not None]
        back = self._translate([translated[place] or "" for place in succeeded], self.home, material)
        returned = dict(zip(succeeded, back, strict=True))
        variants = []
        for place, row in enumerate(chosen):
            text = returned.get(place)
            variants.append(Variant(row, text or "", judge_rewriting(texts[place], text)))
        return variants

    def _translate(self, texts: Sequence[str], language: str, material: Material) -> list[str | None]:
        from tasks.language_models.writers.answers import ask

        prompts = [
            [{"role": "user", "content": ORDER.format(language=language, line=LINE, text=text)}] for text in texts
        ]
        return [tidy_answer(answer) for answer in ask(self.writer, prompts, material.answered)]
