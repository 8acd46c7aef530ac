# SPDX-License-Identifier: Apache-2.0
"""Arguments: what is wrong is known as early as can be, and text stays text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import lazy_object_proxy
import pytest
from airflow.providers.common.compat.sdk import (
    DAG,
    AirflowFailException,
    Asset,
    AssetAlias,
    BaseOperator,
    TaskDeferred,
)

from airflow_provider_segments.emulator import EmulatedSegment, Emulator
from airflow_provider_segments.operators.user_segments import (
    UserSegmentExportOperator,
    UserSegmentsListOperator,
)
from airflow_provider_segments.sensors.user_segments import UserSegmentExportSensor
from airflow_provider_segments.transfers.user_segment_to_s3 import UserSegmentToS3Operator
from tests.support import context

if TYPE_CHECKING:
    from collections.abc import Callable

EXPORT, SENSOR = UserSegmentExportOperator, UserSegmentExportSensor
TO_S3 = {"s3_bucket": "b", "s3_key": "k"}
# An operator, what `partial` and `expand` give it, and words of the error.
WRONG: list[tuple[type[BaseOperator], dict[str, Any], dict[str, Any], str]] = [
    (EXPORT, {"timeout": -5}, {"segment_name": "x"}, "t: timeout is -5"),
    (EXPORT, {"poll_interval": 0}, {"segment_name": "x"}, "t: poll_interval is 0"),
    (EXPORT, {"defer_after": -1}, {"segment_name": "x"}, "t: defer_after is -1"),
    (EXPORT, {"segment_id": "a"}, {"segment_name": "x"}, "not both"),
    (EXPORT, {}, {"segment_name": None}, "not neither"),
    (
        EXPORT,
        {"end_from_trigger": True, "outlets": [Asset("s3://a/b")]},
        {"segment_name": "x"},
        "asset events",
    ),
    (
        EXPORT,
        {"wait_for_completion": False, "outlets": [AssetAlias("a")]},
        {"segment_name": "x"},
        "too early",
    ),
    (UserSegmentToS3Operator, {"end_from_trigger": True, **TO_S3}, {"segment_name": "x"}, "on a worker"),
    (UserSegmentToS3Operator, {"timeout": 0, **TO_S3}, {"segment_name": "x"}, "t: timeout is 0"),
    (UserSegmentToS3Operator, {"segment_name": "x", **TO_S3}, {"replace": "False"}, "t: replace is 'False'"),
    (UserSegmentToS3Operator, {"encrypt": "no", **TO_S3}, {"segment_name": "x"}, "t: encrypt is 'no'"),
    (EXPORT, {"durable": "no"}, {"segment_name": "x"}, "t: durable is 'no'"),
    (EXPORT, {"wait_for_completion": "{{ 1 }}"}, {"segment_name": "x"}, "t: wait_for_completion is"),
    (EXPORT, {"deferrable": "False"}, {"segment_name": "x"}, "t: deferrable is 'False'"),
    (SENSOR, {"deferrable": "False"}, {"export_id": "e"}, "t: deferrable is 'False'"),
    (SENSOR, {"poke_interval": -1}, {"export_id": "e"}, "t: poke_interval is -1"),
    (SENSOR, {"timeout": "soon"}, {"export_id": "e"}, "t: .*timeout"),
    (SENSOR, {"mode": "reschedule"}, {"deferrable": True, "export_id": "e"}, "exclude each other"),
    (SENSOR, {"mode": "poked"}, {"export_id": "e"}, "t: The mode must be one of"),
    (SENSOR, {"soft_fail": True, "never_fail": True}, {"export_id": "e"}, "t: .*mutually exclusive"),
    (SENSOR, {"max_wait": 9}, {"export_id": "e"}, "max_wait: not supported"),
]


@pytest.mark.parametrize(("operator", "partial", "expanded", "words"), WRONG)
def test_mapped_task_with_wrong_arguments_fails_without_retries(
    operator: Any, partial: dict[str, Any], expanded: dict[str, Any], words: str
) -> None:
    """It is constructed on a worker only, where Airflow retries other errors."""
    with DAG("d", schedule=None):
        mapped = operator.partial(task_id="t", retries=2, **partial).expand(
            **{name: [value] for name, value in expanded.items()}
        )
    with pytest.raises(AirflowFailException, match=words):
        mapped.unmap(expanded)


@pytest.mark.parametrize(("operator", "partial", "expanded", "words"), WRONG)
def test_wrong_arguments_fail_when_the_dag_is_parsed(
    operator: Any, partial: dict[str, Any], expanded: dict[str, Any], words: str
) -> None:
    """The message names the task."""
    with pytest.raises(ValueError, match=words):
        operator(task_id="t", **partial, **expanded)


def test_mode_of_default_args_decides_too() -> None:
    """As if it were given."""
    with DAG("d", schedule=None, default_args={"mode": "reschedule"}):
        assert not UserSegmentExportSensor(task_id="w", export_id="e").deferrable


NAMES = [
    "2026",
    "007",
    "2.10",
    "1e5",
    "1_000",
    "0x10",
    "[1, 2]",
    "{'a': 1}",
    "(1)",
    "True",
    "None",
    "{}",
    "'a'",
    "a",
]


def rendered(task: Any, **params: Any) -> Any:
    """Render a task's fields as Airflow does."""
    task.render_template_fields(context() | {"params": params}, task.dag.get_template_env())
    return task


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("template", ["{{ params.name }}", "{{- params.name }}", None])
def test_text_stays_text(name: str, template: str | None, native: bool) -> None:
    """Whatever a DAG makes of its templates: a name, a pattern, an id, a bucket and a key are what was written."""
    if name == "None" and template and native:
        pytest.skip("can't be told from no value; the error names the DAG's option")
    text: Any = template or name
    with DAG("d", schedule=None, render_template_as_native_obj=native):
        tasks = [
            UserSegmentExportOperator(task_id="n", segment_name=text),
            UserSegmentExportOperator(
                task_id="i", segment_id=text, output_format=text, mparticle_conn_id=text
            ),
            UserSegmentsListOperator(task_id="l", name_pattern=text, category=text),
            UserSegmentExportSensor(task_id="s", export_id=text),
            UserSegmentToS3Operator(task_id="c", segment_name="x", s3_bucket=text, s3_key=text),
        ]
    fields = [
        ("segment_name",),
        ("segment_id", "output_format", "mparticle_conn_id"),
        ("name_pattern", "category"),
        ("export_id",),
        ("s3_bucket", "s3_key"),
    ]
    for task, names in zip(tasks, fields, strict=True):
        for field in names:
            assert getattr(rendered(task, name=name), field) == name


