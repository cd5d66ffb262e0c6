"""The methods that assign rows to train, validation and test, one file each."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tasks.data_preparation.splitting.methods.column import Column
from tasks.data_preparation.splitting.methods.content import Content
from tasks.data_preparation.splitting.methods.grouped import Grouped
from tasks.data_preparation.splitting.methods.stratified import Stratified
from tasks.data_preparation.splitting.methods.time import Time

AnySplit = Annotated[Content | Stratified | Grouped | Time | Column, Field(discriminator="name")]
