# SPDX-License-Identifier: Apache-2.0
"""How this package's errors become Airflow's."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_provider_segments.api.errors import ConfigurationError, UserSegmentsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = [
    "InvalidArgumentError",
    "UserSegmentsException",
    "airflow_errors",
    "argument_errors",
    "check_booleans",
]


class UserSegmentsException(AirflowException):
    """A try failed; Airflow's retries apply. The cause is a `UserSegmentsError`."""


class InvalidArgumentError(ConfigurationError, AirflowFailException):
    """An argument of an operator or sensor is wrong. In a mapped task, a worker raises it, and no retry follows."""


@contextmanager
def airflow_errors(
    instead: Mapping[type[UserSegmentsError], type[AirflowException]] | None = None,
) -> Iterator[None]:
    """Turn this package's errors into Airflow's, or those in `instead`; permanent ones fail the task at once."""
    try:
        yield
    except UserSegmentsError as error:
        if isinstance(error, AirflowException):
            raise
        kind = next((into for of, into in (instead or {}).items() if isinstance(error, of)), None)
        kind = kind or (AirflowFailException if error.permanent else UserSegmentsException)
        raise kind(str(error)) from error


def check_booleans(**given: object) -> None:
    """Raise ConfigurationError for what is not a boolean: the text "False" would count as true."""
    for name, value in given.items():
        if value not in (True, False):
            raise ConfigurationError(
                f"{name} is {value!r}, but it has to be True or False; it is not templated."
            )


@contextmanager
def argument_errors(task_id: str | None) -> Iterator[None]:
    """Turn errors of a task's constructor into `InvalidArgumentError`, those of Airflow's base classes too."""
    try:
        yield
    except (ValueError, TypeError, OverflowError, AirflowException) as error:
        # Airflow's subclasses, such as the one for a duplicate task id, already fail the DAG with words of their own.
        if isinstance(error, AirflowException) and type(error) is not AirflowException:
            raise
        raise InvalidArgumentError(f"{task_id}: {error}") from error
