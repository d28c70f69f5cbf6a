"""Language models on a text of the user's own: one file, a folder laid out like the Penn Treebank, or text8.

A text becomes numbers in one of two ways. By characters every character is a symbol. By words the
text is first cut as `words` says (or at its spaces, where a file is already cut), and its symbols
are numbered from the most frequent one on. Symbols are counted on the training part alone; what only
occurs behind it becomes `<unk>`, which is a symbol only if something is mapped to it.
"""

import hashlib
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from codesign.design import TaskShape
from codesign.errors import DataError
from codesign.tasks.language import BITS_PER_CHARACTER, PERPLEXITY, LanguageTask, next_symbol
from codesign.tasks.task import Metric, Splits

Part = TypeVar("Part", str, bytes, list[str])
Share = Annotated[float, Field(gt=0.0, lt=1.0)]

UNKNOWN, END = "<unk>", "<eos>"
SHARES = (0.9, 0.05, 0.05)
WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*|\d+(?:[.,]\d+)*")
N_CODE_POINTS = 0x110000
TEXT8 = b" abcdefghijklmnopqrstuvwxyz"
TEXT8_BYTES = 100_000_000
FOLDERS = {"words": ("ptb.{}.txt", "wiki.{}.tokens"), "chars": ("ptb.char.{}.txt",)}


@dataclass(frozen=True)
class Symbols:
    """A text as numbers.

    Attributes:
        parts: (n_symbols of the part,) of training, validation and test, in the smallest unsigned type.
        n: how many different ones there are.
    """

    parts: tuple[NDArray[Any], NDArray[Any], NDArray[Any]]
    n: int

    @property
    def splits(self) -> Splits:
        """Each part as one sequence in which the next symbol is to be told."""
        return Splits(*map(next_symbol, self.parts))

    @property
    def shape(self) -> TaskShape:
        """Symbols in, the next symbol out."""
        return TaskShape(self.n, self.n, tokens=True)


class _Reader(LanguageTask, ABC):
    source: ClassVar[str] = "your own data"
    licence: ClassVar[str] = "yours"

    @property
    def shape(self) -> TaskShape:
        """As many inputs and outputs as there are symbols. Raises DataError if the text cannot be read."""
        return _symbols(self).shape

    def splits(self) -> Splits:
        """The three parts of the text. Raises DataError if it cannot be read."""
        return _symbols(self).splits

    def checksum(self) -> str:
        """A sha256 over those of the files. Raises DataError if one cannot be read."""
        digest = hashlib.sha256()
        for path in self._files():
            digest.update(hashlib.sha256(_content(path)).digest())
        return digest.hexdigest()

    @abstractmethod
    def _files(self) -> list[Path]: ...

    @abstractmethod
    def _read(self) -> Symbols: ...


class Text(_Reader):
    """One UTF-8 file, cut in three parts in its order.

    Attributes:
        path: the file.
        unit: what a symbol is: a character, or a word as `words` cuts them.
        split: shares of training, validation and test; their sum is 1.
        vocabulary: most words that are told apart, `<unk>` and `<eos>` among them; characters all are.
    """

    reader: Literal["text"] = "text"
    path: str
    unit: Literal["chars", "words"] = "chars"
    split: tuple[Share, Share, Share] = SHARES
    vocabulary: int = Field(default=10_000, ge=2)
    summary: ClassVar[str] = "next character or word of a text file"

    @field_validator("split")
    @classmethod
    def _whole(cls, split: tuple[float, float, float]) -> tuple[float, float, float]:
        if abs(sum(split) - 1.0) > 1e-6:
            raise ValueError(f"the shares of training, validation and test must add up to 1, not to {sum(split):g}")
        return split

    @property
    def metric(self) -> Metric:
        """Bits per character, or the perplexity of words."""
        return BITS_PER_CHARACTER if self.unit == "chars" else PERPLEXITY

    def _files(self) -> list[Path]:
        return [Path(self.path)]

    def _read(self) -> Symbols:
        (path,) = self._files()
        text = _decoded(path)
        if self.unit == "chars":
            return _checked(of_characters(*cut(text, self.split)), path)
        return _checked(of_words(*cut(list(words(text)), self.split), vocabulary=self.vocabulary), path)


