"""Text becomes symbols once, batches are of similar length, and the search is right."""

import gzip
import hashlib
import importlib.util
import itertools
import math
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_replay import same_course, trained
from torch import nn

from maestro import datasets, methods
from maestro.config import Recipe, RunConfig
from maestro.datasets import DataError, TranslationTask, corpus, translation
from maestro.datasets.corpus import END, PAD, SPECIALS, START, UNKNOWN
from maestro.models import MODELS, transformer
from maestro.paths import data_folder
from maestro.results import records
from maestro.training.fit import Interrupted, fit
from maestro.training.loop import Training

needs_spacy = pytest.mark.skipif(
    importlib.util.find_spec("spacy") is None,
    reason="no spaCy: pip install spacy==3.8.18",
)

# ---------------------------------------------------------------- from text to symbols

TEXT = {
    "train.de": "Ein Hund, ein Hund.\nEin Hund bellt!\nDer HUND  schläft\x85.\n\n",
    "train.en": "A dog, a dog.\nA dog barks!\nThe DOG sleeps.\nDon't.\n",
    "val.de": "Ein Hund\nKatze\n",
    "val.en": "a dog\ncat\n",
    "test_2016_flickr.de": "Der Hund\n",
    "test_2016_flickr.en": "The Dog's here.\n",
}


@pytest.fixture
def raw(tmp_path, monkeypatch):
    """A folder with a small Multi30k in it, the one that is asked for."""
    monkeypatch.setenv("MAESTRO_DATA", str(tmp_path))
    folder = tmp_path / "multi30k"
    folder.mkdir()
    for name, text in TEXT.items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
        md5 = hashlib.md5(text.encode()).hexdigest()
        source = replace(corpus.MULTI30K[name], md5=md5, mirrors=())
        monkeypatch.setitem(corpus.MULTI30K, name, source)
    return folder


@needs_spacy
def test_text_becomes_symbols_as_in_the_recipe(raw):
    task = TranslationTask(corpus.tokenise(raw))
    # three times or more, the target's first, by frequency and then alphabet
    assert task.words == [*SPECIALS, "dog", ".", "a", "hund", "ein"]
    assert task.classes == 9
    dog, dot, a, hund, ein = range(4, 9)
    source, target = task.pairs["train"]
    comma = bang = UNKNOWN
    first = [START, ein, hund, comma, ein, hund, dot, END]
    assert source[0].tolist() == first
    assert target[0].tolist() == [START, a, dog, comma, a, dog, dot, END]
    assert target[1].tolist() == [START, a, dog, UNKNOWN, bang, END, PAD, PAD]
    # an odd character ends no line; an empty line is a sentence
    assert source.shape == (4, 8) and source[3].tolist() == [START, END] + 6 * [PAD]
    assert task.text(target[1].tolist()) == "a dog <unk> <unk>"
    assert task.pairs["val"][0].shape == (2, 4)
    assert task.references == ["the dog 's here ."]


@needs_spacy
def test_long_sentences_are_left_out_of_training_only(raw, monkeypatch):
    monkeypatch.setattr(corpus, "LONGEST", 3)
    task = TranslationTask(corpus.tokenise(raw))
    # "Don't." is three words and its German none; the others have four or more
    assert len(task) == 1 and task.pairs["test_2016_flickr"][1].shape == (1, 7)


@needs_spacy
def test_text_that_is_not_parallel_is_refused(raw):
    (raw / "val.de.gz").write_bytes(gzip.compress(b"Ein Hund\n"))
    with pytest.raises(DataError, match="multi30k: val.de and .en differ in length"):
        corpus.tokenise(raw)
    (raw / "val.en.gz").unlink()
    with pytest.raises(DataError, match="val.en.gz is missing"):
        corpus.tokenise(raw)


@needs_spacy
def test_the_corpus_is_tokenised_once_and_then_without_spacy(raw, monkeypatch):
    assert not datasets.available("multi30k")
    first = datasets.load("multi30k")
    assert datasets.available("multi30k")
    monkeypatch.setitem(sys.modules, "spacy", None)  # importing it fails
    for path in raw.iterdir():
        path.unlink()
    again = datasets.load("multi30k")
    assert again.fingerprint == first.fingerprint and again.words == first.words
    for split, rows in first.pairs.items():
        assert all(map(torch.equal, rows, again.pairs[split]))
    assert datasets.PREPARE["multi30k"]() == raw.parent / "multi30k.npz"
    (raw.parent / "multi30k.npz").write_bytes(b"nothing")
    with pytest.raises(DataError, match="multi30k.npz is damaged .*data multi30k"):
        datasets.load("multi30k")


