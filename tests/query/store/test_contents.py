"""What an atlas holds."""

import atlas
import query
from query.store.contents import polytope_counts


def test_info_is_a_table_each(a):
    found = query.info(a)
    assert list(found) == ["networks", "sites", "spans", "datasets", "runs", "clusterings", "indexes"]
    assert found["networks"]["name"].tolist() == ["plane", "words", "pixels"]
    assert found["networks"]["n_examples"].tolist() == [11, 360, 12]
    assert found["sites"]["site"].tolist()[-4:] == ["conv1", "conv2", "conv1:full", "conv2:full"]
    assert found["spans"].iloc[0].tolist() == ["words", "blocks.0.mlp->", 3, 60, False]
    texts = found["datasets"].set_index("name").loc["texts"]
    assert (texts["n_inputs"], texts["n_labels"], texts["n_unlabelled"]) == (60, 3, 1)
    assert found["runs"]["n_examples"].tolist() == [11, 360, 12]
    assert len(found["indexes"]) == 11 and "n_polytopes" not in found["sites"]


def test_polytopes_are_counted_on_demand(a):
    sites = query.info(a, polytopes=True)["sites"].set_index("site")
    assert sites.loc["hidden", "n_polytopes"] == 7  # three lines in general position cut the plane into 7
    assert sites.loc["out", "n_polytopes"] == 4


def test_polytopes_are_those_of_the_view(a):
    told = []
    found = polytope_counts(a, "words", progress=lambda done, total: told.append((done, total)))
    counted = dict(a.rows("select site, count(*) from polytopes where network = 'words' group by site"))
    assert dict(zip(found["site"], found["n_polytopes"], strict=True)) == counted
    assert found["occupancy"].tolist() == [counted[site] / 360 for site in found["site"]]
    assert told == [(done, 4) for done in range(4)] and found["n_polytopes"].min() < 360


def test_an_empty_atlas_has_tables(tmp_path):
    with atlas.create(tmp_path / "a") as a:
        assert all(len(table) == 0 for table in query.info(a, polytopes=True).values())
