"""`python -m maniac_edge`: run one edge process."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import msgspec
from maniac_common.config_file import ConfigError

from maniac_edge.config import load


def main(arguments: list[str] | None = None) -> int:
    """Run until a signal comes, and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m maniac_edge", description="Serve the HTTP API in front of a core."
    )
    parser.add_argument("--config", type=Path, help="TOML file; its [edge] table is read")
    parser.add_argument("--host", help="address to listen on")
    parser.add_argument("--port", type=int, help="port to listen on; 0: any free one")
    parser.add_argument("--core", help="gRPC target of the core, such as unix:PATH or HOST:PORT")
    parser.add_argument(
        "--check-config",
        action="store_true",
        help="print the effective [edge] table as JSON and end",
    )
    options = parser.parse_args(arguments)
    try:
        config = load(
            options.config, os.environ, host=options.host, port=options.port, core=options.core
        )
    except ConfigError as err:
        print(err, file=sys.stderr)  # noqa: T201 - There is no log yet.
        return 2
    if options.check_config:
        print(msgspec.json.encode(config, enc_hook=str).decode())  # noqa: T201 - It is what was asked for.
        return 0
    # After the arguments are known to be good: the framework takes most of the start-up time.
    from maniac_common import logs, process, secrecy  # noqa: PLC0415

    from maniac_edge.server import serve as server  # noqa: PLC0415

    logs.configure(config.log_format, "maniac_edge", server.is_news)
    secrecy.protect_memory()
    process.work_in_batches()
    server.open_as_many_as_allowed()
    try:
        edge = server.build_server(config)
    except (ConfigError, OSError) as err:
        print(f"edge: {err}", file=sys.stderr)  # noqa: T201 - As above.
        return 2 if isinstance(err, ConfigError) else 1
    edge.run()
    return 0 if edge.started else 1


if __name__ == "__main__":
    sys.exit(main())
