"""NTK-aware scaling and Self-Extend on tiny models, against loops over pairs of tokens."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.extras

from carrel.embeddings.rope import extended_logits, scale_ntk, self_extend  # noqa: E402
from carrel.errors import InputError  # noqa: E402

TRAINED = 16


def model(kind: str = "Llama", **settings):
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=50, max_position_embeddings=TRAINED, initializer_range=0.3, **settings,
    )  # fmt: skip
    return getattr(transformers, f"{kind}Model")(config).eval()


def states(made, length: int, mask=None):
    ids = torch.arange(length)[None] * 7 % 50
    with torch.no_grad():
        return made(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state


def turned(vector, place: float, base: float):
    """A head's vector at a place, one pair of its numbers at a time."""
    half = len(vector) // 2
    out = vector.clone()
    for pair in range(half):
        angle = place * base ** (-2 * pair / len(vector))
        one, other = vector[pair], vector[pair + half]
        out[pair] = one * math.cos(angle) - other * math.sin(angle)
        out[pair + half] = one * math.sin(angle) + other * math.cos(angle)
    return out


@pytest.mark.parametrize("kind", ["Llama", "Mistral", "Qwen2"])
def test_inputs_of_the_trained_length_are_read_as_before(kind) -> None:
    made = model(kind)
    before, longer = states(made, TRAINED), states(made, 40)
    for adapt in (scale_ntk, lambda given: self_extend(given, group=4, neighbours=4)):
        undo = adapt(made)
        assert torch.allclose(states(made, TRAINED), before, atol=1e-6)
        assert not torch.allclose(states(made, 40), longer, atol=1e-3)
        assert torch.allclose(states(made, TRAINED), before, atol=1e-6)  # nothing of the longer input stays
        undo()
        assert torch.allclose(states(made, 40), longer, atol=1e-6)


def test_ntk_scaling_is_a_greater_base() -> None:
    made = model()
    base = made.config.rope_parameters["rope_theta"]
    scale_ntk(made)
    found = states(made, 40)
    grown = base * (40 / TRAINED) ** (8 / (8 - 2))  # heads of 8
    other = model(rope_parameters={"rope_type": "default", "rope_theta": grown})
    other.load_state_dict(made.state_dict())
    assert torch.allclose(found, states(other, 40), atol=1e-5)
    slowest = made.rotary_emb.inv_freq[-1] / made.rotary_emb.original_inv_freq[-1]
    assert slowest == pytest.approx(TRAINED / 40, rel=1e-5)


@pytest.mark.parametrize(("group", "neighbours"), [(1, 4), (2, 5), (3, 9), (8, 8)])
def test_logits_are_those_of_the_distances_that_the_paper_gives(group, neighbours) -> None:
    made = model()
    base = made.config.rope_parameters["rope_theta"]
    query, key = torch.randn(1, 2, 21, 8), torch.randn(1, 1, 21, 8)
    at = [torch.stack([torch.stack([turned(row, place, base) for place, row in enumerate(head)]) for head in part[0]])
          for part in (query, key)]  # fmt: skip
    found = extended_logits(at[0][None], at[1][None], made.rotary_emb, group, neighbours, both_ways=True)
    for head in range(2):
        for m in range(21):
            for n in range(21):
                distance = abs(m - n)
                if distance >= neighbours:
                    distance = abs(m // group - n // group) + neighbours - neighbours // group
                signed = distance if m >= n else -distance
                expected = turned(query[0, head, m], signed, base) @ key[0, 0, n]
                assert found[0, head, m, n].item() == pytest.approx(expected.item(), abs=1e-4)


def test_groups_of_one_are_the_model_itself_at_any_length() -> None:
    made = model()
    longer = states(made, 50)
    self_extend(made, group=1, neighbours=4)
    assert torch.allclose(states(made, 50), longer, atol=1e-4)


def test_distances_stay_within_what_was_trained() -> None:
    group, neighbours = 4, 8
    window = (TRAINED - neighbours) * group + neighbours
    furthest = (window - 1) // group + neighbours - neighbours // group
    assert furthest < TRAINED


def test_padding_on_the_right_changes_nothing_and_the_future_is_not_read() -> None:
    made = model()
    self_extend(made, group=4, neighbours=4)
    plain = states(made, 30)
    mask = (torch.arange(40) < 30).long()[None]
    assert torch.allclose(states(made, 40, mask)[:, :30], plain, atol=1e-5)
    assert torch.allclose(states(made, 40)[:, :30], plain, atol=1e-5)


def test_a_model_that_is_adapted_twice_reads_as_the_last_time() -> None:
    made, other = model(), model()
    first = self_extend(made, group=2, neighbours=4)
    self_extend(made, group=4, neighbours=4)
    self_extend(other, group=4, neighbours=4)
    assert torch.allclose(states(made, 40), states(other, 40), atol=1e-6)
    first()
    assert torch.allclose(states(made, 40), states(model(), 40), atol=1e-6)


def test_what_cannot_be_adapted_is_refused() -> None:
    bert = transformers.BertModel(transformers.BertConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, vocab_size=20))  # fmt: skip
    for adapt in (scale_ntk, lambda made: self_extend(made, group=2, neighbours=4)):
        with pytest.raises(InputError, match="0 modules that make rotary"):
            adapt(bert)
    scaled = model(rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 10_000.0})
    with pytest.raises(InputError, match="scaled already"):
        scale_ntk(scaled)
    for group, neighbours in ((0, 4), (2, 0), (2, TRAINED)):
        with pytest.raises(InputError, match="neighbours from 1 to 15"):
            self_extend(model(), group=group, neighbours=neighbours)
    with pytest.raises(InputError, match="trained="):
        scale_ntk(model(), trained=1)
