"""Proof that the server on a port belongs to this home: any program may listen on 127.0.0.1.

The client sends a random challenge; the server answers with an HMAC over the challenge, its port and its folder. The
key is a secret of the home, which neither of them sends. A copy of a home has the same secret, but its folders have
other paths; a server that passes the challenge on to ours has another port.
"""

import hashlib
import hmac
import http.client
import re
import secrets
import urllib.error
import urllib.request
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

#: Where the servers of a stack answer challenges; see `guard`.
PATH = "/medallion/proof"
CHALLENGE_BYTES = 32

#: `stack`: a server of another stack. `other`: somebody else. `silent`: nobody answers, or not yet.
Answer = Literal["ours", "stack", "other", "silent"]


def prove(secret: str, folder: str, port: int, challenge: str) -> str:
    """The answer to a challenge, as hexadecimal digits. `folder` is where the server keeps its data."""
    return hmac.new(secret.encode(), f"{challenge}\n{port}\n{folder}".encode(), hashlib.sha256).hexdigest()


def ask(url: str, secret: str, folder: Path, *, timeout: float = 2.0) -> Answer:
    """Who answers at `url`, such as http://127.0.0.1:4200. Nothing secret is sent."""
    challenge = secrets.token_hex(CHALLENGE_BYTES)
    # No proxy of the environment's: it would be asked for an address that only this machine has.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{url}{PATH}?challenge={challenge}", timeout=timeout) as response:
            given = response.read(4096)
    except urllib.error.HTTPError:
        return "other"
    except OSError:
        return "silent"
    except (http.client.HTTPException, ValueError):  # what answers does not speak HTTP
        return "other"
    port = urlsplit(url).port
    if secret and port and hmac.compare_digest(given, prove(secret, str(folder), port, challenge).encode()):
        return "ours"
    return "stack" if re.fullmatch(rb"[0-9a-f]{64}", given) else "other"
