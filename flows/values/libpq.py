"""Why libpq could not connect, in our words. It gives no SQLSTATE for a refused login or certificate, only text.

psycopg connects by it, and so do dbt and the engine of the contracts.
"""

import re

from flows.values.errors import ConfigurationError, MedallionError, SourceUnavailable, WarehouseError

_NO_TLS = re.compile(r"server does not support SSL|SSL is required")
_NOT_ACCEPTED = re.compile(
    r"certificate verify failed|server certificate for|root certificate|client certificate|certificate file"
    r"|private key file|SSL error|requires a valid client certificate|certificate authentication failed",
    re.IGNORECASE,
)
_LOGIN = re.compile(r"authentication failed|does not exist|no password supplied|permission denied|no pg_hba.conf entry")
# Of a connection that was there. The server's own words come in its language, libpq's follow them in ours.
_LOST = re.compile(
    r"terminating connection|connection (?:has been |was )?closed|closed the connection|connection is lost"
)


def explain_libpq(problem: BaseException, *, where: str, side: str = "warehouse") -> MedallionError:
    """The error for a connection that libpq could not open, or lost."""
    text = str(problem)
    if _NO_TLS.search(text):
        return no_tls(where, side)
    if _NOT_ACCEPTED.search(text):
        return certificate_refused(where, side, _reason(text))
    if _LOGIN.search(text):
        return ConfigurationError(
            f"the {side} refuses this login, or has no such database",
            where=where,
            fix=f"check the role, password and database of the {side}'s address",
        )
    what = f"the connection to the {side} was lost" if _LOST.search(text) else f"the {side} does not answer"
    return (SourceUnavailable if side == "source" else WarehouseError)(
        what,
        where=where,
        fix="check that it is up and reachable (`medallion status`), then run again",
        retryable=True,
    )


def no_tls(where: str, side: str) -> ConfigurationError:
    """The error for a server that speaks no TLS where the address asks for it."""
    return ConfigurationError(
        f"the {side} does not offer TLS, and nothing was sent to it",
        where=where,
        fix=f"have TLS switched on at the {side}; or, where the network is yours alone, write sslmode=disable in "
        "the URL or block",
    )


def certificate_refused(where: str, side: str, reason: str = "") -> ConfigurationError:
    """The error for a certificate that does not hold: of another authority, another host, or another time."""
    return ConfigurationError(
        f"the {side}'s TLS certificate was not accepted" + (f": {reason}" if reason else ""),
        where=where,
        fix="check sslmode and sslrootcert in the URL, and the host name against the certificate",
    )


def _reason(text: str) -> str:
    if "server certificate for" in text:
        return "it is for another host name"
    if re.search(r"(root certificate|certificate|private key) file", text):
        return "a file that the address names, or ~/.postgresql/root.crt, is not there or cannot be read"
    # libpq says no more than this.
    return "its authority is not the one of sslrootcert, or it has expired" if "verify failed" in text else ""
