"""Multi30k, German to English, as symbols on the device (App. D; Elliott et al. 2016).

The task has batches of similar lengths, the recipe's loss, perplexity, beam search and
BLEU.
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

    Args:
        arrays: of `tokenise`.
        device: the device of the rows.

    Attributes:
        example: inputs of 28 + 28 symbols, the paper's convention for counting MACs.
        classes: the size of the vocabulary.
        references: the test sentences in English.
        pairs: {split: (source (N, S), target (N, T))}.
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
        # on the CPU, because reading a length from a GPU would wait for it each step
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
        """The batches of one pass, without the first ``done``.

        Pools of a hundred batches are sorted by length, so that the pairs of a batch
        have similar lengths. ``seed`` determines the pools and the order of the
        batches; ``turn`` is not used. Yields ((source (B, S), target (B, T)), number of
        target symbols).
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
        # sent to the device at once: an upload in every step would wait for the step
        sizes = [len(batch) for batch in batches]
        placed = torch.cat(batches).to(source.device).split(sizes)
        for i in torch.randperm(len(batches), generator=generator)[done:].tolist():
            lengths = self.lengths[:, batches[i]].max(1).values
            # a CUDA graph is recorded for each shape of batch, so shapes are few
            lengths = (lengths + self.multiple - 1) // self.multiple * self.multiple
            rows = source[placed[i], : lengths[0]], target[placed[i], : lengths[1]]
            # the start of a row is given; all other symbols are predicted
            yield rows, int((target_lengths[batches[i]] - 1).sum())

    def loss(self, model, batch, label_smoothing=0.0):
        """The label-smoothed cross-entropy, summed over target symbols.

        As in the recipe's source, the smoothing is spread over the V - 1 wrong symbols,
        padding included. PyTorch spreads its smoothing over all V symbols, which is the
        same with V / (V - 1) times as much. Returns (loss, the loss detached).
        """
        if label_smoothing:
            raise ValueError(
                f"label_smoothing={label_smoothing!r}: translation has a smoothing of "
                "its own; use 0"
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
        """The number of target symbols that the loss of a batch is summed over."""
        _, symbols = batch
        return symbols

    @torch.no_grad()
    def evaluate(self, model, batch_size=256):
        """Figures on the validation pairs: {test_loss, test_accuracy (%), perplexity}.

        Figures are means over target symbols, ends of sentences included, with teacher
        forcing. The loss is not smoothed; the perplexity is its exponential.
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
            # a double overflows at exp(710); nan stays nan
            "perplexity": float(np.exp(min(mean, 700.0))),
        }

    @torch.no_grad()
    def translate(self, model, split="test_2016_flickr", beam=1, batch_size=100):
        """The English translations of the German sentences of ``split``.

        Args:
            model: the network; it is in evaluation mode afterwards.
            split: a name in ``pairs``.
            beam: the number of hypotheses of the beam search; 1 is greedy.
            batch_size: the number of sentences translated at once.

        Returns:
            A list of sentences, words separated by spaces. A word out of the vocabulary
            is "<unk>".
        """
        model.eval()
        rows = self.pairs[split][0]
        order = (
            (rows != PAD).sum(1).argsort(stable=True)
        )  # so that rows have little padding
        sentences = [""] * len(rows)
        for picked in order.split(batch_size):
            translated = search(model, _trimmed(rows[picked]), beam)
            for i, symbols in zip(picked.tolist(), translated.tolist(), strict=True):
                sentences[i] = self.text(symbols)
        return sentences

    def text(self, symbols):
        """The words of a row of symbols, up to its end symbol."""
        words = []
        for symbol in symbols:
            if symbol == END:
                break
            if symbol not in (START, PAD):
                words.append(self.words[symbol])
        return " ".join(words)


def bleu(hypotheses, references):
    """The BLEU of ``hypotheses`` by sacreBLEU: (score, signature).

    Both lists hold tokenised, lower-case sentences; "force" silences sacreBLEU's
    warning about tokenised text. Raises RuntimeError without sacreBLEU.
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
    """Beam search for all rows of ``source`` at once.

    A hypothesis that has ended keeps its place and score until all have ended. The
    result is the hypothesis with the highest log-likelihood per symbol, end included. A
    hypothesis without an end is taken only if no hypothesis of the row has ended.

    Args:
        model: the network, in evaluation mode.
        source: symbols (B, S).
        beam: the number of hypotheses of a row.
        longest: the largest number of symbols of a hypothesis.

    Returns:
        Symbols (B, T): the start, at most ``longest`` symbols, and padding.
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
        step[:, [PAD, START]] = -torch.inf  # never part of a sentence
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
    """Multi30k's task 1: 29,000 training, 1,014 validation and 1,000 test pairs.

    If only the raw text is in the data folder, the text is tokenised first. Raises
    DataError as `prepare_multi30k`.
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
    """The symbols of one side of a split, int64 (sentences, longest), padded."""
    lengths = torch.from_numpy(arrays[f"{split}_{side}_lengths"])
    symbols = torch.from_numpy(arrays[f"{split}_{side}"].astype(np.int64))
    sentences = symbols.split(lengths.tolist())
    return torch.nn.utils.rnn.pad_sequence(sentences, True, PAD).to(device)


def _trimmed(rows):
    """``rows`` without the columns that are padding in every row."""
    return rows[:, : int((rows != PAD).sum(1).max())]
