"""What determines a run, in one frozen value whose hash is the run's id.

Two runs with the same configuration are the same run, so nothing that changes a result
may be left out of it, and what does not (device, workers, where files lie) is not in
it. The method's options are hashed in full, those at the method's default included
(`methods.resolve` completes them), so a method may change a default without changing
what a recorded run means. Of the other fields, those at their default are left out of
the hash: a later version may add fields without renaming old runs, and must never
change a default here.
"""

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from numbers import Real

OPTIMIZERS = ("sgd", "adam")
SCHEDULES = ("steps", "inverse_sqrt", "triangle")
PRECISIONS = ("float32", "auto")

_CHOICES = {"optimizer": OPTIMIZERS, "schedule": SCHEDULES, "precision": PRECISIONS}
_NUMBERS = ("lr", "momentum", "weight_decay", "lr_decay", "adam_eps", "clip")
_NUMBERS += ("label_smoothing", "norm_lr")


@dataclass(frozen=True)
class Recipe:
    """How to train.

    schedule "steps": lr falls by ``lr_decay`` at each of ``milestones`` (epochs).
    "inverse_sqrt" (Vaswani et al. 2017): lr is the peak, reached in a straight line
    after ``warmup`` steps, then falling with the root of the steps. "triangle": lr is
    the peak; of ``triangle`` the three numbers are the share of lr at the start, the
    share of all steps before the peak, and the share of lr at the end, with straight
    lines between them. optimizer: "sgd" (``nesterov`` or not), or "adam" with ``betas``
    and ``adam_eps``. clip: bound on the gradient's norm, 0 for none. decay_vectors:
    whether weight decay is on biases and norms too. norm_lr: how many times lr the
    parameters of normalisation layers have; their decay in a step stays that of the
    others. label_smoothing: as PyTorch's cross-entropy has it. lookahead: after how
    many steps the weights meet their slow copies (`training.optimizers.Lookahead`), 0
    for never. freeze: (name of a parameter, epochs after which it stays as it is), ...
    precision: on a CPU "float32", or "auto": bfloat16 where the processor gains by it.
    evaluate_every: the network is evaluated after every so many epochs, and after the
    last epoch of each phase.
    """

    epochs: int
    batch_size: int
    lr: float
    optimizer: str = "sgd"
    momentum: float = 0.9
    weight_decay: float = 0.0
    milestones: tuple = ()
    lr_decay: float = 0.1
    schedule: str = "steps"
    warmup: int = 0
    betas: tuple = (0.9, 0.999)
    adam_eps: float = 1e-8
    clip: float = 0.0
    decay_vectors: bool = True
    nesterov: bool = False
    label_smoothing: float = 0.0
    triangle: tuple = (0.0, 0.5, 0.0)
    norm_lr: float = 1.0
    lookahead: int = 0
    freeze: tuple = ()
    precision: str = "float32"
    evaluate_every: int = 1

    def __post_init__(self):
        for name in ("epochs", "batch_size", "evaluate_every"):
            integer(name, getattr(self, name), low=1)
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name}={getattr(self, name)!r}; it is one of {', '.join(known)}"
                )
        integer("warmup", self.warmup, low=int(self.schedule == "inverse_sqrt"))
        integer("lookahead", self.lookahead, low=0)
        for name in _NUMBERS:
            # a float, so that 1 and 1.0 are one run
            object.__setattr__(self, name, number(name, getattr(self, name)))
        for name in ("decay_vectors", "nesterov"):
            if type(getattr(self, name)) is not bool:
                raise ValueError(
                    f"{name}={getattr(self, name)!r}: it takes true or false"
                )
        if self.label_smoothing > 1:
            raise ValueError(
                f"label_smoothing={self.label_smoothing!r}: it takes 0 to 1"
            )
        for name, count in (("betas", 2), ("triangle", 3)):
            object.__setattr__(self, name, _numbers(name, getattr(self, name), count))
        if max(self.betas) >= 1:
            raise ValueError(f"betas={self.betas!r}: it takes two numbers < 1")
        if not 0 < self.triangle[1] < 1:
            raise ValueError(
                f"triangle={self.triangle!r}: the peak is between 0 and 1 of all steps"
            )
        object.__setattr__(self, "freeze", _freezes(self.freeze))
        if not isinstance(self.milestones, list | tuple):
            raise ValueError(f"milestones={self.milestones!r}: it takes a list")
        for milestone in self.milestones:
            integer("milestones", milestone, low=1)
        object.__setattr__(self, "milestones", tuple(self.milestones))


