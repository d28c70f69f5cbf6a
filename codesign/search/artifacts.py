"""Where weights and checkpoints lie: a folder, or an S3 bucket for workers on several machines.

Names hold a digest of the content. A file that a killed process left half written, or that a disk has damaged, is
therefore found out when it is read, and writing it again mends it.
"""

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlparse

from codesign.errors import DataError, InputError, StudyError

DIGEST = 16  # characters of it in a name

ATTEMPTS = 8
"""At a request to S3; the pauses between them grow from about 1 s to 20 s, one minute in all."""

CREDENTIALS = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile that boto3 finds"

CHECK = "codesign-check"
"""An empty content that is written and removed again to see whether a bucket can be used."""


class Artifacts:
    """A store of named contents.

    Args:
        folder: of results; the store is its folder "artifacts" unless a URL is given.
        url: s3://BUCKET, with the credentials that boto3 finds; s3://BUCKET?endpoint=URL for another server
            than Amazon's. None: the folder.

    Raises:
        InputError: if the URL is none, or boto3 is missing.
        StudyError: from all methods, if the bucket cannot be used.
    """

    def __init__(self, folder: Path, url: str | None = None) -> None:
        self.folder = folder / "artifacts"
        self.url = url
        if url is not None:
            parts = urlparse(url)
            if "@" in parts.netloc:  # not shown: a secret may stand in it
                raise InputError(f"--artifacts: write s3://bucket without a key; {CREDENTIALS}")
            unknown = parts.path.strip("/") or set(parse_qs(parts.query)) - {"endpoint"}
            if parts.scheme != "s3" or not parts.netloc or unknown:
                raise InputError(f"--artifacts: must be s3://BUCKET or s3://BUCKET?endpoint=URL, got {url!r}")
        self._store: Any = None

    @property
    def store(self) -> Any:
        """Optuna's artifact store, made when it is first needed: reading tables needs no Optuna."""
        if self._store is None:
            import optuna.artifacts

            if self.url is None:
                self.folder.mkdir(parents=True, exist_ok=True)
                self._store = optuna.artifacts.FileSystemArtifactStore(self.folder)
            else:
                self._store = _bucket(self.url, ATTEMPTS)
        return self._store

    def put(self, stem: str, content: bytes) -> str:
        """Store a content; what it is called from then on."""
        name = f"{stem}-{hashlib.sha256(content).hexdigest()[:DIGEST]}"
        with self._guard():
            self.store.write(name, io.BytesIO(content))
        return name

    def check(self) -> None:
        """See whether a bucket can be used, before a training is lost to it."""
        if self.url is not None:
            with self._guard():
                bucket = _bucket(self.url, attempts=2)
                bucket.write(CHECK, io.BytesIO())
                bucket.remove(CHECK)

    def get(self, name: str) -> bytes:
        """A content.

        Raises:
            DataError: if it is lost or damaged.
        """
        from optuna.artifacts.exceptions import ArtifactNotFound

        where = self.folder / name if self.url is None else f"{self.url}: {name}"
        try:
            with self._guard(), self.store.open_reader(name) as reader:
                content: bytes = reader.read()
        except ArtifactNotFound:
            raise DataError(f"{where}: is lost; run the search again, which trains it anew") from None
        if hashlib.sha256(content).hexdigest()[:DIGEST] != name.rsplit("-", 1)[-1]:
            raise DataError(f"{where}: is damaged; run the search again, which trains it anew")
        return content

    def intact(self, name: str | None) -> bool:
        """Whether a content can be read as it was written."""
        try:
            return name is not None and bool(self.get(name))
        except DataError:
            return False

    def remove(self, name: str) -> None:
        """Forget a content; one that is not there is no fault."""
        from optuna.artifacts.exceptions import ArtifactNotFound

        try:
            with self._guard():
                self.store.remove(name)
        except ArtifactNotFound:
            pass

    @contextmanager
    def _guard(self) -> Iterator[None]:
        """Faults of a bucket as one line."""
        if self.url is None:
            yield
            return
        boto3 = _boto3(self.url)
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

        try:
            yield
        except (boto3.exceptions.Boto3Error, BotoCoreError, ClientError, ValueError) as error:
            repair = "repair this, then run the same command again"
            if isinstance(error, NoCredentialsError):
                repair = CREDENTIALS
            elif "NoSuchBucket" in str(error):
                repair = "make the bucket, then run the same command again"
            cause = str(error).splitlines()[0].rstrip(".")
            raise StudyError(f"{self.url}: {cause}; {repair}") from error


def _boto3(url: str) -> Any:
    try:
        import boto3
    except ImportError:
        raise InputError(f"--artifacts {url}: needs boto3; pip install 'codesign[servers]'") from None
    return boto3


def _bucket(url: str, attempts: int) -> Any:
    """A bucket. Its client tries again by itself: Optuna's Backoff removes every content ten times, 80 s long."""
    import optuna.artifacts

    boto3, parts = _boto3(url), urlparse(url)
    from botocore.config import Config

    endpoint = parse_qs(parts.query).get("endpoint", [None])[0]
    # Other servers than Amazon's need not know names of buckets in host names, nor the newer checksums.
    others = {
        "s3": {"addressing_style": "path"},
        "request_checksum_calculation": "when_required",
        "response_checksum_validation": "when_required",
    }
    retries = {"mode": "standard", "total_max_attempts": attempts}
    config = Config(retries=retries, connect_timeout=10, read_timeout=60, **(others if endpoint else {}))
    client = boto3.client("s3", endpoint_url=endpoint, config=config)
    return optuna.artifacts.Boto3ArtifactStore(parts.netloc, client=client)