def test_none_of_a_native_template_is_none() -> None:
    """So that a filter can be left out, and S3 be had without a Connection."""
    with DAG("d", schedule=None, render_template_as_native_obj=True):
        task = UserSegmentsListOperator(task_id="l", category="{{ params.category }}")
    assert rendered(task, category=None).category is None
    assert rendered(task, category=lazy_object_proxy.Proxy(lambda: None)).category is None


@pytest.mark.parametrize("value", [2026, True])
def test_numbers_that_were_handed_over_are_text(connect: Callable[..., None], value: Any) -> None:
    """An upstream task may return one."""
    with Emulator(bucket=None, export_seconds=0, segments=[EmulatedSegment(name=str(value))]) as service:
        connect(service)
        task = UserSegmentExportOperator(task_id="e", segment_name="x")
        task.segment_name = value
        assert task.execute(context())["segment_name"] == str(value)
        names = UserSegmentsListOperator(task_id="l")
        names.name_pattern = value
        assert len(names.execute(context())) == 1


@pytest.mark.parametrize("value", [2.5, ["a"], {"a": 1}, b"a"])
def test_what_is_no_text_names_the_dags_option(connected: Emulator, value: Any) -> None:
    """A fraction may have lost digits, and a list its form."""
    with DAG("d", schedule=None, render_template_as_native_obj=True):
        export = UserSegmentExportOperator(task_id="e", segment_name="x")
        names = UserSegmentsListOperator(task_id="l")
        sensor = UserSegmentExportSensor(task_id="s", export_id="e")
    export.segment_name = names.category = sensor.export_id = value
    for task in (export, names, sensor):
        with pytest.raises(AirflowFailException, match="render_template_as_native_obj"):
            task.execute(context())
    assert connected.requests == []


@pytest.mark.parametrize("seconds", [0, 3600])
def test_nothing_is_pushed_without_xcoms(connect: Callable[..., None], seconds: float) -> None:
    """do_xcom_push=False: the resumed half knows the export all the same."""
    where = context()
    with Emulator(bucket=None, export_seconds=seconds) as service:
        connect(service)
        segment_id = service.segments[0].segment_id
        task = UserSegmentExportOperator(
            task_id="e", segment_id=segment_id, do_xcom_push=False, defer_after=0 if seconds else 4
        )
        if seconds:
            with pytest.raises(TaskDeferred) as caught:
                task.execute(where)
            (submission,) = service.submissions
            assert caught.value.kwargs == {"export_id": submission.export_id}
            assert caught.value.trigger.serialize()[1]["xcom_keys"] == []
        else:
            assert task.execute(where)["status"] == "COMPLETE"
    assert where["ti"].pushed == {}
