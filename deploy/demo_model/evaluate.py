"""Exact-match evaluation on held-out generated notes, of a model directory or of a running server."""

from __future__ import annotations

import argparse
import json
import urllib.request
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from notes import CHAT_KINDS, NOTE_KINDS, held_out_seed, make_dialogue

Answerer = Callable[["list[Case]"], list[str]]


@dataclass(frozen=True)
class Case:
    """A held-out question: the messages before the answer, the answer wanted, and whether it is a follow-up."""

    kind: str
    follow_up: bool
    messages: tuple[dict[str, Any], ...]
    tools: tuple[dict[str, Any], ...]
    wanted: str


def collect_cases(per_kind: int, with_tools: bool) -> list[Case]:
    """Held-out cases in seed order, at most per_kind of each kind; the earlier turns hold the reference answers."""
    kinds = {*NOTE_KINDS, *CHAT_KINDS} | ({"tool call"} if with_tools else set())
    counts = dict.fromkeys(kinds, 0)
    cases: list[Case] = []
    for index in range(200 * per_kind):
        if all(count >= per_kind for count in counts.values()):
            break
        dialogue = make_dialogue(held_out_seed(index))
        if dialogue.tools and not with_tools:
            continue
        answers = [i for i, m in enumerate(dialogue.messages) if m["role"] == "assistant"]
        for order, (place, kind) in enumerate(zip(answers, dialogue.kinds, strict=True)):
            if counts.get(kind, per_kind) >= per_kind:
                continue
            counts[kind] += 1
            message = dialogue.messages[place]
            wanted = message["content"]
            for call in message.get("tool_calls", ()):
                wanted += f"<tool_call>{json.dumps(call['function'])}</tool_call>"
            cases.append(Case(kind, order > 0, dialogue.messages[:place], dialogue.tools, wanted))
    return cases


def local_answerer(directory: Path, threads: int) -> Answerer:
    """Greedy decoding of a model directory with transformers."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(threads)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()

    def prompt(case: Case) -> str:
        tools = list(case.tools) or None
        rendered = tokenizer.apply_chat_template(
            list(case.messages), tools=tools, tokenize=False, add_generation_prompt=True
        )
        return str(rendered)

    def answer(cases: list[Case]) -> list[str]:
        prompts = [prompt(case) for case in cases]
        answers = [""] * len(cases)
        order = sorted(range(len(cases)), key=lambda i: len(prompts[i]))
        for first in range(0, len(order), 32):
            chosen = order[first : first + 32]
            inputs = tokenizer(
                [prompts[i] for i in chosen], add_special_tokens=False, padding=True, return_tensors="pt"
            )
            inputs.pop("token_type_ids", None)
            with torch.inference_mode():
                output = model.generate(**inputs, do_sample=False, max_new_tokens=256)
            texts = tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
            for i, text in zip(chosen, texts, strict=True):
                answers[i] = text
        return answers

    return answer


def server_answerer(url: str, key: str, model: str) -> Answerer:
    """Temperature-zero answers of an OpenAI-compatible server; url ends in /v1."""

    def ask(case: Case) -> str:
        body = {"model": model, "messages": list(case.messages), "temperature": 0, "max_tokens": 256}
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}", "api-key": key}
        request = urllib.request.Request(
            f"{url.rstrip('/')}/chat/completions", json.dumps(body).encode(), headers, method="POST"
        )
        with urllib.request.urlopen(request, timeout=300) as response:
            reply = json.load(response)
        return str(reply["choices"][0]["message"]["content"] or "")

    return lambda cases: [ask(case) for case in cases]


def score(cases: list[Case], answers: list[str]) -> dict[str, dict[str, float]]:
    """Exact-match share by question kind, for first questions and follow-ups, and over all cases."""
    marks: dict[str, list[bool]] = defaultdict(list)
    for case, answer in zip(cases, answers, strict=True):
        right = answer.strip() == case.wanted.strip()
        for group in (case.kind, "any first question" if not case.follow_up else "any follow-up", "all"):
            marks[group].append(right)
    return {group: {"cases": len(m), "exact_match": round(sum(m) / len(m), 4)} for group, m in marks.items()}


def main() -> None:
    """Evaluate, print the table and write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, default=Path(__file__).with_name("clinical-demo"))
    parser.add_argument("--url", help="base address of an OpenAI-compatible server, ending in /v1")
    parser.add_argument("--key", default="", help="API key for --url")
    parser.add_argument("--model", default="clinical-demo", help="model name for --url")
    parser.add_argument("--per-kind", type=int, default=100, help="cases of each question kind")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    parser.add_argument("--show-wrong", type=int, default=0, help="print this many wrong answers of each kind")
    arguments = parser.parse_args()
    cases = collect_cases(arguments.per_kind, with_tools=not arguments.url)
    answerer = (
        server_answerer(arguments.url, arguments.key, arguments.model)
        if arguments.url
        else local_answerer(arguments.directory, arguments.threads)
    )
    answers = answerer(cases)
    table = score(cases, answers)
    print(f"| {'kind':18} | cases | exact match |\n|{'-' * 20}|------:|------------:|")
    for kind in [*NOTE_KINDS, *CHAT_KINDS, "tool call", "any first question", "any follow-up", "all"]:
        if kind in table:
            print(f"| {kind:18} | {table[kind]['cases']:5.0f} | {100 * table[kind]['exact_match']:9.1f} % |")
    shown: dict[str, int] = defaultdict(int)
    for case, answer in zip(cases, answers, strict=True):
        if answer.strip() != case.wanted.strip() and shown[case.kind] < arguments.show_wrong:
            shown[case.kind] += 1
            question = str(case.messages[-1]["content"])
            print(f"\n[{case.kind}] ...{question[-200:]!r}\n  wanted {case.wanted!r}\n  got    {answer!r}")
    if arguments.out:
        arguments.out.write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
