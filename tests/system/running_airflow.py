# SPDX-License-Identifier: Apache-2.0
"""
A real Airflow in a throw-away home: each component a process of its own, on free ports.

Used by the demo and by the system tests. Its state is read straight from the metadata database, which is the
same on each Airflow version and costs no process.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self

# Not by importing Airflow, which would make itself a home.
AIRFLOW_3 = not version("apache-airflow").startswith("2.")
AIRFLOW = [sys.executable, "-m", "airflow"]


def clean_environment() -> dict[str, str]:
    """Return this process's environment without any Airflow of the user's, and without proxies to ourselves."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}
    return kept | {"NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost"}


def free_port() -> int:
    """Return a port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


REASONS = {
    "address already in use": "another program has taken its port meanwhile; run it again",
    "no space left on device": "there is no space left on the disk",
    "database or disk is full": "there is no space left on the disk",
}


def _signal(process: subprocess.Popen[bytes], how: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, how)


def failure(what: str, output: str, log: Path) -> RuntimeError:
    """Return an error of one line; its note has the end of what was printed, for a failed test."""
    lines = [line.strip() for line in output.splitlines() if line.strip()] or ["it printed nothing"]
    reason = lines[-1][-300:]
    for words, meaning in REASONS.items():
        if words in output.lower():
            reason = meaning
    error = RuntimeError(f"{what}: {reason}; see {log}")
    error.add_note(output[-3000:])
    return error


@dataclass(frozen=True)
class TaskState:
    """One task instance, as the scheduler sees it."""

    task_id: str
    map_index: int
    state: str | None
    try_number: int


class RunningAirflow:
    """
    Scheduler, triggerer and, on Airflow 3, DAG processor and API server, on Airflow 2 the webserver if asked for.

    :param home: a folder that is empty, or has an empty metadata database; logs stay there.
    :param dags: the folder of the DAGs.
    :param environment: more environment variables, such as Connections.
    :param parallelism: tasks at a time.
    :param ui: whether to start the web UI too; on Airflow 3 it is always there. Nobody has to log in.
    """

    #: What the other components talk to.
    servers: tuple[str, ...] = ("api-server", "webserver")

    def __init__(
        self,
        home: Path,
        dags: Path,
        environment: Mapping[str, str] | None = None,
        parallelism: int = 4,
        *,
        ui: bool = False,
    ) -> None:
        self.home = home
        self._webserver = ui and not AIRFLOW_3
        self.url = f"http://127.0.0.1:{free_port()}"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.environment = clean_environment() | self._settings(dags, parallelism) | dict(environment or {})
        # Airflow 2's executor looks for the command there.
        self.environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"

    def _settings(self, dags: Path, parallelism: int) -> dict[str, str]:
        settings = {
            "CORE__DAGS_FOLDER": str(dags),
            "CORE__EXECUTOR": "LocalExecutor" if AIRFLOW_3 else "SequentialExecutor",
            "CORE__PARALLELISM": str(parallelism),
            "CORE__LOAD_EXAMPLES": "False",
            "CORE__UNIT_TEST_MODE": "False",
            "CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "CORE__MAX_ACTIVE_TASKS_PER_DAG": "100",
            # A busy Airflow fails a try now and then by itself, see docs/reliability.md.
            "CORE__DEFAULT_TASK_RETRIES": "2",
            "CORE__DEFAULT_TASK_RETRY_DELAY": "1",
            # Else the LocalExecutor hears of a task's end up to five seconds after it.
            "WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
            "CORE__FERNET_KEY": "c2VnbWVudHMtZGVtby1mZXJuZXQta2V5LTMyLWJ5dHM=",
            # With another port than the default one, tasks find the server by this setting only.
            "CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "CORE__TEST_CONNECTION": "Enabled",
            "API__HOST": "127.0.0.1",
            "API__PORT": self.url.rpartition(":")[2],
            "API__WORKERS": "1",
            "WEBSERVER__WEB_SERVER_HOST": "127.0.0.1",
            "WEBSERVER__WEB_SERVER_PORT": self.url.rpartition(":")[2],
            "WEBSERVER__WORKERS": "1",
            "WEBSERVER__SECRET_KEY": "a-secret-for-one-throw-away-airflow",
            "WEBSERVER__CONFIG_FILE": str(self.home / "webserver_config.py"),
            "API__SECRET_KEY": "a-secret-for-one-throw-away-airflow",
            # Airflow 3.0 signs tokens without one, which newer versions of PyJWT refuse.
            "API_AUTH__JWT_ISSUER": "a-throw-away-airflow",
            # Each process would make one of its own.
            "API_AUTH__JWT_SECRET": "another-secret-for-one-throw-away-airflow-of-64-bytes-and-more--",
            "LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
            "LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_port()),
            "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.home}/airflow.db",
            "DATABASE__LOAD_DEFAULT_CONNECTIONS": "False",
            "DAG_PROCESSOR__REFRESH_INTERVAL": "10",
            # Parsing unchanged files again takes CPU that the tests want.
            "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3600",
            "SCHEDULER__MIN_FILE_PROCESS_INTERVAL": "3600",
            "SCHEDULER__DAG_DIR_LIST_INTERVAL": "10",
            "SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "30",
            "TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "10",
            "SCHEDULER__ENABLE_HEALTH_CHECK": "False",
        }
        return {"AIRFLOW_HOME": str(self.home)} | {
            f"AIRFLOW__{name}": value for name, value in settings.items()
        }

    @property
    def components(self) -> list[str]:
        """The processes this version consists of."""
        return (
            ["api-server", "dag-processor", "scheduler", "triggerer"]
            if AIRFLOW_3
            else ["scheduler", "triggerer", *(["webserver"] if self._webserver else [])]
        )

    def __enter__(self) -> Self:
        self.home.mkdir(parents=True, exist_ok=True)
        (self.home / "logs").mkdir(exist_ok=True)
        (self.home / "webserver_config.py").write_text("AUTH_ROLE_PUBLIC = 'Admin'\n")
        self._migrate()
        try:
            for component in self.components:
                self.start(component)
            self.wait_until("Airflow is up", self._is_up, 180)
        except BaseException:
            self.stop_all()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.stop_all()

    def _migrate(self) -> None:
        """Make the metadata database."""
        if not (self.home / "airflow.db").exists():
            self.cli("db", "migrate")

    def log_file(self, name: str) -> Path:
        """Return where a component writes."""
        return self.home / "logs" / f"{name}.log"

    def cli(self, *arguments: str) -> str:
        """Run the airflow command and return what it prints."""
        done = subprocess.run(
            [*AIRFLOW, *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=180,
        )
        if done.returncode:
            output = f"{done.stdout}\n{done.stderr}"
            with suppress(OSError):
                self.log_file("command").write_text(output)
            raise failure(f"airflow {' '.join(arguments)} failed", output, self.log_file("command"))
        return done.stdout

    def start(self, component: str) -> None:
        """Start a component, in a process group of its own."""
        with self.log_file(component).open("ab") as log:
            self._processes[component] = subprocess.Popen(
                self._command(component),
                env=self.environment | self._variables(component),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _command(self, component: str) -> list[str]:
        """Return what a component runs."""
        return [*AIRFLOW, component]

    def _variables(self, component: str) -> dict[str, str]:
        """Return the environment variables that only this component has."""
        return {}

    def kill(self, component: str, how: signal.Signals = signal.SIGKILL) -> None:
        """End a component with all its children."""
        process = self._processes.pop(component)
        _signal(process, how)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout=20)

    def wait_for_death(self, component: str, seconds: float = 120) -> None:
        """Wait until a component has ended by itself."""
        self._processes.pop(component).wait(timeout=seconds)

    def stop_all(self) -> None:
        """End all components at once; the server last, for the others tell it that they end, and without its farewell."""
        for component, process in self._processes.items():
            if component not in self.servers:
                _signal(process, signal.SIGTERM)
        for component in sorted(self._processes, key=lambda component: component in self.servers):
            self.kill(component, signal.SIGKILL if component in self.servers else signal.SIGTERM)

    def _is_up(self) -> bool:
        jobs = {row[0] for row in self.query("select job_type from job where state = 'running'")}
        asked = "/api/v2/version" if AIRFLOW_3 else "/health" if self._webserver else None
        return {"SchedulerJob", "TriggererJob"} <= jobs and (asked is None or self._answers(asked))

    def _answers(self, path: str) -> bool:
        try:
            with urllib.request.urlopen(self.url + path, timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def query(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Ask the metadata database."""
        database = sqlite3.connect(f"file:{self.home}/airflow.db?mode=ro", uri=True, timeout=30)
        try:
            return database.execute(sql, values).fetchall()
        finally:
            database.close()

    def wait_until(self, what: str, holds: Callable[[], Any], seconds: float) -> Any:
        """Ask until it holds; the time only bounds a test that fails."""
        until = time.monotonic() + seconds
        while not (value := holds()):
            for component, process in list(self._processes.items()):
                if process.poll() is not None:
                    self._handle_end(component)
            if time.monotonic() > until:
                raise TimeoutError(f"not within {seconds} s: {what}; logs are in {self.home / 'logs'}")
            time.sleep(0.2)
        return value

    def _handle_end(self, component: str) -> None:
        """Say why a component ended that was not told to."""
        log = self.log_file(component)
        raise failure(f"The {component} ended", log.read_text(), log)

    def trigger(self, dag_id: str, run_id: str, conf: Mapping[str, Any] | None = None) -> None:
        """Start a DAG run, once the DAG is known."""
        self.wait_until(f"DAG {dag_id} is parsed", lambda: self._is_known(dag_id), 120)
        if not AIRFLOW_3:
            self.cli("dags", "trigger", dag_id, "--run-id", run_id, "--conf", json.dumps(conf or {}))
            return
        self.call(
            "POST",
            f"/api/v2/dags/{dag_id}/dagRuns",
            {"dag_run_id": run_id, "conf": dict(conf or {}), "logical_date": None},
        )

    def _is_known(self, dag_id: str) -> bool:
        if errors := self.query("select filename, stacktrace from import_error"):
            raise RuntimeError("\n".join(f"{name}: {trace}" for name, trace in errors))
        return bool(self.query("select 1 from serialized_dag where dag_id = ?", dag_id))

    def call(self, method: str, path: str, body: object = None) -> Any:
        """Call Airflow 3's REST API."""
        request = urllib.request.Request(
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "Authorization": f"Bearer {self._token()}"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read() or b"null")

    def _token(self) -> str:
        with urllib.request.urlopen(f"{self.url}/auth/token", timeout=30) as answer:
            token: str = json.load(answer)["access_token"]
            return token

    def run_state(self, dag_id: str, run_id: str) -> str | None:
        """Return the state of a DAG run."""
        rows = self.query("select state from dag_run where dag_id = ? and run_id = ?", dag_id, run_id)
        return rows[0][0] if rows else None

    def tasks(self, dag_id: str, run_id: str) -> list[TaskState]:
        """Return the state of all its task instances."""
        rows = self.query(
            "select task_id, map_index, state, try_number from task_instance where dag_id = ? and run_id = ? "
            "order by task_id, map_index",
            dag_id,
            run_id,
        )
        return [TaskState(*row) for row in rows]

    def wait_until_deferred(self, dag_id: str, run_id: str, seconds: float = 300, **instances: int) -> None:
        """
        Wait until so many instances of each task are deferred, and the scheduler has heard of it from its executor.

        Airflow fails the try if an event comes before that, see docs/reliability.md.
        """
        heard = "Received executor event with state success for task instance TaskInstanceKey("

        def holds() -> bool:
            deferred = [
                task
                for task in self.tasks(dag_id, run_id)
                if task.task_id in instances and task.state == "deferred"
            ]
            if Counter(task.task_id for task in deferred) != instances:
                return False
            log = self.log_file("scheduler").read_text(errors="replace")
            return all(
                f"{heard}dag_id={dag_id!r}, task_id={task.task_id!r}, run_id={run_id!r}, "
                f"try_number={task.try_number}, map_index={task.map_index})" in log
                for task in deferred
            )

        self.wait_until(f"{dag_id}: {instances} are deferred", holds, seconds)

    def labels(self, dag_id: str, run_id: str, task_id: str) -> set[str | None]:
        """Return what the UI calls a mapped task's instances."""
        rows = self.query(
            "select rendered_map_index from task_instance where dag_id = ? and run_id = ? and task_id = ?",
            dag_id,
            run_id,
            task_id,
        )
        return {row[0] for row in rows}

    def wait_for_run(self, dag_id: str, run_id: str, seconds: float = 300) -> str:
        """Wait until a DAG run has ended and return its state."""
        ended = ("success", "failed")
        state: str = self.wait_until(
            f"{dag_id} {run_id} has ended",
            lambda: (state := self.run_state(dag_id, run_id)) in ended and state,
            seconds,
        )
        return state

    def worker_starts(self, dag_id: str, task_id: str) -> int:
        """Return how often a worker started a task's instances, by their logs."""
        logs = (self.home / "logs").rglob(f"dag_id={dag_id}/**/task_id={task_id}/**/attempt=*.log")
        return sum(path.read_text().count("::group::Pre ") for path in logs)

    def task_logs(self) -> str:
        """Return the logs of all tasks, for a failed test's message."""
        return "\n".join(
            f"== {path}\n{path.read_text()[-4000:]}"
            for path in sorted((self.home / "logs").rglob("attempt=*.log*"))
        )
