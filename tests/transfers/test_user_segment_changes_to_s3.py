# SPDX-License-Identifier: Apache-2.0
"""Who entered and who left, against the emulator and a local S3."""

from __future__ import annotations

import csv
import io
import json
import sys
import tempfile
from contextlib import suppress
from functools import cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_segments.api.errors import ColumnsError, CsvError
from airflow_provider_segments.emulator import EmulatedSegment, Emulator
from airflow_provider_segments.exceptions import UserSegmentsException
from airflow_provider_segments.files.destination import Destination
from airflow_provider_segments.files.s3 import s3_client
from airflow_provider_segments.files.source import Source
from airflow_provider_segments.files.stored import LatestExport
from airflow_provider_segments.hooks.user_segments import UserSegmentsHook
from airflow_provider_segments.transfers.user_segment_changes_to_s3 import UserSegmentChangesToS3Operator
from airflow_provider_segments.triggers.events import finished_event
from tests.support import FakeStore, context
from tests.transfers.chain import NAMES, check_chain

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from airflow_provider_segments.api.models import SegmentExport
    from tests.support import FakeClock

BUCKET, FOLDER = "mine", "audiences/s-1"
FIRST, SECOND = b"id,n\n1,a\n2,b\n3,c\n", b"id,n\n1,a\n3,x\n4,d\n5,e\n"


@pytest.fixture
def user_segments_options() -> dict[str, Any]:
    """A segment."""
    return {"segments": [EmulatedSegment(segment_id="s-1", name="Small", rows=10)], "export_seconds": 0}


@pytest.fixture
def s3(user_segments_s3: Any, monkeypatch: pytest.MonkeyPatch, clock: FakeClock) -> Any:
    """The local S3 with the user's bucket."""
    monkeypatch.setattr(UserSegmentsHook, "clock", clock)
    monkeypatch.setattr(Source, "clock", clock)
    client = cache(s3_client)  # to make one takes longer than all that a test asks it for
    for module in ("files.destination", "files.s3"):
        monkeypatch.setattr(f"airflow_provider_segments.{module}.s3_client", client)
    user_segments_s3.create_bucket(Bucket=BUCKET)
    return user_segments_s3


@pytest.fixture
def service(s3: Any, user_segments: Emulator) -> Emulator:
    """The service, writing its files to the local S3."""
    return user_segments


def operator(**arguments: Any) -> UserSegmentChangesToS3Operator:
    options = {"task_id": "changes", "segment_id": "s-1", "s3_bucket": BUCKET, "s3_prefix": "audiences"}
    return UserSegmentChangesToS3Operator(**options | arguments)


def exported(s3: Any, content: bytes) -> SegmentExport:
    """Return a complete export of this file."""
    export = UserSegmentsHook().get_export(UserSegmentsHook().request_export("s-1").export_id)
    s3.put_object(Bucket="upload-bucket", Key=f"path/to/{export.export_id}.csv", Body=content)
    return export


def resume(
    export: SegmentExport,
    made: UserSegmentChangesToS3Operator | None = None,
    run_id: str | None = None,
    **arguments: Any,
) -> Any:
    """Let a task do its work once its export is complete, in a run for each export."""
    made, its_context = made or operator(**arguments), context()
    its_context["ti"].run_id = run_id or export.export_id
    return made.execute_complete(
        its_context, finished_event(export.export_id, export), export_id=export.export_id
    )


def body(s3: Any, key: str) -> str:
    found: str = s3.get_object(Bucket=BUCKET, Key=key)["Body"].read().decode()
    return found


def latest(s3: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(body(s3, f"{FOLDER}/latest.json"))
    return found


def files(s3: Any, export: SegmentExport) -> dict[str, list[str]]:
    """Return what lies in an export's folder, lines sorted after the header."""
    texts = {name: body(s3, f"{FOLDER}/{export.export_id}/{name}.csv").splitlines() for name in NAMES}
    return {name: [header, *sorted(lines)] for name, (header, *lines) in texts.items()}


def objects(s3: Any) -> list[str]:
    """Return all keys of the user's bucket, unfinished uploads included."""
    found = s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])
    uploads = s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])
    return [one["Key"] for one in (*found, *uploads)]


