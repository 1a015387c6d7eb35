"""What bad input gets: one problem for each fault, at its line and column, never a traceback."""

from __future__ import annotations

import pickle

import pytest
from space_helpers import GPU_FACTS, assert_told, load_text, problems_of

from sweeper.errors import DataError, SpaceFileError
from sweeper.space import load_space, require_closed, require_open

# what is wrong -> text after the three required lines, line:column, part of the rule, part of the remedy
CASES = {
    "an unknown key": ("trainig: {}\n", "4:1", "not a key", "did you mean training?"),
    "an unknown key in a section": ("training:\n  epoch: 1\n", "5:3", "not a key of training", "epochs?"),
    "a key in the wrong place": ("lr: 1e-3\n", "4:1", "not a key", "move it to training.lr"),
    "a top key in a section": ("training: {data_path: x}\n", "4:12", "not a key", "top of the file"),
    "a merge key": ("training: {<<: {lr: 1}}\n", "4:12", "not a key", "no merge keys"),
    "a wrong type": ("training:\n  epochs: many\n", "5:11", "a number > 0", "write a number"),
    "a quoted number": ('training: {lr: "1e-4"}\n', "4:16", "a number", "without quotes"),
    "a fraction for a whole number": ("search: {trials: 1.5}\n", "4:18", "whole number", ">= 1"),
    "true for a number": ("deepspeed: {zero_stage: true}\n", "4:25", "one of 0, 1, 2, 3", "one of"),
    "yes for true": ("training: {packing: yes}\n", "4:21", "true or false", "write true"),
    "null for a number": ("training: {lr: null}\n", "4:16", "a number", "or auto"),
    "not a number": ("training: {lr: .nan}\n", "4:16", "a number", "write a number"),
    "a number for a text": ("tracking: {experiment: 3}\n", "4:24", "a text", 'in quotes: "3"'),
    "an empty path": ('checkpoint_path: ""\n', "4:18", "not empty", "not empty"),
    "a number that nothing can hold": (
        "search: {trials: 9999999999999999999}\n",
        "4:18",
        "valid int",
        "plain",
    ),
    "a misspelt template": ("chat_template: chatlm\n", "4:16", "ends with .jinja", "write chatml"),
    "an unknown template": ("chat_template: mine\n", "4:16", "one of auto, plain", "ends with .jinja"),
    "a misspelt word": ("training: {scheduler: cosin}\n", "4:23", "one of constant", "write cosine"),
    "a value out of bounds": ("training: {lr: -1}\n", "4:16", "> 0", "> 0"),
    "an empty list": ("training: {lr: []}\n", "4:16", "at least one option", "name the options"),
    "an empty range": ("training: {lr: {uniform: []}}\n", "4:26", "two bounds", "[lowest, highest]"),
    "an option of a wrong type": ("training: {epochs: [1, x]}\n", "4:24", "a number", "write a number"),
    "an option that is auto": ("training: {epochs: [1, auto]}\n", "4:24", "no option", "value itself"),
    "an option that is a list": ("training: {epochs: [1, [2]]}\n", "4:24", "a number", "write a number"),
    "an option that stands twice": ("training: {epochs: [1, 2, 1.0]}\n", "4:27", "twice", "remove one"),
    "bounds the wrong way round": (
        "training: {lr: {log_uniform: [1e-3, 1e-5]}}\n",
        "4:30",
        "lower bound is below",
        "log_uniform: [1e-05, 0.001]",
    ),
    "equal bounds": ("training: {lr: {uniform: [0.1, 0.1]}}\n", "4:26", "is below", "write the value 0.1"),
    "a log range from 0": ("training: {lr: {log_uniform: [0, 1]}}\n", "4:30", "above 0", "raise"),
    "a range test that is not wanted": (
        "training: {lr: {range_test: false}}\n",
        "4:29",
        "range_test is true or left out",
        "lr: auto or a range",
    ),
    "a range test that is a word": ("training: {lr: {range_test: fast}}\n", "4:29", "true", "write true"),
    "a range test among options": (
        "training: {lr: {choice: [1e-4, 1e-3], range_test: true}}\n",
        "4:17",
        "beside range_test there is log_uniform",
        "take it out",
    ),
    "a range test under a condition": (
        "training: {scheduler: [cosine, linear], lr: {range_test: true, when: {scheduler: cosine}}}\n",
        "4:64",
        "beside range_test",
        "take it out",
    ),
    "a range test of something else": (
        "training: {epochs: {range_test: true}}\n",
        "4:20",
        "training.epochs has no range test",
        "take range_test out",
    ),
    "a range test of what is never open": (
        "search: {seed: {range_test: true}}\n",
        "4:16",
        "cannot be open",
        "write one value",
    ),
    "a range test of a range the wrong way round": (
        "training: {lr: {range_test: true, log_uniform: [1e-3, 1e-5]}}\n",
        "4:48",
        "lower bound is below",
        "log_uniform: [1e-05, 0.001]",
    ),
    "a bound out of the field's range": ("training: {lr: {uniform: [1, 20]}}\n", "4:30", "<= 10", "<= 10"),
    "a range of words": ("training: {scheduler: {int: [1, 3]}}\n", "4:29", "no number", "list options"),
    "fractions for a whole number": ("training: {seed: {uniform: [0, 3]}}\n", "4:28", "whole", "int: [lo"),
    "a step beside the point": ("training: {lr: {uniform: [1, 2], step: 1}}\n", "4:34", "step", "int"),
    "a step of nothing": ("training: {epochs: {int: [1, 3], step: 0}}\n", "4:40", ">= 1", "step: 1"),
    "a step that misses the end": ("training: {epochs: {int: [1, 4], step: 2}}\n", "4:26", "never", "3 or 5"),
    "fractional bounds of int": ("training: {epochs: {int: [1, 2.5]}}\n", "4:26", "whole", "uniform"),
    "two forms at once": ("training: {lr: {uniform: [1, 2], choice: [1]}}\n", "4:16", "one of", "keep one"),
    "an unknown key of a form": ("training: {lr: {uniform: [1, 2], wen: {}}}\n", "4:34", "no key", "when?"),
    "a mapping for a value": ("training: {lr: {low: 1}}\n", "4:16", "holds one value", "open value"),
    "an open value where none is allowed": (
        "training: {max_seq_len: [512, 1024]}\n",
        "4:25",
        "cannot be open",
        "write one value",
    ),
    "an open setting": ("search: {trials: {int: [1, 3]}}\n", "4:18", "cannot be open", "write one value"),
    "auto where none is allowed": ("parallel: {dp: auto}\n", "4:16", "never decided by a rule", "default, 1"),
    "a scalar for a section": ("training: 3\n", "4:11", "is a section", "beneath it"),
    "true for lora": ("training: {lora: true}\n", "4:18", "false or a mapping", "rank: 16"),
    "a time without unit": ("search: {time_budget: 90}\n", "4:23", "span of time", "90s, 90m or 90h"),
    "a time of nothing": ("search: {time_budget: 0s}\n", "4:23", "span of time", "span of time"),
    "a confirmation of one trial": (
        "search: {confirm: {top: 1, seeds: 3}}\n",
        "4:25",
        "search.confirm.top must be a whole number >= 2",
        "write a whole number >= 2",
    ),
    "a confirmation without seeds": (
        "search: {confirm: {top: 3, seeds: 0}}\n",
        "4:35",
        "search.confirm.seeds must be a whole number >= 2",
        "write a whole number >= 2",
    ),
    "half a confirmation": ("search: {confirm: {top: 3}}\n", "4:25", "needs both", "{top: 3, seeds: 3}"),
    "a confirmation that is a number": ("search: {confirm: 3}\n", "4:19", "is a section", "top, seeds"),
    "a confirmation that is open": (
        "search: {confirm: {top: [2, 3], seeds: 3}}\n",
        "4:25",
        "whole number",
        "write a whole number",
    ),
    "a confirmation where seeds are searched": (
        "training: {seed: [0, 1]}\nsearch: {confirm: {top: 3, seeds: 3}}\n",
        "4:18",
        "seeds of its own",
        "write one seed",
    ),
    "a cost without a price": (
        "training: {scheduler: [linear, cosine]}\nsearch: {cost_budget: 5}\n",
        "5:23",
        "without a price",
        "price_per_gpu_hour under resources",
    ),
    "an unknown cost": ("objective: [eval/loss, gpu_hours]\n", "4:24", "gpu_seconds, peak_memory", "tokens"),
    "a misspelt cost": (
        "objective: {also: gpu_second}\n",
        "4:19",
        "must be gpu_seconds",
        "write gpu_seconds",
    ),
    "one objective twice": ("objective: [eval/loss, eval/loss]\n", "4:24", "nothing to weigh", "gpu_seconds"),
    "two objectives that order alike": (
        "objective: [eval/perplexity, eval/loss]\n",
        "4:30",
        "nothing to weigh",
        "gpu_seconds",
    ),
    "three objectives": ("objective: [eval/loss, cost, tokens]\n", "4:12", "one objective or two", "write ["),
    "no objective": ("objective: []\n", "4:12", "one objective or two", "write [eval/loss]"),
    "a cost first": ("objective: [cost, eval/loss]\n", "4:12", "the first is a metric", "gpu_seconds]"),
    "a second objective that is not measured": (
        "objective: {also: eval/rouge}\n",
        "4:19",
        "none of the metrics that there are",
        "peak_memory",
    ),
    "a second objective of one's own": (
        "objective: {also: eval/rouge}\nevaluation: {metrics: ['scores:rouge']}\n",
        "4:19",
        "is not known of a function",
        "also: eval/loss",
    ),
    "a stopper that goes by one objective": (
        "objective: [eval/loss, cost]\nsearch: {stopper: asha}\n",
        "5:19",
        "would cut the front",
        "auto or none",
    ),
    "a price of nothing": ("resources: {price_per_gpu_hour: 0}\n", "4:33", "a number > 0", "a number > 0"),
    "provenance that is none": ("provenance: 3\n", "4:13", "a mapping", "remove it"),
    "a condition on nothing known": (
        "training: {epochs: {choice: [1, 2], when: {schedulr: linear}}}\n",
        "4:44",
        "names another field",
        "did you mean scheduler?",
    ),
    "a condition on itself": (
        "training: {epochs: {choice: [1, 2], when: {epochs: 1}}}\n",
        "4:44",
        "its own condition",
        "another field",
    ),
    "a condition without a mapping": (
        "training: {epochs: {choice: [1, 2], when: linear}}\n",
        "4:43",
        "maps a field",
        "when: {",
    ),
    "a condition of a wrong type": (
        "training: {epochs: {choice: [1, 2], when: {scheduler: 3}}}\n",
        "4:55",
        "compares it with one of",
        "one of constant",
    ),
    "a condition that a closed field never meets": (
        "training: {scheduler: linear, epochs: {choice: [1, 2], when: {scheduler: cosine}}}\n",
        "4:74",
        "never hold",
        "open the field",
    ),
    "a condition that an open field never meets": (
        "training: {scheduler: [linear], epochs: {choice: [1, 2], when: {scheduler: cosine}}}\n",
        "4:76",
        "never hold",
        "that it can have",
    ),
    "a condition on what follows from others": (
        "training: {scheduler: [linear], epochs: {choice: [1, 2], when: {final_lr_ratio: 0}}}\n",
        "4:65",
        "follows from other values",
        "write it",
    ),
    "conditions in a circle": (
        "training:\n  lr: {choice: [1, 2], when: {epochs: 1}}\n  epochs: {choice: [1, 2], when: {lr: 1}}\n",
        "5:31",
        "circle",
        "remove one",
    ),
}


