# SPDX-License-Identifier: Apache-2.0
"""What all operators and the sensor share."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_segments.api.errors import ConfigurationError

if TYPE_CHECKING:
    import jinja2
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_segments.hooks.user_segments import UserSegmentsHook

__all__ = ["UserSegmentsBaseOperator"]

# Jinja's opening delimiters.
_MARKS = ("{{", "{%", "{#")
# With this prefix, native rendering never takes text for a Python literal. No blank: Jinja's `{{-` would take it off.
_NO_LITERAL = "text:"


class UserSegmentsBaseOperator(BaseOperator):
    """The base of all operators and of the sensor: one hook, and template fields that are text."""

    def __init__(self, *, mparticle_conn_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.mparticle_conn_id = mparticle_conn_id

    @cached_property
    def hook(self) -> UserSegmentsHook:
        """The hook of the Connection."""
        from airflow_provider_segments.hooks.user_segments import UserSegmentsHook

        return UserSegmentsHook(self.mparticle_conn_id)

    def render_template(
        self,
        content: Any,
        context: Context,
        jinja_env: jinja2.Environment | None = None,
        seen_oids: set[int] | None = None,
    ) -> Any:
        """Render; a name such as "2026" stays text even with ``render_template_as_native_obj``."""
        rendered = super().render_template(content, context, jinja_env, seen_oids)
        if not isinstance(content, str):
            return _number_as_text(rendered) if hasattr(content, "resolve") else rendered
        is_template = any(mark in content for mark in _MARKS)
        dag = self.get_dag()
        if dag is None or not dag.render_template_as_native_obj:
            return rendered
        if is_template and rendered in (None,):  # by equality: Airflow's context has lazy proxies of None
            return None
        text: str = super().render_template(_NO_LITERAL + content, context, jinja_env, seen_oids)
        return text.removeprefix(_NO_LITERAL)

    def require_text(self, *names: str) -> None:
        """Fail if one of these fields is empty or not text once rendered."""
        for name in names:
            if not (value := self._text(name)) or not value.strip():
                raise ConfigurationError(
                    f"{self.task_id}: {name} is {value!r} once rendered, but it can't be empty.{self._hint}"
                )

    def require_text_or_none(self, *names: str) -> None:
        """Fail if one of these fields is neither text nor None once rendered."""
        for name in names:
            self._text(name)

    def _text(self, name: str) -> str | None:
        value = _number_as_text(getattr(self, name))
        if value is None:
            return None
        if not isinstance(value, str):
            raise ConfigurationError(
                f"{self.task_id}: {name} is {value!r} once rendered, but it has to be text.{self._hint}"
            )
        setattr(self, name, value)
        return value

    @property
    def _hint(self) -> str:
        if self.get_dag() is None or not self.dag.render_template_as_native_obj:
            return ""
        return (
            " The DAG has render_template_as_native_obj=True, which turns text that looks like a Python literal into "
            "one."
        )


def _number_as_text(value: Any) -> Any:
    """Return integers and booleans as the text they came from; a float may have lost digits."""
    return str(value) if isinstance(value, int) else value
