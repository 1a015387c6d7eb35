"""What is known before anything runs, without a tokenizer or torch."""

from __future__ import annotations

import json
import os
import shutil
import struct
import time
from pathlib import Path

import pytest

from sweeper.data import gather_facts, model_folder, prepare
from sweeper.data.gathering import count_cpus, count_gpus
from sweeper.data.model.gguf_header import GgufFormatError, read_gguf_header
from sweeper.errors import DataError, ModelError

ROWS = [{"question": f"How much is {n} + 1?", "answer": f"It is {n + 1}."} for n in range(40)]


def test_the_survey_counts_the_rows_that_prepare_trains_on(chat_model, make_config, write_jsonl, tmp_path):
    rows = [*ROWS, *ROWS[:10], {"question": "silent", "answer": ""}]
    config = make_config(chat_model, write_jsonl(rows), eval_data=0.2)
    facts = gather_facts(config)
    data = prepare(config, tmp_path / "cache")
    assert (facts.train_rows, facts.eval_rows) == (data.train.rows, data.eval.rows)


def test_the_sizes_of_a_local_model_are_read(chat_model, plain_model, make_config, write_jsonl):
    facts = gather_facts(make_config(chat_model, write_jsonl(ROWS)))
    assert (facts.hidden_size, facts.layers, facts.vocab_size) == (64, 2, 420)
    assert (facts.max_position_embeddings, facts.model_type) == (512, "llama")
    assert facts.has_chat_template is True
    assert gather_facts(make_config(plain_model, write_jsonl(ROWS))).has_chat_template is False


def test_a_template_in_the_tokenizer_config_counts(tmp_path, make_config, write_jsonl):
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2", "n_embd": 8, "n_layer": 1}))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages }}"}))
    facts = gather_facts(make_config(tmp_path, write_jsonl(ROWS)))
    assert (facts.hidden_size, facts.layers, facts.has_chat_template) == (8, 1, True)


