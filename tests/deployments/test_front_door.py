"""`medallion deploy` and `medallion rollback deployments` as a person runs them."""

import os
import pty
import re
import subprocess
import sys

import pytest

from tests.deployments.deploying import Deploying
from tests.flows.front_door import medallion
from tests.kinds.conformance.forking import ROOT

pytestmark = pytest.mark.xdist_group("deployments")


def test_a_person_sees_a_plan_is_asked_and_is_told_what_was_done(api: str) -> None:
    """One test, because each command imports the flows, which takes three seconds."""
    deploying = Deploying(api, ROOT)
    planned = medallion("deploy", "production", "--pool", "local", "--plan")
    assert planned.code == 2, planned.text
    assert re.search(
        r"create +│ deployment +│ ingest/ingest-shop +│ 15 \* \* \* \* UTC; work queue default", planned.out
    )
    assert "left out" in planned.out
    assert "Prefect Cloud only" in planned.out
    assert "no block warehouse: set MEDALLION_WAREHOUSE_URL" in re.sub(r"\s+", " ", planned.out)

    unasked = medallion("deploy", "production", "--pool", "local")
    assert (unasked.code, "standard input is no terminal" in unasked.err) == (2, True)
    refused = at_a_terminal("deploy", "production", "--pool", "local", answer="yes")
    assert "type production to apply the changes" in refused
    assert "nothing was changed" in refused
    assert deploying.filtered("deployments") == []

    agreed = at_a_terminal("deploy", "production", "--pool", "local", answer="production")
    assert "done; the server matches what is declared" in agreed
    names = {entry["name"] for entry in deploying.filtered("deployments")}
    assert names >= {"ingest-shop", "transform", "backfill"}
    again = medallion("deploy", "production", "--plan")
    assert (again.code, "nothing to change" in again.out) == (0, True), again.text

    nothing_before = medallion("rollback", "deployments", "production", "--yes")
    assert nothing_before.code == 2
    assert "no earlier version was deployed to production" in nothing_before.panel


def at_a_terminal(*arguments: str, answer: str) -> str:
    """The command on a terminal, with one line typed; what it shows."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "flows.cli", *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True) as process:
        os.close(theirs)
        os.write(ours, f"{answer}\n".encode())
        shown = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # how Linux tells the end of a terminal
                break
            if not part:
                break
            shown += part
        process.wait(60)
    os.close(ours)
    return shown.decode(errors="replace")


def test_a_choice_that_cannot_be_is_refused_with_the_next_move(api: str) -> None:
    ended = medallion("deploy", "dev", "--pool", "nowhere", "--plan")
    assert ended.code == 2
    assert "declare it in deployments/work_pools.py" in ended.panel


def test_a_server_that_does_not_answer_ends_with_3_and_says_so() -> None:
    silent = {"PREFECT_API_URL": "http://someone:pw-server@127.0.0.1:9/api", "PREFECT_CLIENT_MAX_RETRIES": "0"}
    ended = medallion("deploy", "dev", "--plan", variables=silent)
    assert ended.code == 3
    assert "the Prefect server does not respond" in ended.panel
    assert "retryable yes" in ended.panel
    assert "pw-server" not in ended.text
