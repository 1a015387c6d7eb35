"""The training configuration as frozen models: what a space file holds once nothing is open.

Each field's metadata says whether it may be left open (``SEARCHABLE``) and whether ``auto`` is
a value for it (``AUTO``); the space file and its JSON Schema are derived from that.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from sweeper.space.config.name import NAME_WORDS, Name
from sweeper.space.config.search import Objective, Search
from sweeper.space.config.section import AUTO, SEARCHABLE, NonEmptyStr, Section, Words
from sweeper.space.engine.section import Engine


class Lora(Section):
    """Low-rank adapters instead of full fine-tuning (Hu et al. 2021, arXiv:2106.09685)."""

    rank: Annotated[int, Field(ge=1, le=4096), SEARCHABLE] = 16
    alpha: Annotated[float, Field(gt=0), SEARCHABLE] = 32.0
    """What adapters add is multiplied by alpha / rank; ``{ratio: 2}`` ties it to the rank."""
    alpha_ratio: Annotated[Annotated[float, Field(gt=0, le=1024)] | None, SEARCHABLE] = None
    """Written ``alpha: {ratio: [0.5, 1, 2]}``: alpha as a multiple of the rank, whatever rank a trial has. A
    closed configuration has the alpha that it comes to. None: alpha says it."""
    dropout: Annotated[float, Field(ge=0, lt=1), SEARCHABLE] = 0.0
    targets: Annotated[Annotated[str, Field(min_length=1)] | tuple[str, ...], SEARCHABLE] = "all-linear"
    """Names of linear modules: ``all-linear``, a list, or a text such as ``q_proj,v_proj``, which is how
    several stand as one option of ``{choice: [...]}``."""


Scheduler = Literal["constant", "linear", "cosine", "exponential", "wsd"]


class Training(Section):
    """What is learned from, how fast and how long."""

    lr: Annotated[float, Field(gt=0, le=10), SEARCHABLE, AUTO]
    """Peak learning rate."""
    scheduler: Annotated[Scheduler, SEARCHABLE, AUTO]
    """How the learning rate falls after warm-up; ``wsd`` holds it, and lets it fall only at the end."""
    final_lr_ratio: Annotated[float, Field(ge=0, le=1), SEARCHABLE, AUTO]
    """The learning rate at the end, as a share of the peak. Not used by ``constant``."""
    warmup_ratio: Annotated[float, Field(ge=0, lt=1), SEARCHABLE, AUTO]
    """Share of the optimizer steps over which the learning rate rises linearly from zero."""
    warmup_steps: Annotated[Annotated[int, Field(ge=0)] | None, SEARCHABLE] = None
    """Optimizer steps of warm-up, which then does not depend on how long a trial is: ``warmup_ratio`` is not
    used. None: by ``warmup_ratio``."""
    decay_ratio: Annotated[float, Field(gt=0, le=1), SEARCHABLE, AUTO]
    """Share of the optimizer steps over which ``wsd`` lets the learning rate fall, at the end."""
    epochs: Annotated[float, Field(gt=0, le=1000), SEARCHABLE, AUTO]
    """Passes over the training rows; a fraction is allowed."""
    per_device_batch_size: Annotated[int, Field(ge=1), SEARCHABLE, AUTO]
    """Rows in one forward pass of one data-parallel rank."""
    gradient_accumulation_steps: Annotated[int, Field(ge=1), SEARCHABLE, AUTO]
    """Forward passes for one optimizer step."""
    global_batch_size: Annotated[int, Field(ge=1), SEARCHABLE, AUTO]
    """Rows for one optimizer step: per_device_batch_size x gradient_accumulation_steps x dp."""
    weight_decay: Annotated[float, Field(ge=0), SEARCHABLE] = 0.0
    """AdamW's decoupled decay; never applied to norms and biases."""
    adam_beta1: Annotated[float, Field(ge=0, lt=1), SEARCHABLE] = 0.9
    adam_beta2: Annotated[float, Field(ge=0, lt=1), SEARCHABLE] = 0.999
    adam_epsilon: Annotated[float, Field(gt=0), SEARCHABLE] = 1e-8
    max_grad_norm: Annotated[float, Field(ge=0), SEARCHABLE] = 1.0
    """Gradients are clipped to this norm; 0 turns clipping off."""
    max_seq_len: Annotated[int, Field(ge=8), AUTO]
    """The most tokens that a row or a packed sequence has."""
    overlong: Literal["truncate", "drop"] = "truncate"
    """What becomes of a longer row: its end is cut off, or all of it is left out."""
    packing: Annotated[bool, AUTO] = False
    """Several rows in one sequence, none attending to another."""
    lora: Lora | Literal[False] = False
    """Adapters, or false for full fine-tuning."""
    seed: Annotated[int, Field(ge=0, lt=2**31), SEARCHABLE] = 0
    """Order of the rows, dropout and adapter initialisation."""


