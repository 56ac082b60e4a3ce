"""The ablation without progressive shrinking: one cut, after the last epoch."""

from maestro.training.loop import Training


def test_ranks_fall_once_when_the_training_is_over(few_digits, digits_config):
    options = {"epochs": 3, "batch_size": 32, "eps_ps": 0.5}
    runs = {}
    for name in ("maestro", "unshrunken"):
        run = runs[name] = Training(digits_config(name, **options), task=few_digits)
        while not run.finished:
            run.run_epoch()
    once = runs["unshrunken"].history
    [(start, full), (epoch, cut)] = once.ranks
    assert (start, epoch) == (0, 3)
    assert len(runs["maestro"].history.ranks) > 2
    assert sum(cut.values()) < sum(full.values()) == 236
    costs = [line["train_macs"] for line in once.lines]
    assert costs == 3 * [runs["maestro"].history.lines[0]["train_macs"]]
