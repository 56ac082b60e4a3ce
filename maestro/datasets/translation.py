"""Multi30k, German to English, as symbols on the device (App. D; Elliott et al. 2016).

Batches of similar length, the recipe's loss, perplexity, beam search and BLEU.
"""

import numpy as np
import torch
from torch.nn import functional as F

from ..paths import data_folder
from . import prepared
from .corpus import (
    END,
    MULTI30K,
    MULTI30K_FINGERPRINT,
    PAD,
    SIDES,
    SPLITS,
    START,
    fingerprint,
    prepare_multi30k,
)
from .images import at_least_single

SMOOTHING = 0.1


class TranslationTask:
    """Sentence pairs of one corpus as padded rows of symbols, on one device.

    arrays: what `tokenise` makes. example: inputs of 28 + 28 symbols, the paper's
    convention for counting MACs. classes: size of the vocabulary. references: the test
    sentences in English. pairs: {split: (source (N, S), target (N, T))}.
    """

    metric = "perplexity"  # per symbol, on the validation pairs

    def __init__(self, arrays, device="cpu"):
        self.fingerprint = fingerprint(arrays)
        self.words = _unpacked(arrays["words"])
        self.classes = len(self.words)
        self.references = _unpacked(arrays["references"])
        self.pairs = {
            split: tuple(_rows(arrays, split, side, device) for side in SIDES)
            for split in SPLITS
        }
        # kept on the CPU: to ask a GPU for a length would wait for it at every step
        self.lengths = torch.stack(
            [(rows != PAD).sum(1) for rows in self.pairs["train"]]
        )
        self.lengths = self.lengths.cpu()  # (2, N)
        self.multiple = 8 if torch.device(device).type == "cuda" else 1
        symbols = torch.full((1, 28), START)
        self.example = (symbols, symbols)

    def __len__(self):
        return self.lengths.shape[1]

    def epoch(self, batch_size, seed, done=0, turn=(0, 0)):
        """((source (B, S), target (B, T)), target symbols) of one pass, less ``done``.

        Of similar lengths: pools of a hundred batches, in an order that ``seed``
        decides, are sorted by length and dealt out in an order that it decides too.
        """
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(self), generator=generator)
        source, target = self.pairs["train"]
        source_lengths, target_lengths = self.lengths
        key = source_lengths * target.shape[1] + target_lengths - 1
        batches = []
        for pool in order.split(100 * batch_size):
            by_length = pool[key[pool].sort(stable=True).indices]
            batches += by_length.split(batch_size)
        for i in torch.randperm(len(batches), generator=generator)[done:].tolist():
            lengths = self.lengths[:, batches[i]].max(1).values
            # a step that is recorded for each shape of batch wants few of them
            lengths = (lengths + self.multiple - 1) // self.multiple * self.multiple
            picked = batches[i].to(source.device)
            rows = source[picked, : lengths[0]], target[picked, : lengths[1]]
            # every row's start is given, all that follows is to be found
            yield rows, int((target_lengths[batches[i]] - 1).sum())

    def loss(self, model, batch, label_smoothing=0.0):
        """Label-smoothed cross-entropy, summed over target symbols as the recipe does.

        Returns (loss to descend, the same detached). As in the recipe's source, the
        smoothing goes to the V - 1 symbols that are wrong, padding among them. PyTorch
        spreads its own over all V, which with V / (V - 1) times as much is the same.
        """
        if label_smoothing:
            raise ValueError(
                f"label_smoothing={label_smoothing!r}: translation has its own; leave "
                "it at 0"
            )
        (source, target), _ = batch
        logits = model(source, target[:, :-1])
        loss = F.cross_entropy(
            at_least_single(logits.flatten(0, 1)),
            target[:, 1:].flatten(),
            ignore_index=PAD,
            reduction="sum",
            label_smoothing=SMOOTHING * self.classes / (self.classes - 1),
        )
        return loss, loss.detach()

    def count(self, batch):
        """Over how many target symbols the loss of this batch is summed."""
        _, symbols = batch
        return symbols

    @torch.no_grad()
    def evaluate(self, model, batch_size=256):
        """{test_loss, test_accuracy (%), perplexity} on the validation pairs.

        All per target symbol, the end of the sentence counted, teacher-forced; the loss
        is not smoothed, and perplexity is its exponential (natural logarithm).
        """
        source, target = self.pairs["val"]
        loss, right, symbols = 0.0, 0, 0
        for x, y in zip(
            source.split(batch_size), target.split(batch_size), strict=True
        ):
            x, y = _trimmed(x), _trimmed(y)
            logits, gold = at_least_single(model(x, y[:, :-1])), y[:, 1:]
            kept = gold != PAD
            loss += F.cross_entropy(
                logits.flatten(0, 1), gold.flatten(), ignore_index=PAD, reduction="sum"
            ).item()
            right += int(((logits.argmax(2) == gold) & kept).sum())
            symbols += int(kept.sum())
        mean = loss / symbols
        return {
            "test_loss": mean,
            "test_accuracy": 100 * right / symbols,
            # a double has no more than exp(709); nan stays nan
            "perplexity": float(np.exp(min(mean, 700.0))),
        }

    @torch.no_grad()
    def translate(self, model, split="test_2016_flickr", beam=1, batch_size=100):
        """English for the German of ``split``: a list of sentences, words by spaces.

        Beam search with ``beam`` hypotheses, the best by log-likelihood a symbol;
        beam 1 is greedy. Words out of the vocabulary come out as "<unk>". The model is
        in evaluation mode afterwards.
        """
        model.eval()
        rows = self.pairs[split][0]
        order = (rows != PAD).sum(1).argsort(stable=True)  # so that few are padded
        sentences = [""] * len(rows)
        for picked in order.split(batch_size):
            found = search(model, _trimmed(rows[picked]), beam)
            for i, symbols in zip(picked.tolist(), found.tolist(), strict=True):
                sentences[i] = self.text(symbols)
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
    references are tokenised and lower-cased alike. RuntimeError without sacreBLEU.
    """
    try:
        from sacrebleu.metrics import BLEU
    except ImportError:
        raise RuntimeError(
            "BLEU scores need sacreBLEU: pip install sacrebleu==2.6.0"
        ) from None
    metric = BLEU(tokenize="none", force=True)
    score = metric.corpus_score(hypotheses, [references]).score
    return score, str(metric.get_signature())


def search(model, source, beam=1, longest=60):
    """Beam search for all rows of ``source`` (B, S) at once: symbols (B, T).

    A row is the start, at most ``longest`` symbols, and padding. Hypotheses that have
    ended keep their place and score until all have. Of those the one with the highest
    log-likelihood a symbol, its end counted, is taken, one without an end only where
    none has ended.
    """
    count, device = len(source), source.device
    memory = model.encode(source).repeat_interleave(beam, 0)  # (B * beam, S, width)
    source = source.repeat_interleave(beam, 0)
    target = torch.full((count * beam, 1), START, device=device)
    score = torch.full((count, beam), -torch.inf, device=device)
    score[:, 0] = 0  # all hypotheses are equal at the start: keep one
    ended = torch.zeros(count * beam, dtype=torch.bool, device=device)
    first = beam * torch.arange(count, device=device)  # (B,)
    for _ in range(longest):
        logits = model.decode(target, memory, source, last=True)
        step = at_least_single(logits).log_softmax(1)
        step[:, [PAD, START]] = -torch.inf  # no sentence has them
        step[ended] = -torch.inf
        step[ended, PAD] = 0
        total = (score[:, :, None] + step.view(count, beam, -1)).flatten(1)
        score, best = total.topk(beam, 1)  # (B, beam)
        parent = (best // step.shape[1] + first[:, None]).flatten()
        symbol = (best % step.shape[1]).flatten()
        target = torch.cat((target[parent], symbol[:, None]), 1)
        ended = ended[parent] | (symbol == END)
        if ended.all():
            break
    mean = score / ((target != PAD).sum(1).view(count, beam) - 1)
    whole = ended.view(count, beam)
    mean[~whole & whole.any(1, keepdim=True)] = -torch.inf
    return target[mean.argmax(1) + first]


def multi30k(device="cpu"):
    """Multi30k's task 1: 29,000 pairs to train on, 1,014 to validate, 1,000 to test.

    Where it is not prepared yet but its raw text is in the data folder, it is
    tokenised now. Raises DataError as `prepare_multi30k` does.
    """
    path = data_folder() / "multi30k.npz"
    raw = data_folder() / "multi30k"
    if not path.is_file() and all((raw / s.name).is_file() for s in MULTI30K.values()):
        prepare_multi30k(online=False)
    arrays = prepared.read(path, MULTI30K_FINGERPRINT, fingerprint)
    return TranslationTask(arrays, device)


def _unpacked(text):
    return text.tobytes().decode().split("\n")


def _rows(arrays, split, side, device):
    """(sentences, longest) int64, padded."""
    lengths = torch.from_numpy(arrays[f"{split}_{side}_lengths"])
    symbols = torch.from_numpy(arrays[f"{split}_{side}"].astype(np.int64))
    sentences = symbols.split(lengths.tolist())
    return torch.nn.utils.rnn.pad_sequence(sentences, True, PAD).to(device)


def _trimmed(rows):
    """Without the columns that are padding in every row."""
    return rows[:, : int((rows != PAD).sum(1).max())]
