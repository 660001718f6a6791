"""A model card: what a version of a model learned from, how good it is, and what it goes by."""

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
    """The card as Markdown; weights are per standard deviation of a feature, the weightiest first."""
    first, last = window
    lines = [
        f"# {name} {version}: {status}",
        "",
        f"Learned from sales of {first} to {last}; judged by what followed {holdout}, which it had not seen.",
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
