"""An S3 server for tests: moto, a process with a socket that checks signatures, to be stopped and killed at will."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

import boto3
import botocore.config

BUCKET = "images"
_EVERYTHING = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}'
_UNSIGNED_CALLS = 4  # those of _make_user and the bucket; every later one must be signed


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


class ObjectServer:
    """Holds its objects in memory: a kill loses them. With `signed=False` any credentials will do, also after one."""

    def __init__(self, *, signed: bool = True) -> None:
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.options: dict[str, object] = {"bucket": BUCKET, "endpoint": self.endpoint}
        self.environment = {"AWS_ACCESS_KEY_ID": "anybody", "AWS_SECRET_ACCESS_KEY": "anything"}
        self._signed = signed

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)],
            env={**os.environ, **({"INITIAL_NO_AUTH_ACTION_COUNT": str(_UNSIGNED_CALLS)} if self._signed else {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until_s = time.monotonic() + 30
        while not self._answers():
            assert self._process.poll() is None, f"moto ended with {self._process.returncode}"
            assert time.monotonic() < until_s, "moto did not become ready"
            time.sleep(0.05)
        if self._signed:
            self._make_user()
        self._call(f"/{BUCKET}", "PUT")

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(10)

    def client(self) -> Any:
        """Return Amazon's own client, which has nothing in common with the driver's."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=self.environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.environment["AWS_SECRET_ACCESS_KEY"],
            config=botocore.config.Config(retries={"max_attempts": 0}, connect_timeout=5, read_timeout=5),
        )

    def _answers(self) -> bool:
        try:
            self._call("/moto-api/", "GET")
        except OSError:
            return False
        return True

    def _make_user(self) -> None:
        self._identity(Action="CreateUser", UserName="station")
        self._identity(Action="PutUserPolicy", UserName="station", PolicyName="all", PolicyDocument=_EVERYTHING)
        key = self._identity(Action="CreateAccessKey", UserName="station")
        for name, tag in (("AWS_ACCESS_KEY_ID", "AccessKeyId"), ("AWS_SECRET_ACCESS_KEY", "SecretAccessKey")):
            found = re.search(f"<{tag}>(.*?)</", key)
            assert found, key
            self.environment[name] = found[1]

    def _identity(self, **fields: str) -> str:
        body = urllib.parse.urlencode({**fields, "Version": "2010-05-08"}).encode()
        service = "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/iam/aws4_request, SignedHeaders=host, Signature=0"
        return self._call("/", "POST", body, {"Authorization": service})

    def _call(self, path: str, method: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> str:
        request = urllib.request.Request(self.endpoint + path, body, headers or {}, method=method)  # noqa: S310 - ours
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - ours
            return str(answer.read().decode())
