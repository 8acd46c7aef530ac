# SPDX-License-Identifier: Apache-2.0
"""Where this package's errors become Airflow's."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_provider_segments.api.errors import UserSegmentsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["UserSegmentsException", "airflow_errors"]


class UserSegmentsException(AirflowException):
    """A try failed; Airflow's retries apply. The cause is a `UserSegmentsError`."""


@contextmanager
def airflow_errors(
    instead: Mapping[type[UserSegmentsError], type[AirflowException]] | None = None,
) -> Iterator[None]:
    """
    Turn this package's errors into Airflow's.

    What no later try can mend (credentials, plan, configuration) fails the task at once.

    :param instead: errors that become something else than by this rule.
    """
    try:
        yield
    except UserSegmentsError as error:
        kind = next((into for of, into in (instead or {}).items() if isinstance(error, of)), None)
        kind = kind or (AirflowFailException if error.permanent else UserSegmentsException)
        raise kind(str(error)) from error
