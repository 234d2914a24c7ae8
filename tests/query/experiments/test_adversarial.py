"""Adversarial crossings: perturbations and crossings worked out on paper, gradients against finite differences."""

import numpy as np
import pytest

import atlas
from atlas.errors import UnknownName, UsageError
from atlas.network import TokenWindow
from query.experiments.adversarial import Attack
from query.experiments.registry import run
from tests.networks import shipped
from tests.query.experiments.tailed import random_tail

SPAN = "embed->"


def ask(plane, **options):
    a, ids, reader = plane
    if isinstance(options.get("example"), str):
        options["example"] = ids[options["example"]]
    return run(a, "adversarial", reader=reader, **{"span": SPAN, **options})


def test_perturbations_as_on_paper(plane):
    """At (2, 1) logits are x − y = 1 and (x + y − 2)⁺ − 1 = 0: left. The gradient of right − left is
    (1, 1) − (1, −1) = (0, 2): straight up. x + y = 3 is crossed at once, x = y at a height of 2."""
    result = ask(plane, example="2:1", epsilons=[0.1, 0.6], n_random=3)
    norm = np.sqrt(5)
    examples = result.tables["examples"].set_index(["kind", "epsilon"])
    for kind in ("fgsm", "pgd"):
        rows = examples.loc[kind]
        np.testing.assert_allclose(rows["norm"], [0.1 * norm, 0.6 * norm], rtol=1e-6)
        # At (2, 1.22): x + y > 3. At (2, 2.34): x > y is off as well.
        assert rows["crossings"].tolist() == [1, 2]
        np.testing.assert_allclose(rows["density"], [1 / (0.1 * norm), 2 / (0.6 * norm)], rtol=1e-6)
        assert rows["changed"].tolist() == [0, 1]  # logits (−0.34, 1.34)
        up = 1 + 0.6 * norm
        loss = np.log(1 + np.exp((2 + up - 2 - 1) - (2 - up))) - np.log(1 + np.exp(-1))
        assert rows.loc[0.6, "loss"] == pytest.approx(loss, rel=1e-4)


def attack_on(seed, point):
    tail, later = random_tail(seed)
    return Attack(tail, np.asarray(point, np.float32), later, 0.01), tail


def test_the_gradient_is_that_of_the_loss():
    attack, tail = attack_on(0, [0.3, -1.0, 0.8, 0.5])
    precise = Attack(tail.precise(), attack.point.astype(np.float32), [], 0.01)
    step = 1e-3
    found = [
        (precise._loss_at(attack.point + step * unit) - precise._loss_at(attack.point - step * unit)) / (2 * step)
        for unit in np.eye(4)
    ]
    np.testing.assert_allclose(attack.gradient, found, rtol=0.02, atol=1e-3)


@pytest.mark.parametrize("seed", range(4))
def test_perturbations_have_their_norm(seed):
    """Perturbations have the norm asked for and raise the loss."""
    attack, _ = attack_on(seed, np.random.default_rng(seed).standard_normal(4))
    fgsm, pgd = attack.fgsm(0.05), attack.pgd(0.05, 10)
    assert np.linalg.norm(fgsm) == pytest.approx(0.05) and len(set(np.abs(fgsm).round(9))) == 1
    assert np.linalg.norm(pgd) <= 0.05 * (1 + 1e-9)
    before = attack._loss_at(attack.point)
    random = [
        attack._loss_at(attack.point + 0.05 * v / np.linalg.norm(v)) - before
        for v in np.random.default_rng(0).standard_normal((50, 4))
    ]
    raised = attack._loss_at(attack.point + pgd) - before
    assert raised > 0 and raised >= 0.9 * max(random)


def test_confident_networks_have_gradients():
    """Logits 60 apart: in single precision p(y) is 1 and the loss is flat."""
    tail, later = random_tail(0)
    x = np.array([0.3, -1.0, 0.8, 0.5], np.float32)
    far = next(x * 2.0**k for k in range(4, 12) if Attack(tail, x * 2.0**k, later, 0.01)._loss < 1e-9)
    assert Attack(tail, far, later, 0.01).gradient.any()