@pytest.mark.usefixtures("service")
def test_three_runs(s3: Any) -> None:
    """The first adds everybody, the next ones tell the difference; latest.json and the result say the same."""
    one, two = exported(s3, FIRST), exported(s3, SECOND)
    first, second = resume(one), resume(two)
    assert files(s3, one) == {
        "users": ["id,n", "1,a", "2,b", "3,c"],
        "added": ["id,n", "1,a", "2,b", "3,c"],
        "removed": ["id,n"],
        "changed": ["id,n"],
    }
    assert files(s3, two) == {
        "users": ["id,n", "1,a", "3,x", "4,d", "5,e"],
        "added": ["id,n", "4,d", "5,e"],
        "removed": ["id,n", "2,b"],
        "changed": ["id,n", "3,x"],
    }
    counts = ("added", "removed", "changed", "unchanged")
    assert [first[name] for name in counts] == [3, 0, 0, 0]
    assert [second[name] for name in counts] == [2, 1, 1, 1]
    assert (first["previous_export_id"], second["previous_export_id"]) == (None, one.export_id)
    state = latest(s3)
    assert {name: state[name] for name in counts} == {name: second[name] for name in counts}
    assert (state["export_id"], state["previous_export_id"]) == (two.export_id, one.export_id)
    assert (state["key_columns"], state["columns"]) == (["id"], ["id", "n"])
    assert (state["start_time"], state["end_time"]) == (second["start_time"], second["end_time"])
    third = exported(s3, SECOND)
    assert [resume(third)[name] for name in counts] == [0, 0, 0, 4]
    assert check_chain(s3, BUCKET, FOLDER) == [one.export_id, two.export_id, third.export_id]


@pytest.mark.usefixtures("service")
def test_result_names_each_file(s3: Any) -> None:
    """It has the keys of the operator it is built on, about the whole export, and a URI and a key for each change."""
    export = exported(s3, FIRST)
    result = resume(export)
    folder = f"{FOLDER}/{export.export_id}"
    assert (result["s3_key"], result["size"]) == (f"{folder}/users.csv", len(FIRST))
    assert result["s3_uri"] == result["filename"] == f"s3://{BUCKET}/{folder}/users.csv"
    assert result["source_uri"] == f"s3://upload-bucket/path/to/{export.export_id}.csv"
    for kind in NAMES[1:]:
        assert result[f"{kind}_s3_key"] == f"{folder}/{kind}.csv"
        assert result[f"{kind}_s3_uri"] == f"s3://{BUCKET}/{folder}/{kind}.csv"
    assert json.loads(json.dumps(result)) == result


def test_objects_have_the_arguments_of_the_base(service: Emulator, s3: Any) -> None:
    """Encryption and extra_args hold for each object, and each has a fitting content type."""
    result = operator(encrypt=True, extra_args={"StorageClass": "STANDARD_IA"}).execute(context())
    assert result["added"] == 10
    heads = {key.rpartition("/")[2]: s3.head_object(Bucket=BUCKET, Key=key) for key in objects(s3)}
    assert {name: head["ContentType"] for name, head in heads.items()} == {
        **{f"{name}.csv": "text/csv" for name in NAMES},
        "latest.json": "application/json",
    }
    assert {(head["ServerSideEncryption"], head["StorageClass"]) for head in heads.values()} == {
        ("AES256", "STANDARD_IA")
    }
    assert len(service.submissions) == 1


@pytest.mark.usefixtures("service")
def test_baseline(s3: Any) -> None:
    """Nobody is added in a first run that only begins; the second one tells the difference."""
    first = resume(exported(s3, FIRST), first_run="baseline")
    assert (first["added"], first["unchanged"], first["previous_export_id"]) == (0, 3, None)
    second = resume(exported(s3, SECOND), first_run="baseline")
    assert (second["added"], second["removed"], second["changed"], second["unchanged"]) == (2, 1, 1, 1)


