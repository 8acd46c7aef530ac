# SPDX-License-Identifier: Apache-2.0
"""
``make demo``: a real Airflow exports a segment from the emulator and copies its file.

Everything runs on this machine, in a throw-away home, on free ports.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from moto.server import ThreadedMotoServer
from rich.console import Console

from airflow_provider_segments.emulator import Emulator
from airflow_provider_segments.emulator.pytest_plugin import aws_connection
from tests.system.running_airflow import RunningAirflow

DAG_ID = "example_export_segment"
BUCKET = "my-bucket"
EXAMPLES = Path(__file__).parents[2] / "example_dags"
ROWS_SHOWN = 5

_began = time.monotonic()
_console = Console(highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """Print a line with the seconds since the start."""
    _console.print(f"[dim]{time.monotonic() - _began:6.1f} s[/]  {text}")


def local_s3(stack: ExitStack) -> Any:
    """Start a local S3 with the user's bucket and return a client."""
    import boto3

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    stack.callback(server.stop)
    host, port = server.get_host_and_port()
    keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing", "region_name": "us-east-1"}
    s3 = boto3.client("s3", endpoint_url=f"http://{host}:{port}", **keys)
    s3.create_bucket(Bucket=BUCKET)
    return s3


def connections(emulator: Emulator, s3_url: str) -> dict[str, str]:
    """Return the two Connections the example needs, as environment variables."""
    return {
        "AIRFLOW_CONN_MPARTICLE_ANALYTICS_DEFAULT": json.dumps(emulator.airflow_connection()),
        "AIRFLOW_CONN_AWS_DEFAULT": json.dumps(aws_connection(s3_url)),
        "SEGMENT_BUCKET": BUCKET,
    }


def follow(airflow: RunningAirflow, run_id: str) -> str:
    """Tell each change of a task's state, and how long it took, until the run ends."""
    since: dict[str, tuple[str, float]] = {}
    until = time.monotonic() + 240
    while time.monotonic() < until:
        state = airflow.run_state(DAG_ID, run_id)
        for task in airflow.tasks(DAG_ID, run_id):
            now, before = task.state or "waiting", since.get(task.task_id)
            if before and before[0] == now:
                continue
            took = f", after {time.monotonic() - before[1]:.1f} s {before[0]}" if before else ""
            since[task.task_id] = (now, time.monotonic())
            colour = {"success": "green", "failed": "red", "deferred": "magenta"}.get(now, "cyan")
            note = ": it waits in the triggerer and holds no worker" if now == "deferred" else ""
            say(f"  {task.task_id}: [{colour}]{now}[/]{took}{note}")
        if state in ("success", "failed"):
            return state
        time.sleep(0.3)
    raise TimeoutError(f"{DAG_ID} has not ended within four minutes")


def show_file(s3: Any) -> None:
    """Print where the copied file is, and its first rows."""
    copied = s3.list_objects_v2(Bucket=BUCKET)["Contents"][0]
    body = s3.get_object(Bucket=BUCKET, Key=copied["Key"])["Body"].read().decode()
    say(f"The file is at [bold]s3://{BUCKET}/{copied['Key']}[/] ({copied['Size']} bytes):")
    for row in body.splitlines()[:ROWS_SHOWN]:
        _console.print(f"            {row}", markup=False)
    _console.print(f"            … {len(body.splitlines()) - 1} users in all")


def reasons(airflow: RunningAirflow) -> str:
    """Return what the tasks failed with, from their logs."""
    found = []
    for path in sorted(airflow.log_file("").parent.rglob("attempt=*.log*")):
        for line in path.read_text().splitlines():
            if '"error_detail"' in line:
                found += [
                    f"\n  {error['exc_type']}: {error['exc_value']}"
                    for error in json.loads(line)["error_detail"][:1]
                ]
    return "".join(dict.fromkeys(found)) or "No task says why."


def run(home: Path, keep: bool) -> None:
    """Start everything, run the example, show the file, stop everything."""
    with ExitStack() as stack:
        s3 = local_s3(stack)
        s3_url = s3.meta.endpoint_url
        emulator = stack.enter_context(Emulator(s3_endpoint_url=s3_url, segments=20, export_seconds=12))
        say(f"An emulator of the service runs at {emulator.url}, a local S3 at {s3_url}.")
        say("Starting Airflow (API server, scheduler, DAG processor, triggerer) …")
        airflow = stack.enter_context(RunningAirflow(home, EXAMPLES, connections(emulator, s3_url)))
        say(f"Airflow is up at {airflow.url}.")
        airflow.trigger(DAG_ID, "demo")
        say(f"Running [bold]{DAG_ID}[/]; the export takes the service 12 seconds:")
        if (state := follow(airflow, "demo")) != "success":
            raise RuntimeError(f"{DAG_ID} ended as {state}. {reasons(airflow)}")
        show_file(s3)
        if keep:
            say(f"Airflow goes on: open [bold]{airflow.url}[/] (no login). Ctrl-C ends it.")
            signal.pause()


def main() -> int:
    """Run the demo and return its exit code."""
    keep = os.environ.get("KEEP", "") not in ("", "0")
    home = Path(tempfile.mkdtemp(prefix="segments-demo-"))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    try:
        run(home, keep)
    except KeyboardInterrupt:
        say("Interrupted; everything is stopped.")
        return 0 if keep else 130
    except Exception as error:  # noqa: BLE001 - whatever it was, the reader needs it and the logs
        _console.print("[red]The demo failed:[/]", end=" ")
        _console.print(str(error), markup=False)
        _console.print(f"Logs: {home / 'logs'}", markup=False)
        return 1
    shutil.rmtree(home, ignore_errors=True)
    say("[green]Done.[/] Everything is stopped.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
