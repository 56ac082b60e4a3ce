"""Multi30k, German to English, as symbols on the device (App. D; Elliott et al. 2016).

The pipeline of the paper's recipe: spaCy's rule-based tokenizers, lower case, words
seen at least three times in the training text of their language, both languages in one
vocabulary: exactly 9,521 symbols. Tokenising needs spaCy; its result is cached in one
.npz, so that a machine without spaCy can train.
"""

import gzip
import hashlib
from collections import Counter

import numpy as np
import torch
from torch.nn import functional as F

from .datasets import DataError

UNKNOWN, PAD, START, END = range(4)
SPECIALS = ("<unk>", "<blank>", "<s>", "</s>")
SIDES = ("de", "en")
SPLITS = ("train", "val", "test_2016_flickr")
LONGEST = 100  # symbols of a training sentence; longer pairs are left out
SEEN = 3  # how often a word must be seen to be in the vocabulary
SMOOTHING = 0.1


class TranslationTask:
    """Sentence pairs of one corpus as padded rows of symbols, on one device.

    example: inputs of 28 + 28 symbols, the paper's convention for counting MACs.
    classes: size of the vocabulary.
    """

    metric = "perplexity"  # per symbol, on the validation pairs

    def __init__(self, arrays, device="cpu"):
        digest = hashlib.sha256()
        for name in sorted(arrays):
            digest.update(np.ascontiguousarray(arrays[name]).tobytes())
        self.fingerprint = digest.hexdigest()
        self.words = arrays["words"].tobytes().decode().split("\n")
        self.classes = len(self.words)
        self.references = arrays["references"].tobytes().decode().split("\n")
        self.pairs = {
            split: tuple(_rows(arrays, split, side, device) for side in ("de", "en"))
            for split in SPLITS
        }
        self.lengths = (self.pairs["train"][0] != PAD).sum(1).cpu()
        symbols = torch.full((1, 28), START)
        self.example = (symbols, symbols)

    def __len__(self):
        return len(self.lengths)

    def epoch(self, batch_size, seed, done=0):
        """(source, target) batches of one pass, the first ``done`` left out.

        Of similar lengths: pools of a hundred batches, in an order that ``seed``
        decides, are sorted by length and dealt out in an order that it decides too.
        """
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(self), generator=generator)
        batches = []
        for pool in order.split(100 * batch_size):
            by_length = pool[self.lengths[pool].sort(stable=True).indices]
            batches += by_length.split(batch_size)
        source, target = self.pairs["train"]
        for i in torch.randperm(len(batches), generator=generator)[done:].tolist():
            picked = batches[i].to(source.device)
            yield _trimmed(source[picked]), _trimmed(target[picked])

    def loss(self, model, batch):
        """Label-smoothed cross-entropy, summed over target symbols as the recipe does.

        Returns (loss to descend, the same detached, how many symbols).
        """
        source, target = batch
        logits = model(source, target[:, :-1])
        gold = target[:, 1:]
        loss = F.cross_entropy(
            logits.flatten(0, 1).float(),
            gold.flatten(),
            ignore_index=PAD,
            reduction="sum",
            label_smoothing=SMOOTHING,
        )
        return loss, loss.detach(), int((gold != PAD).sum())

    @torch.no_grad()
    def evaluate(self, model, batch_size=256):
        """{test_loss, test_accuracy (%), perplexity} on the validation pairs.

        All per target symbol, the end of the sentence counted, teacher-forced; the loss
        is not smoothed, and perplexity is its exponential (natural logarithm).
        """
        source, target = self.pairs["val"]
        loss = torch.zeros((), dtype=torch.float64)
        right, symbols = 0, 0
        rows = zip(source.split(batch_size), target.split(batch_size), strict=True)
        for x, y in rows:
            x, y = _trimmed(x), _trimmed(y)
            logits, gold = model(x, y[:, :-1]).float(), y[:, 1:]
            kept = gold != PAD
            loss += F.cross_entropy(
                logits.flatten(0, 1), gold.flatten(), ignore_index=PAD, reduction="sum"
            ).cpu()
            right += int(((logits.argmax(2) == gold) & kept).sum())
            symbols += int(kept.sum())
        mean = loss.item() / symbols
        return {
            "test_loss": mean,
            "test_accuracy": 100 * right / symbols,
            "perplexity": float(np.exp(min(mean, 700.0))),
        }

    @torch.no_grad()
    def translate(self, model, split="test_2016_flickr", beam=1, batch_size=100):
        """English for the German of ``split``: a list of sentences, words by spaces.

        Beam search with ``beam`` hypotheses, the best by log-likelihood a symbol;
        beam 1 is greedy. Symbols out of the vocabulary come out as "<unk>".
        """
        model.eval()
        sentences = []
        for source in self.pairs[split][0].split(batch_size):
            rows = _search(model, _trimmed(source), beam)
            sentences += [self.text(row) for row in rows.tolist()]
        return sentences

    def text(self, symbols):
        """Words of a row of symbols, up to its end."""
        words = []
        for symbol in symbols:
            if symbol == END:
                break
            if symbol not in (START, PAD):
                words.append(self.words[symbol])
        return " ".join(words)


