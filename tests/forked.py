# SPDX-License-Identifier: Apache-2.0
"""
Run Python programs in processes of their own, forked from one that has loaded Airflow: loading it takes seconds.

As a program, it carries out one job a line, and answers with the exit code.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import subprocess
import sys
import tempfile
import traceback
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[1]


class Interpreter:
    """
    Programs in it begin with Airflow loaded.

    :param preload: a module to load too.
    :param settings: the environment that Airflow is loaded in, beside this process's.
    """

    def __init__(self, preload: str = "airflow", **settings: str) -> None:
        self.preload, self.settings = preload, settings

    @cached_property
    def _server(self) -> subprocess.Popen[str]:
        """The process that others are forked from; it ends with this one's pipe."""
        command = [sys.executable, "-W", "ignore", "-m", "tests.forked", self.preload]
        pipe, env = subprocess.PIPE, os.environ | self.settings
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=env, cwd=ROOT)

    def run(
        self,
        program: str | Path,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """
        Run a program to its end, as `python FILE` or `python -m MODULE` does.

        :param program: a file, or the name of a module.
        :param arguments: the program's.
        :param env: its environment, by default this process's.
        :param cwd: where it runs, by default where this process does.
        """
        argv = [str(program), *arguments]
        with tempfile.TemporaryDirectory() as folder:
            env = dict(os.environ if env is None else env)
            job = {"argv": argv, "cwd": str(cwd or Path.cwd()), "folder": folder, "env": env}
            assert self._server.stdin
            assert self._server.stdout
            self._server.stdin.write(json.dumps(job) + "\n")
            self._server.stdin.flush()
            code = int(self._server.stdout.readline())
            stdout, stderr = ((Path(folder) / name).read_bytes().decode() for name in ("stdout", "stderr"))
        return subprocess.CompletedProcess(argv, code, stdout, stderr)


def _carry_out(job: Mapping[str, Any]) -> int:
    os.environ.clear()
    os.environ.update(job["env"])
    os.chdir(job["cwd"])
    program, sys.argv = job["argv"][0], job["argv"]
    from airflow import settings

    sys.path[1:1] = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    settings.configure_vars()  # which were set when Airflow was loaded, such as the folder of the DAGs
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # the jobs that follow are not this one's
    with ExitStack() as streams:
        for number, name in ((1, "stdout"), (2, "stderr")):
            file = streams.enter_context((Path(job["folder"]) / name).open("wb"))
            os.dup2(file.fileno(), number)
            encoding = os.environ.get("PYTHONIOENCODING", "utf-8")
            stream = streams.enter_context(open(number, "w", encoding=encoding, closefd=False))
            setattr(sys, name, stream)
        return _exit_code(program)


def _exit_code(program: str) -> int:
    try:
        if program.endswith(".py"):
            sys.path.insert(0, str(Path(program).parent))
            runpy.run_path(program, run_name="__main__")
        else:
            runpy.run_module(program, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - what an interpreter does
        traceback.print_exc()
        return 1
    return 0


def _serve() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what Airflow 3.0 logs when it is loaded is no answer
    from airflow.providers.common.compat.sdk import DAG  # noqa: F401

    import airflow_provider_segments.cli.commands  # noqa: F401 - and with it Airflow

    importlib.import_module(sys.argv[1])
    for line in sys.stdin:
        if not (pid := os.fork()):
            os._exit(_carry_out(json.loads(line)))
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), file=answers, flush=True)


if __name__ == "__main__":
    _serve()
