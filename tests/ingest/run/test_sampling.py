import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas.errors import SequenceTooShort, UsageError
from atlas.network import Tokens
from ingest.run.sampling import ImageSampling, TokenSampling, context, token_windows, too_short

samplings = st.builds(TokenSampling, st.integers(1, 40), st.integers(0, 300))


def tokens_of(n: int) -> Tokens:
    """Token i has the id 1000 + i and stands for two characters."""
    return Tokens(np.arange(n) + 1000, np.arange(n) * 2, np.arange(n) * 2 + 2)


def cut(n: int, length: int) -> list[range]:
    return [range(start, min(start + length, n)) for start in range(0, n, length)]


def test_the_posts_sampling():
    assert TokenSampling().positions(1024).tolist() == [100, 254, 408, 562, 716, 870]
    assert TokenSampling().positions(256).tolist() == [100, 126, 152, 178, 204, 230]


@given(samplings, st.integers(0, 2000))
def test_positions_are_evenly_spaced(sampling: TokenSampling, length: int):
    """Positions are distinct evenly spaced and in the sequence."""
    positions = sampling.positions(length)
    assert positions.dtype == np.int64
    if length < sampling.shortest:
        assert len(positions) == 0
        return
    assert len(positions) == sampling.per_sequence
    assert positions[0] == sampling.skip_first
    assert positions[-1] < length
    edges = np.append(positions, length)  # the room after the last one counts as well
    assert np.diff(edges).min() >= 1
    assert np.ptp(np.diff(edges)) <= 1


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"per_sequence": 0}, "per_sequence"),
        ({"per_sequence": 2.5}, "per_sequence"),
        ({"skip_first": -1}, "skip_first"),
    ],
)
def test_impossible_token_sampling(values, name):
    with pytest.raises(UsageError, match=rf"{name} is {next(iter(values.values()))}; expected a whole number"):
        TokenSampling(**values)


@pytest.mark.parametrize("value", [1.0, -0.1, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["row", "column"])
def test_impossible_image_sampling(name, value):
    with pytest.raises(UsageError, match=f"{name} is {value}"):
        ImageSampling(**{name: value})


@given(samplings, st.integers(0, 1500), st.integers(1, 600))
def test_windows_hold_their_tokens(sampling: TokenSampling, n_tokens: int, length: int):
    """Windows hold the tokens of their place."""
    tokens = tokens_of(n_tokens)
    windows = cut(n_tokens, length)
    chosen = token_windows(tokens, windows, sampling)
    assert [place for place, _ in chosen] == [window for window in windows if len(window) >= sampling.shortest]
    for place, window in chosen:
        assert window.ids.tolist() == [1000 + i for i in place]
        assert window.positions.tolist() == sampling.positions(len(place)).tolist()
        assert window.following == (1000 + place.stop if place.stop < n_tokens else None)


@pytest.mark.parametrize("window", [range(0, 11), range(-1, 4), range(0, 10, 2)])
def test_window_outside_the_text_refused(window):
    """A window outside the text is refused."""
    with pytest.raises(ValueError, match="no run of tokens of a text of 10"):
        token_windows(tokens_of(10), [window], TokenSampling(1, 0))


def test_too_short_says_what_to_do():
    error = too_short("texts/brown_cc/3.txt", 57, cut(57, 1024), TokenSampling())
    assert isinstance(error, SequenceTooShort)
    assert str(error) == (
        "texts/brown_cc/3.txt has 57 tokens; sampling needs at least 106 (the first 100 are skipped, 6 are read): "
        "lower --skip-first, or pass --skip-bad"
    )


def test_too_short_names_the_context_length():
    """Too short names the context length if that is the cause."""
    assert "has 300 tokens in sequences of at most 64;" in str(too_short("a", 300, cut(300, 64), TokenSampling()))
    assert "has 0 tokens; sampling" in str(too_short("a", 0, [], TokenSampling()))


@given(st.text(max_size=80), st.data())
def test_context_holds_token_at_offset(text: str, data: st.DataObject):
    """Context holds the token where it says."""
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    before, after = data.draw(st.integers(0, 90)), data.draw(st.integers(0, 90))
    around, offset = context(text, start, end, before, after)
    assert around[offset : offset + end - start] == text[start:end]
    assert offset == min(before, start)
    assert len(around) - offset - (end - start) == min(after, len(text) - end)


@pytest.mark.parametrize(("start", "end"), [(-1, 2), (3, 2), (0, 6)])
def test_context_refuses_foreign_token(start, end):
    """Context refuses a token outside the text."""
    with pytest.raises(ValueError, match="no context"):
        context("hello", start, end)