def bleu(hypotheses, references):
    """(score, signature) of sacreBLEU, on lower-cased text.

    ``hypotheses`` come tokenised, so "force" tells sacreBLEU that this is known; the
    references are tokenised and lower-cased alike.
    """
    from sacrebleu.metrics import BLEU

    metric = BLEU(tokenize="none", force=True)
    score = metric.corpus_score(hypotheses, [references]).score
    return score, str(metric.get_signature())


def tokenise(folder):
    """The arrays of a corpus: raw text in ``folder`` -> vocabulary and symbols.

    folder: holds {train,val,test_2016_flickr}.{de,en}.gz, one sentence a line. Needs
    spaCy (its blank pipelines: rules only, nothing is downloaded). Raises DataError if
    a file is missing or the two sides of a split differ in length.
    """
    text = {(s, side): _sentences(folder, s, side) for s in SPLITS for side in SIDES}
    for split in SPLITS:
        if len(text[split, "de"]) != len(text[split, "en"]):
            raise DataError(f"{folder}: {split}.de and .en differ in length")
    words = list(SPECIALS)
    for side in ("en", "de"):  # target words first, then source words that are new
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
            arrays[f"{split}_{side}"] = np.concatenate(rows).astype(np.int16)
            arrays[f"{split}_{side}_lengths"] = np.array([len(r) for r in rows])
    return arrays


def _packed(lines):
    return np.frombuffer("\n".join(lines).encode(), np.uint8)


def _sentences(folder, split, side):
    """Tokenised, lower-cased sentences of one file: a list of lists of words."""
    import spacy

    path = folder / f"{split}.{side}.gz"
    if not path.is_file():
        raise DataError(f"{path} is not there")
    tokenizer = spacy.blank(side).tokenizer
    lines = gzip.decompress(path.read_bytes()).decode("utf-8").splitlines()
    return [[t.text.lower() for t in tokenizer(line.strip())] for line in lines]


def _vocabulary(sentences):
    """Words seen often enough, the most frequent first, ties by alphabet."""
    counts = Counter(word for sentence in sentences for word in sentence)
    kept = [word for word, count in counts.items() if count >= SEEN]
    return sorted(kept, key=lambda word: (-counts[word], word))


def _rows(arrays, split, side, device):
    """(sentences, longest) int64, padded."""
    lengths = torch.from_numpy(arrays[f"{split}_{side}_lengths"])
    symbols = torch.from_numpy(arrays[f"{split}_{side}"].astype(np.int64))
    sentences = symbols.split(lengths.tolist())
    return torch.nn.utils.rnn.pad_sequence(sentences, True, PAD).to(device)


def _trimmed(rows):
    """Without the columns that are padding in every row."""
    return rows[:, : int((rows != PAD).sum(1).max())]


def _search(model, source, beam, longest=60):
    """Beam search for all rows of ``source`` at once: symbols (B, T), best hypothesis.

    Hypotheses that have ended keep their score; the search stops when the best ones of
    all sentences have, or at ``longest`` symbols.
    """
    count, device = len(source), source.device
    memory = model.encode(source).repeat_interleave(beam, 0)  # (B * beam, S, width)
    source = source.repeat_interleave(beam, 0)
    target = torch.full((count * beam, 1), START, device=device)
    score = torch.full((count, beam), -torch.inf, device=device)
    score[:, 0] = 0  # all hypotheses are equal at the start: keep one
    ended = torch.zeros(count * beam, dtype=torch.bool, device=device)
    for _ in range(longest):
        logits = model.decode(target, memory, source)[:, -1].float()
        step = logits.log_softmax(1)  # (B * beam, vocabulary)
        step[ended] = -torch.inf
        step[ended, PAD] = 0
        total = (score[:, :, None] + step.view(count, beam, -1)).flatten(1)
        score, best = total.topk(beam, 1)  # (B, beam)
        parent = (
            best // step.shape[1] + beam * torch.arange(count, device=device)[:, None]
        )
        symbol = (best % step.shape[1]).flatten()
        target = torch.cat((target[parent.flatten()], symbol[:, None]), 1)
        ended = ended[parent.flatten()] | (symbol == END)
        if ended.view(count, beam)[:, 0].all():
            break
    length = (target != PAD).sum(1).view(count, beam) - 1
    chosen = (score / length).argmax(1) + beam * torch.arange(count, device=device)
    return target[chosen]
