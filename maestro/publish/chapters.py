"""The tables and figures that the chapters on CIFAR-10 have in common."""

import math

from ..figures import convergence, error_against, layer_ranks, rank_progression
from ..results import claims, ranks, records, tables, variants
from .shown import Shown


class Chapter:
    """One network at several scales of its experiment.

    Args:
        configs: {scale: its RunConfigs}.
        paper: the `paper_table` of the network. The scale "laptop" has a narrower
            network, which the paper does not have.

    Attributes:
        runs: {scale: {id: record}}.
        shown: the scale of the figures, the first one with records; None without any.
    """

    def __init__(self, configs, paper):
        self.configs = configs
        self.papers = {scale: None if scale == "laptop" else paper for scale in configs}
        self.runs = {scale: records.find(some) for scale, some in configs.items()}
        self.shown = next((scale for scale in configs if self.runs[scale]), None)
        self.figured = self.runs.get(self.shown, {})
        first_seed = next(iter(configs.values()))[0].seed
        self.courses = variants.by_lambda(self.figured, first_seed)

    def list_scales(self):
        """Print, for each scale, how many runs have a record, and the recipe."""
        for scale, configs in self.configs.items():
            recipe, width = configs[0].recipe, configs[0].size.get("width", 64)
            print(
                f"{scale}: {len(self.runs[scale])} of {len(configs)} runs have a "
                f"record; width {width}, {recipe.epochs} epochs, "
                f"batch {recipe.batch_size}, learning rate {recipe.lr:g}"
            )

    def footprints(self):
        """{scale: its tables of quality and of costs}, with records or the paper's."""
        shown = {}
        for scale, configs in self.configs.items():
            if self.runs[scale] or scale == "paper":
                of = self.runs[scale], self.papers[scale], tables.lambdas_of(configs)
                shown[scale] = Shown(*tables.narrow_tables(*of))
        return shown

    def costs(self):
        """{scale: `cost_table`} of the scales with records."""
        return {
            scale: tables.cost_table(run) for scale, run in self.runs.items() if run
        }

    def progression(self):
        """The figure of the total rank by epoch, for the first seed."""
        lines = [(x, ranks.rank_history(run)) for x, run in self.courses.items()]
        return rank_progression({f"scale: {self.shown}": lines} if lines else {})

    def ranks_by_layer(self):
        """The figure of the ranks after training, for the first seed."""
        ends = [(x, records.final_ranks(run)) for x, run in self.courses.items()]
        maps = [one for run in self.courses.values() for one in run["maps"].items()]
        return layer_ranks(ends, {name: min(m, n) for name, (m, n, _) in maps})

    def nested_ranks(self):
        """{scale: the verdict on whether the ranks are nested}."""
        return {scale: claims.nested_ranks(some) for scale, some in self.runs.items()}

    def losses(self):
        """The figure of the training loss by epoch."""
        lines = [(math.nan, variants.losses(self.figured, "dense"))]
        lines += [
            (x, variants.losses(self.figured, "maestro", x)) for x in self.courses
        ]
        return convergence([line for line in lines if line[1]])

    def errors(self):
        """The figure of the test error against parameters."""
        ours = variants.summary(self.figured)
        error = ours.test_accuracy, ours.test_accuracy_std
        points = [("recorded", ours.lambda_gl, ours.params, *error)]
        return error_against(points, "parameters of the network as shipped")

    def verdicts(self):
        """{scale: the verdicts on what the paper says of every network}."""
        return {
            scale: claims.of_training(some, self.papers[scale])
            for scale, some in self.runs.items()
        }
