"""The text of a table's cells: names of networks and variants, counts, deviations."""

import math

NOT_RUN = "not run yet"
NOT_MEASURED = "not measured yet"
NETWORKS = {
    "lenet": "LeNet",
    "compact": "compact network",
    "resnet18": "ResNet-18",
    "vgg19": "VGG-19",
    "transformer": "Transformer",
    "resnet50": "ResNet-50",
}


def variant_name(lambda_gl):
    """'dense', or lambda_gl as the paper writes it: 'λ = 16e-5', not 0.00016."""
    if math.isnan(lambda_gl):
        return "dense"
    if not 0 < lambda_gl < 0.01:
        return f"λ = {lambda_gl:g}"
    digits, exponent = f"{lambda_gl:.5e}".split("e")
    digits = digits.rstrip("0").replace(".", "")
    return f"λ = {digits}e{int(exponent) - len(digits) + 1}"


def power(value):
    """A threshold as it is written by hand: '1e-5', not '1e-05'."""
    return f"{value:g}".replace("e-0", "e-")


def plus_minus(mean, std, form):
    """``mean ± std`` in the format ``form``; the sign that it may ask for is mean's."""
    deviation = f" ± {std:{form.removeprefix('+')}}"
    return f"{mean:{form}}" + ("" if math.isnan(std) else deviation)


def count(mean, std):
    """A count in full; the paper's billions and millions as the paper prints them."""
    return plus_minus(mean, std, ",.0f" if mean >= 1000 else "g")


def ratio(value):
    return "–" if math.isnan(value) else f"{value:.2f}×"