@pytest.mark.usefixtures("service")
def test_compound_key(s3: Any) -> None:
    """Several columns together identify a row."""
    resume(exported(s3, b"a,b,n\n1,1,x\n1,2,x\n"), key_columns=["a", "b"])
    second = resume(exported(s3, b"a,b,n\n1,1,x\n1,3,x\n"), key_columns=["a", "b"])
    assert (second["added"], second["removed"], second["unchanged"]) == (1, 1, 1)
    assert latest(s3)["key_columns"] == ["a", "b"]


class Death(BaseException):
    """The worker dies."""


def die_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Let the worker die before the upload of this number (0 to 3), before latest.json (4) or right after it (5)."""
    uploads, put, write = iter(range(9)), LatestExport._put, Destination.write

    def dying_write(self: Destination, source: Source) -> int:
        if next(uploads) == step:
            raise Death
        return write(self, source)

    def dying_put(self: LatestExport, value: Any) -> bool:
        if step == 5:
            put(self, value)
        if step in (4, 5):
            raise Death
        return put(self, value)

    monkeypatch.setattr(Destination, "write", dying_write)
    monkeypatch.setattr(LatestExport, "_put", dying_put)


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize("step", range(6))
def test_death_at_each_step(s3: Any, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The retry has the same result as a run without a death, and the next run is right too."""
    one, two, three = exported(s3, FIRST), exported(s3, SECOND), exported(s3, FIRST)
    resume(one)
    with monkeypatch.context() as dying:
        die_at(dying, step)
        with pytest.raises(Death):
            resume(two)
    assert latest(s3)["export_id"] == (two if step == 5 else one).export_id
    result = resume(two)
    assert [result[name] for name in ("added", "removed", "changed", "unchanged")] == [2, 1, 1, 1]
    assert result["previous_export_id"] == one.export_id
    assert resume(two) == result
    resume(three)
    assert check_chain(s3, BUCKET, FOLDER) == [one.export_id, two.export_id, three.export_id]


