"""Versions of models and the scores they gave, in schema `ml`: written together, or not at all."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flows.scoring.churn import Churn, Trained
from flows.values.errors import WarehouseError

if TYPE_CHECKING:
    from asyncpg import Connection, Record


@dataclass(frozen=True, slots=True)
class Version:
    """A version in the registry; `is_new` is false when the same model on the same data stood there already."""

    number: int
    status: str
    is_new: bool


async def register(warehouse: Connection[Record], model: Churn, trained: Trained, status: str) -> Version:
    """Write the version, and its scores when `status` is `published`, in one transaction.

    The same model on the same data is one version, however often it is trained. A refused version is kept without
    scores, so that its metrics can be looked at.

    Raises:
        WarehouseError: schema ml is not there yet.
    """
    if await warehouse.fetchval("select to_regclass('ml.model_versions') is null"):
        raise WarehouseError(
            "the tables of schema ml are not there",
            where=f"model {model.name}",
            fix="run `medallion transform`, which creates them, then predict again",
        )
    async with warehouse.transaction():
        # One after the other: two trainings at once would both take the next number.
        await warehouse.execute("lock table ml.model_versions in share update exclusive mode")
        newest = await warehouse.fetchrow(
            "select version, status, fingerprint from ml.model_versions where model = $1 order by version desc limit 1",
            model.name,
        )
        if newest is not None and (newest["fingerprint"], newest["status"]) == (trained.fingerprint, status):
            return Version(newest["version"], status, is_new=False)
        number = 1 if newest is None else newest["version"] + 1
        await warehouse.execute(
            "insert into ml.model_versions (model, version, status, fingerprint, window_from, window_to, holdout_from, "
            "rows_trained, declaration, parameters, metrics) "
            "values ($1, $2, $3, $4, $5, $6, $7, $8, $9::text::jsonb, $10::text::jsonb, $11::text::jsonb)",
            model.name,
            number,
            status,
            trained.fingerprint,
            trained.first_day,
            trained.as_of,
            trained.holdout,
            trained.rows_trained,
            json.dumps({name: getattr(model, name) for name in Churn.__dataclass_fields__}),
            json.dumps(trained.parameters),
            json.dumps(trained.metrics),
        )
        if status == "published":
            scored = zip(trained.households, trained.scores, trained.deciles, strict=True)
            await warehouse.copy_records_to_table(
                "customer_scores",
                schema_name="ml",
                columns=["model", "version", "as_of", "household_id", "score", "decile"],
                records=[(model.name, number, trained.as_of, *row) for row in scored],
            )
    return Version(number, status, is_new=True)
