"""How many tokens a prompt has, by its size: learned from the usage that a backend reports.

A chat template puts a constant around each prompt, and a tokenizer makes more or fewer tokens of
the same bytes. So tokens = `constant` + `factor` * size, and both are learned for each model:

    state of a model        line                         what an answer does
    --------------------    --------------------------   ---------------------------------------
    no answer seen          0 + 1 * size                 its size class begins
    size class is new       fitted to all size classes   its size class begins
    size class is known     fitted to all size classes   its size class moves by 1/2 … 1/10

A size class holds the sizes between two powers of 2. It is one point of the fit, whatever the
number of its answers: sixty short prompts cannot outweigh a long one, nor make it forgotten.
"""

from __future__ import annotations

from collections import OrderedDict

from attrs import Factory, define, field, frozen

#: What is assumed before anything is learned: standard deviations of the constant, in tokens, and
#: of the factor around 1. So prompts below 300 tokens teach the constant, longer ones the factor.
_CONSTANT_SD, _FACTOR_SD = 100.0, 0.3
#: How far one prompt is off the line: standard deviation, as a share of its size, and in tokens.
#: The latter keeps a few words more or less from deciding how long prompts are estimated.
_SPREAD, _SPREAD_TOKENS = 0.1, 20.0
#: Of a size class, the last ten answers or so count.
_REMEMBERED = 10.0
#: A token has one byte at least and hardly more than eight; estimates assume four. A template adds
#: a system prompt at most. What is reported beyond that is not learned: it may be an answer of
#: Ollama 0.30, whose usage leaves out what was in its cache.
_LEAST, _MOST, _MOST_ADDED = 0.5, 4.0, 4000
_FACTORS = (0.25, 4.0)
#: Clients may name models freely, so the least recently used is forgotten.
_MODELS = 100


@frozen
class TokenEstimate:
    """Tokens by size: `constant` + `factor` * size."""

    constant: float = 0.0
    factor: float = 1.0

    def tokens(self, size: int) -> int:
        """The estimate for a prompt of this size, at least 1."""
        return max(1, round(self.constant + self.factor * size))


@define
class _SizeClass:
    """The mean of the prompts of about one size; `seen` counts them, up to a limit."""

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
        known = self.classes.get(size.bit_length())
        if known:
            known.learn(size, tokens)
        else:
            self.classes[size.bit_length()] = _SizeClass(size, tokens)
        self.line = self._fitted()

    def _fitted(self) -> TokenEstimate:
        """The most probable line: weighted least squares, with what is assumed as two points."""
        s1, sx, sxx = _CONSTANT_SD**-2, 0.0, _FACTOR_SD**-2
        sy, sxy = 0.0, sxx
        for each in self.classes.values():
            weight = each.weight
            s1 += weight
            sx += weight * each.size
            sy += weight * each.tokens
            sxx += weight * each.size**2
            sxy += weight * each.size * each.tokens
        constant = max(0.0, (sxx * sy - sx * sxy) / (s1 * sxx - sx**2))
        factor = (sxy - sx * constant) / sxx
        return TokenEstimate(constant, min(max(factor, _FACTORS[0]), _FACTORS[1]))


@define
class TokenCalibration:
    """The line of each model of one backend."""

    _models: OrderedDict[str, _Model] = field(default=Factory(OrderedDict), init=False)

    def line(self, model: str) -> TokenEstimate:
        """What to estimate its prompts by: of a model not seen yet, its size itself."""
        return self._models[model].line if model in self._models else TokenEstimate()

    def learn(self, model: str, size: int, tokens: int) -> None:
        """A prompt of this `size` (which is an estimate by its bytes) had so many `tokens`."""
        if not size * _LEAST <= tokens <= size * _MOST + _MOST_ADDED:
            return
        known = self._models.pop(model, None) or _Model()
        known.learn(size, tokens)
        self._models[model] = known
        if len(self._models) > _MODELS:
            self._models.popitem(last=False)
