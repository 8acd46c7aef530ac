# SPDX-License-Identifier: Apache-2.0
"""The export operator with the file's way into the user's bucket, against the emulator and a local S3."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, Asset, AssetAlias, TaskDeferred
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from airflow_provider_segments.api.models import SegmentExport
from airflow_provider_segments.emulator import EmulatedSegment, Emulator
from airflow_provider_segments.emulator.pytest_plugin import aws_connection
from airflow_provider_segments.exceptions import InvalidArgumentError, UserSegmentsException
from airflow_provider_segments.files.destination import Destination
from airflow_provider_segments.files.source import Source
from airflow_provider_segments.hooks.user_segments import UserSegmentsHook
from airflow_provider_segments.transfers.user_segment_to_s3 import UserSegmentToS3Operator
from airflow_provider_segments.triggers.events import finished_event
from tests.support import FakeStore, context
from tests.system.running_airflow import free_port

try:
    from airflow.sdk.execution_time.context import OutletEventAccessors
except ImportError:
    from airflow.utils.context import OutletEventAccessors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support import FakeClock

EXAMPLES = Path(__file__).parents[2] / "example_dags"
BUCKET, KEY = "mine", "segments/today.csv"
MEBIBYTE = 1024 * 1024
# The least S3 takes as a part.
IN_PARTS = {"multipart_threshold": 5 * MEBIBYTE, "multipart_chunksize": 5 * MEBIBYTE}
LARGE = 700_000  # rows, more than one part


@pytest.fixture
def user_segments_options() -> dict[str, Any]:
    """A small and a large segment."""
    segments = [
        EmulatedSegment(segment_id="s-1", name="Small"),
        EmulatedSegment(segment_id="s-2", name="Large", rows=LARGE),
    ]
    return {"segments": segments, "export_seconds": 0}


@pytest.fixture
def s3(user_segments_s3: Any, monkeypatch: pytest.MonkeyPatch, clock: FakeClock) -> Any:
    """The local S3 with the user's bucket."""
    monkeypatch.setattr(UserSegmentsHook, "clock", clock)
    monkeypatch.setattr(Source, "clock", clock)
    user_segments_s3.create_bucket(Bucket=BUCKET)
    return user_segments_s3


@pytest.fixture
def service(s3: Any, user_segments: Emulator) -> Emulator:
    """The service, writing its files to the local S3."""
    return user_segments


@pytest.fixture
def presigning(s3: Any, connect: Callable[..., None]) -> Iterator[Emulator]:
    """The service, naming its files by presigned URLs."""
    url = s3.meta.endpoint_url
    with Emulator(s3_endpoint_url=url, presigned=True, export_seconds=0) as running:
        connect(running)
        yield running


@pytest.fixture(scope="module")
def their_s3() -> Iterator[str]:
    """An S3 in a process of its own, for those in one process share their objects."""
    port = free_port()
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    wait_for(url)
    yield url
    server.kill()
    server.wait()


def wait_for(url: str) -> None:
    """Return once a server answers."""
    until = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(f"{url}/moto-api/", timeout=5).close()
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
        else:
            return


@pytest.fixture
def elsewhere(
    s3: Any, their_s3: str, monkeypatch: pytest.MonkeyPatch, connect: Callable[..., None]
) -> Iterator[Emulator]:
    """The service on an S3 of its own, which only the Connection ``theirs`` reaches."""
    monkeypatch.setenv("AIRFLOW_CONN_THEIRS", json.dumps(aws_connection(their_s3)))
    with Emulator(s3_endpoint_url=their_s3, bucket="their-bucket", export_seconds=0) as running:
        connect(running)
        yield running


def operator(**arguments: Any) -> UserSegmentToS3Operator:
    """Make one; the first segment's id is the emulator's."""
    options = {"task_id": "to_s3", "s3_bucket": BUCKET, "s3_key": KEY} | arguments
    if not {"segment_id", "segment_name"} & set(options):
        options["segment_name"] = "Small"
    return UserSegmentToS3Operator(**options)


def body(s3: Any, bucket: str = BUCKET, key: str = KEY) -> bytes:
    """Return an object's bytes."""
    found: bytes = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    return found


def left_behind(s3: Any) -> list[str]:
    """Return what lies in the user's bucket, unfinished uploads included."""
    objects = s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])
    uploads = s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])
    return [found["Key"] for found in (*objects, *uploads)]


