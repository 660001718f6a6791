"""Serve the marketing API on the loopback interface until stopped."""

import argparse
import os
from pathlib import Path

import uvicorn

from demo.commerce.app import create_app
from demo.commerce.rate import TokenBucket
from infra.local import serve


def main() -> None:
    """Read the arguments and serve; exits with 2 when the key is missing."""
    parser = argparse.ArgumentParser("python -m demo.commerce", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--port", type=int)
    where.add_argument("--fd", type=int, help="file descriptor of a listening socket, passed by the embedded stack")
    parser.add_argument("--state", type=Path, required=True, help="folder of the file that selects the day")
    parser.add_argument("--rate", type=float, default=40.0, help="requests per second before responses with 429")
    parser.add_argument("--burst", type=int, default=40, help="parallel requests before responses with 429")
    parser.add_argument("--fail-every", type=int, default=41, help="one 503 per this many requests; 0 disables it")
    arguments = parser.parse_args()
    # From the environment, because anyone on the machine can read another program's arguments.
    api_key = os.environ.get("COMMERCE_API_KEY", "")
    if not api_key:
        parser.error("COMMERCE_API_KEY is not set: callers must send it as X-API-Key")
    if arguments.rate <= 0 or arguments.burst < 1 or arguments.fail_every < 0:
        parser.error("--rate must be above 0, --burst at least 1, --fail-every at least 0")
    app = create_app(api_key, arguments.state, TokenBucket(arguments.rate, arguments.burst), arguments.fail_every)
    if arguments.fd is not None:
        serve.serve(app, serve.listener(arguments.fd), api_key, str(arguments.state), lifespan="off")
    else:
        uvicorn.run(
            app, host=arguments.host, port=arguments.port, log_level="warning", access_log=False, lifespan="off"
        )


if __name__ == "__main__":
    main()