@dataclass(frozen=True)
class RunConfig:
    """One training, completely.

    task: a data set (`datasets.TASKS`); model: one of `models.MODELS`; method: one of
    `methods.METHODS`; options: the method's own, all of them for a run that is trained
    (see `methods.resolve`); scale: which size of the experiment this is (the tables
    never mix scales).
    """

    task: str
    model: str
    method: str
    recipe: Recipe
    options: dict = field(default_factory=dict)
    seed: int = 0
    scale: str = "paper"
    size: dict = field(default_factory=dict)

    def __post_init__(self):
        for name in ("task", "model", "method", "scale"):
            value = getattr(self, name)
            if type(value) is not str:
                raise ValueError(f"{name}={value!r}: it takes text")
        if not isinstance(self.recipe, Recipe):
            raise ValueError(f"recipe={self.recipe!r}: it takes a Recipe")
        integer("seed", self.seed, low=0)
        for name in ("options", "size"):
            object.__setattr__(self, name, _as_json(name, getattr(self, name)))
        own = {f.name for part in (self, self.recipe) for f in dataclasses.fields(part)}
        taken = own & self.options.keys()
        if taken:
            raise ValueError(
                f"options={self.options!r}: {', '.join(sorted(taken))} is a field of "
                "every run, no option of a method"
            )

    @property
    def id(self):
        """12 hexadecimal digits: a hash of the options and of what is not at default.

        Equal configurations have one id: 1 and 1.0 are the same number.
        """
        kept = _not_at_default(self) | {"recipe": _not_at_default(self.recipe)}
        text = json.dumps(_canonical(kept), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def to_dict(self):
        """As JSON keeps it; `from_dict` reads it back to an equal value."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def from_dict(cls, values):
        """The inverse of `to_dict`. Raises ValueError on unknown or missing fields."""
        try:
            return cls(**values | {"recipe": Recipe(**values["recipe"])})
        except (TypeError, KeyError) as error:
            raise ValueError(f"not a run's configuration: {error}") from None


def _as_json(name, given):
    """A copy as JSON keeps it, so that a record gives the same value back."""
    if not isinstance(given, dict) or not all(isinstance(key, str) for key in given):
        raise ValueError(f"{name}={given!r}: it takes {{name: value}}")
    try:
        return json.loads(json.dumps(given, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{name}={given!r}: it takes finite numbers, text, true, false or lists "
            f"({error})"
        ) from None


def number(name, value):
    """``value`` as a float, so that 1 and 1.0 are one; ValueError unless 0 <= value."""
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not is_number or not 0 <= value < float("inf"):
        raise ValueError(f"{name}={value!r}: it takes a finite number >= 0")
    return float(value)


def integer(name, value, low):
    """``value`` if it is an integer >= ``low``; else ValueError."""
    if type(value) is not int or value < low:
        raise ValueError(f"{name}={value!r}: it takes an integer >= {low}")
    return value


def _numbers(name, values, count):
    if not isinstance(values, list | tuple) or len(values) != count:
        raise ValueError(f"{name}={values!r}: it takes {count} numbers")
    return tuple(number(name, value) for value in values)


def _freezes(pairs):
    """((name of a parameter, epochs), ...), sorted by name."""
    try:
        frozen = {name: epochs for name, epochs in pairs}
    except (TypeError, ValueError):
        frozen = {"": None}
    for name, epochs in frozen.items():
        if type(name) is not str or type(epochs) is not int or epochs < 0:
            raise ValueError(
                f"freeze={pairs!r}: it takes pairs of a parameter's name and epochs"
            )
    return tuple(sorted(frozen.items()))


def variant(config):
    """The id that runs share which differ in the seed only, and no others.

    Tables average over the runs of a variant and over nothing else.
    """
    return dataclasses.replace(config, seed=0).id


def _canonical(value):
    """``value`` with whole numbers as integers, at any depth: 1.0 as 1."""
    if isinstance(value, dict):
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    whole = isinstance(value, float) and value.is_integer()
    return int(value) if whole else value


def _not_at_default(value):
    """{name: value} of the fields that are not at their default."""
    kept = {}
    for f in dataclasses.fields(value):
        default = f.default
        if f.default_factory is not dataclasses.MISSING:
            default = f.default_factory()
        if getattr(value, f.name) != default:
            kept[f.name] = getattr(value, f.name)
    return kept