@pytest.mark.parametrize("hub_id", ["HuggingFaceTB/SmolLM2-135M", "gpt2"])
def test_a_hub_id_is_accepted_and_tells_nothing(hub_id, make_config, write_jsonl, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    facts = gather_facts(make_config(hub_id, write_jsonl(ROWS)))
    assert (facts.hidden_size, facts.model_type, facts.has_chat_template) == (None, None, None)
    assert model_folder(hub_id) == hub_id


def test_the_packaged_model_is_a_folder_of_the_package():
    assert Path(model_folder("builtin:quickstart")).parts[-3:] == ("sweeper", "quickstart", "model")
    assert model_folder("~/model") == str(Path.home() / "model")


@pytest.mark.parametrize(
    "path", ["./none", "../none", "/none", "~/none", "a/b/c", "none.gguf", "a/none.gguf", "a b"]
)
def test_a_path_to_no_model_is_refused(path, make_config, write_jsonl, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="there is no such folder or file"):
        gather_facts(make_config(path, write_jsonl(ROWS)))


def test_a_model_folder_without_tokenizer_and_configuration_tells_both(make_config, write_jsonl, tmp_path):
    (tmp_path / "model").mkdir()
    with pytest.raises(ModelError) as caught:
        gather_facts(make_config(tmp_path / "model", write_jsonl(ROWS)))
    assert len(caught.value.problems) == 2
    assert "no tokenizer" in str(caught.value)
    assert "no config.json" in str(caught.value)


def test_the_problems_of_data_and_model_are_told_at_once(make_config, tmp_path):
    with pytest.raises(DataError) as caught:
        gather_facts(make_config("./none", tmp_path / "none.jsonl"))
    assert [problem.where for problem in caught.value.problems] == [
        str(tmp_path / "none.jsonl"),
        "model_path",
    ]


def string(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def gguf_header() -> bytes:
    """A header with a value of every kind."""
    tokens = b"".join(string(token) for token in ("a", "bc", "d"))
    pairs = [
        string("general.architecture") + struct.pack("<I", 8) + string("llama"),
        string("llama.embedding_length") + struct.pack("<II", 4, 576),
        string("llama.block_count") + struct.pack("<IQ", 10, 30),
        string("llama.context_length") + struct.pack("<Ii", 5, 8192),
        string("some.ratio") + struct.pack("<If", 6, 0.5),
        string("some.flag") + struct.pack("<I?", 7, True),
        string("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, 3) + tokens,
        string("some.lists") + struct.pack("<IIQ", 9, 9, 1) + struct.pack("<IQ", 0, 5) + b"12345",
        string("tokenizer.ggml.scores") + struct.pack("<IIQ", 9, 6, 2) + struct.pack("<ff", 1, 2),
        string("tokenizer.chat_template") + struct.pack("<I", 8) + string("{{ messages }}"),
    ]
    return b"GGUF" + struct.pack("<IQQ", 3, 0, len(pairs)) + b"".join(pairs)


def test_the_head_of_a_gguf_file_tells_the_sizes(make_config, write_jsonl, tmp_path):
    file = tmp_path / "model.gguf"
    file.write_bytes(gguf_header())
    facts = gather_facts(make_config(file, write_jsonl(ROWS)))
    assert (facts.hidden_size, facts.layers, facts.max_position_embeddings) == (576, 30, 8192)
    assert (facts.vocab_size, facts.model_type, facts.has_chat_template) == (3, "llama", True)
    header = read_gguf_header(file)
    assert (header["some.ratio"], header["some.flag"], header["some.lists.length"]) == (0.5, True, 1)


def test_a_gguf_file_written_by_the_package_is_read(tmp_path):
    gguf = pytest.importorskip("gguf")
    writer = gguf.GGUFWriter(str(tmp_path / "model.gguf"), "llama")
    writer.add_embedding_length(96)
    writer.add_token_list(["a", "b"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    header = read_gguf_header(tmp_path / "model.gguf")
    assert header["llama.embedding_length"] == 96
    assert header["tokenizer.ggml.tokens.length"] == 2


@pytest.mark.parametrize("name", ["hidden_size", "num_hidden_layers", "vocab_size", "n_positions"])
@pytest.mark.parametrize("size", [0, -1, 10**300])
def test_a_model_of_an_impossible_size_is_refused(name, size, make_config, write_jsonl, chat_model, tmp_path):
    model = shutil.copytree(chat_model, tmp_path / "model")
    config = json.loads((model / "config.json").read_text())
    config.pop("max_position_embeddings")
    (model / "config.json").write_text(json.dumps({**config, name: size}))
    with pytest.raises(ModelError, match="is a whole number from 1 to"):
        gather_facts(make_config(model, write_jsonl(ROWS)))


@pytest.mark.parametrize(
    ("kind", "is_refused"),
    [
        ({"use_bidirectional_attention": True}, True),
        ({"use_bidirectional_attention": "all"}, True),
        ({"text_config": {"use_bidirectional_attention": True}}, True),
        ({"model_type": "bert"}, True),
        ({"model_type": "bert", "is_decoder": True}, False),
        ({"use_bidirectional_attention": "vision"}, False),
    ],
)
def test_a_model_that_sees_the_tokens_it_has_to_predict_is_refused(
    kind, is_refused, make_config, write_jsonl, chat_model, tmp_path
):
    model = shutil.copytree(chat_model, tmp_path / "model")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, **kind}))
    if not is_refused:
        gather_facts(make_config(model, write_jsonl(ROWS)))
        return
    with pytest.raises(ModelError, match="sees the tokens that it would have to predict"):
        gather_facts(make_config(model, write_jsonl(ROWS)))


@pytest.mark.parametrize("length", [0, 3, 10, 30, 100])
def test_a_cut_gguf_file_is_refused(length, make_config, write_jsonl, tmp_path):
    file = tmp_path / "model.gguf"
    file.write_bytes(gguf_header()[:length])
    with pytest.raises(GgufFormatError):
        read_gguf_header(file)
    with pytest.raises(ModelError, match="the file is not a model"):
        gather_facts(make_config(file, write_jsonl(ROWS)))


@pytest.mark.parametrize(
    ("visible", "count"),
    [(None, 2), ("", 0), ("-1", 0), ("0", 1), ("1,0", 2), ("0,-1,1", 1), ("0,5", 1), ("GPU-1,GPU-2", 2)],
)
def test_gpus_are_the_device_files_that_the_environment_leaves(visible, count, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.metadata.version", lambda name: "2.12.0+cu130")
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm", "null"):
        (tmp_path / name).touch()
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert count_gpus(tmp_path) == count


def test_a_torch_for_the_cpu_sees_no_gpus(tmp_path, monkeypatch):
    (tmp_path / "nvidia0").touch()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("importlib.metadata.version", lambda name: "2.12.0+cpu")
    assert count_gpus(tmp_path) == 0


def test_cpus_are_those_that_the_process_may_use():
    assert 1 <= count_cpus() <= (os.cpu_count() or 1)


def test_seven_thousand_rows_are_surveyed_within_a_second(real_data, chat_model, make_config):
    config = make_config(chat_model, real_data / "math/gsm8k_train.jsonl")
    start = time.process_time()  # whatever else the machine does
    facts = gather_facts(config)
    assert time.process_time() - start < 1.0
    assert facts.train_rows + facts.eval_rows == 7473
