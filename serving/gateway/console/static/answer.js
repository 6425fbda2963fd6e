// One answer as it comes: text, what filters found, what it took, and how it ended.

import { h, number, problem } from "./dom.js";
import { prose } from "./prose.js";
import { eventsOf } from "./session.js";

const ENDINGS = {
  length: "cut: the limit of tokens was reached",
  content_filter: "ended by a content filter",
  tool_calls: "asked for a tool, which the console has not",
};

export class Answer {
  text = "";

  #reasoning = "";
  #words = h("div", { class: "words" });
  #thoughts = h("pre");
  #found = h("ul", { class: "found", hidden: true });
  #facts = h("p", { class: "facts" });

  constructor() {
    this.element = h("div", { class: "answer" },
      h("details", { class: "reasoning", hidden: true }, h("summary", {}, "Reasoning"), this.#thoughts),
      this.#words, this.#found, this.#facts);
  }

  /** Ask, and show what comes. Returns how it ended: "done", "stopped" or "failed". */
  async run(session, body, signal, onText, again) {
    const began = performance.now();
    const took = { first: null, last: null, usage: null, ending: null, requestId: "" };
    this.element.setAttribute("aria-busy", "true");
    this.element.classList.add("running");
    let outcome = "done";
    try {
      const request = { ...body, stream: true, stream_options: { include_usage: true } };
      const response = await session.open("POST", "v1/chat/completions", request, signal);
      took.requestId = response.headers.get("x-request-id") ?? "";
      for await (const event of eventsOf(response)) {
        this.#take(event, took);
        onText();
      }
    } catch (failure) {
      outcome = failure.name === "AbortError" ? "stopped" : "failed";
      if (outcome === "failed") {
        const blocked = failure.body?.error?.innererror?.content_filter_result;
        if (blocked) this.#note("prompt", blocked);
        this.element.append(problem(failure, h("button", { type: "button", onclick: again }, "Try again")));
      }
    }
    this.element.removeAttribute("aria-busy");
    this.element.classList.remove("running");
    this.#words.replaceChildren(...prose(this.text));
    this.#facts.replaceChildren(...facts(took, performance.now() - began, outcome));
    onText();
    return outcome;
  }

  #take(event, took) {
    for (const one of event.prompt_filter_results ?? []) this.#note("prompt", one.content_filter_results);
    if (event.usage) took.usage = event.usage;
    const choice = event.choices?.[0];
    if (!choice) return;
    if (choice.content_filter_results) this.#note("answer", choice.content_filter_results);
    took.ending = choice.finish_reason ?? took.ending;
    const { content, refusal, reasoning, reasoning_content: older } = choice.delta ?? {};
    if (!content && !refusal && !reasoning && !older) return;
    took.last = performance.now();
    took.first ??= took.last;
    if (reasoning || older) {
      this.#reasoning += reasoning || older;
      this.#thoughts.textContent = this.#reasoning;
      this.#thoughts.parentElement.hidden = false;
    }
    const piece = (content ?? "") + (refusal ?? "");
    this.text += piece;
    this.#words.append(piece); // formatted at the end: until then a selection holds, and a token costs a text node
  }

  /** What a filter found, once each. */
  #note(where, results) {
    for (const words of findings(results ?? {})) {
      const line = `${where}: ${words}`;
      if ([...this.#found.children].some((item) => item.textContent === line)) continue;
      this.#found.hidden = false;
      this.#found.append(h("li", {}, line));
    }
  }
}

/** What deserves a word in results of Azure's shape. */
function findings(results) {
  return Object.entries(results).flatMap(([category, found]) => {
    const name = category.replaceAll("_", " ");
    if (category === "error") return ["filters did not run"];
    const details = (found.sub_categories ?? found.details ?? []).map((one) => one.sub_category ?? one.id).filter(Boolean);
    const state = found.filtered ? "blocked" : found.detected ? "found" : found.severity && found.severity !== "safe" ? found.severity : "";
    return state ? [`${name} ${state}${details.length ? ` (${details.join(", ")})` : ""}`] : [];
  });
}

function facts({ first, last, usage, ending, requestId }, all, outcome) {
  const began = first === null ? null : all - (performance.now() - first);
  const cached = usage?.prompt_tokens_details?.cached_tokens;
  const rate = usage && first !== null && last > first && ((usage.completion_tokens - 1) * 1000) / (last - first);
  return [
    outcome === "stopped" && h("span", { class: "ending" }, "stopped by you"),
    ENDINGS[ending] && h("span", { class: "ending" }, ENDINGS[ending]),
    usage && h("span", { title: "Tokens of the prompt" }, `${number(usage.prompt_tokens)} in`, cached ? ` (${number(cached)} cached)` : ""),
    usage && h("span", { title: "Tokens of the answer" }, `${number(usage.completion_tokens)} out`),
    began !== null && h("span", { title: "Time to first token, as this browser saw it" }, `first token ${Math.round(began)} ms`),
    rate > 0 && h("span", { title: "Tokens a second after the first" }, `${rate.toFixed(rate < 10 ? 1 : 0)} tokens/s`),
    h("span", { title: "From sending to the last byte" }, `${(all / 1000).toFixed(2)} s`),
    requestId && outcome !== "failed" && h("span", { title: "Names this request in logs and audit" }, h("code", {}, requestId)),
  ].filter(Boolean);
}
