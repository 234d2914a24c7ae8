"""Folders in Hugging Face's format that are damaged or hostile: one sentence each, and no code of theirs runs."""

import json
import os
import shutil
import warnings

import pytest
import torch
from safetensors.torch import load_file, save_file

from atlas.errors import UnsupportedNetwork, WeightsError
from ingest.networks import load_network, model_folder


@pytest.fixture
def folder(tiny_model, tmp_path):
    return shutil.copytree(tiny_model("gpt2"), tmp_path / "gpt2")


def refused(folder, kind=UnsupportedNetwork):
    """What is said of a folder that can't be used."""
    with pytest.raises(kind) as caught:
        load_network(str(folder), device="cpu")
    message = str(caught.value)
    assert str(folder) in message and "xpected" in message and len(message) < 800
    return message


def rewrite(file, **changes):
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | changes), encoding="utf-8")


WEIGHT = "transformer.wte.weight"
JSON_OF_OTHER_KINDS = ["[]", "null", "3", '"text"', "", '{"a":', "[" * 100_000, "\0"]


@pytest.mark.parametrize("content", JSON_OF_OTHER_KINDS)
def test_json_of_another_kind_is_refused(folder, content):
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        before = (folder / name).read_bytes() if (folder / name).exists() else None
        (folder / name).write_text(content, encoding="utf-8")
        refused(folder)
        (folder / name).unlink() if before is None else (folder / name).write_bytes(before)
    assert load_network(str(folder), device="cpu").sites


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"n_head": 0}, "modulo by zero"),
        ({"n_head": -4}, "can't be"),
        ({"n_embd": 0}, "ZeroDivisionError"),
        ({"n_layer": 1001}, "1001 layers; expected 1000 at most"),
        ({"n_layer": None}, "n_layer"),
        ({"n_positions": 10**15}, "can't allocate memory"),
        ({"activation_function": "nonsense"}, "nonsense"),
        ({"dtype": "nonsense"}, "nonsense"),
        ({"model_type": ["gpt2"]}, "unhashable"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "quantised"),
        ({"_attn_implementation": "nonsense"}, "nonsense"),
    ],
)
def test_impossible_configurations_refused(folder, changes, said):
    rewrite(folder / "config.json", **changes)
    assert said in refused(folder, (UnsupportedNetwork, WeightsError))


@pytest.mark.parametrize("changes", [{"n_head": 0}, {"n_embd": 0}, {"activation_function": "nonsense"}])
def test_controls_of_no_network_refused(folder, changes):
    rewrite(folder / "config.json", **changes)
    with pytest.raises(UnsupportedNetwork, match=r"config\.json describes no network"):
        load_network(str(folder), weights="random:0", device="cpu")


class Planted:
    """Pickles as a call of os.mkdir, which runs where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def quantised(weight):
    with warnings.catch_warnings(action="ignore"):
        return torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8)


@pytest.mark.filterwarnings("ignore:TypedStorage", "ignore:Validating sparse")
@pytest.mark.parametrize(
    ("of", "said"),
    [
        (lambda state, path: torch.nn.Linear(2, 2), "a whole model"),
        (lambda state, path: Planted(path / "ran"), "would run code"),
        (lambda state, path: [1, 2], "hold a list"),
        (lambda state, path: {"state_dict": state}, "other things than tensors"),
        (lambda state, path: dict(enumerate(state.values())), "which are no names"),
        (lambda state, path: state | {WEIGHT: torch.tensor(3.0)}, "1 of another shape"),
        (lambda state, path: state | {WEIGHT: state[WEIGHT].to_sparse()}, "layout sparse_coo"),
        (lambda state, path: state | {WEIGHT: torch.zeros(1).expand(1 << 40, 32)}, "the file holds 4 bytes"),
        (lambda state, path: state | {WEIGHT: quantised(state[WEIGHT])}, "is of qint8"),
        (lambda state, path: state | {WEIGHT: state[WEIGHT].char()}, "is of int8"),
    ],
)
def test_pickled_weights_are_only_numbers(folder, of, said):
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(of(state, folder), folder / "pytorch_model.bin")
    assert said in refused_weights(folder)
    assert not (folder / "ran").exists()
    (folder / "pytorch_model.bin").write_text("this is text" * 9, encoding="utf-8")
    assert "can't be read (" in refused_weights(folder)


def refused_weights(folder):
    with pytest.raises(WeightsError) as caught:
        load_network(str(folder), device="cpu")
    return str(caught.value)


def test_damaged_safetensors_are_refused(folder):
    file = folder / "model.safetensors"
    content, state = file.read_bytes(), load_file(file)
    for length in (0, 5, 1000, len(content) - 1):
        file.write_bytes(content[:length])
        assert "SafetensorError" in refused(folder, WeightsError)
    save_file(state | {WEIGHT: state[WEIGHT].char()}, file, metadata={"format": "pt"})
    assert f"{WEIGHT} is of I8" in refused_weights(folder)
    file.unlink()
    assert "holds no weights" in refused_weights(folder)


def test_an_index_names_files_beside_it(folder, tmp_path):
    state, whole = load_file(folder / "model.safetensors"), folder / "model.safetensors"
    digest = load_network(str(folder), device="cpu").info.weights_digest
    names = list(state)
    shutil.move(whole, tmp_path / "outside.safetensors")
    for number, part in enumerate((names[:9], names[9:])):
        save_file({name: state[name] for name in part}, folder / f"{number}.safetensors", metadata={"format": "pt"})
    places = {name: f"{int(name not in names[:9])}.safetensors" for name in names}
    index = folder / "model.safetensors.index.json"

    def with_index(content):
        index.write_text(json.dumps(content), encoding="utf-8")
        return folder

    whole_index = {"metadata": {"total_size": 1}, "weight_map": places}
    assert load_network(str(with_index(whole_index)), device="cpu").info.weights_digest == digest
    outside = tmp_path / "outside.safetensors"
    for name in ("../outside.safetensors", str(outside), "absent.safetensors"):
        with_index(whole_index | {"weight_map": places | {names[0]: name}})
        assert "is no file beside it" in refused_weights(folder)
    for content in ([], None, {}, {"weight_map": []}, {"weight_map": {"a": 3}}, {"weight_map": {}}):
        assert "names no files" in refused_weights(with_index(content))


def test_sharded_pickles_are_read(folder):
    state = load_file(folder / "model.safetensors")
    digest = load_network(str(folder), device="cpu").info.weights_digest
    (folder / "model.safetensors").unlink()
    names = list(state)
    for number, part in enumerate((names[:9], names[9:])):
        torch.save({name: state[name] for name in part}, folder / f"{number}.bin")
    places = {name: f"{int(name not in names[:9])}.bin" for name in names}
    index = folder / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}), encoding="utf-8")
    assert load_network(str(folder), device="cpu").info.weights_digest == digest


def test_no_file_of_a_folder_holds_it_up(folder, monkeypatch):
    """Pipes and dangling links are not opened; texts that are too long to be any are not read."""
    (folder / "vocab.json").symlink_to(folder / "absent")
    assert "vocab.json is no file" in refused(folder)
    (folder / "vocab.json").unlink()
    os.mkfifo(folder / "generation_config.json.txt")
    assert "is no file" in refused(folder)
    (folder / "generation_config.json.txt").unlink()
    monkeypatch.setattr(model_folder, "LARGEST_TEXT", 1 << 12)
    assert "tokenizer.json has 0 MB; expected at most 0 of a .json file" in refused(folder)
