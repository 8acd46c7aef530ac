# SPDX-License-Identifier: Apache-2.0
"""What holds for the package as a whole: metadata, imports, signatures."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
from importlib import import_module
from importlib.metadata import entry_points, metadata
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.version_compat import (
    AIRFLOW_V_3_0_PLUS,
    AIRFLOW_V_3_2_PLUS,
    AIRFLOW_V_3_3_PLUS,
)

import airflow_provider_segments
from airflow_provider_segments.connection import form, settings
from airflow_provider_segments.get_provider_info import get_provider_info
from airflow_provider_segments.hooks.user_segments import UserSegmentsAsyncHook, UserSegmentsHook
from airflow_provider_segments.operators.user_segments import (
    UserSegmentExportOperator,
    UserSegmentsListOperator,
)
from airflow_provider_segments.sensors.user_segments import UserSegmentExportSensor
from airflow_provider_segments.transfers.user_segment_changes_to_s3 import UserSegmentChangesToS3Operator
from airflow_provider_segments.transfers.user_segment_to_s3 import UserSegmentToS3Operator
from airflow_provider_segments.triggers.segment_refresh import UserSegmentRefreshTrigger
from airflow_provider_segments.triggers.user_segments import UserSegmentExportTrigger
from tests import forked

PACKAGE = Path(airflow_provider_segments.__file__).parent
HEAVY = ("requests", "aiohttp", "boto3", "botocore", "pydantic", "httpx", "duckdb")


def python(code: str) -> Any:
    """Run code in a new process and return the JSON it prints last."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def test_dag_file_imports_nothing_heavy() -> None:
    """Operators and sensor bring none of the heavy libraries that Airflow has not loaded itself."""
    tell = f"print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    airflow = (
        "import json, sys\n"
        "from airflow.providers.common.compat.sdk import DAG, BaseOperator, BaseSensorOperator, PokeReturnValue\n"
        "from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, AirflowSensorTimeout\n"
        "BaseOperator(task_id='b')\n"  # the first operator of a process loads much of Airflow 3.0
    )
    ours = (
        "from airflow_provider_segments.operators.user_segments import UserSegmentExportOperator\n"
        "from airflow_provider_segments.operators.user_segments import UserSegmentsListOperator\n"
        "from airflow_provider_segments.sensors.user_segments import UserSegmentExportSensor\n"
        "from airflow_provider_segments.transfers.user_segment_changes_to_s3 import UserSegmentChangesToS3Operator\n"
        "from airflow_provider_segments.triggers.segment_refresh import UserSegmentRefreshTrigger\n"
        "UserSegmentChangesToS3Operator(task_id='c', segment_id='s', s3_bucket='b', s3_prefix='p')\n"
        "UserSegmentExportOperator(task_id='e', segment_id='s')\n"
        "UserSegmentExportSensor(task_id='w', export_id='e')\n"
    )
    if AIRFLOW_V_3_0_PLUS:
        ours += "UserSegmentRefreshTrigger(segment_id='s')\n"
    assert python(airflow + ours + tell) == python(airflow + tell)


def test_entry_point() -> None:
    """Airflow finds the metadata."""
    (found,) = [
        e
        for e in entry_points(group="apache_airflow_provider")
        if e.module.startswith("airflow_provider_seg")
    ]
    assert found.load() is get_provider_info


def test_metadata_is_valid() -> None:
    """By this Airflow's own schema, and every module it names can be imported."""
    import airflow
    from jsonschema import validate

    schema = json.loads((Path(airflow.__file__).parent / "provider_info.schema.json").read_text())
    info = get_provider_info()
    validate(info, schema)
    for kind in ("hooks", "operators", "sensors", "triggers"):
        for module in info[kind][0]["python-modules"]:
            import_module(module)
    for transfer in info["transfers"]:
        import_module(transfer["python-module"])
    for path, _, name in (link.rpartition(".") for link in info["extra-links"]):
        getattr(import_module(path), name)()
    path, _, name = info["connection-types"][0]["hook-class-name"].rpartition(".")
    assert getattr(import_module(path), name) is UserSegmentsHook
    for path, _, name in (command.rpartition(".") for command in info["cli"]):
        assert getattr(import_module(path), name)()


def test_airflow_lists_the_provider() -> None:
    """`airflow providers get` shows it and the connection type is registered."""
    loaded = forked.Interpreter()

    def providers(*arguments: str) -> str:
        done = loaded.run("airflow", "providers", *arguments, "--output", "json")
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "mParticle" in providers("get", "--full", "airflow-provider-segments")
    expected = {
        "hooks": ("mparticle_analytics", "mParticle Analytics", "UserSegmentsHook"),
        "links": ("airflow_provider_segments.links.user_segments.ExportedFileLink", "S3FileLink"),
    }
    # Without the library of Airflow 2's form, 3.0 and 3.1 list those of no provider.
    if AIRFLOW_V_3_2_PLUS or not AIRFLOW_V_3_0_PLUS:
        expected["behaviours"] = ("mparticle_analytics",)
    for list_, words in expected.items():
        listed = providers(list_)
        for word in words:
            assert word in listed, list_