@pytest.mark.parametrize("fault", CASES)
def test_each_fault_is_named_with_its_line_column_rule_and_remedy(fault, tmp_path):
    assert_told(tmp_path, *CASES[fault])


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    for path, rule in ((tmp_path / "none.yaml", "no such file"), (tmp_path, "folder")):
        with pytest.raises(SpaceFileError, match=rule):
            load_space(path, gather=lambda settings: GPU_FACTS)


def test_all_faults_come_at_once_and_in_the_order_of_the_file(tmp_path):
    found = problems_of(
        tmp_path,
        """\
        training:
          lr: {log_uniform: [0, 1]}
          scheduler: exponential
          final_lr_ratio: 0
          epoch: 3
        parallel: {pp: 31}
        """,
        overrides=["zero_stge=1", "seed=2", "training=3", "lr", "epochs=[1"],
    )
    places = [one.where for one in found]
    assert places[:4] == ["s.yaml:5:21", "s.yaml:7:19", "s.yaml:8:3", "s.yaml:9:16"]
    assert places[4:] == [
        "--set zero_stge=1",
        "--set seed=2",
        "--set training=3",
        "--set lr",
        "--set epochs=[1",
    ]
    assert "search.seed, training.seed" in found[5].remedy
    assert "deepspeed.zero_stage?" in found[4].remedy


