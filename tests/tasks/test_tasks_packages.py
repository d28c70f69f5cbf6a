"""Packages: what is kept, what is refused, and that nothing inside a package is ever run.

No registry is asked: pip serves files of a local folder, and apt is a script on the path.
"""

import fcntl
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import platformdirs
import pytest

from codesign.errors import DataError
from codesign.tasks.packages import MANIFEST, Members, Package, fetch, keep

DATA = bytes(range(256)) * 300  # more than a pipe holds at once
Keep = Callable[[Members], dict[str, bytes]]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache, empty."""
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda name: tmp_path / "cache" / name)
    return tmp_path / "cache" / "codesign" / "data"


@pytest.fixture
def links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder from which pip takes everything."""
    folder = tmp_path / "links"
    folder.mkdir()
    for name, value in {"NO_INDEX": "1", "FIND_LINKS": str(folder), "CONFIG_FILE": os.devnull}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    return folder


def wheel(folder: Path, content: bytes = DATA, version: str = "1.0") -> Path:
    file = folder / f"numbers-{version}-py3-none-any.whl"
    info = f"numbers-{version}.dist-info"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("numbers/__init__.py", "raise SystemExit")
        archive.writestr("numbers/data/digits.bin", content)
        archive.writestr("numbers/data/", b"")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: numbers\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return file


def sdist(folder: Path, files: dict[str, str]) -> Path:
    file = folder / "numbers-1.0.tar.gz"
    with tarfile.open(file, "w:gz") as archive:
        for name, text in {**files, "PKG-INFO": "Metadata-Version: 1.0\nName: numbers\nVersion: 1.0\n"}.items():
            member = tarfile.TarInfo(f"numbers-1.0/{name}")
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
        member = tarfile.TarInfo("numbers-1.0/link.txt")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(member)
    return file


def deb(folder: Path, name: str = "numbers-data", version: str = "1:1.0-2", content: bytes = DATA) -> Path:
    if shutil.which("dpkg-deb") is None:
        pytest.skip("dpkg-deb is not installed")
    tree = folder / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN" / "control").write_text(
        f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: A <a@example.org>\nDescription: numbers\n"
    )
    (tree / "usr" / "share").mkdir(parents=True)
    (tree / "usr" / "share" / "digits.bin").write_bytes(content)
    file = folder / f"{name}_{version.split(':')[-1]}_all.deb"
    subprocess.run(["dpkg-deb", "--build", "-Zgzip", tree, file], check=True, capture_output=True)
    shutil.rmtree(tree)
    return file


def of(file: Path, extract: Keep | None = None) -> Package:
    """The package in a file, pinned to it."""
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    size_bytes = file.stat().st_size
    extract = extract or keep("digits.bin")
    if file.suffix == ".deb":
        return Package("debian", "numbers-data", "1:1.0-2", sha256, size_bytes, extract)
    return Package("pypi", "numbers", "1.0", sha256, size_bytes, extract)


def refusal(package: Package, archive: Path | None = None) -> str:
    with pytest.raises(DataError) as caught:
        fetch(package, archive)
    assert not package.present
    assert not list(package.folder.parent.glob("[!.]*"))
    assert not list(package.folder.parent.glob(".*.partial"))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("make", [wheel, deb])
@pytest.mark.parametrize("named", ["file", "folder"])
def test_data_are_kept_beside_a_manifest(make: Callable[[Path], Path], named: str, tmp_path: Path, cache: Path) -> None:
    (tmp_path / "given").mkdir()
    file = make(tmp_path / "given")
    (tmp_path / "given" / "another").write_bytes(b"0" * file.stat().st_size)
    package = of(file)
    assert not package.present
    fetch(package, file if named == "file" else file.parent)
    assert package.present and package.intact
    assert package.read("digits.bin") == DATA
    assert package.folder == cache / package.name
    assert sorted(path.name for path in package.folder.iterdir()) == ["digits.bin", MANIFEST]
    assert package.manifest() == {
        "package": package.name,
        "version": package.version,
        "sha256": package.sha256,
        "files": {"digits.bin": hashlib.sha256(DATA).hexdigest()},
    }