def test_one_source_for_the_form() -> None:
    """The metadata and the hook's methods say the same."""
    conn_type = get_provider_info()["connection-types"][0]
    behaviour = UserSegmentsHook.get_ui_field_behaviour()
    assert conn_type["ui-field-behaviour"] == {
        "hidden-fields": behaviour["hidden_fields"],
        "relabeling": behaviour["relabeling"],
        "placeholders": behaviour["placeholders"],
    }
    assert conn_type["connection-type"] == UserSegmentsHook.conn_type
    assert list(conn_type["conn-fields"]) == list(form.EXTRA_FIELDS)
    for name, field in form.EXTRA_FIELDS.items():
        shown = conn_type["conn-fields"][name]
        assert (shown["label"], shown["description"]) == (field.label, field.description)
        assert shown["schema"].get("default") == field.default
        assert shown["schema"]["type"] == [field.kind, "null"]
        assert (shown["schema"].get("format") == "password") == field.secret
    assert conn_type["hook-name"] == UserSegmentsHook.hook_name
    # Airflow 2 reads them from the class itself only.
    assert {"get_connection_form_widgets", "get_ui_field_behaviour"} <= set(vars(UserSegmentsHook))


@pytest.mark.skipif(AIRFLOW_V_3_0_PLUS, reason="later versions have stand-ins for the form's library")
def test_form_widgets() -> None:
    """The form's extra fields on earlier versions."""
    from wtforms import PasswordField

    widgets = UserSegmentsHook.get_connection_form_widgets()
    assert list(widgets) == list(form.EXTRA_FIELDS)
    for name, field in form.EXTRA_FIELDS.items():
        shown = widgets[name].kwargs
        assert str(widgets[name].args[0]) == field.label
        assert shown["description"] == field.description
        assert shown["default"] == (None if field.default is None else str(field.default))
        assert (widgets[name].field_class is PasswordField) == field.secret


@pytest.mark.skipif(not AIRFLOW_V_3_3_PLUS, reason="earlier ones read the hook's methods")
def test_airflow_reads_the_form() -> None:
    """What Airflow 3's form is made of, as its API gives it."""
    from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService

    (read,) = [m for m in HookMetaService.hook_meta_data() if m.connection_type == settings.CONN_TYPE]
    assert read.hook_name == settings.HOOK_NAME
    assert read.standard_fields is not None
    assert read.standard_fields.url_schema is not None
    assert read.standard_fields.url_schema.hidden
    for name, title in form.ui_field_behaviour()["relabeling"].items():
        assert getattr(read.standard_fields, name).title == title
    assert read.extra_fields is not None
    assert {name: found["value"] for name, found in read.extra_fields.items()} == {
        name: field.default for name, field in form.EXTRA_FIELDS.items()
    }


@pytest.mark.parametrize(
    ("version", "shown"), [("3.3.2", True), ("3.3.1+vendor.4", True), ("3.3.3", False), ("2.11.2", False)]
)
def test_port_where_the_test_button_needs_it(
    version: str, shown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the Airflow that has the fault, whoever has packaged it."""
    monkeypatch.setattr("airflow.__version__", version)
    behaviour = form.ui_field_behaviour()
    assert ("port" not in behaviour["hidden_fields"]) == shown
    assert ("port" in behaviour["placeholders"]) == shown


def test_link_of_the_list_of_providers() -> None:
    """Airflow 3 makes one up where a package names none."""
    urls = dict(url.split(", ") for url in metadata("airflow-provider-segments").get_all("Project-URL") or [])
    assert urls["Documentation"].startswith("https://docs.mparticle.com/")


PUBLIC = [
    UserSegmentChangesToS3Operator,
    UserSegmentExportOperator,
    UserSegmentExportSensor,
    UserSegmentExportTrigger,
    UserSegmentRefreshTrigger,
    UserSegmentToS3Operator,
    UserSegmentsAsyncHook,
    UserSegmentsHook,
    UserSegmentsListOperator,
]


@pytest.mark.parametrize("kind", PUBLIC)
def test_docstring_and_signature_agree(kind: type) -> None:
    """Each parameter is documented, and nothing else is."""
    documented = re.findall(r":param (\w+):", kind.__doc__ or "")
    signature = [
        p
        for p in inspect.signature(kind.__init__).parameters
        if p not in ("self", "kwargs", "multiple_outputs")
    ]
    assert documented == signature


@pytest.mark.parametrize(
    "kind", [UserSegmentExportOperator, UserSegmentExportSensor, UserSegmentsListOperator]
)
def test_template_fields_are_arguments(kind: Any) -> None:
    """As Airflow asks for."""
    assert set(kind.template_fields) <= set(inspect.signature(kind.__init__).parameters)


def test_licence_header() -> None:
    """Every module names its licence."""
    for path in PACKAGE.rglob("*.py"):
        assert path.read_text().startswith("# SPDX-License-Identifier: Apache-2.0\n"), path
