# SPDX-License-Identifier: Apache-2.0
"""The emulator as a context manager: a server on a thread of its own."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Literal

from aiohttp import web
from anyio.from_thread import BlockingPortal, start_blocking_portal

from airflow_provider_segments.emulator._fault_middleware import LOG_REQUESTS, fault_middleware
from airflow_provider_segments.emulator._faults import ArmedFaults, Fault
from airflow_provider_segments.emulator._listener import Listener
from airflow_provider_segments.emulator._segments import EmulatedSegment, build_segments
from airflow_provider_segments.emulator._server import CREDENTIALS, SERVICE, add_routes, basic
from airflow_provider_segments.emulator._service import Service, Settings
from airflow_provider_segments.emulator._storage import NoStorage, S3Storage

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence
    from types import TracebackType

    from airflow_provider_segments.emulator._exports import RequestRecord, Submission


class Emulator:
    """
    A local stand-in for the User Segments Export API; use it in a ``with`` statement, once.

    :param s3_endpoint_url: Address of a local S3; None for AWS.
    :param bucket: Bucket of the files, created if missing; None names files without writing any.
    :param prefix: Folder of the files in the bucket.
    :param segments: How many segments there are, or the segments.
    :param rows: Users in a segment that has no ``rows`` of its own.
    :param export_seconds: Time from the request of an export to its end; 0 ends it before the first poll. With two
        numbers each export takes a time between them, the same in every run.
    :param api_key: User name to accept.
    :param access_token: Password to accept.
    :param presigned: Name files by presigned URLs instead of ``s3://`` addresses.
    :param refresh_seconds: Time between two refreshes of all Dynamic segments; None for on demand only.
    :param requests_per_second: A limit on all calls together, unknown to the clients; excess calls get a 429.
        None for no limit.
    :param ssl_context: Certificate to serve HTTPS with; None for HTTP.
    :param host: Address to listen on.
    :param port: Port to listen on; 0 for a free one.
    :param faults: What goes wrong from the start.
    :param aws_access_key_id: For S3; None takes what boto3 finds, or ``testing`` at a local S3.
    :param aws_secret_access_key: As above.
    :param log: Log one line for each request.
    """

    def __init__(
        self,
        *,
        s3_endpoint_url: str | None = None,
        bucket: str | None = "upload-bucket",
        prefix: str = "path/to",
        segments: int | Sequence[EmulatedSegment] = 3,
        rows: int = 1000,
        export_seconds: float | tuple[float, float] = 5.0,
        api_key: str = "emulator-key",
        access_token: str = "emulator-token",
        presigned: bool = False,
        refresh_seconds: float | None = None,
        requests_per_second: float | None = None,
        ssl_context: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        faults: Sequence[Fault] = (),
        aws_access_key_id: str | None = None,
        aws_secret_access_key: str | None = None,
        log: bool = False,
    ) -> None:
        self._credentials = api_key, access_token
        settings = Settings(
            prefix=prefix,
            export_seconds=export_seconds,
            presigned=presigned,
            refresh_seconds=refresh_seconds,
            requests_per_second=requests_per_second,
        )
        complete = build_segments(segments, rows)
        self._storage = NoStorage()
        if bucket is not None:
            self._storage = S3Storage(bucket, s3_endpoint_url, aws_access_key_id, aws_secret_access_key)
        self._listener = Listener(host, port, ssl_context)
        self._service = Service(
            settings, complete, self._storage, ArmedFaults(faults), lambda: self._listener.connections
        )
        self._log = log
        self._running = ExitStack()
        self._portal: BlockingPortal

    def __enter__(self) -> Emulator:
        """Start the server; when it returns, requests are answered."""
        self._storage.prepare()
        with ExitStack() as starting:
            starting.callback(self._service.close)
            self._portal = starting.enter_context(start_blocking_portal("asyncio"))
            starting.callback(self._portal.call, self._listener.close)
            self._portal.call(self._serve)
            self._running = starting.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop the server and cut its connections."""
        self._running.close()

    async def _serve(self) -> None:
        app = web.Application(middlewares=[fault_middleware])
        app[SERVICE] = self._service
        app[CREDENTIALS] = basic(*self._credentials)
        app[LOG_REQUESTS] = self._log
        add_routes(app)
        await self._listener.open(app)
        self._service.start()

    @property
    def url(self) -> str:
        """Scheme, host and port."""
        return self._listener.url

    @property
    def submissions(self) -> list[Submission]:
        """Every POST that started an export, in order."""
        return list(self._service.submissions)

    @property
    def requests(self) -> list[RequestRecord]:
        """Every request that arrived, in order."""
        return list(self._service.requests)

    @property
    def redirects_followed(self) -> int:
        """How many requests followed a redirect."""
        return sum(record.route == "redirected" for record in self.requests)

    @property
    def connections(self) -> int:
        """How many TCP connections have been accepted."""
        return self._listener.connections

    @property
    def exports(self) -> dict[str, str]:
        """The status of each export by its id."""
        return {export.export_id: export.status for export in list(self._service.exports.values())}

    @property
    def segments(self) -> list[EmulatedSegment]:
        """The segments as they are now."""
        return list(self._service.segments.values())

    def airflow_connection(self) -> dict[str, object]:
        """Return a Connection to the emulator; its JSON fits an ``AIRFLOW_CONN_`` variable."""
        login, password = self._credentials
        fields: dict[str, object] = {"conn_type": "mparticle_analytics", "host": self.url}
        return fields | {"login": login, "password": password, "extra": {}}

    def inject(self, fault: Fault) -> None:
        """
        Inject a fault.

        :param fault: What goes wrong, and when.
        """
        self._service.faults.add(fault)

    def clear_faults(self) -> None:
        """Inject no further faults; an export keeps those it has."""
        self._service.faults.clear()

    def refresh(self, segment_id: str | None = None) -> None:
        """
        Advance ``lastRun`` of one segment, or of all Dynamic ones.

        :param segment_id: The segment.
        :raises KeyError: If there is no such segment.
        """
        self._service.refresh(segment_id)

    def end(self, export_id: str) -> None:
        """
        End a running export now, with its file written.

        :param export_id: The export.
        :raises KeyError: If there is no such export.
        """
        self._portal.call(self._service.end, export_id)

    def expire(self, export_id: str) -> None:
        """
        Delete the file of a complete export and move its end 49 hours back.

        :param export_id: The export.
        :raises KeyError: If there is no such export.
        :raises ValueError: If it is not complete.
        """
        self._service.expire(export_id)

    def pause(self, mode: Literal["refuse", "silence"] = "refuse") -> None:
        """
        Begin an outage; exports go on behind it.

        :param mode: ``refuse`` cuts all connections and refuses new ones, ``silence`` answers nothing.
        """
        if mode not in ("refuse", "silence"):
            raise ValueError(mode)
        if mode == "silence":
            self._service.silent = True
        else:
            self._portal.call(self._listener.refuse)

    def resume(self) -> None:
        """End an outage, on the same port; requests that were not answered stay so."""
        self._service.silent = False
        self._portal.call(self._listener.resume)