def source_key(service: Emulator) -> str:
    return f"path/to/{service.submissions[-1].export_id}.csv"


def test_copied_inside_s3(service: Emulator, s3: Any) -> None:
    """The same bytes; the result names the user's object, and the service's as its source."""
    result = operator(encrypt=True, extra_args={"StorageClass": "STANDARD_IA"}).execute(context())
    assert body(s3) == body(s3, "upload-bucket", source_key(service))
    assert (result["s3_bucket"], result["s3_key"], result["s3_uri"]) == (BUCKET, KEY, f"s3://{BUCKET}/{KEY}")
    assert result["filename"] == result["s3_uri"]
    assert result["source_uri"] == f"s3://upload-bucket/{source_key(service)}"
    head = s3.head_object(Bucket=BUCKET, Key=KEY)
    assert head["ContentLength"] == result["size"] > 0
    assert (head["ContentType"], head["ServerSideEncryption"], head["StorageClass"]) == (
        "text/csv",
        "AES256",
        "STANDARD_IA",
    )


def test_copied_in_parts(service: Emulator, s3: Any) -> None:
    """What is over the threshold, with its content type."""
    result = operator(segment_name="Large", transfer_config_args=IN_PARTS).execute(context())
    assert result["size"] > IN_PARTS["multipart_threshold"]
    assert body(s3) == body(s3, "upload-bucket", source_key(service))
    head = s3.head_object(Bucket=BUCKET, Key=KEY)
    assert "-" in head["ETag"]
    assert head["ContentType"] == "text/csv"


def test_other_credentials_stream(elsewhere: Emulator, s3: Any) -> None:
    """Read with theirs, written with ours, in parts."""
    segment = elsewhere.segments[0]
    made = operator(segment_id=segment.segment_id, source_aws_conn_id="theirs")
    result = made.execute(context())
    assert len(body(s3).splitlines()) == 1001
    assert result["size"] == len(body(s3))
    assert result["source_uri"].startswith("s3://their-bucket/")


def test_without_the_right_credentials(elsewhere: Emulator, s3: Any) -> None:
    """It says which file and which Connection, and leaves nothing."""
    made = operator(segment_name=elsewhere.segments[0].name)
    with pytest.raises(UserSegmentsException, match=r"s3://their-bucket/.* can't be read .*'aws_default'"):
        made.execute(context())
    assert left_behind(s3) == []


def test_presigned_url(
    presigning: Emulator, s3: Any, told: Callable[[], str], caplog: pytest.LogCaptureFixture
) -> None:
    """It is asked for anew when the event has come, and its query is seen nowhere."""
    caplog.set_level(logging.WARNING, "werkzeug")  # what the local S3 itself logs
    made = operator(segment_name=presigning.segments[0].name)
    export = UserSegmentsHook().request_export(presigning.segments[0].segment_id)
    event = finished_event(export.export_id, UserSegmentsHook().get_export(export.export_id))
    asked = len(presigning.requests)
    result = made.execute_complete(context(), json.loads(json.dumps(event)), export_id=export.export_id)
    assert [request.route for request in presigning.requests[asked:]] == ["status"]
    assert body(s3) == body(s3, "upload-bucket", source_key(presigning))
    for text in (told(), json.dumps(result), json.dumps(event)):
        assert "Signature" not in text
    assert result["source_uri"].endswith(".csv")


def test_defers_like_the_export(s3: Any, connect: Callable[..., None]) -> None:
    """And the resumed half transfers."""
    with Emulator(s3_endpoint_url=s3.meta.endpoint_url, export_seconds=3600) as slow:
        connect(slow)
        made = operator(segment_name=slow.segments[0].name, defer_after=0)
        where = context()
        with pytest.raises(TaskDeferred) as caught:
            made.execute(where)
        (export_id,) = slow.exports
        slow.end(export_id)
        event = finished_event(export_id, UserSegmentsHook().get_export(export_id))
        made.execute_complete(where, event, **caught.value.kwargs)
        assert body(s3) == body(s3, "upload-bucket", source_key(slow))


def test_existing_object_is_not_overwritten(service: Emulator, s3: Any) -> None:
    """The task fails for good before anything is requested."""
    s3.put_object(Bucket=BUCKET, Key=KEY, Body=b"precious")
    with pytest.raises(AirflowFailException, match=f"{KEY} exists already"):
        operator().execute(context())
    assert service.submissions == []
    assert body(s3) == b"precious"
    operator(replace=True).execute(context())
    assert body(s3) != b"precious"