def test_a_fault_of_the_data_is_reported_beside_those_of_the_file(tmp_path):
    fault = DataError.of(where="d", value="", rule="is missing", remedy="check it")

    def gather(settings):
        raise fault

    path = tmp_path / "s.yaml"
    path.write_text("name: t\nmodel_path: m\ndata_path: d\nlr: 3\n")
    with pytest.raises(SpaceFileError) as caught:
        load_space(path, gather=gather)
    assert len(caught.value.problems) == 2
    path.write_text("name: t\nmodel_path: m\ndata_path: d\n")
    with pytest.raises(DataError):
        load_space(path, gather=gather)


def test_a_faulty_override_is_named_as_it_was_given(tmp_path):
    (one,) = problems_of(tmp_path, "", overrides=["training.lr=fast"])
    assert one.where == "--set training.lr=fast"
    assert "a number" in one.rule


def test_a_problem_survives_pickling(tmp_path):
    with pytest.raises(SpaceFileError) as caught:
        load_text(tmp_path, "lr: 3\n")
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_a_sweep_needs_something_open_and_training_nothing(tmp_path):
    closed = load_text(tmp_path, "training: {lr: 1e-4}\n")
    require_closed(closed)
    with pytest.raises(SpaceFileError, match=r"s.yaml:4:16: nothing is open.*\n.*lr: auto"):
        require_open(closed)
    opened = load_text(tmp_path, "training: {lr: auto, epochs: [1, 2]}\n")
    require_open(opened)
    with pytest.raises(SpaceFileError) as caught:
        require_closed(opened)
    assert [one.value for one in caught.value.problems] == ["lr", "epochs"]
    assert caught.value.problems[1].remedy.startswith("write epochs: 2")