def test_without_spacy_the_error_says_what_to_do(raw, monkeypatch):
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(DataError, match="pip install spacy==3.8.18, or copy"):
        datasets.load("multi30k")
    assert [path.name for path in raw.parent.iterdir()] == ["multi30k"]


def test_damaged_text_is_named(raw):
    (raw / "train.de.gz").write_bytes(gzip.compress(b"Ein Hund\n"))
    for ask in (lambda: datasets.load("multi30k"), datasets.PREPARE["multi30k"]):
        with pytest.raises(DataError, match="train.de.gz exists but is damaged"):
            ask()


def test_missing_text_says_how_to_get_it(raw):
    (raw / "train.de.gz").unlink()
    with pytest.raises(DataError, match="multi30k.npz is missing; .*data multi30k"):
        datasets.load("multi30k")
    with pytest.raises(DataError, match=f"train.de.gz could not .* put it into {raw}"):
        datasets.PREPARE["multi30k"]()


@pytest.fixture(scope="module")
def real():
    """The real corpus: tokenised now if it can be, else as it was cached."""
    raw = data_folder() / "multi30k"
    there = all((raw / source.name).is_file() for source in corpus.MULTI30K.values())
    if there and importlib.util.find_spec("spacy"):
        return TranslationTask(corpus.tokenise(raw))
    if datasets.available("multi30k"):
        return datasets.load("multi30k")
    pytest.skip(f"no multi30k in {data_folder()}: python -m maestro data multi30k")


def test_the_real_vocabulary_is_the_papers(real):
    assert real.classes == 9521 == len(set(real.words))
    assert len(real) == 29_000
    sizes = {split: [len(rows) for rows in pair] for split, pair in real.pairs.items()}
    assert sizes["val"] == [1014, 1014] and sizes["test_2016_flickr"] == [1000, 1000]
    assert len(real.references) == 1000
    assert real.references[0] == "a man in an orange hat starring at something ."
    assert all((rows == END).sum() == len(rows) for rows in real.pairs["train"])


def test_the_real_corpus_is_the_one_that_is_known(real):
    if importlib.util.find_spec("spacy"):
        import spacy

        if spacy.__version__ != "3.8.18":
            pytest.skip(f"tokenised by spaCy {spacy.__version__}, not 3.8.18")
    assert real.fingerprint == corpus.MULTI30K_FINGERPRINT


# ---------------------------------------------------------------- batches

WORDS = 9  # of the made-up language, besides the four special symbols


def language(pairs, seed=0, longest=6):
    """Arrays of a made-up corpus: a sentence is translated word by word, backwards."""
    rng = np.random.default_rng(seed)
    words = [*SPECIALS, *(f"w{i}" for i in range(WORDS))]
    arrays = {"words": corpus._packed(words)}
    for split, count in zip(corpus.SPLITS, pairs, strict=True):
        lengths = rng.integers(1, longest + 1, count)
        source = [rng.integers(4, 4 + WORDS, n) for n in lengths]
        target = [4 + (row[::-1] - 4 + 1) % WORDS for row in source]
        for side, rows in (("de", source), ("en", target)):
            rows = [np.array([START, *row, END], np.int32) for row in rows]
            arrays[f"{split}_{side}"] = np.concatenate(rows)
            lengths = np.array([len(row) for row in rows], np.int32)
            arrays[f"{split}_{side}_lengths"] = lengths
    sentences = [" ".join(words[symbol] for symbol in row) for row in target]
    return arrays | {"references": corpus._packed(sentences)}


@pytest.fixture(scope="module")
def task():
    """700 pairs of the made-up language to train on, 40 to validate, 30 to test."""
    return TranslationTask(language((700, 40, 30)))


def whole(rows):
    """The sentences of padded rows, as they are without padding."""
    return [tuple(s for s in row if s != PAD) for row in rows.tolist()]