class Ptb(_Reader):
    """A folder laid out like the Penn Treebank of language models: three files, already cut at spaces.

    Words lie in `ptb.{train,valid,test}.txt` (or, as WikiText has them, `wiki.{train,valid,test}.tokens`),
    characters in `ptb.char.{train,valid,test}.txt`, where `_` is the space. A line ends in `<eos>`. All
    symbols of the training file are told apart.

    Source: T. Mikolov et al., "Recurrent neural network based language model", Interspeech 2010.

    Attributes:
        path: the folder.
        unit: what a symbol is, and so which files are read.
    """

    reader: Literal["ptb"] = "ptb"
    path: str
    unit: Literal["chars", "words"] = "words"
    summary: ClassVar[str] = "next character or word of a folder laid out like the Penn Treebank or WikiText"

    @property
    def metric(self) -> Metric:
        """Bits per character, or the perplexity of words."""
        return BITS_PER_CHARACTER if self.unit == "chars" else PERPLEXITY

    def _files(self) -> list[Path]:
        first = [pattern.format("train") for pattern in FOLDERS[self.unit]]
        for pattern, name in zip(FOLDERS[self.unit], first, strict=True):
            if (Path(self.path) / name).is_file():
                return [Path(self.path) / pattern.format(part) for part in ("train", "valid", "test")]
        raise DataError(f"{self.path}: must be a folder with {' or '.join(first)} for unit = {self.unit!r}")

    def _read(self) -> Symbols:
        files = self._files()
        train, validation, test = (list(tokens(_decoded(path))) for path in files)
        for path, part in zip(files, (train, validation, test), strict=True):
            long = next((symbol for symbol in part if len(symbol) > 1 and symbol != END), None)
            if self.unit == "chars" and long is not None:
                raise DataError(f"{path}: must hold characters with spaces between them, has {long!r}")
        return _checked(of_words(train, validation, test), Path(self.path))


class Text8(_Reader):
    """The file text8: the first 100 million characters of Wikipedia, in lower case without punctuation.

    Its usual parts are 90, 5 and 5 million characters; its 27 symbols are the letters and the space.

    Source: M. Mahoney, "Large text compression benchmark: about the test data", 2006.

    Attributes:
        path: the file.
    """

    reader: Literal["text8"] = "text8"
    path: str
    summary: ClassVar[str] = "next of 27 characters of the file text8"
    citation: ClassVar[str] = "M. Mahoney, Large text compression benchmark, 2006"

    @property
    def metric(self) -> Metric:
        """Bits per character."""
        return BITS_PER_CHARACTER

    @property
    def shape(self) -> TaskShape:
        """27 characters."""
        return TaskShape(len(TEXT8), len(TEXT8), tokens=True)

    def _files(self) -> list[Path]:
        return [Path(self.path)]

    def _read(self) -> Symbols:
        (path,) = self._files()
        content = _content(path)
        if len(content) != TEXT8_BYTES:
            raise DataError(f"{path}: has {len(content)} bytes, text8 has {TEXT8_BYTES}")
        if strange := content.translate(None, TEXT8):
            where = content.index(strange[:1])
            raise DataError(f"{path}: byte {where} is {strange[:1]!r}, text8 has only the letters a to z and spaces")
        return of_bytes(*cut(content), alphabet=TEXT8)


def cut(whole: Part, shares: tuple[float, float, float] = SHARES) -> tuple[Part, Part, Part]:
    """Consecutive parts of a text.

    Example:
        >>> cut("abcdefghij", (0.5, 0.3, 0.2))
        ('abcde', 'fgh', 'ij')
    """
    first, second = round(len(whole) * shares[0]), round(len(whole) * (shares[0] + shares[1]))
    return whole[:first], whole[first:second], whole[second:]


def words(text: str) -> Iterator[str]:
    """A plain text as the Penn Treebank of language models is written.

    Lower case; a word is a run of letters, with apostrophes and hyphens inside; a number is `N`; all
    else is left out; `<eos>` ends every line that has a word.

    Example:
        >>> list(words("To-morrow, 'tis 1,000 o'clock.\\n\\n\\tYes!"))
        ['to-morrow', 'tis', 'N', "o'clock", '<eos>', 'yes', '<eos>']
    """
    for line in text.lower().split("\n"):
        found = WORD.findall(line)
        yield from ("N" if word[0].isdecimal() else word for word in found)
        if found:
            yield END


