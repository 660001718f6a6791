"""`python -m tests.deployments.audit_secrets [--accept]`: what looks like a secret in a file under version control.

detect-secrets looks; `.secrets.baseline` holds what was looked at by a person and found to be none, by its hash. Each
file in it needs a reason below. `--accept` writes the baseline anew, after you have looked.
"""

import argparse
import fnmatch
import json
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from detect_secrets.core import baseline
from detect_secrets.core.secrets_collection import SecretsCollection
from detect_secrets.settings import default_settings

from flows.values.settings import PROJECT_ROOT

BASELINE = PROJECT_ROOT / ".secrets.baseline"
#: Locks hold nothing but hashes, pictures and seeds no text of ours.
LEFT_OUT = ("*.lock", "*package-lock.json", "*.png", "*.svg", "*.csv", ".secrets.baseline", "benchmarks/results/*")
#: Why what looks like a secret there is none, by pattern of its file.
REASONS: Mapping[str, str] = {
    "tests/*": "passwords that a test makes up for a server of its own, or plants to see that they do not leak",
    "docs/*": "an address that shows where a password goes",
    "blocks/types.py": "an address that shows where a password goes",
    "deployments/*": "an address that takes its password from a variable, or words for what holds one",
    "flows/dashboard/static/vendor/*": "the hashes by which npm knows the files of others",
    "flows/dashboard/people.py": "the words before a hash of a password",
    "flows/*": "an address that shows where a password goes, or the pattern by which one is masked",
    "infra/*": "the name of the place where a secret is kept",
}


def tracked() -> list[str]:
    """Files under version control, without those that hold no text of ours."""
    listed = subprocess.run(["git", "ls-files"], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
    return [name for name in listed.stdout.splitlines() if not any(fnmatch.fnmatch(name, left) for left in LEFT_OUT)]


def scanned(files: Sequence[str], *, root: Path = PROJECT_ROOT) -> SecretsCollection:
    """What looks like a secret, by file. The settings of detect-secrets must be in force."""
    found = SecretsCollection(root=str(root))
    found.scan_files(*files)
    return found


def unknown(found: SecretsCollection, accepted: Mapping[str, Iterable[Mapping[str, object]]]) -> list[str]:
    """A line for each one that nobody has looked at; never the secret itself."""
    known = {(name, entry["hashed_secret"]) for name, entries in accepted.items() for entry in entries}
    return [
        f"{name}:{secret.line_number}: {secret.type}"
        for name, secret in sorted(found, key=lambda each: (each[0], each[1].line_number))
        if (name, secret.secret_hash) not in known
    ]


def without_reason(accepted: Iterable[str]) -> list[str]:
    """Files of the baseline of which nobody says why what is in them is no secret."""
    return [name for name in accepted if not any(fnmatch.fnmatch(name, pattern) for pattern in REASONS)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 1 when anything is found that nobody has looked at."""
    parser = argparse.ArgumentParser(prog="python -m tests.deployments.audit_secrets", description=__doc__)
    parser.add_argument("--accept", action="store_true")
    given = parser.parse_args(arguments)
    with default_settings():
        found = scanned(tracked())
        if given.accept:
            document = baseline.format_for_output(found)
            # Moving a line, or looking again, changes nothing of what was looked at.
            document.pop("generated_at")
            for name, entries in document["results"].items():
                for entry in entries:
                    entry.pop("line_number", None)
                    entry["filename"] = name  # detect-secrets writes where the clone lies
            BASELINE.write_text(json.dumps(document, indent=2) + "\n")
            return 0
    accepted = json.loads(BASELINE.read_text())["results"]
    lines = unknown(found, accepted)
    lines += [f"{name}: no reason in {Path(__file__).name} says why this is none" for name in without_reason(accepted)]
    sys.stderr.writelines(f"{line}\n" for line in lines)
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
