"""The regression, held to what defines it, and measures with answers known beforehand."""

import numpy as np
import pytest

from flows.scoring.logistic import area_under_curve, calibration_error, fit, log_loss


def made(rows: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Three features of different scales and labels that follow weights 1.5, -1 and 0 by chance."""
    chance = np.random.default_rng(7)
    features = chance.normal(size=(rows, 3)) * (1, 100, 0.01) + (5, -300, 0)
    margin = -0.5 + 1.5 * (features[:, 0] - 5) - (features[:, 1] + 300) / 100
    return features, chance.random(rows) < 1 / (1 + np.exp(-margin))


def test_at_the_optimum_the_gradient_is_zero() -> None:
    """The condition that defines it. An implementation that stopped early, or went astray, would miss it."""
    features, labels = made()
    ridge = 2.0
    model = fit(features, labels, ridge)
    residuals = model.probabilities(features) - labels
    standard = (features - model.means) / model.scales
    assert abs(residuals.sum()) < 1e-6
    assert standard.T @ residuals + ridge * model.weights == pytest.approx(np.zeros(3), abs=1e-6)


def test_the_weights_behind_the_data_are_found() -> None:
    model = fit(*made(20_000), ridge=1e-3)
    assert model.intercept == pytest.approx(-0.5, abs=0.1)
    assert model.weights == pytest.approx([1.5, -1.0, 0.0], abs=0.08)


def test_more_ridge_means_smaller_weights() -> None:
    features, labels = made()
    sizes = [float(np.abs(fit(features, labels, ridge).weights).sum()) for ridge in (0.1, 10, 1000)]
    assert sizes[0] > sizes[1] > sizes[2] > 0


def test_labels_told_apart_without_fail_and_repeated_or_constant_features_are_no_trap() -> None:
    """Without a ridge the weights would grow for ever, or be any of many."""
    feature = np.linspace(-1, 1, 200)
    features = np.column_stack([feature, feature, np.ones(200)])
    model = fit(features, feature > 0, ridge=1.0)
    assert np.isfinite(model.weights).all()
    assert model.weights[0] == pytest.approx(model.weights[1])
    assert model.weights[2] == 0
    probabilities = model.probabilities(features)
    assert ((probabilities > 0.5) == (feature > 0)).all()
    assert 0 < probabilities.min() < probabilities.max() < 1


@pytest.mark.parametrize(
    ("scores", "area"),
    [([1, 2, 3, 4], 1.0), ([4, 3, 2, 1], 0.0), ([1, 1, 1, 1], 0.5), ([1, 3, 2, 4], 0.75), ([1, 2, 2, 3], 0.875)],
)
def test_the_area_counts_pairs_in_order_and_ties_half(scores: list[float], area: float) -> None:
    labels = np.array([False, False, True, True])
    assert area_under_curve(labels, np.array(scores, dtype=float)) == area


def test_probabilities_are_judged_by_surprise_and_by_what_came_true() -> None:
    labels = np.array([True] * 3 + [False] * 7)
    honest = np.full(10, 0.3)
    assert log_loss(labels, honest) == pytest.approx(-(0.3 * np.log(0.3) + 0.7 * np.log(0.7)))
    assert calibration_error(labels, honest, groups=1) == pytest.approx(0)
    assert calibration_error(labels, np.full(10, 0.8), groups=1) == pytest.approx(0.5)
    assert np.isfinite(log_loss(labels, np.where(labels, 0.0, 1.0)))
