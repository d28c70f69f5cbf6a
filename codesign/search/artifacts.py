"""Where weights and checkpoints lie: a folder, or an S3 bucket for workers on several machines.

Names hold a digest of the content. A file that a killed process left half written, or that a disk has damaged, is
therefore found out when it is read, and writing it again mends it.
"""

import hashlib
import io
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from codesign.errors import DataError, InputError

DIGEST = 16  # characters of it in a name


class Artifacts:
    """A store of named contents.

    Args:
        folder: of results; the store is its folder "artifacts" unless a URL is given.
        url: s3://BUCKET, with the credentials that boto3 finds; s3://BUCKET?endpoint=URL for another server
            than Amazon's. None: the folder.

    Raises:
        InputError: if the URL is none, or boto3 is missing.
    """

    def __init__(self, folder: Path, url: str | None = None) -> None:
        self.folder = folder / "artifacts"
        self.url = url
        if url is not None and urlparse(url).scheme != "s3":
            raise InputError(f"--artifacts: must be a URL such as s3://bucket, got {url!r}")
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
                self._store = optuna.artifacts.Backoff(_bucket(self.url))
        return self._store

    def put(self, stem: str, content: bytes) -> str:
        """Store a content; what it is called from then on."""
        name = f"{stem}-{hashlib.sha256(content).hexdigest()[:DIGEST]}"
        self.store.write(name, io.BytesIO(content))
        return name

    def get(self, name: str) -> bytes:
        """A content.

        Raises:
            DataError: if it is lost or damaged.
        """
        from optuna.artifacts.exceptions import ArtifactNotFound

        where = self.folder / name if self.url is None else f"{self.url}: {name}"
        try:
            with self.store.open_reader(name) as reader:
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
            self.store.remove(name)
        except ArtifactNotFound:
            pass


def _bucket(url: str) -> Any:
    import optuna.artifacts

    try:
        import boto3  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        raise InputError(f"--artifacts {url}: needs boto3; pip install 'codesign[servers]'") from None
    parts = urlparse(url)
    endpoint = parts.query.removeprefix("endpoint=") or None
    client = boto3.client("s3", endpoint_url=endpoint)
    return optuna.artifacts.Boto3ArtifactStore(parts.netloc, client=client)
