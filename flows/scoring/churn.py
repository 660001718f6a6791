"""Who will stay away: the probability that a household buys nothing in the next four weeks, learned from gold.

Time is cut, never rows. With the last day of sales at the right:

    … ─┬── 28 days ──┬── 28 days ──┬── 28 days ──┤
       training      training      holdout       scored now

A cutoff's features end with its day, its label is what happened in the 28 days after it. The windows of training end
where the holdout's begins, so nothing the model is judged by was known when it learned. Once judged, it is fitted again
with the holdout in, and scores the households as they are now.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.scoring.logistic import Flags, Floats, Logistic, area_under_curve, calibration_error, fit, log_loss
from flows.values.errors import DataRefused, WarehouseError

if TYPE_CHECKING:
    from asyncpg import Connection, Record

#: What the model looks at, in the order of its weights. All but the share lean to the right and enter as log(1 + x).
FEATURES = (
    "recency_days",
    "visits_in_window",
    "visits_lately",
    "sales_in_window",
    "sales_lately",
    "tenure_days",
    "days_between_visits",
    "discount_share",
    "overdue",
)


@dataclass(frozen=True, slots=True)
class Churn:
    """The declared model. `least_auc` is the floor: below it on the holdout nothing is published."""

    name: str = "churn"
    window_days: int = 28
    lately_days: int = 84
    training_windows: int = 8
    ridge: float = 1.0
    least_auc: float = 0.70
    least_households: int = 200
    least_of_each: int = 20


CHURN = Churn()


@dataclass(frozen=True, slots=True)
class Examples:
    """Households at cutoffs: rows by FEATURES, and whether each stayed away."""

    cutoffs: tuple[date, ...]
    households: tuple[int, ...]
    present: Flags
    features: Floats
    labels: Flags

    def at(self, wanted: set[date]) -> Examples:
        """Those at some of the cutoffs."""
        chosen = np.array([cutoff in wanted for cutoff in self.cutoffs], dtype=bool)
        return Examples(
            tuple(cutoff for cutoff, keep in zip(self.cutoffs, chosen, strict=True) if keep),
            tuple(household for household, keep in zip(self.households, chosen, strict=True) if keep),
            self.present[chosen],
            self.features[chosen],
            self.labels[chosen],
        )


@dataclass(frozen=True, slots=True)
class Trained:
    """A judged model and its scores: `households` by number, most likely to stay away in decile 1."""

    fingerprint: str
    first_day: date
    as_of: date
    holdout: date
    rows_trained: int
    parameters: dict[str, Any]
    metrics: dict[str, float]
    households: tuple[int, ...]
    scores: tuple[float, ...]
    deciles: tuple[int, ...]


async def train(warehouse: Connection[Record], model: Churn = CHURN) -> Trained:
    """Read gold, fit, judge on the holdout, and score. Whether it is good enough is `refuse_below`'s to say.

    Raises:
        WarehouseError: gold has not been built.
        DataRefused: there is too little history, or too few households of either kind, to learn from or to judge by.
    """
    if await warehouse.fetchval("select to_regclass('gold.fct_basket_lines') is null"):
        raise WarehouseError(
            "gold has not been built", where=model.name, fix="run `medallion transform`, then predict again"
        )
    first, last = await _span(warehouse, model)
    training = training_cutoffs(first, last, model)
    holdout = last - timedelta(days=model.window_days)
    everything = await read_examples(warehouse, [*training, holdout, last], model)
    learned, judged = everything.at(set(training)), everything.at({holdout})
    _refuse_too_few(learned, "training", model)
    _refuse_too_few(judged, "holdout", model)
    candidate = fit(learned.features, learned.labels, model.ridge)
    metrics = _judge(candidate, judged)
    again = everything.at({*training, holdout})
    final = fit(again.features, again.labels, model.ridge)
    now = everything.at({last})
    kept = now.present
    scores = final.probabilities(now.features[kept])
    households = tuple(household for household, keep in zip(now.households, kept, strict=True) if keep)
    return Trained(
        _fingerprint(everything, model),
        first,
        last,
        holdout,
        len(again.labels),
        _plain(final),
        metrics,
        households,
        tuple(float(score) for score in scores),
        _deciles(scores),
    )


def refuse_below(trained: Trained, model: Churn = CHURN) -> DataRefused | None:
    """The refusal when the model is worse on the holdout than its floor, else None."""
    auc = trained.metrics["auc"]
    if auc >= model.least_auc:
        return None
    return DataRefused(
        f"on the holdout of {trained.holdout} the model's AUC is {auc:.3f}, and {model.least_auc:.2f} is the least; "
        "the scores of the version before stay",
        where=f"model {model.name}",
        fix="look at ml.model_versions for when it became worse, and at gold for what changed then; lower "
        "least_auc in flows/scoring/churn.py only with a reason",
    )


async def _span(warehouse: Connection[Record], model: Churn) -> tuple[date, date]:
    """The first and the last day of sales. Raises DataRefused when they leave no room for training and holdout."""
    row = await warehouse.fetchrow("select min(sold_on) as first, max(sold_on) as last from gold.fct_basket_lines")
    needed = model.lately_days + 3 * model.window_days
    if row is None or row["first"] is None or (row["last"] - row["first"]).days < needed:
        raise _too_little(model, f"gold holds less than {needed} days of sales")
    return row["first"], row["last"]


def training_cutoffs(first: date, last: date, model: Churn) -> list[date]:
    """The days training looks from, newest first: whole windows before the holdout's, each with its whole past."""
    window = timedelta(days=model.window_days)
    cutoffs = [last - window * nth for nth in range(2, model.training_windows + 2)]
    return [cutoff for cutoff in cutoffs if cutoff - timedelta(days=model.lately_days) >= first]


