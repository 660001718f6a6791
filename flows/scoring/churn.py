"""Churn: the probability that a household buys nothing in the next four weeks, trained on gold.

The data is split by time, never by rows. With the last complete day of sales at the right:

    … ─┬── 28 days ──┬── 28 days ──┬── 28 days ──┤
       training      training      holdout       scored now

A cutoff's features end with its day, its label is the following 28 days. The training windows end where the holdout's
begins, so the holdout is unknown during training. After the evaluation, the model is refitted including the holdout,
and scores the current households.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from datetime import date, timedelta
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.scoring.logistic import Flags, Floats, Logistic, area_under_curve, calibration_error, fit, log_loss
from flows.values.errors import DataRefused, WarehouseError

if TYPE_CHECKING:
    from asyncpg import Connection, Record

#: The features, in the order of the weights. All but the share are right-skewed and enter as log(1 + x).
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
    """The declared model. `least_auc` is the floor: below it on the holdout, nothing is published."""

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
    """Households at cutoffs: rows by FEATURES, and whether each churned."""

    cutoffs: tuple[date, ...]
    households: tuple[int, ...]
    present: Flags
    features: Floats
    labels: Flags

    def unlabelled(self, cutoff: date) -> Examples:
        """The same, without what is known of the time after a cutoff."""
        known = np.array([each != cutoff for each in self.cutoffs], dtype=bool)
        return replace(self, labels=self.labels & known)

    def at(self, wanted: set[date]) -> Examples:
        """The examples at some of the cutoffs."""
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
    """An evaluated model and its scores: `households` by number, most likely to churn in decile 1."""

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
    """Read gold, fit, evaluate on the holdout, and score. `refuse_below` decides whether it is good enough.

    Raises:
        WarehouseError: gold has not been built.
        DataRefused: there is too little history, or too few households of either kind, for training or evaluation.
    """
    if await warehouse.fetchval("select to_regclass('gold.fct_basket_lines') is null"):
        raise WarehouseError(
            "gold has not been built", where=model.name, fix="run `medallion transform`, then predict again"
        )
    first, last = await _span(warehouse, model)
    training = training_cutoffs(first, last, model)
    holdout = last - timedelta(days=model.window_days)
    # Purchases of a day that is not over are after the last cutoff: none of its households can be said to have stayed.
    everything = (await read_examples(warehouse, [*training, holdout, last], model)).unlabelled(last)
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
    """The refusal if the model is worse on the holdout than its floor, else None."""
    auc = trained.metrics["auc"]
    if auc >= model.least_auc:
        return None
    return DataRefused(
        f"on the holdout of {trained.holdout} the model's AUC is {auc:.3f}, and {model.least_auc:.2f} is the least; "
        "the previous version's scores are kept",
        where=f"model {model.name}",
        fix="find in ml.model_versions when it became worse, and check what changed in gold then; lower "
        "least_auc in flows/scoring/churn.py only with a reason",
    )


async def _span(warehouse: Connection[Record], model: Churn) -> tuple[date, date]:
    """The first and last complete day of sales. Raises DataRefused if they leave no room for training and holdout."""
    # A day that is not over has fewer purchases, and who comes in its evening would count as one who stayed away.
    row = await warehouse.fetchrow(
        "select min(sold_on) as first, max(sold_on) filter (where is_complete) as last from gold.agg_daily_sales"
    )
    needed = model.lately_days + 3 * model.window_days
    if row is None or row["last"] is None or (row["last"] - row["first"]).days < needed:
        raise _too_little(model, f"gold has less than {needed} days of sales")
    return row["first"], row["last"]


def training_cutoffs(first: date, last: date, model: Churn) -> list[date]:
    """The training cutoffs, newest first: full windows before the holdout's, each with its full past."""
    window = timedelta(days=model.window_days)
    cutoffs = [last - window * nth for nth in range(2, model.training_windows + 2)]
    return [cutoff for cutoff in cutoffs if cutoff - timedelta(days=model.lately_days) >= first]


async def read_examples(warehouse: Connection[Record], cutoffs: list[date], model: Churn) -> Examples:
    """Households at the cutoffs, as known on each evening, and their purchases in the following window."""
    query = (resources.files("flows.scoring") / "churn_features.sql").read_text(encoding="utf-8")
    rows = await warehouse.fetch(query, cutoffs, model.window_days, model.lately_days)
    told = np.array([[row[name] or 0.0 for name in FEATURES[:-1]] for row in rows], dtype=np.float64)
    told = told.reshape(len(rows), len(FEATURES) - 1)
    recency, between, share = (
        FEATURES.index(name) for name in ("recency_days", "days_between_visits", "discount_share")
    )
    # How late the household is relative to its own habit: twice its usual pause is more informative than fourteen days.
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
        f"{what}: too little data to train on",
        where=f"model {model.name}",
        fix="wait for more sales, or load more history",
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
    """1 for the tenth most likely to churn; ties in the given order, by household number."""
    order = np.argsort(-scores, kind="stable")
    deciles = np.empty(len(scores), dtype=np.int64)
    deciles[order] = np.arange(len(scores)) * 10 // max(len(scores), 1) + 1
    return tuple(int(decile) for decile in deciles)


def _fingerprint(examples: Examples, model: Churn) -> str:
    """Equal for the same model on the same data. Rounded, since sums of doubles differ in their last digits."""
    seen = hashlib.sha256(json.dumps([asdict(model), FEATURES]).encode())
    seen.update(json.dumps([[cutoff.isoformat() for cutoff in examples.cutoffs], examples.households]).encode())
    for array in (np.round(examples.features, 6) + 0.0, examples.labels, examples.present):
        seen.update(np.ascontiguousarray(array).tobytes())
    return seen.hexdigest()