def test_members_are_the_regular_files_in_order(tmp_path: Path) -> None:
    seen: list[tuple[str, bytes]] = []

    def everything(members: Members) -> dict[str, bytes]:
        seen.extend((path, file.read()) for path, file in members)
        return {}

    file = sdist(tmp_path, {"setup.py": "raise SystemExit", "b.txt": "second"})
    fetch(of(file, everything), file)
    assert [path for path, _ in seen] == ["numbers-1.0/setup.py", "numbers-1.0/b.txt", "numbers-1.0/PKG-INFO"]
    assert seen[1][1] == b"second"
    seen.clear()
    file = deb(tmp_path)
    fetch(of(file, everything), file)
    assert seen == [("usr/share/digits.bin", DATA)]
    seen.clear()
    file = wheel(tmp_path)
    fetch(of(file, everything), file)
    assert [path for path, _ in seen[:3]] == [
        "numbers/__init__.py",
        "numbers/data/digits.bin",
        "numbers-1.0.dist-info/METADATA",
    ]


@pytest.mark.parametrize("make", [wheel, deb])
def test_an_extraction_may_stop_early(make: Callable[[Path], Path], tmp_path: Path) -> None:
    file = make(tmp_path)
    package = of(file, lambda members: {"start": next(members)[1].read(3)})
    fetch(package, file)
    assert len(package.read("start")) == 3


def test_keep_wants_every_end_and_no_name_twice() -> None:
    def members(*paths: str) -> Members:
        return iter([(path, io.BytesIO(path.encode())) for path in paths])

    assert keep("a.txt", ".gz")(members("x/a.txt", "x/b.txt", "y/c.gz", "y/d.gz")) == {
        "a.txt": b"x/a.txt",
        "c.gz": b"y/c.gz",
        "d.gz": b"y/d.gz",
    }
    with pytest.raises(DataError, match=r"^holds no file that ends in e\.txt$"):
        keep("a.txt", "e.txt")(members("x/a.txt"))
    with pytest.raises(DataError, match=r"^holds two files named a\.txt, one was expected$"):
        keep("a.txt")(members("x/a.txt", "y/a.txt"))


def test_pip_downloads_a_wheel(links: Path) -> None:
    package = of(wheel(links))
    fetch(package)
    assert package.read("digits.bin") == DATA


CANARY = "open({!r}, 'w').close()\n"
SOURCES = {
    "setup.py": {"setup.py": CANARY + "from setuptools import setup\nsetup(name='numbers', version='1.0')\n"},
    "setup.py and a build system": {
        "setup.py": CANARY,
        "pyproject.toml": "[build-system]\nrequires = ['setuptools']\nbuild-backend = 'setuptools.build_meta'\n",
    },
    "a build system of its own": {
        "pyproject.toml": "[build-system]\nrequires = []\nbuild-backend = 'own'\nbackend-path = ['.']\n",
        "own.py": CANARY,
    },
}