class Deepspeed(Section):
    """How one trial uses memory."""

    zero_stage: Annotated[Literal[0, 1, 2, 3], SEARCHABLE, AUTO]
    offload: Annotated[Literal["none", "optimizer", "all"], SEARCHABLE, AUTO] = "none"
    """What ZeRO keeps in the host's memory: nothing, optimizer states, or parameters as well."""
    gradient_checkpointing: Annotated[bool, SEARCHABLE, AUTO] = False
    precision: Annotated[Literal["bf16", "fp16", "fp32"], AUTO]
    config: NonEmptyStr | dict[str, Any] | None = None
    """A DeepSpeed JSON file of your own, for what sweeper does not decide; or its content, which stands
    here once the file was read."""


class Parallel(Section):
    """How many ranks one trial has: dp x pp x tp."""

    dp: Annotated[int, Field(ge=1), SEARCHABLE] = 1
    pp: Annotated[int, Field(ge=1)] = 1
    tp: Annotated[int, Field(ge=1)] = 1

    @property
    def ranks(self) -> int:
        return self.dp * self.pp * self.tp


HARNESS = "lm_eval:"
"""How an entry of ``evaluation.metrics`` begins that is a task of EleutherAI's harness."""

GeneratedMetric = Annotated[str, Field(pattern=r"^(exact_match|[A-Za-z_][\w.]*:[A-Za-z_]\w*)$")]


class Evaluation(Section):
    """What an evaluation measures: the loss on held-out rows, the model's own answers, what it forgets."""

    held_out_rows: Annotated[
        Annotated[int, Field(ge=1)] | None, AUTO, Words("a whole number >= 1, or null for all of them")
    ] = None
    """The loss is measured on so many of the held-out rows, evenly spread over them, the same in every
    trial. ``auto``: as many as tell configurations apart whose losses differ by half a per cent, as far as a
    tenth of a trial's training tokens pays for them, and at least as many as show 2 %. None: all."""
    metrics: Annotated[
        tuple[GeneratedMetric, ...], Words("a list, each of it exact_match or package.module:function")
    ] = ()
    """``exact_match``, or ``package.module:function``: a function of three lists of texts (prompts,
    generations, references) that returns a number; or ``lm_eval:TASK``, the first number of a task of
    EleutherAI's harness (``pip install 'sweeper[lm-eval]'``), over ``rows`` of its documents at most. None:
    no answers are generated."""
    rows: Annotated[int, Field(ge=1)] = 64
    """Answers are generated for this many held-out rows, the first ones. The loss has ``held_out_rows``."""
    max_new_tokens: Annotated[int, Field(ge=1)] = 256
    """An answer is cut after this many tokens."""
    lm_eval_tasks: NonEmptyStr | None = None
    """A folder with tasks of your own for the harness. None: those that it comes with."""
    lm_eval_at: Literal["end", "each"] = "end"
    """Tasks of the harness take long: they are measured at the end of a trial, or at each evaluation. One
    that is an objective or bounded by a constraint is always measured at each."""
    retention: Annotated[NonEmptyStr | None, Words("auto, or a path to rows")] = None
    """What the model could before and is not to forget: a path to rows that the training data is not about,
    of which 256 are used at most, or ``auto``, its own answers to general prompts before any training. Each
    evaluation then has ``eval/retention_loss``, the loss on these, and ``eval/retention_increase``, how much
    more that is than the untrained model's. None: nothing of it is measured."""


RayAddress = Annotated[str, Field(pattern=r"^(auto|local|\S+:\d+)$")]
FilesAddress = Annotated[str, Field(pattern=r"^[a-z][a-z0-9+.-]*://[^\s@?]+$")]
Variable = Annotated[str, Field(pattern=r"^[A-Za-z_]\w*(=[\s\S]*)?$")]


