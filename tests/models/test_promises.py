"""What models promise in their properties files."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.declare import Calendar, Deadline
from flows.models.promises import ModelPromise, promise_of, refuse_unreadable_promises
from flows.values.errors import DeclarationError
from tests.docs.markdown import blocks

BERLIN = Calendar("berlin", ["12-25"])


def test_the_example_in_the_documents_is_read() -> None:
    (example,) = [block.code for block in blocks("yaml") if block.document == "docs/freshness.md"]
    (model,) = yaml.safe_load(example)["models"]
    assert promise_of(model["config"]["meta"], [BERLIN], "agg_daily_sales.yml") == ModelPromise(
        "sales", timedelta(hours=26), Deadline("30 7 * * 1-5", "Europe/Berlin", BERLIN), critical=True
    )


def test_meta_about_something_else_promises_nothing() -> None:
    assert promise_of({"owner": "sales", "tier": 1}, [], "x.yml") is None


@pytest.mark.parametrize(
    ("meta", "what"),
    [
        ({"built_within": "soon"}, "not a duration"),
        ({"built_within": 26}, "26 is not a limit"),
        ({"expected_by": "0 7 * * *"}, "not a deadline"),
        ({"expected_by": {"cron": "0 7 * * *", "zone": "Europe/Berln"}}, "time zone"),
        ({"expected_by": {"cron": "7 o'clock"}}, "not a cron expression"),
        ({"expected_by": {"cron": "0 7 * * *", "timezone": "UTC"}}, "not a deadline"),
        ({"expected_by": {"cron": "0 7 * * *", "holidays": "mars"}}, "no calendar 'mars'"),
        ({"expected_by": {"cron": "0 7 * * *"}, "critical": "yes"}, "critical is 'yes'"),
        ({"critical": True}, "there is none"),
    ],
)
def test_a_promise_that_cannot_be_read_is_refused_with_its_file(meta: Any, what: str, tmp_path: Path) -> None:
    with pytest.raises(DeclarationError, match=what) as refused:
        promise_of(meta, [BERLIN], "gold/x.yml: x")
    assert refused.value.where == "gold/x.yml: x"
    # And by `medallion render`, for a model or a version of one, in either place of meta.
    for model in (
        {"name": "x", "config": {"meta": meta}},
        {"name": "x", "meta": meta},
        {"name": "x", "versions": [{"v": 1, "config": {"meta": meta}}]},
    ):
        (tmp_path / "x.yml").write_text(yaml.safe_dump({"models": [model]}))
        with pytest.raises(DeclarationError, match=what):
            refuse_unreadable_promises(tmp_path, [BERLIN])