@pytest.mark.parametrize("files", SOURCES.values(), ids=list(SOURCES))
def test_nothing_of_a_source_archive_is_run(files: dict[str, str], links: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    texts = {name: text.replace("{!r}", repr(str(canary))) for name, text in files.items()}
    package = of(sdist(links, {**texts, "data/digits.bin": "0123"}))
    fetch(package)
    assert package.read("digits.bin") == b"0123"
    assert not canary.exists()


def test_the_canary_sings_when_pip_is_left_alone(links: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    source = SOURCES["a build system of its own"]
    files = {name: text.replace("{!r}", repr(str(canary))) for name, text in source.items()}
    sdist(links, files)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", str(tmp_path), "numbers"]
    subprocess.run(command, capture_output=True, check=False)
    assert canary.exists()


def test_pip_refuses_another_file_before_it_is_opened(links: Path) -> None:
    package = of(wheel(links))
    wheel(links, b"another")
    message = refusal(package)
    assert message.startswith("package numbers 1.0: pip failed (ERROR: THESE PACKAGES DO NOT MATCH THE HASHES")
    assert message.endswith("; get numbers-1.0* on another machine and name its folder with --from FOLDER")


def test_what_pip_does_not_know_is_one_line_with_the_way_out(links: Path) -> None:
    assert refusal(of(wheel(links.parent))) == (
        "package numbers 1.0: pip failed (ERROR: No matching distribution found for numbers==1.0); "
        "get numbers-1.0* on another machine and name its folder with --from FOLDER"
    )


APT_GET = """#!/bin/sh
echo "$2" >> {folder}/asked
case "$2" in
    {known}) cp {folder}/*.deb . ;;
    *) echo "W: something else" >&2; echo "E: Unable to locate package $2" >&2; exit 100 ;;
esac
"""
APT_CACHE = """#!/bin/sh
echo "$2"
echo "  Suggests: numbers-doc"
echo "  Depends: <numbers-virtual>"
echo "  Depends: numbers-data-2"
"""


def apt(folder: Path, monkeypatch: pytest.MonkeyPatch, known: str) -> Path:
    """Put an apt on the path that knows the .deb of a folder under one name; gives the list of what was asked."""
    programs = folder / "bin"
    programs.mkdir()
    for name, script in {"apt-get": APT_GET.format(folder=folder, known=known), "apt-cache": APT_CACHE}.items():
        (programs / name).write_text(script)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return folder / "asked"


def test_apt_downloads_the_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = of(deb(tmp_path))
    asked = apt(tmp_path, monkeypatch, "numbers-data=1:1.0-2")
    fetch(package)
    assert package.read("digits.bin") == DATA
    assert asked.read_text().split() == ["numbers-data=1:1.0-2"]


def test_apt_is_asked_for_one_version_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = of(deb(tmp_path))
    asked = apt(tmp_path, monkeypatch, "numbers-data")
    assert refusal(package) == (
        "package numbers-data 1:1.0-2: apt-get failed (E: Unable to locate package numbers-data=1:1.0-2); "
        "get numbers-data_1.0-2_*.deb on another machine and name its folder with --from FOLDER"
    )
    assert asked.read_text().split() == ["numbers-data=1:1.0-2"]


@pytest.mark.parametrize(
    ("known", "asked", "name"),
    [
        ("numbers-data", ["numbers-data=1:1.0-2", "numbers-data"], "numbers-data"),
        ("numbers-data-2", ["numbers-data=1:1.0-2", "numbers-data", "numbers-data-2"], "numbers-data-2"),
    ],
)
def test_another_version_is_taken_with_a_warning(
    known: str, asked: list[str], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "old").mkdir()
    package = replace(of(deb(tmp_path / "old")), any_version=True, metapackage="numbers-data")
    came = deb(tmp_path, name, "2.0-1", b"newer")
    log = apt(tmp_path, monkeypatch, known)
    sha256 = hashlib.sha256(came.read_bytes()).hexdigest()
    with pytest.warns(UserWarning) as caught:
        fetch(package)
    assert [str(one.message) for one in caught] == [
        f"package numbers-data 1:1.0-2 was asked for, {name} 2.0-1 came (sha256 {sha256[:12]}...): results may differ"
    ]
    assert log.read_text().split() == asked
    assert package.read("digits.bin") == b"newer"
    manifest = package.manifest()
    assert (manifest["package"], manifest["version"], manifest["sha256"]) == (name, "2.0-1", sha256)


def test_a_missing_client_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = of(deb(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert refusal(package).startswith("package numbers-data 1:1.0-2: apt-get is not installed; get ")
    assert refusal(package, tmp_path) == (
        "package numbers-data 1:1.0-2: numbers-data_1.0-2_all.deb: opening it needs dpkg-deb; install dpkg"
    )


def test_another_file_is_refused_with_both_digests(tmp_path: Path) -> None:
    package = of(deb(tmp_path))
    other = deb(tmp_path, content=b"other")
    sha256 = hashlib.sha256(other.read_bytes()).hexdigest()
    expected = (
        f"package numbers-data: {other.name} has sha256 {sha256[:12]}..., "
        f"that of numbers-data 1:1.0-2 is {package.sha256[:12]}..."
    )
    assert refusal(package, other) == refusal(package, other.parent) == expected


def test_a_newer_file_may_be_given_where_any_version_will_do(tmp_path: Path) -> None:
    package = replace(of(deb(tmp_path)), any_version=True)
    folder = tmp_path / "given"
    folder.mkdir()
    deb(folder, version="2.0", content=b"newer")
    with pytest.warns(UserWarning, match="numbers-data 2.0 came"):
        fetch(package, folder)
    assert package.read("digits.bin") == b"newer"


def test_any_version_is_no_other_package(tmp_path: Path) -> None:
    package = replace(of(deb(tmp_path)), any_version=True)
    other = deb(tmp_path, "letters")
    assert refusal(package, other) == f"package numbers-data: {other.name} is package letters"


def test_a_folder_that_does_not_hold_exactly_one_is_refused(tmp_path: Path) -> None:
    package = of(deb(tmp_path))
    folder = tmp_path / "given"
    folder.mkdir()
    give = "give the file of package numbers-data 1:1.0-2 itself"
    assert refusal(package, folder) == f"{folder}: holds no file numbers-data_1.0-2_*.deb; {give}"
    for name in ("numbers-data_3_all.deb", "numbers-data_4_all.deb"):
        (folder / name).write_bytes(b"")
    wide = replace(package, any_version=True)
    assert refusal(wide, folder) == f"{folder}: holds 2 files numbers-data_*.deb; {give}"


@pytest.mark.parametrize("name", ["cut.tar.gz", "cut.whl", "cut.deb", "cut.txt"])
def test_a_damaged_archive_is_one_line(name: str, tmp_path: Path) -> None:
    makers: dict[str, Callable[[], Path]] = {
        "cut.tar.gz": lambda: sdist(tmp_path, {"digits.bin": os.urandom(5000).hex()}),
        "cut.whl": lambda: wheel(tmp_path),
        "cut.deb": lambda: deb(tmp_path, content=os.urandom(50_000)),
        "cut.txt": lambda: Path(__file__),
    }
    whole = makers[name]().read_bytes()
    file = tmp_path / name
    file.write_bytes(whole[: len(whole) // 2])
    package = replace(of(file), registry="pypi", name="numbers")
    assert refusal(package, file).startswith("package numbers: its file is damaged or no package (")


def test_a_package_of_which_dpkg_gives_only_a_part_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = of(deb(tmp_path))
    tar = sdist(tmp_path, {"digits.bin": "0123"})
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "dpkg-deb").write_text(f"#!/bin/sh\ngzip -dc {tar}\nexit 2\n")
    (programs / "dpkg-deb").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    assert refusal(package, tmp_path) == (
        "package numbers-data: its file is damaged or no package (dpkg-deb gave up with status 2)"
    )


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    package = of(wheel(tmp_path))
    missing = tmp_path / "missing.whl"
    assert refusal(package, missing) == f"package numbers: {missing}: No such file or directory"


def test_what_the_extraction_misses_is_one_line(tmp_path: Path) -> None:
    file = wheel(tmp_path)
    assert refusal(of(file, keep("letters.bin")), file) == (
        "package numbers 1.0: holds no file that ends in letters.bin"
    )


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = of(wheel(tmp_path))

    def full(path: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert refusal(package, tmp_path) == f"package numbers: {package.folder}: No space left on device"


def test_a_failed_fetch_leaves_what_was_there(tmp_path: Path) -> None:
    package = of(wheel(tmp_path))
    fetch(package, tmp_path)
    with pytest.raises(DataError):
        fetch(replace(package, extract=keep("letters.bin")), tmp_path)
    assert package.read("digits.bin") == DATA


def test_a_second_fetch_repairs(tmp_path: Path, cache: Path) -> None:
    package = of(wheel(tmp_path))
    fetch(package, tmp_path)
    (package.folder / "digits.bin").write_bytes(b"damaged")
    fetch(package, tmp_path)
    assert package.read("digits.bin") == DATA
    assert [path.name for path in cache.iterdir() if path.is_dir()] == ["numbers"]


KILLED = """
import os, sys
from pathlib import Path
import platformdirs
from codesign.tasks.packages import Package, fetch
platformdirs.user_cache_path = lambda name: Path(sys.argv[1]).parent
fetch(Package("pypi", "numbers", "1.0", sys.argv[2], 0, lambda members: os._exit(9)), Path(sys.argv[3]))
"""


def test_what_a_killed_fetch_left_is_no_data_and_is_removed(tmp_path: Path, cache: Path) -> None:
    file = wheel(tmp_path)
    package = of(file)
    child = subprocess.run([sys.executable, "-c", KILLED, cache, package.sha256, file], check=False)
    assert child.returncode == 9
    (cache / ".numbers.partial" / "data").mkdir()
    assert [path.name for path in cache.iterdir() if path.is_dir()] == [".numbers.partial"]
    assert not package.present
    fetch(package, file)
    assert [path.name for path in cache.iterdir() if path.is_dir()] == ["numbers"]


def test_one_process_at_a_time_fetches_a_package(tmp_path: Path, cache: Path) -> None:
    file = wheel(tmp_path)
    cache.mkdir(parents=True)
    with (cache / ".numbers.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        assert refusal(of(file), file) == "package numbers: another process is fetching it; wait until it is done"


def test_data_that_were_not_fetched_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        of(wheel(tmp_path)).read("digits.bin")
    assert str(caught.value) == "the data of package numbers are not here; fetch them with `codesign data fetch`"


AGAIN = "is damaged or missing; fetch the data again with `codesign data fetch`"


def test_a_damaged_file_is_refused_whenever_it_is_read(tmp_path: Path) -> None:
    package = of(wheel(tmp_path))
    fetch(package, tmp_path)
    file = package.folder / "digits.bin"
    file.write_bytes(DATA[:-1] + b"!")
    for _ in ("damaged", "missing"):
        with pytest.raises(DataError) as caught:
            package.read("digits.bin")
        assert str(caught.value) == f"{file}: {AGAIN}"
        assert package.present and not package.intact
        file.unlink(missing_ok=True)


def test_a_file_that_the_manifest_does_not_name_is_refused(tmp_path: Path) -> None:
    package = of(wheel(tmp_path))
    fetch(package, tmp_path)
    (package.folder / "letters.bin").write_bytes(b"abc")
    with pytest.raises(DataError) as caught:
        package.read("letters.bin")
    assert str(caught.value) == f"{package.folder / 'letters.bin'}: {AGAIN}"


@pytest.mark.parametrize("content", ["", "[]", "{}", '"text"'])
def test_a_damaged_manifest_is_refused(content: str, tmp_path: Path) -> None:
    package = of(wheel(tmp_path))
    fetch(package, tmp_path)
    (package.folder / MANIFEST).write_text(content)
    assert not package.present and not package.intact
    with pytest.raises(DataError) as caught:
        package.manifest()
    assert str(caught.value) == f"{package.folder / MANIFEST}: {AGAIN}"


def test_data_of_another_version_are_refused(tmp_path: Path) -> None:
    package = of(wheel(tmp_path))
    fetch(package, tmp_path)
    newer = replace(package, version="1.1", sha256="0" * 64)
    assert not newer.present
    with pytest.raises(DataError) as caught:
        newer.read("digits.bin")
    assert str(caught.value) == (
        f"{package.folder}: holds numbers 1.0 ({package.sha256[:12]}...), not 1.1 (000000000000...); "
        "fetch the data again with `codesign data fetch`"
    )
    manifest = json.loads((package.folder / MANIFEST).read_text())
    assert replace(newer, any_version=True).manifest() == manifest
