"""Connections to APIs: trusted certificates, a client certificate, the proxy of the environment."""

from __future__ import annotations

import contextlib
import os
import ssl
import tempfile
from functools import cache, lru_cache
from pathlib import Path
from urllib.request import getproxies, proxy_bypass

import httpx

from flows.kinds.api.declared.api import Api
from flows.kinds.api.http.failure import certificate_variable
from flows.observe.wire_logs import keep_values_out
from flows.values.connection import ApiConnection
from flows.values.errors import ConfigurationError

# As many connections as declared parallel requests; idle ones are kept for the next page.
_CONNECTIONS = httpx.Limits(max_connections=None, max_keepalive_connections=100, keepalive_expiry=30)


@cache
def _trusted() -> ssl.SSLContext:
    # Loading CA certificates takes 18 ms and blocks the event loop: once per process, not once per read.
    return httpx.create_ssl_context()


@lru_cache(maxsize=32)
def _proving(pem: str) -> ssl.SSLContext | None:
    """Trusting the same, and proving who we are; None if the certificate or its key cannot be used."""
    context = httpx.create_ssl_context()

    def no_password() -> bytes:
        raise ValueError  # instead of asking at the terminal

    # The library reads files only. This one is gone before the first connection.
    descriptor, name = tempfile.mkstemp(prefix="medallion-")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(pem)
        context.load_cert_chain(name, password=no_password)
    except (ssl.SSLError, OSError, ValueError):
        return None
    finally:
        with contextlib.suppress(FileNotFoundError):
            Path(name).unlink()
    return context


def certificate_of(api: Api, connection: ApiConnection) -> ssl.SSLContext | None:
    """The context that presents the API's client certificate; None if it declares none.

    Raises:
        ConfigurationError: it is not configured, or cannot be used.
    """
    if not api.client_certificate:
        return None
    problem = ""
    pem = connection.certificate or ""
    if not pem:
        problem = "the API needs a client certificate, and none is configured"
    elif not pem.lstrip().startswith("-----BEGIN"):
        try:
            pem = Path(pem).read_text(encoding="utf-8")
        except (OSError, ValueError):
            problem = "the file of the client certificate cannot be read"
    # Variables with line breaks are written with \n by many tools.
    context = None if problem else _proving(pem.replace("\\n", "\n"))
    if context is not None:
        return context
    raise ConfigurationError(
        problem or "the client certificate or its key cannot be used",
        where=f"source {api.name}",
        fix=f"set {certificate_variable(api)} (or the certificate of the block source-{api.connection}) to the "
        "certificate, those that signed it, and its key without a password, in PEM, or to the path of such a file",
    )


def transport_for(base: httpx.URL, proof: ssl.SSLContext | None = None) -> httpx.AsyncHTTPTransport:
    """Connections to a URL, through the proxy that the environment configures for it. `proof`: a client certificate.

    Raises:
        ConfigurationError: that proxy is invalid.
    """
    keep_values_out()
    # With a custom transport httpx ignores HTTPS_PROXY and NO_PROXY, which company networks need.
    proxy = _proxy_for(base)
    try:
        return httpx.AsyncHTTPTransport(verify=proof or _trusted(), proxy=proxy, http2=True, limits=_CONNECTIONS)
    except (ValueError, ImportError, httpx.InvalidURL):
        pass  # their text quotes the URL, which may contain a password
    raise ConfigurationError(
        f"the proxy configured for {base.scheme} URLs is invalid",
        where=base.host,
        fix=f"correct {base.scheme.upper()}_PROXY (an http or https URL), or add the host to NO_PROXY",
    )


def _proxy_for(base: httpx.URL) -> str | None:
    # No proxy can reach this machine's loopback, whatever NO_PROXY says.
    if is_here(base):
        return None
    if proxy_bypass(f"{base.host}:{base.port}" if base.port else base.host):
        return None
    proxies = getproxies()
    proxy = proxies.get(base.scheme) or proxies.get("all")
    return f"http://{proxy}" if proxy and "://" not in proxy else proxy


def is_here(url: httpx.URL) -> bool:
    """Whether it is this machine."""
    return url.host in ("localhost", "::1") or url.host.startswith("127.")
