"""Chat templates of model families, written from what their published templates do, as far as it matters for
what is learned: markers, what ends a turn, which roles there are, what becomes of reasoning."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FAMILIES", "Family"]


@dataclass(frozen=True, kw_only=True)
class Family:
    """One family of templates."""

    template: str
    markers: tuple[str, ...]
    """Tokens of its vocabulary beside those of the tests' tokenizer."""
    eos: str
    bos: str = ""


_INVITE = "{%% if add_generation_prompt %%}%s{%% endif %%}"

_ALTERNATE = (
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
)

_LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
    "{{ m.content | trim }}<|eot_id|>{% endfor %}"
    + _INVITE
    % "<|start_header_id|>assistant<|end_header_id|>\n\n"
)
_QWEN25 = (
    "{% if messages[0].role != 'system' %}<|im_start|>system\nYou help.<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    + _INVITE
    % "<|im_start|>assistant\n"
)
_QWEN3_TURNS = (
    "{% set ns = namespace(last=-1) %}"
    "{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' and loop.index0 > ns.last and (loop.last or m.reasoning_content) %}"
    "<think>\n{{ (m.reasoning_content or '').strip('\\n') }}\n</think>\n\n{% endif %}"
    "{{ m.content }}<|im_end|>\n{% endfor %}"
)
_QWEN3 = (
    _QWEN3_TURNS + "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
_QWEN3_THINKING = _QWEN3_TURNS + _INVITE % "<|im_start|>assistant\n<think>\n"
_GEMMA = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    f"{_ALTERNATE}"
    "<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}<end_of_turn>\n"
    "{% endfor %}" + _INVITE % "<start_of_turn>model\n"
)
_MISTRAL = (
    "{{ bos_token }}{% for m in messages %}"
    f"{_ALTERNATE}"
    "{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% else %} {{ m.content }}{{ eos_token }}{% endif %}"
    "{% endfor %}"
)
_PHI3 = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}"
)
_PHI4 = (
    "{% for m in messages %}<|im_start|>{{ m.role }}<|im_sep|>{{ m.content }}<|im_end|>{% endfor %}"
    + _INVITE % "<|im_start|>assistant<|im_sep|>"
)
_GLM4 = (
    "[gMASK]<sop>{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{% endfor %}"
    + _INVITE % "<|assistant|>\n"
)
_GLM45 = (
    "[gMASK]<sop>{% set ns = namespace(last=-1) %}"
    "{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
    "{% for m in messages %}<|{{ m.role }}|>\n"
    "{% if m.role == 'assistant' %}<think>"
    "{% if loop.index0 > ns.last and m.reasoning_content %}{{ m.reasoning_content }}{% endif %}"
    "</think>\n{% endif %}"
    "{{ m.content }}{% endfor %}" + _INVITE % "<|assistant|>"
)
_DEEPSEEK_R1 = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m.role == 'user' %}<｜User｜>{{ m.content }}"
    "{% elif m.role == 'assistant' %}<｜Assistant｜>{{ m.content.split('</think>')[-1] }}{{ eos_token }}"
    "{% else %}{{ m.content }}{% endif %}{% endfor %}" + _INVITE % "<｜Assistant｜><think>\n"
)
_GPT_OSS = (
    "{% for m in messages %}<|start|>{{ m.role }}"
    "{% if m.role == 'assistant' %}"
    "{% if m.thinking and loop.last %}<|channel|>analysis<|message|>{{ m.thinking }}<|end|>"
    "<|start|>assistant{% endif %}"
    "<|channel|>final<|message|>{{ m.content }}{{ '<|return|>' if loop.last else '<|end|>' }}"
    "{% else %}<|message|>{{ m.content }}<|end|>{% endif %}{% endfor %}" + _INVITE % "<|start|>assistant"
)

_CHATML = ("<|im_start|>", "<|im_end|>")

FAMILIES: dict[str, Family] = {
    "Llama 3": Family(
        template=_LLAMA3,
        markers=("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        bos="<|begin_of_text|>",
        eos="<|eot_id|>",
    ),
    "Qwen2.5": Family(template=_QWEN25, markers=_CHATML, eos="<|im_end|>"),
    "Qwen3": Family(template=_QWEN3, markers=(*_CHATML, "<think>", "</think>"), eos="<|im_end|>"),
    "Qwen3 Thinking": Family(
        template=_QWEN3_THINKING, markers=(*_CHATML, "<think>", "</think>"), eos="<|im_end|>"
    ),
    "Gemma": Family(
        template=_GEMMA,
        markers=("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"),
        bos="<bos>",
        eos="<eos>",
    ),
    "Mistral": Family(template=_MISTRAL, markers=("<s>", "</s>", "[INST]", "[/INST]"), bos="<s>", eos="</s>"),
    "Phi-3": Family(
        template=_PHI3,
        markers=("<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|endoftext|>"),
        eos="<|endoftext|>",
    ),
    "Phi-4": Family(template=_PHI4, markers=(*_CHATML, "<|im_sep|>"), eos="<|im_end|>"),
    "GLM-4": Family(
        template=_GLM4,
        markers=("[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>", "<|endoftext|>"),
        eos="<|endoftext|>",
    ),
    "GLM-4.5": Family(
        template=_GLM45,
        markers=(
            "[gMASK]",
            "<sop>",
            "<|system|>",
            "<|user|>",
            "<|assistant|>",
            "<|endoftext|>",
            "<think>",
            "</think>",
        ),
        eos="<|endoftext|>",
    ),
    "DeepSeek R1": Family(
        template=_DEEPSEEK_R1,
        markers=(
            "<｜begin▁of▁sentence｜>",
            "<｜end▁of▁sentence｜>",
            "<｜User｜>",
            "<｜Assistant｜>",
            "<think>",
            "</think>",
        ),
        bos="<｜begin▁of▁sentence｜>",
        eos="<｜end▁of▁sentence｜>",
    ),
    "gpt-oss": Family(
        template=_GPT_OSS,
        markers=("<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|return|>"),
        eos="<|return|>",
    ),
}