@pytest.mark.usefixtures("service")
def test_retry_after_the_next_run(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that died right after latest.json returns its own result, even if another run has come since."""
    one, two, three = exported(s3, FIRST), exported(s3, SECOND), exported(s3, FIRST)
    resume(one)
    with monkeypatch.context() as dying:
        die_at(dying, 5)
        with pytest.raises(Death):
            resume(two)
    resume(three)
    before = latest(s3)
    result = resume(two)
    assert (result["added"], result["previous_export_id"]) == (2, one.export_id)
    assert latest(s3) == before


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize("baseline", [True, False])
def test_retry_that_had_to_request_another_export(
    s3: Any, monkeypatch: pytest.MonkeyPatch, baseline: bool
) -> None:
    """As before Airflow 3.3: its result has the changes of the try that died, which no task downstream has seen."""
    one, dead, again, three = (
        exported(s3, FIRST),
        exported(s3, SECOND),
        exported(s3, SECOND),
        exported(s3, FIRST),
    )
    if baseline:
        resume(one)
    with monkeypatch.context() as dying:
        die_at(dying, 5)
        with pytest.raises(Death):
            resume(dead, run_id="the-run")
    assert latest(s3)["export_id"] == dead.export_id
    result = resume(again, run_id="the-run")
    assert result["previous_export_id"] == (one.export_id if baseline else None)
    assert result["added"] == (2 if baseline else 4)
    resume(three)
    kept = [one.export_id] * baseline
    assert check_chain(s3, BUCKET, FOLDER) == [*kept, again.export_id, three.export_id]


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize(
    ("choice", "first_run", "added"), [("baseline", "added", 0), ("added", "baseline", 4)]
)
def test_retry_after_the_previous_file_was_missing(
    s3: Any, monkeypatch: pytest.MonkeyPatch, choice: Any, first_run: Any, added: int
) -> None:
    """Its try that died had no file to compare with either, so the same choice holds again."""
    one, dead, again = exported(s3, FIRST), exported(s3, SECOND), exported(s3, SECOND)
    choices = {"when_previous_is_missing": choice, "first_run": first_run}
    resume(one, **choices)
    s3.delete_object(Bucket=BUCKET, Key=f"{FOLDER}/{one.export_id}/users.csv")
    with monkeypatch.context() as dying:
        die_at(dying, 5)
        with pytest.raises(Death):
            resume(dead, run_id="the-run", **choices)
    result = resume(again, run_id="the-run", **choices)
    assert (result["added"], result["previous_export_id"]) == (added, None)


def test_cleared_task_compares_with_its_own_export(s3: Any, service: Emulator) -> None:
    """Tasks downstream have seen the changes that led there."""
    for max_tries in (2, 3):
        result = operator().execute(context(max_tries=max_tries))
    first, second = service.submissions
    assert (result["export_id"], result["previous_export_id"]) == (second.export_id, first.export_id)


def test_retry_requests_no_other_export(service: Emulator, s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It reattaches, and aborts what an earlier try left of its uploads."""
    store = FakeStore()
    with monkeypatch.context() as dying:
        die_at(dying, 2)
        with pytest.raises(Death):
            operator().execute(context(store))
    export_id = service.submissions[0].export_id
    s3.create_multipart_upload(Bucket=BUCKET, Key=f"{FOLDER}/{export_id}/removed.csv")
    operator().execute(context(store))
    assert len(service.submissions) == 1
    assert sorted(objects(s3)) == sorted(
        [f"{FOLDER}/latest.json", *(f"{FOLDER}/{export_id}/{name}.csv" for name in NAMES)]
    )


def meanwhile(
    made: UserSegmentChangesToS3Operator, method: str, other: Callable[[], Any], *, before: bool
) -> None:
    """Let another run come right before or after this one's method."""
    own = getattr(made, method)

    def with_other(*arguments: Any) -> Any:
        if before:
            other()
        result = own(*arguments)
        if not before:
            other()
        return result

    setattr(made, method, with_other)


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize(
    ("method", "before"), [("_download", True), ("_previous", False), ("_upload", True), ("_upload", False)]
)
@pytest.mark.parametrize("first_run", [True, False])
def test_two_runs_at_a_time(s3: Any, method: str, before: bool, first_run: bool) -> None:
    """Only one is the successor; the other one fails and names both, and its retry compares with the winner's."""
    one, two, three = exported(s3, FIRST), exported(s3, SECOND), exported(s3, b"id,n\n9,z\n")
    if not first_run:
        resume(one)
    loser = operator()
    meanwhile(loser, method, lambda: resume(three), before=before)
    with pytest.raises(UserSegmentsException) as caught:
        resume(two, loser)
    compared = one.export_id if not first_run else "nothing"
    assert f"compared export {two.export_id} of segment 'Small' (s-1) with {compared}" in str(caught.value)
    assert f"names export {three.export_id} of another run" in str(caught.value)
    assert latest(s3)["export_id"] == three.export_id
    # Whoever is late before the first upload writes nothing at all.
    assert any(two.export_id in key for key in objects(s3)) == (method == "_upload")
    result = resume(two)
    assert (result["previous_export_id"], result["added"], result["removed"]) == (three.export_id, 4, 1)
    assert check_chain(s3, BUCKET, FOLDER) == [e.export_id for e in (one, three, two)[first_run:]]


@pytest.mark.usefixtures("service")
def test_write_whose_answer_was_lost(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """boto3 repeats it, and the repetition is refused, because the first one had arrived."""
    put = LatestExport._put
    monkeypatch.setattr(LatestExport, "_put", lambda *arguments: put(*arguments) and put(*arguments))
    for export in (exported(s3, FIRST), exported(s3, SECOND)):
        assert resume(export)["added"] in (3, 2)
    assert len(check_chain(s3, BUCKET, FOLDER)) == 2


def test_local_s3_checks_the_conditions(s3: Any) -> None:
    """What these tests rely on: moto refuses both conditional writes as S3 does."""
    place = {"Bucket": BUCKET, "Key": "k"}
    etag = s3.put_object(**place, Body=b"1", IfNoneMatch="*")["ETag"]
    for condition in ({"IfNoneMatch": "*"}, {"IfMatch": '"0"'}):
        with pytest.raises(ClientError, match="PreconditionFailed"):
            s3.put_object(**place, Body=b"2", **condition)
    s3.put_object(**place, Body=b"3", IfMatch=etag)


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize(
    ("choice", "counts"), [("added", (4, 0, 0)), ("baseline", (0, 0, 4)), ("fail", None)]
)
def test_previous_file_is_missing(
    s3: Any, choice: str, counts: tuple[int, ...] | None, told: Callable[[], str]
) -> None:
    """The message names the file and its export; the argument says what then."""
    one, two = exported(s3, FIRST), exported(s3, SECOND)
    resume(one)
    missing = f"{FOLDER}/{one.export_id}/users.csv"
    s3.delete_object(Bucket=BUCKET, Key=missing)
    if counts is None:
        with pytest.raises(
            AirflowFailException, match=f"s3://{BUCKET}/{missing}, the file of the previous export"
        ):
            resume(two)
        assert latest(s3)["export_id"] == one.export_id
        return
    result = resume(two, when_previous_is_missing=choice)
    assert tuple(result[name] for name in ("added", "removed", "unchanged")) == counts
    assert (result["previous_export_id"], latest(s3)["export_id"]) == (None, two.export_id)
    assert f"s3://{BUCKET}/{missing}" in told()


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize(
    ("content", "arguments", "kind", "words"),
    [
        (b"id,n,more\n1,a,x\n", {}, ColumnsError, "a different header than s3://.*: 'more' added"),
        (b"id\n1\n", {}, ColumnsError, "'n' dropped"),
        (b"id,n\n1,a\n", {"key_columns": ["user"]}, ColumnsError, "no column 'user'"),
        (b"<html>", {}, CsvError, "it begins with '<'"),
        (b"", {}, CsvError, "it is empty"),
        (b"id,n\n1,a,b\n", {}, CsvError, "line 2: Expected Number of Columns: 2 Found: 3"),
    ],
)
def test_what_cannot_be_compared(
    s3: Any, content: bytes, arguments: dict[str, Any], kind: type[Exception], words: str
) -> None:
    """It fails before anything is written; a retry would not help where a person has to decide."""
    resume(exported(s3, FIRST))
    before, state = objects(s3), latest(s3)
    expected = AirflowFailException if kind is ColumnsError else UserSegmentsException
    with pytest.raises(expected, match=words) as caught:
        resume(exported(s3, content), **arguments)
    assert isinstance(caught.value.__cause__, kind)
    assert (objects(s3), latest(s3)) == (before, state)


@pytest.mark.usefixtures("service")
def test_compare_columns(s3: Any) -> None:
    """With the columns named, the header may change."""
    resume(exported(s3, FIRST))
    second = resume(exported(s3, b"id,n,more\n1,a,x\n2,z,x\n"), compare_columns=["n"])
    assert (second["removed"], second["changed"], second["unchanged"]) == (1, 1, 1)
    third = resume(exported(s3, b"id,n,other\n1,a,x\n2,z,x\n"), compare_columns=["n", "other"])
    assert (third["changed"], third["unchanged"]) == (2, 0)


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize("content", [b"[]", b"not json", b'{"export_id": 7}', b'{"export_id": "x"}'])
def test_strange_latest_json(s3: Any, content: bytes) -> None:
    """It is neither believed nor overwritten."""
    s3.put_object(Bucket=BUCKET, Key=f"{FOLDER}/latest.json", Body=content)
    with pytest.raises(UserSegmentsException, match=r"latest.json is not what this operator writes"):
        resume(exported(s3, FIRST))
    assert objects(s3) == [f"{FOLDER}/latest.json"]
    assert body(s3, f"{FOLDER}/latest.json").encode() == content


@pytest.mark.usefixtures("service")
def test_full_disk(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the folder and what to do, and nothing is written."""
    full = SimpleNamespace(
        copyfileobj=lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    )
    monkeypatch.setattr("airflow_provider_segments.files.local.shutil", full)
    with pytest.raises(
        UserSegmentsException, match="No space left on device. Make room there, or set TMPDIR"
    ):
        resume(exported(s3, FIRST))
    assert objects(s3) == []


@pytest.mark.usefixtures("service")
def test_temporary_files_go(s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a success and after a failure."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    resume(exported(s3, FIRST))
    with pytest.raises(UserSegmentsException):
        resume(exported(s3, b"id,n\n1\n"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"s3_key": "k"}, "s3_key can't be set"),
        ({"replace": False}, "replace can't be set"),
        ({"key_columns": "id"}, "key_columns is 'id', but it has to be a list"),
        ({"key_columns": []}, "at least one column"),
        ({"key_columns": ["a", "a"]}, "each once"),
        ({"compare_columns": [1]}, "compare_columns is .*a list of column names"),
        ({"memory_limit": "much"}, "memory_limit is 'much'"),
        ({"first_run": "everybody"}, "first_run is 'everybody', but it has to be one of 'added', 'baseline'"),
        ({"when_previous_is_missing": "ignore"}, "'fail', 'added', 'baseline'"),
        ({"extra_args": {"StorageClass": "GLACIER"}}, "StorageClass"),
        ({"end_from_trigger": True}, "transferred on a worker"),
    ],
)
def test_wrong_arguments_fail_at_parse_time(arguments: dict[str, Any], words: str) -> None:
    """Each is named, with what it may be."""
    with pytest.raises(ValueError, match=f"changes: {words}|changes: .*{words}"):
        operator(**arguments)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"s3_prefix": ""}, "s3_prefix is ''"),
        ({"s3_prefix": "\ud800"}, "lone surrogate"),
        ({"s3_prefix": "/"}, "s3_prefix is '/'"),
        ({"s3_prefix": "s3://b/p"}, "plain name of a folder"),
        ({"s3_bucket": "s3://b"}, "s3_bucket is 's3://b'"),
        ({"extra_args": {"Nonsense": 1}}, "extra_args has 'Nonsense'"),
    ],
)
def test_wrong_arguments_fail_before_the_request(
    service: Emulator, arguments: dict[str, Any], words: str
) -> None:
    """Once rendered, they are looked at first."""
    with pytest.raises(AirflowFailException, match=words):
        operator(**arguments).execute(context())
    assert service.submissions == []


def test_without_duckdb(service: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what to install before an export is requested."""
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(AirflowFailException, match=r"airflow-provider-segments\[changes\]"):
        operator().execute(context())
    assert service.submissions == []


ROWS = st.dictionaries(
    st.integers(0, 8).map(str), st.sampled_from(["a", "b", 'c,"d"\n', "007", ""]), max_size=8
)
# A day: its file, where its first try dies, and whether the run of the day after comes before it is done.
DAYS = st.lists(st.tuples(ROWS, st.integers(0, 8), st.booleans()), min_size=1, max_size=4)


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(DAYS)
@pytest.mark.usefixtures("service")
def test_days_compose(s3: Any, days: list[tuple[dict[str, str], int, bool]]) -> None:
    """Whatever dies and whatever overlaps, the changes lead from each export to its successor."""
    for key in objects(s3):
        s3.delete_object(Bucket=BUCKET, Key=key)
    done = []
    for rows, step, overlaps in days:
        text = io.StringIO(newline="")
        csv.writer(text).writerows([("id", "n"), *rows.items()])
        export = exported(s3, text.getvalue().encode())
        with pytest.MonkeyPatch.context() as dying:
            die_at(dying, step)
            with suppress(Death):
                resume(export)
        if overlaps:
            loser, winner = operator(), exported(s3, FIRST)
            meanwhile(loser, "_upload", lambda winner=winner: resume(winner), before=False)
            # A try that died right after latest.json is done, and meets nobody.
            try:
                resume(export, loser)
            except UserSegmentsException:
                done.append(winner.export_id)
        resume(export)
        done.append(export.export_id)
        assert check_chain(s3, BUCKET, FOLDER) == done
