"""Estimate the tokens of a prompt from its size, calibrated by the usage that a backend reports.

A chat template puts a constant around each prompt, and a tokenizer makes more or fewer tokens of
the same bytes. So tokens = `constant` + `factor` * size, and both are learned for each model:

    state of a model        line                         effect of a response
    --------------------    --------------------------   ---------------------------------------
    no response yet         0 + 1 * size                 its size class begins
    size class is new       fitted to all size classes   its size class begins
    size class is known     fitted to all size classes   its size class moves by 1/2 … 1/10

A size class holds the sizes between two powers of 2. It is one point of the fit, whatever the
number of its responses: sixty short prompts do not outweigh a long one or displace it.
"""

from __future__ import annotations

from collections import OrderedDict

from attrs import Factory, define, field, frozen

#: The prior: standard deviations of the constant, in tokens, and of the factor around 1. With it
#: prompts below 300 tokens determine the constant, longer ones the factor.
_CONSTANT_SD, _FACTOR_SD = 100.0, 0.3
#: Standard deviation of one prompt from the line, as a share of its size, and in tokens. The
#: tokens keep small differences between short prompts from determining the factor.
_SPREAD, _SPREAD_TOKENS = 0.1, 20.0
#: About as many of the latest responses count in a size class.
_REMEMBERED = 10.0
#: A token has at least one byte and hardly more than eight; estimates assume four. A template adds
#: a system prompt at most. Reports outside these bounds are ignored: the usage of Ollama 0.30, for
#: one, leaves out cached tokens.
_LEAST, _MOST, _MOST_ADDED = 0.5, 4.0, 4000
_FACTORS = (0.25, 4.0)
#: Clients may use any model name, so the least recently used is dropped.
_MODELS = 100


@frozen
class TokenEstimate:
    """A line: tokens = `constant` + `factor` * size."""

    constant: float = 0.0
    factor: float = 1.0

    def tokens(self, size: int) -> int:
        """The estimate for a prompt of this size, at least 1."""
        return max(1, round(self.constant + self.factor * size))


@define
class _SizeClass:
    """The mean of the prompts of about one size. `seen` counts them, up to a limit."""

    size: float
    tokens: float
    seen: float = 1.0

    def learn(self, size: int, tokens: int) -> None:
        self.seen = min(self.seen + 1, _REMEMBERED)
        self.size += (size - self.size) / self.seen
        self.tokens += (tokens - self.tokens) / self.seen

    @property
    def weight(self) -> float:
        return self.seen / (_SPREAD * self.size + _SPREAD_TOKENS) ** 2


@define
class _Model:
    classes: dict[int, _SizeClass] = Factory(dict)
    """By the number of bits of the size."""
    line: TokenEstimate = TokenEstimate()

    def learn(self, size: int, tokens: int) -> None:
        size_class = self.classes.get(size.bit_length())
        if size_class:
            size_class.learn(size, tokens)
        else:
            self.classes[size.bit_length()] = _SizeClass(size, tokens)
        self.line = self._fitted()

    def _fitted(self) -> TokenEstimate:
        """The most probable line: weighted least squares, with the prior as two points."""
        s1, sx, sxx = _CONSTANT_SD**-2, 0.0, _FACTOR_SD**-2
        sy, sxy = 0.0, sxx
        for size_class in self.classes.values():
            weight = size_class.weight
            s1 += weight
            sx += weight * size_class.size
            sy += weight * size_class.tokens
            sxx += weight * size_class.size**2
            sxy += weight * size_class.size * size_class.tokens
        constant = max(0.0, (sxx * sy - sx * sxy) / (s1 * sxx - sx**2))
        factor = (sxy - sx * constant) / sxx
        return TokenEstimate(constant, min(max(factor, _FACTORS[0]), _FACTORS[1]))


@define
class TokenCalibration:
    """The estimate for each model of one backend."""

    _models: OrderedDict[str, _Model] = field(default=Factory(OrderedDict), init=False)

    def line(self, model: str) -> TokenEstimate:
        """The line for the model's prompts. For an unknown model it is the size itself."""
        return self._models[model].line if model in self._models else TokenEstimate()

    def learn(self, model: str, size: int, tokens: int) -> None:
        """Learn that a prompt of `size`, an estimate by its bytes, had `tokens` tokens."""
        if not size * _LEAST <= tokens <= size * _MOST + _MOST_ADDED:
            return
        learned = self._models.pop(model, None) or _Model()
        learned.learn(size, tokens)
        self._models[model] = learned
        if len(self._models) > _MODELS:
            self._models.popitem(last=False)