def test_an_epoch_has_each_pair_once_in_batches_of_similar_length(task):
    batches = list(task.epoch(16, seed=1))
    assert sorted(len(source) for (source, _), _ in batches) == [12] + 43 * [16]
    seen = []
    for (source, target), symbols in batches:
        seen += zip(whole(source), whole(target), strict=True)
        assert symbols == (target[:, 1:] != PAD).sum()
        for rows in (source, target):
            lengths = (rows != PAD).sum(1)
            assert rows.shape[1] == lengths.max() <= lengths.min() + 1
    expected = zip(*(whole(rows) for rows in task.pairs["train"]), strict=True)
    assert sorted(seen) == sorted(expected)


def equal(batches, others):
    return all(
        a[1] == b[1] and all(map(torch.equal, a[0], b[0]))
        for a, b in zip(batches, others, strict=True)
    )


def test_short_and_long_batches_are_mixed(task):
    widths = [source.shape[1] for (source, _), _ in task.epoch(16, seed=1)]
    assert widths != sorted(widths) and len(set(widths[:20])) > 3


def test_a_pass_is_decided_by_its_seed_and_taken_up_anywhere(task):
    batches = list(task.epoch(16, seed=1))
    other = list(task.epoch(16, seed=2))
    assert equal(batches, list(task.epoch(16, seed=1)))
    assert [source.shape for (source, _), _ in batches] != [
        source.shape for (source, _), _ in other
    ]
    for done in (1, 30, 44):
        assert equal(batches[done:], list(task.epoch(16, seed=1, done=done)))


def test_which_sentences_share_a_batch_differs_between_passes(task):
    first, second = (
        {frozenset(whole(source)) for (source, _), _ in task.epoch(2, seed=seed)}
        for seed in (1, 2)
    )
    assert len(first & second) < len(first) / 2


# ---------------------------------------------------------------- figures


def small_model(classes=4 + WORDS, **size):
    size = {"layers": 1, "width": 16, "heads": 2, "inner": 32} | size
    return MODELS["transformer"](classes=classes, **size)


def test_the_symbols_of_model_and_text_agree(task):
    assert transformer.PAD == PAD
    source, target = task.example
    assert source.shape == target.shape == (1, 28)


@pytest.mark.course
def test_the_loss_is_that_of_the_recipes_source(task):
    """Smoothing as there: 0.1 over the V - 1 wrong symbols, summed but for padding."""
    model = small_model().eval()
    (source, target), symbols = batch = next(task.epoch(32, seed=1))
    loss, told = task.loss(model, batch)
    gold = target[:, 1:]
    one_hot = nn.functional.one_hot(gold, task.classes)
    smooth = one_hot * (1 - 0.1) + (1 - one_hot) * 0.1 / (task.classes - 1)
    each = -(smooth * model(source, target[:, :-1]).log_softmax(2)).sum(2)
    assert (gold == PAD).any()
    assert loss.item() == pytest.approx(each[gold != PAD].sum().item(), rel=1e-12)
    assert loss.requires_grad and not told.requires_grad and told == loss
    assert task.count(batch) == symbols == (gold != PAD).sum()


@pytest.mark.course
def test_evaluation_is_that_of_one_sentence_at_a_time(task):
    model = small_model().eval()
    loss, right, symbols = 0.0, 0, 0
    for source, target in zip(*(whole(r) for r in task.pairs["val"]), strict=True):
        source, target = torch.tensor([source]), torch.tensor([target])
        steps = model(source, target[:, :-1]).log_softmax(2)[0]
        for step, symbol in zip(steps, target[0, 1:], strict=True):
            loss -= step[symbol].item()
            right += int(step.argmax() == symbol)
            symbols += 1
    figures = task.evaluate(model, batch_size=7)
    assert figures["test_loss"] == pytest.approx(loss / symbols, rel=1e-12)
    assert figures["test_accuracy"] == pytest.approx(100 * right / symbols)
    assert figures["perplexity"] == pytest.approx(math.exp(loss / symbols), rel=1e-12)


@pytest.mark.parametrize("weight", [math.nan, 1e6])
def test_a_diverged_model_has_figures_too(weight, task):
    model = small_model().eval()
    nn.init.constant_(model.output.bias, 0)
    model.output.bias.data[PAD] = weight
    figures = task.evaluate(model)
    if math.isnan(weight):
        assert math.isnan(figures["test_loss"]) and math.isnan(figures["perplexity"])
    else:
        assert figures["test_loss"] > 1e5 and figures["perplexity"] == math.exp(700)