def test_object_that_appears_meanwhile(service: Emulator, s3: Any) -> None:
    """It is looked for once more right before the transfer."""
    made = operator()
    export = UserSegmentsHook().request_export("s-1")
    event = finished_event(export.export_id, UserSegmentsHook().get_export(export.export_id))
    s3.put_object(Bucket=BUCKET, Key=KEY, Body=b"precious")
    with pytest.raises(AirflowFailException, match="exists already"):
        made.execute_complete(context(), event, export_id=export.export_id)
    assert body(s3) == b"precious"


def test_retry_repeats_only_the_transfer(service: Emulator, s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later try may overwrite what an earlier one wrote, and clears away what it left in parts."""
    store = FakeStore()
    s3.delete_bucket(Bucket=BUCKET)
    with pytest.raises(UserSegmentsException, match="no such bucket"):
        operator(segment_id="s-1").execute(context(store))
    s3.create_bucket(Bucket=BUCKET)

    def dies(*_: Any) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Destination, "console_url", property(dies))  # asked for after the transfer
        with pytest.raises(KeyboardInterrupt):
            operator(segment_id="s-1").execute(context(store))
    s3.create_multipart_upload(Bucket=BUCKET, Key=KEY)
    s3.create_multipart_upload(Bucket=BUCKET, Key=f"{KEY}.other")
    operator(segment_id="s-1").execute(context(store))
    assert len(service.submissions) == 1
    assert left_behind(s3) == [KEY, f"{KEY}.other"]
    with pytest.raises(AirflowFailException, match="exists already"):  # cleared by a user
        operator(segment_id="s-1").execute(context(store, max_tries=5))


def test_expired_source(service: Emulator, s3: Any) -> None:
    """It says so, with what to do."""
    made = operator()
    export_id = UserSegmentsHook().request_export("s-1").export_id
    UserSegmentsHook().get_export(export_id)
    service.expire(export_id)
    event = finished_event(export_id, UserSegmentsHook().get_export(export_id))
    with pytest.raises(UserSegmentsException, match=r"expired at .* Request another export"):
        made.execute_complete(context(), event, export_id=export_id)
    assert left_behind(s3) == []


def test_missing_source(service: Emulator, s3: Any) -> None:
    """Likewise, though it should still be there."""
    export = UserSegmentsHook().get_export(UserSegmentsHook().request_export("s-1").export_id)
    s3.delete_object(Bucket="upload-bucket", Key=f"path/to/{export.export_id}.csv")
    with pytest.raises(UserSegmentsException, match="The file is gone: the service keeps files for 48 hours"):
        operator().execute_complete(
            context(), finished_event(export.export_id, export), export_id=export.export_id
        )
    assert left_behind(s3) == []


@pytest.fixture
def forbidding(s3: Any) -> Iterator[Callable[[], None]]:
    """Let S3 refuse these credentials from now on."""

    def ask_for_permission(after: str) -> None:
        url = f"{s3.meta.endpoint_url}/moto-api/reset-auth"
        headers = {"Content-Type": "text/plain"}
        urllib.request.urlopen(urllib.request.Request(url, after.encode(), headers, method="POST")).close()

    yield lambda: ask_for_permission("0")
    ask_for_permission("inf")


def test_forbidden(service: Emulator, s3: Any, forbidding: Callable[[], None]) -> None:
    """It says which permission is missing."""
    export = UserSegmentsHook().get_export(UserSegmentsHook().request_export("s-1").export_id)
    made = operator(replace=True)
    forbidding()
    with pytest.raises(UserSegmentsException, match=r"s3:GetObject"):
        made.execute_complete(context(), finished_event(export.export_id, export), export_id=export.export_id)


@pytest.mark.parametrize("name", ["extra_args", "transfer_config_args"])
@pytest.mark.parametrize("value", ['{"ContentType": "text/csv"}', ["x"], 3])
def test_arguments_that_are_no_dict(name: str, value: Any) -> None:
    """Such as JSON from a Variable."""
    with pytest.raises(InvalidArgumentError, match=f"{name} is .* a dict"):
        operator(**{name: value})


def test_no_acl(service: Emulator, s3: Any) -> None:
    """As Amazon's operators take it."""
    operator(acl_policy="no-acl").execute(context())


@pytest.mark.parametrize("argument", [{"end_from_trigger": True}, {"wait_for_completion": False}])
def test_always_ends_on_a_worker(argument: dict[str, Any]) -> None:
    """What would end the task elsewhere is refused when the DAG is parsed."""
    with pytest.raises(ValueError, match="transferred on a worker"):
        operator(**argument)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"s3_key": ""}, "s3_key is ''"),
        ({"s3_key": "folder/"}, "not a folder"),
        ({"s3_key": "s3://b/k"}, "not a URI"),
        ({"s3_bucket": "s3://b"}, "s3_bucket is 's3://b'"),
        ({"s3_bucket": "own\n"}, "white space"),
        ({"s3_bucket": "x/y"}, "s3_bucket: .*bucket name"),
        ({"s3_key": "k" * 1025}, "1025 bytes"),
        ({"s3_key": "\ud83d"}, "lone surrogate"),
        ({"extra_args": {"Nonsense": 1}}, "extra_args has 'Nonsense'"),
        ({"extra_args": {"ChecksumType": "FULL_OBJECT"}, "replace": True}, "extra_args has 'ChecksumType'"),
        ({"transfer_config_args": {"threads": 3}}, "transfer_config_args: .*threads"),
        ({"transfer_config_args": {"multipart_threshold": "8MB"}}, "multipart_threshold is '8MB'"),
        ({"extra_args": {"Metadata": {"a": 1}}}, "names and values of Metadata have to be text"),
        ({"extra_args": {"SSECustomerKey": None}}, "NoneType"),
    ],
)
def test_wrong_arguments_fail_before_the_request(
    service: Emulator, arguments: dict[str, Any], words: str
) -> None:
    """Once rendered, they are looked at first."""
    with pytest.raises(AirflowFailException, match=words):
        operator(**arguments).execute(context())
    assert service.submissions == []