def tokens(text: str) -> Iterator[str]:
    """A text that is already cut at spaces, `<eos>` behind every line.

    Example:
        >>> list(tokens("the <unk> N\\n a\\n"))
        ['the', '<unk>', 'N', '<eos>', 'a', '<eos>']
    """
    for line in text.removesuffix("\n").split("\n"):
        yield from line.split()
        yield END


def of_bytes(train: bytes, validation: bytes, test: bytes, alphabet: bytes) -> Symbols:
    """Numbers of characters in an alphabet that has them all, and at most 256."""
    table = bytes.maketrans(alphabet, bytes(range(len(alphabet))))
    first, second, third = (np.frombuffer(part.translate(table), np.uint8) for part in (train, validation, test))
    return Symbols((first, second, third), len(alphabet))


def of_characters(train: str, validation: str, test: str) -> Symbols:
    """Numbers of characters in the order of Unicode; the last one is `<unk>` if the other parts need it.

    Example:
        >>> symbols = of_characters("banana", "bane", "na")
        >>> [part.tolist() for part in symbols.parts], symbols.n
        ([[1, 0, 2, 0, 2, 0], [1, 0, 2, 3], [2, 0]], 4)
    """
    known = sorted(set(train))
    n = len(known) + (not set(validation) | set(test) <= set(known))
    number = np.full(N_CODE_POINTS, n - 1, np.min_scalar_type(n - 1))
    number[[ord(character) for character in known]] = np.arange(len(known))

    def numbers(part: str) -> NDArray[Any]:
        return number[np.frombuffer(part.encode("utf-32-le"), np.uint32)]

    return Symbols((numbers(train), numbers(validation), numbers(test)), n)


def of_words(train: list[str], validation: list[str], test: list[str], vocabulary: int | None = None) -> Symbols:
    """Numbers of words, the most frequent one first and equally frequent ones by the alphabet.

    Args:
        vocabulary: most words that are told apart, `<unk>` among them; all if None.

    Example:
        >>> symbols = of_words(["b", "a", "b", "c"], ["c"], ["d"], vocabulary=3)
        >>> [part.tolist() for part in symbols.parts], symbols.n
        ([[0, 2, 0, 1], [1], [1]], 3)
    """
    counts = Counter(train)

    def by_rank(word: str) -> tuple[int, str]:
        return -counts[word], word

    known = sorted(counts, key=by_rank)
    if not {*validation, *test} <= set(known) or (vocabulary and len(known) > vocabulary):
        told = [word for word in known if word != UNKNOWN][: vocabulary and vocabulary - 1]
        counts[UNKNOWN] = len(train) - sum(counts[word] for word in told)
        known = sorted([*told, UNKNOWN], key=by_rank)
    number = {word: i for i, word in enumerate(known)}
    unknown = number.get(UNKNOWN, 0)

    def numbers(part: list[str]) -> NDArray[Any]:
        return np.fromiter((number.get(word, unknown) for word in part), np.min_scalar_type(len(known) - 1), len(part))

    return Symbols((numbers(train), numbers(validation), numbers(test)), len(known))


@lru_cache(maxsize=2)
def _symbols(reader: _Reader) -> Symbols:
    return reader._read()


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); it must be a text file") from None
    if not content:
        raise DataError(f"{path}: is empty; it must be a text file")
    return content


def _decoded(path: Path) -> str:
    content = _content(path)
    try:
        return content.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        byte = f"byte {error.start} is 0x{content[error.start]:02x}"
        raise DataError(f"{path}: is not UTF-8 ({byte}); convert it, for instance by iconv") from None


def _checked(symbols: Symbols, path: Path) -> Symbols:
    for name, part in zip(("training", "validation", "test"), symbols.parts, strict=True):
        if len(part) < 2:
            raise DataError(f"{path}: is too short; the {name} part has fewer than 2 symbols")
    return symbols