def test_bleu_is_sacrebleus_with_its_signature():
    pytest.importorskip(
        "sacrebleu", reason="no sacreBLEU: pip install sacrebleu==2.6.0"
    )
    references = ["a man in a red hat .", "two dogs run on the grass ."]
    score, signature = datasets.bleu(references, references)
    assert score == pytest.approx(100)
    assert "tok:none" in signature and "|version:2" in signature
    hypotheses = ["a man in a blue hat .", "two dogs run on the grass ."]
    # 14 words in both, of the n-grams 13/14, 10/12, 7/10, 5/8 right, no penalty
    expected = 100 * (13 / 14 * 10 / 12 * 7 / 10 * 5 / 8) ** 0.25
    assert datasets.bleu(hypotheses, references)[0] == pytest.approx(expected)


def test_without_sacrebleu_the_error_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics", None)
    with pytest.raises(RuntimeError, match="need sacreBLEU: pip install sacrebleu"):
        datasets.bleu(["a"], ["a"])


# ---------------------------------------------------------------- search


@pytest.fixture(scope="module")
def tiny():
    """(model, sources): 7 symbols, 5 of them said; sharp, so that choices matter."""
    torch.manual_seed(3)
    model = small_model(classes=7).double().eval()
    for parameter in model.parameters():
        parameter.data *= 2
    sources = [[START, 4, 5, END, PAD], [START, 6, END, PAD, PAD]]
    sources += [[START, 6, 4, 4, END], [START, 5, 5, END, PAD]]
    return model, torch.tensor(sources)


def log_likelihood(model, source, sentence):
    """Of ``sentence``, without its start, in one forward pass."""
    target = torch.tensor([[START, *sentence]])
    steps = model(source[None], target[:, :-1]).log_softmax(2)[0]
    return steps[range(len(sentence)), list(sentence)].sum().item()


@torch.no_grad()
def by_brute_force(model, source, longest):
    """The best of all sentences, by log-likelihood a symbol."""
    said = [symbol for symbol in range(7) if symbol not in (PAD, START, END)]
    every = [
        (*words, END)
        for length in range(longest)
        for words in itertools.product(said, repeat=length)
    ]
    return max(every, key=lambda s: log_likelihood(model, source, s) / len(s))


def found(rows):
    """Rows of a search as sentences without start and padding."""
    return [tuple(s for s in row[1:] if s != PAD) for row in rows.tolist()]


@torch.no_grad()
def test_a_wide_beam_finds_what_brute_force_finds(tiny):
    model, sources = tiny
    best = [by_brute_force(model, source, longest=4) for source in sources]
    assert len(set(best)) > 1
    # 4^3 sentences of three words, 1 + 4 + 16 + 64 that have ended, and some to spare
    assert found(translation.search(model, sources, 160, longest=4)) == best


@torch.no_grad()
def test_beam_one_takes_the_likeliest_symbol_each_time(tiny):
    model, sources = tiny
    greedy = []
    for source in sources:
        sentence = []
        while len(sentence) < 8 and sentence[-1:] != [END]:
            step = model(source[None], torch.tensor([[START, *sentence]]))[0, -1]
            step[[PAD, START]] = -torch.inf
            sentence.append(int(step.argmax()))
        greedy.append(tuple(sentence))
    assert found(translation.search(model, sources, 1, longest=8)) == greedy


@torch.no_grad()
@pytest.mark.parametrize("beam", [1, 3])
def test_sentences_are_searched_each_for_itself(beam, tiny):
    model, sources = tiny
    together = found(translation.search(model, sources, beam, longest=6))
    for source, expected in zip(sources, together, strict=True):
        alone = source[source != PAD][None]
        assert found(translation.search(model, alone, beam, longest=6)) == [expected]


class Told(nn.Module):
    """Says what it is told: {symbols so far: {next symbol: probability}}."""

    def __init__(self, table):
        super().__init__()
        self.table = table

    def encode(self, source):
        return torch.zeros(len(source), 1, 1)

    def decode(self, target, memory, source, last):
        logits = torch.full((len(target), 7), -30.0)
        for row, symbols in zip(logits, target.tolist(), strict=True):
            for symbol, p in self.table.get(tuple(symbols[1:]), {END: 1.0}).items():
                row[symbol] = math.log(p)
        return logits


def test_a_beam_finds_what_greed_misses():
    model = Told({(): {4: 0.6, 5: 0.4}, (4,): {6: 0.5, 4: 0.5}, (5,): {6: 1.0}})
    source = torch.tensor([[START, 4, END]])
    assert found(translation.search(model, source, 1))[0][0] == 4
    assert found(translation.search(model, source, 2)) == [(5, 6, END)]