@pytest.mark.usefixtures("service")
def test_outlets_are_told(s3: Any) -> None:
    """An alias gets the real asset, an asset the result as its extra."""
    alias, asset = AssetAlias("segments"), Asset(f"s3://{BUCKET}/segments")
    where = context() | {"outlet_events": OutletEventAccessors()}
    result = operator(outlets=[alias, asset]).execute(where)
    events = where["outlet_events"]
    assert events[asset].extra == result
    told = getattr(events[alias], "asset_alias_events", None) or events[alias].dataset_alias_events
    (event,) = told
    assert result["s3_uri"] in str(event)
    assert result["export_id"] in str(event)


def test_lineage(service: Emulator) -> None:
    """From the segment at the service to the object."""
    made = operator()
    assert made.get_openlineage_facets_on_complete(None) is None
    made.execute(context())
    found = made.get_openlineage_facets_on_complete(None)
    assert [(data.namespace, data.name) for data in found.inputs] == [(service.url, "segments/s-1")]
    assert [(data.namespace, data.name) for data in found.outputs] == [(f"s3://{BUCKET}", KEY)]


def test_source_fits_a_model() -> None:
    """An export without a file is refused before S3 is asked."""
    nothing = SegmentExport.model_validate({"export_id": "e", "status": "COMPLETE", "filename": None})
    with pytest.raises(UserSegmentsException, match="names no file"):
        operator().execute_complete(context(), finished_event("e", nothing), export_id="e")


@pytest.mark.usefixtures("service")
def test_link_to_the_object(monkeypatch: pytest.MonkeyPatch) -> None:
    """The task writes its address, and none for this local S3."""
    where = context()
    operator().execute(where)
    assert set(where["ti"].pushed) == {"export_id"}
    # An object on AWS can't be had here.
    monkeypatch.setattr(Destination, "console_url", "https://console.example.com")
    made = operator(replace=True)
    made.execute(where)
    # Airflow 2 asks for the XCom when it shows the link, Airflow 3 the task itself.
    assert ("s3_console_url" in where["ti"].pushed) is not AIRFLOW_V_3_0_PLUS
    assert made.link_values["s3_console_url"] == "https://console.example.com"
    silent = operator(replace=True, do_xcom_push=False)
    silent.execute(context())
    assert not silent.link_values


@pytest.mark.usefixtures("service")
def test_log_tells_the_result_once(told: Callable[[], str]) -> None:
    """The folded details are those of the task's result."""
    result = operator().execute(context())
    log = told()
    for name, value in result.items():
        assert log.count(f"{name}: {value}") == 1, name
    assert log.count("::group::Details of the export") == 1
