# SPDX-License-Identifier: Apache-2.0
"""
A local S3, moto's server, in a process of its own.

In the tests' process, it would share its state with every ``mock_aws``, each of which resets it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["local_s3"]

# Makes moto enforce IAM after N requests.
_SETTINGS = ("INITIAL_NO_AUTH_ACTION_COUNT",)


@contextmanager
def local_s3() -> Iterator[str]:
    """Run an S3 and yield its address; it ends with this process, however this process ends."""
    if find_spec("moto") is None:
        raise ImportError("The local S3 is moto: pip install 'airflow-provider-segments[emulator]'")
    command = [sys.executable, "-W", "ignore", "-P", __file__, *sys.path]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={name: value for name, value in os.environ.items() if name not in _SETTINGS},
        start_new_session=True,  # Ctrl-C goes to the tests only: they need the S3 to clean up
    ) as process:
        try:
            # What a `sitecustomize` prints comes before.
            lines = iter(process.stdout or ())
            url = next((line.strip() for line in lines if line.startswith("http://")), "")
            if not url:
                raise RuntimeError("moto's server could not start; stderr says why.")
            yield url
        finally:
            process.kill()


def _serve() -> None:
    # Last, so that a queue.py among the tests can't shadow Python's.
    sys.path += [path for path in sys.argv[1:] if path not in sys.path]
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    print(f"http://{host}:{port}", flush=True)
    sys.stdin.read()  # ends when the tests' process does, even by SIGKILL
    os._exit(0)


if __name__ == "__main__":
    _serve()