def test_random_directions_stand_beside(plane):
    """Random directions stand beside with intervals and a paired test."""
    result = ask(plane, examples=12, epsilons=[0.2, 0.5], n_random=4)
    table = result.table.set_index(["kind", "epsilon"])
    examples = result.tables["examples"]
    assert set(examples["kind"]) == {"fgsm", "pgd", "random"}
    for (kind, epsilon), row in table.iterrows():
        here = examples[examples["epsilon"] == epsilon].pivot(index="example", columns="kind", values="density")
        assert row["density"] == pytest.approx(here[kind].mean())
        assert row["ratio"] == pytest.approx(here[kind].mean() / here["random"].mean())
        assert row["difference"] == pytest.approx((here[kind] - here["random"]).mean())
        assert row["density_low"] <= row["density"] <= row["density_high"]
    assert table.loc["random", "ratio"].eq(1).all() and table.loc["random", "p"].isna().all()
    assert table.loc["fgsm", "p"].between(0, 1).all()
    assert any("not the input" in note for note in result.notes) and any("lower bounds" in n for n in result.notes)


def test_examples_without_gradient_drop(plane):
    """At the origin the activation has no norm, so no share of it is a perturbation."""
    with pytest.raises(UsageError, match="gradient at all 1 examples is 0 at embed"):
        ask(plane, example="0:0")
    result = ask(plane, examples=49, epsilons=[0.2], n_random=1)
    kept = result.tables["examples"]["example"].nunique()
    assert kept == 48 and result.table["n"].eq(48).all()
    assert any(note == "1 examples have gradient 0 at the site and were dropped" for note in result.notes)


def test_gradients_reach_inceptionv1(digits_path):
    """Gradients reach the demos inceptionv1."""
    with atlas.open(digits_path) as a:
        result = run(
            a,
            "adversarial",
            reader=shipped("demo:inceptionv1"),
            span="inception5a->",
            examples=4,
            n_random=2,
            epsilons=[0.05, 1.0],
            tolerance=0.05,
        )
    loss = result.tables["examples"].pivot_table(index=["example", "epsilon"], columns="kind", values="loss")
    assert (loss["pgd"] > loss["random"]).all() and (loss["fgsm"] > loss["random"]).mean() > 0.7
    assert result.tables["examples"]["crossings"].max() > 0


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"epsilons": [0]}, UsageError, r"epsilons are \[0.0\]; expected at least 1, finite and increasing"),
        ({"epsilons": [-0.1, 0.1]}, UsageError, "above 0"),
        ({"epsilons": [0.2, 0.1]}, UsageError, "increasing"),
        ({"epsilons": []}, UsageError, "at least 1"),
        ({"epsilons": [0.1, float("nan"), 0.3]}, UsageError, "finite"),
        ({"steps": 0}, UsageError, "steps is 0"),
        ({"n_random": 0}, UsageError, "n_random is 0"),
        ({"examples": 0}, UsageError, "examples is 0"),
        ({"tolerance": 1}, UsageError, "tolerance is 1"),
        ({"example": 999}, UnknownName, "no example 999"),
        ({"span": "nowhere->"}, UnknownName, "no site 'nowhere'"),
        ({"span": "out->"}, UsageError, "holds no site"),
    ],
)
def test_adversarial_refuses_the_impossible(plane, options, error, message):
    """Adversarial refuses impossible questions."""
    with pytest.raises(error, match=message):
        ask(plane, **options)


def test_the_planes_tail_is_attacked(plane):
    """The tail of the plane is attacked where it says."""
    _, _, reader = plane
    tail = reader.tail(reader.sites[0], TokenWindow(np.array([0]), np.array([0])))
    attack = Attack(tail, np.array([2, 1], np.float32), tail.later, 0.01)
    np.testing.assert_allclose(attack.gradient / np.linalg.norm(attack.gradient), [0, 1], atol=1e-6)
    np.testing.assert_allclose(attack.fgsm(1.0), [0, 1], atol=1e-9)
