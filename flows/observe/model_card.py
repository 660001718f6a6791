"""A model card: training data, metrics and weights of a model version."""

from collections.abc import Mapping
from datetime import date


def model_card_markdown(
    name: str,
    version: int,
    status: str,
    window: tuple[date, date],
    holdout: date,
    metrics: Mapping[str, float],
    weights: Mapping[str, float],
) -> str:
    """The card as Markdown; weights are per standard deviation of a feature, the largest first."""
    first, last = window
    lines = [
        f"# {name} {version}: {status}",
        "",
        f"Trained on sales from {first} to {last}; evaluated on held-out sales after {holdout}.",
        "",
        "| on the holdout | |",
        "| --- | ---: |",
        *(f"| {measure.replace('_', ' ')} | {value:.4g} |" for measure, value in metrics.items()),
        "",
        "| feature | weight |",
        "| --- | ---: |",
        *(
            f"| {feature.replace('_', ' ')} | {weight:+.3f} |"
            for feature, weight in sorted(weights.items(), key=lambda item: -abs(item[1]))
        ),
    ]
    return "\n".join(lines) + "\n"
