"""`python -m parallel_hpo.server`: a sweep server; with `--embedded` as a child of a session."""

from __future__ import annotations

import argparse
import sys

from parallel_hpo.core.errors import ParallelHPOError
from parallel_hpo.server.http.settings import disable_gc_while_loading, log_to_stderr


def main() -> int:
    """Parse the command line, serve, and return the exit code."""
    disable_gc_while_loading()
    from parallel_hpo.server.http.process import ServerConfig, certificate_of, serve

    parser = argparse.ArgumentParser(prog="python -m parallel_hpo.server", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--database", metavar="PATH_OR_URL")
    parser.add_argument("--files", metavar="FOLDER")
    parser.add_argument("--adopt-files", action="store_true")
    parser.add_argument("--tls-certificate", metavar="FILE")
    parser.add_argument("--tls-key", metavar="FILE")
    parser.add_argument("--embedded", action="store_true")
    options = parser.parse_args()
    log_to_stderr()
    try:
        config = ServerConfig(
            host=options.host,
            port=options.port,
            database=options.database,
            files=options.files,
            adopt_files=options.adopt_files,
            tls=certificate_of(options.tls_certificate, options.tls_key),
        )
        serve(config, embedded=options.embedded, stdin=sys.stdin.buffer, stdout=sys.stdout)
    except ParallelHPOError as error:
        print(error, file=sys.stderr)
        return int(error.exit_code)
    return 0


if __name__ == "__main__":
    sys.exit(main())
