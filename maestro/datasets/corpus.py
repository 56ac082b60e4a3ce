"""Multi30k from raw text to symbols: tokenised once by spaCy, then cached.

This is the pipeline of the paper's recipe: spaCy's rule-based tokenizers, lower case,
and one vocabulary of the words that occur at least three times in the training text of
their language, exactly 9,521 symbols (App. D; Elliott et al. 2016).
"""

import gzip
import hashlib
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..paths import data_folder
from . import prepared
from .download import Source, fetch
from .prepared import DataError

UNKNOWN, PAD, START, END = range(4)
SPECIALS = ("<unk>", "<blank>", "<s>", "</s>")
SIDES = ("de", "en")
SPLITS = ("train", "val", "test_2016_flickr")
LONGEST = 100  # words of a training sentence; pairs with a longer one are left out
SEEN = 3  # the fewest occurrences of a word in the vocabulary

MIRRORS = (
    "https://raw.githubusercontent.com/multi30k/dataset/master/data/task1/raw/",
    "https://github.com/multi30k/dataset/raw/master/data/task1/raw/",
)
MULTI30K = {
    name: Source(f"{name}.gz", md5, MIRRORS)
    for name, md5 in (
        ("train.de", "d3b4bc1671cfb805267f97f16884beba"),
        ("train.en", "053a34ece7c904dbc8c7361799afbe4c"),
        ("val.de", "9f139b15d9d11936dea7af2904e57d8c"),
        ("val.en", "2234730e7925354b766681b029b347ec"),
        ("test_2016_flickr.de", "cde61d7401b116652ee84099c7858ca3"),
        ("test_2016_flickr.en", "2022a6c31e2418047a0511333d55ed42"),
    )
}
# of the prepared corpus, as spaCy 3.8.18 tokenises it
MULTI30K_FINGERPRINT = (
    "b26c78c5d0717416252ddbda1b22c8a89ce8907ff21e9bfdc1c4d237f36fea37"
)


def prepare_multi30k(folder=None, progress=True, online=True):
    """Fetch Multi30k's raw text, tokenise it and write ``multi30k.npz``.

    The text stays in ``folder``/multi30k/*.gz. Files that are there are used if their
    checksums are right.

    Args:
        folder: the data folder; `data_folder` if None.
        progress: whether to show progress bars.
        online: whether missing files may be fetched.

    Returns:
        The path of ``multi30k.npz``.

    Raises:
        DataError: a file is damaged or cannot be fetched, or spaCy is missing.
    """
    target = Path(folder or data_folder()) / "multi30k.npz"
    if target.is_file():
        prepared.read(target, MULTI30K_FINGERPRINT, fingerprint)
        return target
    raw = target.parent / "multi30k"
    for source in MULTI30K.values():
        fetch(source if online else replace(source, mirrors=()), raw, progress)
    prepared.write(target, tokenise(raw), fingerprint)
    return target


def fingerprint(arrays):
    """The sha256 of all arrays in the order of their names, in hexadecimal."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()


def tokenise(folder):
    """The arrays of a corpus, vocabulary and symbols, from raw text.

    folder: holds {train,val,test_2016_flickr}.{de,en}.gz, one sentence a line. spaCy's
    blank pipelines have rules only, so nothing is downloaded. Raises DataError if spaCy
    or a file is missing, or if the two sides of a split differ in length.
    """
    text = {(s, side): _sentences(folder, s, side) for s in SPLITS for side in SIDES}
    for split in SPLITS:
        if len(text[split, "de"]) != len(text[split, "en"]):
            raise DataError(f"{folder}: {split}.de and .en differ in length")
    words = list(SPECIALS)
    for side in ("en", "de"):  # target words first, then the other source words
        known = set(words)
        words += [w for w in _vocabulary(text["train", side]) if w not in known]
    index = {word: i for i, word in enumerate(words)}
    tests = [" ".join(sentence) for sentence in text["test_2016_flickr", "en"]]
    arrays = {"words": _packed(words), "references": _packed(tests)}
    for split in SPLITS:
        pairs = list(zip(text[split, "de"], text[split, "en"], strict=True))
        if split == "train":
            pairs = [p for p in pairs if max(map(len, p)) <= LONGEST]
        for k, side in enumerate(SIDES):
            rows = [[START, *(index.get(w, UNKNOWN) for w in p[k]), END] for p in pairs]
            arrays[f"{split}_{side}"] = np.concatenate(rows).astype(np.int32)
            lengths = np.array([len(row) for row in rows], np.int32)
            arrays[f"{split}_{side}_lengths"] = lengths
    return arrays


def _packed(lines):
    return np.frombuffer("\n".join(lines).encode(), np.uint8)


def _sentences(folder, split, side):
    """Tokenised, lower-cased sentences of one file: a list of lists of words."""
    try:
        import spacy
    except ImportError:
        raise DataError(
            "tokenising needs spaCy: pip install spacy==3.8.18, or copy a multi30k.npz "
            "from a machine with spaCy into the data folder"
        ) from None
    path = folder / f"{split}.{side}.gz"
    if not path.is_file():
        raise DataError(f"{path} is missing")
    tokenizer = spacy.blank(side).tokenizer
    # not splitlines(), which also splits at other characters than new lines
    lines = gzip.decompress(path.read_bytes()).decode().removesuffix("\n").split("\n")
    return [[t.text.lower() for t in tokenizer(line.strip())] for line in lines]


def _vocabulary(sentences):
    """The words with at least SEEN occurrences, by frequency, then by alphabet."""
    counts = Counter(word for sentence in sentences for word in sentence)
    kept = [word for word, count in counts.items() if count >= SEEN]
    return sorted(kept, key=lambda word: (-counts[word], word))
