"""`polytope sites`: what would be read, before anything is."""

from tests.app.cli.command import Run


def test_sites_of_a_network_are_listed(polytope: Run):
    """A line a block, with its bits at one place and at all, and whether it is exact."""
    answer = polytope("sites", "--network", "torchvision:squeezenet1_1", "--image-size", 32, "--format", "json")
    rows = answer.rows()
    assert [row["site"] for row in rows[:3]] == ["features.1", "features.3", "features.4"]
    assert rows[1] == {
        "site": "features.3",
        "units": 128,
        "bits": 144,
        "bits_full": 7 * 7 * 144,
        "nonlinearity": "relu",
        "exact": True,
        "broken_by": "",
        "runs_on": "yes",
        "gates": "features.3.squeeze_activation, features.3.expand1x1_activation, features.3.expand3x3_activation",
    }
    named = polytope(
        "sites",
        "--network",
        "torchvision:squeezenet1_1",
        "--image-size",
        32,
        "--sites-at",
        "features",
        "--format",
        "csv",
    )
    assert named.table()["site"].tolist() == ["features"]


def test_why_a_site_is_not_exact(polytope: Run):
    """What breaks exactness, and what is held where the network runs on, stand in the table."""
    rows = polytope("sites", "--network", "demo:gpt2", "--format", "json").rows()
    assert rows[0]["runs_on"] == "yes, the sequence held" and not rows[0]["exact"]
    shown = polytope("sites", "--network", "torchvision:mobilenet_v3_small", "--image-size", 32, "--format", "csv")
    assert shown.table()["broken_by"].str.startswith("a product of activations in").any()
    assert polytope("sites", "--network", "net.pt2").refuses("net.pt2 is an exported program")