class Resources(Section):
    """What one trial gets of the machine or cluster."""

    max_concurrent: Annotated[int, Field(ge=1), AUTO]
    """Trials side by side."""
    cpus_per_rank: Annotated[int, Field(ge=1), AUTO]
    """CPU threads of one rank."""
    gpus_per_rank: Annotated[float, Field(ge=0), AUTO]
    """GPUs of one rank: 1, or a fraction to share one between small trials; 0 trains on the CPU."""
    min_free_gib: Annotated[float, Field(gt=0)] | None = None
    """Only GPUs of this machine that have so much memory free when Ray is started, as nvidia-smi tells; until
    there are enough for one trial, they are waited for. Of no use on a CPU, and refused on a cluster."""
    memory_limit_gib: Annotated[float, Field(gt=0)] | None = None
    """A rank may have so much: of its device, or of the host's memory where it trains on a CPU. None: all
    that there is."""
    price_per_gpu_hour: Annotated[float, Field(gt=0)] | None = None
    """What one GPU costs for one hour, in any currency; where ranks train on the CPU, what the whole machine
    costs for one hour. Paid for are the GPUs of all trials side by side for as long as the sweep runs."""
    max_retries: Annotated[int, Field(ge=0, le=100)] = 2
    """How often a trial begins again from its last state when one of its processes has died or hangs. What
    does not fit into memory is made smaller instead, and is not counted here."""
    ray_address: Annotated[RayAddress | None, Words("auto, local, or host:port of the cluster's head")] = None
    """An existing Ray cluster, by host:port of its head or ``auto``; none: the one that the environment's
    ``RAY_ADDRESS`` names. Without either, and with ``local``, Ray is started on this machine."""
    placement: Literal["pack", "strict_pack"] = "pack"
    """Ray's strategies for the ranks of one trial: on one node where one has room, else on several; or on one
    node in any case, which is waited for."""
    files: Annotated[FilesAddress | None, Words("an address such as s3://bucket/folder")] = None
    """For a cluster whose nodes share no file system: an address, of anything that fsspec reads and writes,
    through which model, rows, states and logs go from node to node. Not the ledger's database, which
    ``search.storage`` names. None: all nodes see the sweep's folder, the model and the data."""
    env: Annotated[tuple[Variable, ...], Words("a list, each of it NAME=value or NAME")] = ()
    """What the environment of every rank has, on whatever node: ``NAME=value``, or ``NAME`` with the value
    that it has where the command is given. A secret is named only, and its value is stored nowhere."""


class Tracking(Section):
    """Where metrics go."""

    mlflow_uri: str | None = None
    """None: ``MLFLOW_TRACKING_URI``, else one SQLite file beside the sweep's folder."""
    experiment: str | None = None
    """MLflow experiment; none: the sweep's name."""
    also: Annotated[
        tuple[Literal["tensorboard", "wandb"], ...], Words("a list, each of it tensorboard or wandb")
    ] = ()
    """Where each trial's metrics go beside MLflow, which stays the record: event files for TensorBoard in the
    sweep's folder, a run of Weights & Biases."""


class Checkpoints(Section):
    """What is written of the trials' states, and what stays of it. Each trial has its own folder."""

    keep_last: Annotated[int, Field(ge=0)] = 1
    """The newest states of a trial at work, one written after each evaluation; 0 writes none, and an
    interrupted trial begins anew."""
    keep_best: bool = True
    """Keep the state with the trial's best objective as well."""
    keep_finished: bool = False
    """Keep the states of trials that have ended."""
    model: Literal["none", "best", "all"] = "best"
    """Whose trained model is saved: nobody's, the best trial's so far, or each finished trial's."""


DataFormat = Literal[
    "auto",
    "alpaca",
    "messages",
    "sharegpt",
    "prompt_completion",
    "question_answer",
    "self_instruct",
    "text",
]
RowField = Literal[
    "prompt",
    "completion",
    "question",
    "answer",
    "instruction",
    "input",
    "output",
    "system",
    "history",
    "instances",
    "messages",
    "conversations",
    "tools",
    "text",
]
"""Fields of rows that the formats know."""
_COLUMNS = (
    "a mapping of columns to fields such as {query: prompt, response: completion}; fields are "
    + ", ".join(get_args(RowField))
)
TemplateName = Literal["auto", "plain", "chatml", "llama3", "zephyr", "alpaca"]
TemplateFile = Annotated[str, Field(pattern=r"\.jinja$")]


