"""Logistic regression with a ridge penalty, by Newton's method, and metrics of its probabilities.

Forty lines of numpy instead of scikit-learn: the model has ten parameters, scikit-learn and scipy unpack to some
140 MB and take a second to import, and the model fits in one JSON object of the warehouse. A test checks the defining
condition of the result: at the optimum the gradient is zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

_STEPS = 100
_CLOSE = 1e-9


@dataclass(frozen=True, slots=True)
class Logistic:
    """A fitted model: one weight for each standardised feature. Positive weights raise the probability."""

    intercept: float
    weights: Floats
    means: Floats
    scales: Floats

    def probabilities(self, features: Floats) -> Floats:
        """The probability of each row (rows by features), strictly between 0 and 1."""
        return _sigmoid(self.intercept + ((features - self.means) / self.scales) @ self.weights)


def fit(features: Floats, labels: Flags, ridge: float) -> Logistic:
    """Fit to rows by features and a label for each row.

    `ridge` above 0 is the penalty of weights, in units of the log-likelihood; the intercept has none. With it there is
    exactly one optimum, even if a feature separates the labels perfectly or duplicates another.
    """
    means, scales = features.mean(axis=0), features.std(axis=0)
    scales = np.where(scales > 0, scales, 1.0)
    design = np.column_stack([np.ones(len(features)), (features - means) / scales])
    penalty = np.full(design.shape[1], ridge)
    penalty[0] = 0.0
    weights = np.zeros(design.shape[1])
    loss = _loss(design, labels, weights, penalty)
    for _ in range(_STEPS):
        probabilities = _sigmoid(design @ weights)
        gradient = design.T @ (probabilities - labels) + penalty * weights
        curvature = (design * (probabilities * (1 - probabilities))[:, None]).T @ design + np.diag(penalty + 1e-12)
        step = np.linalg.solve(curvature, gradient)
        # Halve the step while a full one would overshoot the optimum.
        share = 1.0
        while (reached := _loss(design, labels, weights - share * step, penalty)) > loss and share > _CLOSE:
            share /= 2
        weights, loss = weights - share * step, min(reached, loss)
        if float(np.abs(share * step).max()) < _CLOSE:
            break
    return Logistic(float(weights[0]), weights[1:], means, scales)


def area_under_curve(labels: Flags, scores: Floats) -> float:
    """AUC: the probability that a positive row scores above a negative one; ties count half. 0.5 is guessing."""
    _, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]
    labelled = int(labels.sum())
    others = len(labels) - labelled
    return float((ranks[labels].sum() - labelled * (labelled + 1) / 2) / (labelled * others))


def log_loss(labels: Flags, probabilities: Floats) -> float:
    """The log loss, in nats; less is better."""
    likely = np.clip(np.where(labels, probabilities, 1 - probabilities), 1e-15, 1)
    return float(-np.log(likely).mean())


def calibration_error(labels: Flags, probabilities: Floats, groups: int = 10) -> float:
    """Calibration error: mean distance between predicted and actual share, over tenths of the rows."""
    order = np.argsort(probabilities, kind="stable")
    parts = [part for part in np.array_split(order, groups) if len(part)]
    gaps = [abs(float(probabilities[part].mean()) - float(labels[part].mean())) * len(part) for part in parts]
    return sum(gaps) / len(labels)


def _sigmoid(values: Floats) -> Floats:
    # Beyond 35 a double cannot distinguish the probability from 0 or 1.
    bounded: Floats = 1 / (1 + np.exp(-np.clip(values, -35, 35)))
    return bounded


def _loss(design: Floats, labels: Flags, weights: Floats, penalty: Floats) -> float:
    margin = design @ weights
    return float(np.logaddexp(0, margin).sum() - margin[labels].sum() + (penalty * weights**2).sum() / 2)
