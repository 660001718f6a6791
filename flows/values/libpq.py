"""Errors of libpq connections. It has no SQLSTATE for a refused login or certificate, only text.

psycopg uses it, and so do dbt and soda.
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
# For a lost connection. The server's text is in its own language, followed by libpq's in English.
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
            f"the {side} refuses this login, or the database does not exist",
            where=where,
            fix=f"check role, password and database in the {side}'s connection URL",
        )
    what = f"the connection to the {side} was lost" if _LOST.search(text) else f"the {side} does not respond"
    return (SourceUnavailable if side == "source" else WarehouseError)(
        what,
        where=where,
        fix="check that it is up and reachable (`medallion status`), then run again",
        retryable=True,
    )


def no_tls(where: str, side: str) -> ConfigurationError:
    """The error for a server without TLS if the URL requires it."""
    return ConfigurationError(
        f"the {side} does not offer TLS, and nothing was sent to it",
        where=where,
        fix=f"enable TLS at the {side}; or, in a private network, write sslmode=disable in the URL or block",
    )


def certificate_refused(where: str, side: str, reason: str = "") -> ConfigurationError:
    """The error for an invalid certificate: another CA, another host, or expired."""
    return ConfigurationError(
        f"the {side}'s TLS certificate was not accepted" + (f": {reason}" if reason else ""),
        where=where,
        fix="check sslmode and sslrootcert in the URL, and the host name against the certificate",
    )


def _reason(text: str) -> str:
    if "server certificate for" in text:
        return "it is for a different host name"
    if re.search(r"(root certificate|certificate|private key) file", text):
        return "a file named in the connection URL, or ~/.postgresql/root.crt, is missing or cannot be read"
    # libpq has no more details.
    return "it was not signed by the CA of sslrootcert, or it has expired" if "verify failed" in text else ""