async def read_examples(warehouse: Connection[Record], cutoffs: list[date], model: Churn) -> Examples:
    """Households at the cutoffs, as they were known on each evening, and what they did in the window after it."""
    query = (resources.files("flows.scoring") / "churn_features.sql").read_text(encoding="utf-8")
    rows = await warehouse.fetch(query, cutoffs, model.window_days, model.lately_days)
    told = np.array([[row[name] or 0.0 for name in FEATURES[:-1]] for row in rows], dtype=np.float64)
    told = told.reshape(len(rows), len(FEATURES) - 1)
    recency, between, share = (
        FEATURES.index(name) for name in ("recency_days", "days_between_visits", "discount_share")
    )
    # How late the household is by its own habit: twice its usual pause says more than fourteen days.
    overdue = told[:, recency] / np.maximum(told[:, between], 1.0)
    features = np.column_stack([np.log1p(told), np.log1p(overdue)])
    features[:, share] = told[:, share]
    return Examples(
        tuple(row["cutoff"] for row in rows),
        tuple(row["household_id"] for row in rows),
        np.array([row["is_present"] for row in rows], dtype=bool),
        features,
        np.array([row["stayed_away"] for row in rows], dtype=bool),
    )


def _refuse_too_few(examples: Examples, part: str, model: Churn) -> None:
    stayed_away = int(examples.labels.sum())
    fewest = min(stayed_away, len(examples.labels) - stayed_away)
    if len(set(examples.households)) < model.least_households or fewest < model.least_of_each:
        raise _too_little(
            model,
            f"the {part} has {len(set(examples.households))} households, of which {stayed_away} stayed away; at least "
            f"{model.least_households}, and {model.least_of_each} of each kind, are needed",
        )


def _too_little(model: Churn, what: str) -> DataRefused:
    return DataRefused(
        f"{what}: nothing can be learned from so little",
        where=f"model {model.name}",
        fix="wait until more is sold, or load more history",
    )


def _judge(candidate: Logistic, judged: Examples) -> dict[str, float]:
    probabilities = candidate.probabilities(judged.features)
    base_rate = float(judged.labels.mean())
    return {
        "auc": area_under_curve(judged.labels, probabilities),
        "auc_of_recency_alone": area_under_curve(judged.labels, judged.features[:, FEATURES.index("recency_days")]),
        "log_loss": log_loss(judged.labels, probabilities),
        "log_loss_of_base_rate": log_loss(judged.labels, np.full(len(judged.labels), base_rate)),
        "calibration_error": calibration_error(judged.labels, probabilities),
        "base_rate": base_rate,
        "households": float(len(judged.labels)),
    }


def _plain(model: Logistic) -> dict[str, Any]:
    return {
        "intercept": model.intercept,
        "weights": dict(zip(FEATURES, model.weights.tolist(), strict=True)),
        "means": dict(zip(FEATURES, model.means.tolist(), strict=True)),
        "scales": dict(zip(FEATURES, model.scales.tolist(), strict=True)),
    }


def _deciles(scores: Floats) -> tuple[int, ...]:
    """1 for the tenth most likely to stay away; equals by the order given, which is that of household numbers."""
    order = np.argsort(-scores, kind="stable")
    deciles = np.empty(len(scores), dtype=np.int64)
    deciles[order] = np.arange(len(scores)) * 10 // max(len(scores), 1) + 1
    return tuple(int(decile) for decile in deciles)


def _fingerprint(examples: Examples, model: Churn) -> str:
    """The same for the same model on the same data. Rounded, since sums of doubles differ in their last digits."""
    seen = hashlib.sha256(json.dumps([asdict(model), FEATURES]).encode())
    seen.update(json.dumps([[cutoff.isoformat() for cutoff in examples.cutoffs], examples.households]).encode())
    for array in (np.round(examples.features, 6) + 0.0, examples.labels, examples.present):
        seen.update(np.ascontiguousarray(array).tobytes())
    return seen.hexdigest()