class DataSource(Section):
    """Rows of one place, and how much of them an epoch sees."""

    path: NonEmptyStr
    """File, glob, folder, hub id, or ``builtin:quickstart``."""
    weight: Annotated[float, Field(ge=0, le=1000)] = 1.0
    """How often an epoch sees each training row: 2 is twice, 0.5 a fixed half of the rows, 1.5 all of
    them and a fixed half once more, 0 none. Held-out rows have no weight. In a list of sources it may be
    open, such as ``{uniform: [0, 2]}``."""
    format: DataFormat = "auto"
    """``auto``: that of ``data_format``."""
    columns: Annotated[dict[NonEmptyStr, RowField] | None, Words(_COLUMNS)] = None
    """The names of the rows' columns -> the fields that they mean, such as ``{query: prompt, response:
    completion}``. None: common pairs of names are recognised by themselves."""


_SOURCES = f"a text that is not empty or a mapping of {', '.join(DataSource.model_fields)} or a list of these"


class Settings(Section):
    """What a sweep holds fixed: never open, the same for every trial."""

    name: Annotated[Name, Words(NAME_WORDS)]
    model_path: NonEmptyStr
    """Hub id, local folder, ``.gguf`` file, or ``builtin:quickstart``."""
    data_path: Annotated[
        NonEmptyStr | DataSource | Annotated[tuple[NonEmptyStr | DataSource, ...], Field(min_length=1)],
        Words(_SOURCES),
    ]
    """File(s), glob, folder, hub id, or ``builtin:quickstart``; ``{path, weight, format}`` to mix several."""
    data_format: DataFormat = "auto"
    """How the rows say what is asked and answered; ``auto`` tells it from their fields."""
    trust_remote_code: bool = False
    """Whether Python code in the model's folder or repository may be run, with all rights of yours."""
    chat_template: TemplateName | TemplateFile = "auto"
    """How a conversation becomes text: ``auto`` is the model's own template, ``plain`` where it has none;
    else a name, or a ``.jinja`` file."""
    learn_template_text: bool = False
    """Whether what the chat template writes by itself into an answer, such as an empty block of reasoning,
    carries loss too. What ends a turn always does."""
    eval_data: Annotated[float, Field(gt=0, lt=1)] | NonEmptyStr = 0.05
    """A held-out fraction of the rows, or a path to held-out rows."""
    max_bad_rows: Annotated[int, Field(ge=0)] = 0
    """So many broken rows are left out and told; one more stops."""
    checkpoint_path: NonEmptyStr | None = None
    """The sweep's folder; none: ``sweeps/<name>``."""
    engine: Annotated[Engine | None, Words("a mapping of command, config, names and metrics")] = None
    """Another trainer that runs the trials, by its command line; none: sweeper's own."""
    objective: Objective = Objective()
    evaluation: Evaluation = Evaluation()
    search: Search = Search()
    checkpoints: Checkpoints = Checkpoints()
    tracking: Tracking = Tracking()

    @property
    def sources(self) -> tuple[DataSource, ...]:
        """``data_path`` as a list, however it was written, each source with its format."""
        written = self.data_path if isinstance(self.data_path, tuple) else (self.data_path,)
        sources = (DataSource(path=one) if isinstance(one, str) else one for one in written)
        return tuple(
            one.model_copy(update={"format": self.data_format}) if one.format == "auto" else one
            for one in sources
        )

    @property
    def generated_metrics(self) -> tuple[str, ...]:
        """The metrics of generated answers that are computed: those asked for, and the objectives."""
        objectives = (self.objective.metric, self.objective.also)
        implied = ("exact_match",) if "eval/exact_match" in objectives else ()
        own = (one for one in self.evaluation.metrics if not one.startswith(HARNESS))
        return tuple(dict.fromkeys((*own, *implied)))

    @property
    def harness_tasks(self) -> tuple[str, ...]:
        """The tasks of EleutherAI's harness that are asked for."""
        return tuple(one.removeprefix(HARNESS) for one in self.evaluation.metrics if one.startswith(HARNESS))

    @property
    def measures_tasks_at_each(self) -> bool:
        """Whether each evaluation has these, and not the last one only."""
        asked = {self.objective.metric, self.objective.also, *(self.objective.constraints or ())}
        is_needed = any(f"eval/{task}" in asked for task in self.harness_tasks)
        return is_needed or self.evaluation.lm_eval_at == "each"


class Config(Settings):
    """One training run, with nothing open and nothing ``auto``."""

    training: Training
    deepspeed: Deepspeed
    parallel: Parallel = Parallel()
    resources: Resources
    provenance: dict[str, Any] | None = None
    """Where a best-config comes from; written by a sweep, read by nobody's training."""