def test_padding_and_start_are_never_said():
    model = Told({(): {PAD: 0.5, START: 0.4, 4: 0.1}})
    source = torch.tensor([[START, 4, END]])
    assert found(translation.search(model, source, 2)) == [(4, END)]


def test_a_sentence_without_an_end_is_taken_only_if_there_is_no_other():
    endless = {(4,) * n: {4: 1.0} for n in range(1, 9)}
    source = torch.tensor([[START, 4, END]])
    model = Told({(): {4: 0.9, 5: 0.1}} | endless)
    assert found(translation.search(model, source, 2, longest=5)) == [(5, END)]
    assert found(translation.search(model, source, 1, longest=5)) == [(4,) * 5]


@torch.no_grad()
def test_the_last_position_alone_is_the_same(tiny):
    model, sources = tiny
    target = torch.tensor(4 * [[START, 4, 6]])
    memory = model.encode(sources)
    logits = model.decode(target, memory, sources)
    last = model.decode(target, memory, sources, last=True)
    assert torch.allclose(last, logits[:, -1], rtol=0, atol=1e-12)


# ---------------------------------------------------------------- through the loop

RECIPE = Recipe(
    epochs=14,
    batch_size=16,
    lr=1e-2,
    optimizer="adam",
    schedule="inverse_sqrt",
    warmup=60,
    betas=(0.9, 0.98),
)


def run_of(method, epochs=2, **options):
    recipe, size = replace(RECIPE, epochs=epochs), {"layers": 1, "width": 32}
    size |= {"heads": 2, "inner": 64, "dropout": 0.05}
    run = RunConfig("w", "transformer", method, recipe, options, size=size, scale="t")
    return methods.resolve(run)


def counted(run):
    """A run's history without what is measured by a clock or a meter."""
    return [
        {k: v for k, v in line.items() if k not in records.MEASURED}
        for line in run.history.lines
    ]


@pytest.mark.course
def test_a_small_transformer_learns_the_language(task, folders):
    """Of eight runs the worst fell from 6.8 to 1.25, and its BLEU was 80."""
    record = fit(run_of("dense", epochs=14), task=task)
    perplexity = record["history"]["perplexity"]
    assert perplexity[-1] < 2 < 4 < perplexity[0]
    assert record["final"]["perplexity"] == perplexity[-1]
    assert record["data"]["fingerprint"] == task.fingerprint
    run = Training(run_of("dense", epochs=14), task=task)
    for beam in (1, 3):
        untrained = datasets.bleu(task.translate(run.model, beam=beam), task.references)
        assert untrained[0] < 20
    weights = folders.cache / "weights" / f"{record['id']}.pt"
    run.restore_network(torch.load(weights, weights_only=True))
    for beam in (1, 3):
        said = task.translate(run.model, beam=beam, batch_size=7)
        score, _ = datasets.bleu(said, task.references)
        assert score > 50, (beam, said[:3], task.references[:3])


def test_a_factorised_run_resumes_bit_for_bit(task):
    config, taken = run_of("maestro", lambda_gl=0.02, eps_ps=0.5), []

    def after_step(run):
        if run.steps == 60:  # in the second epoch, after ranks have gone
            taken.append(run.state_dict())
            raise Interrupted

    run = Training(config, task=task)
    with pytest.raises(Interrupted):
        while not run.finished:
            run.run_epoch(after_step)
    straight = Training(config, task=task)
    while not straight.finished:
        straight.run_epoch()
    assert straight.history.ranks[1][0] == 1  # it had shrunk before
    again = Training(config, task=task)
    torch.manual_seed(99)  # all randomness, dropout's too, is part of the state
    again.load_state_dict(taken[0])
    again.run_epoch()
    assert counted(again) == counted(straight)
    first, second = (r.model.state_dict() for r in (straight, again))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.course
def test_a_replayed_training_follows_rate_and_clipping(task, recorder):
    """Each step has a rate of its own: a recorded one must read it, not remember it."""
    config = run_of("maestro", epochs=2)
    recipe = replace(config.recipe, lr=2e-3, clip=0.5)
    config = replace(config, recipe=recipe, size=config.size | {"dropout": 0.0})
    same_course(trained(config, task, recorder), trained(config, task))
    assert recorder.recorded > 0
