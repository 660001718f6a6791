"""The Prefect server of the embedded stack, on a socket that was bound before: `python -m infra.local.prefect_program`.

What `prefect server start` serves, behind the guard of the stack's servers. `prefect server start` itself binds by
address, looks for a free port before that, and answers any web page.
"""

import argparse
import os
from pathlib import Path

from infra.local import serve
from infra.local.postgres import Cluster


def main() -> None:
    """Serve until the process is asked to end. Prefect's settings come from the environment."""
    parser = argparse.ArgumentParser("python -m infra.local.prefect_program", description=__doc__)
    parser.add_argument("--fd", type=int, required=True, help="file descriptor of a listening socket")
    listening = serve.listener(parser.parse_args().fd)
    # Both are the server's own, and the service that starts it sets them.
    secret, folder = os.environ["PREFECT_SERVER_API_AUTH_STRING"], os.environ["PREFECT_HOME"]
    from prefect.server.api.server import create_app
    from prefect.settings import get_current_settings

    api = get_current_settings().server.api
    serve.serve(
        create_app(final=True),
        listening,
        secret,
        folder,
        # Where the stack keeps its PostgreSQL; there is none beside a server of its own.
        Cluster(Path(folder).parent / "postgres").rotate_log,
        timeout_keep_alive=api.keepalive_timeout,
        ws_ping_interval=api.websocket_ping_interval,
        ws_ping_timeout=api.websocket_ping_timeout,
    )


if __name__ == "__main__":
    main()
