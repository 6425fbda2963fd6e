// A conversation with a deployment, and the same request as code.

import { Answer } from "./answer.js";
import { area, copyButton, dialog, field, h, options, problem } from "./dom.js";
import { PLACEHOLDER, SNIPPETS } from "./snippets.js";

export class Playground {
  static id = "playground";
  static title = "Playground";
  static isFor = (session) => session.has("inference");

  #session;
  #deployments = [];
  #turns = []; // {question, answer, asked}: two texts and an element; answer is null as long as there is none, and for ever when it failed
  #abort = null;
  #listed = null; // settled once the deployments are known

  #model = h("select", { onchange: () => this.#chosen() });
  #notice = h("p", { class: "notice", role: "note", hidden: true });
  #system = area({ rows: "4" });
  #temperature = h("input", { type: "number", min: "0", max: "2", step: "0.1", placeholder: "the model's", inputmode: "decimal" });
  #most = h("input", { type: "number", min: "1", step: "1", placeholder: "the deployment's", inputmode: "numeric" });
  #stop = area({ rows: "2" });
  #talk = h("div", { class: "talk", role: "log", "aria-label": "Conversation", tabindex: "0" });
  #composer = area({ rows: "3", "data-first": true, placeholder: "Ask something" });
  #send = h("button", { class: "primary" }, "Send");
  #state = h("p", { class: "facts state", role: "status" });

  constructor(session, go, media = matchMedia("(min-width: 900px)")) {
    this.#session = session;
    this.element = h("div", { class: "playground" }, this.#conversation(), this.#settings(media.matches));
  }

  async show() {
    this.#listed = this.#list();
    await this.#listed;
  }

  async #list() {
    try {
      const { deployments } = await this.#session.get("admin/v1/status");
      this.#deployments = deployments.filter((one) => one.operations.includes("chat"));
    } catch (failure) {
      return this.#talk.replaceChildren(problem(failure));
    }
    const chosen = this.#model.value;
    const entries = this.#deployments.map((one) => [one.name, one.ready ? one.name : `${one.name} (away)`]);
    this.#model.replaceChildren(...options(entries, chosen));
    this.#chosen();
  }

  hide() {}

  close() {
    this.#abort?.abort();
  }

  /** From the list of deployments: talk to this one. */
  receive(name) {
    this.#model.replaceChildren(...options([[name, name]], name));
    this.#composer.focus();
  }

  #conversation() {
    const form = h("form", { class: "composer", autocomplete: "off" },
      h("label", { for: "message", class: "unseen" }, "Message"), this.#composer,
      h("div", { class: "row" }, this.#state, h("kbd", {}, "Ctrl Enter"), this.#send));
    this.#composer.id = "message";
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.#abort) this.#abort.abort();
      else this.#ask();
    });
    this.#composer.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
    });
    const section = h("section", { "aria-label": "Playground" },
      h("div", { class: "title" }, h("h1", {}, "Playground"),
        h("button", { type: "button", class: "quiet", onclick: () => this.#code() }, "View as code"),
        h("button", { type: "button", class: "quiet", onclick: () => this.#clear() }, "New", h("span", { class: "wide-only" }, " conversation"))),
      this.#notice, this.#talk, form);
    section.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.#abort?.abort();
    });
    this.#empty();
    return section;
  }

  #settings(open) {
    return h("details", { class: "settings", open }, h("summary", {}, "Settings"),
      field("Deployment", this.#model),
      field("System prompt", this.#system, "How the model should behave."),
      field("Temperature", this.#temperature, "0: always the likeliest word."),
      field("Longest answer, in tokens", this.#most),
      field("Stop at", this.#stop, "One text a line. The answer ends before it."));
  }

  #chosen() {
    const notice = this.#deployments.find((one) => one.name === this.#model.value)?.notice;
    this.#notice.textContent = notice ?? "";
    this.#notice.hidden = !notice;
  }

  #empty() {
    this.#talk.replaceChildren(h("div", { class: "empty" },
      h("p", {}, "Nothing asked yet."),
      h("p", {}, "What you write goes to the deployment and is kept in this page until you leave it; nowhere else.")));
  }

  #clear() {
    this.#abort?.abort();
    this.#turns = [];
    this.#state.textContent = "";
    this.#empty();
    this.#composer.focus();
  }

  /** What would be sent now. */
  #request() {
    const messages = this.#turns.filter((turn) => turn.answer !== null).flatMap(({ question, answer }) => [
      { role: "user", content: question }, { role: "assistant", content: answer }]);
    const system = this.#system.value.trim();
    if (system) messages.unshift({ role: "system", content: system });
    const stop = this.#stop.value.split("\n").filter(Boolean);
    const number = (input) => (input.value === "" ? undefined : input.valueAsNumber);
    return {
      model: this.#model.value, messages, temperature: number(this.#temperature), max_tokens: number(this.#most),
      stop: stop.length ? stop : undefined,
    };
  }

  #ask() {
    const text = this.#composer.value.trim();
    const wrong = [this.#temperature, this.#most].find((input) => !input.checkValidity());
    if (wrong) {
      wrong.closest("details").open = true;
      return wrong.reportValidity();
    }
    if (!text) return this.#composer.focus();
    if (this.#turns.length === 0) this.#talk.replaceChildren();
    this.#composer.value = "";
    const asked = h("article", { class: "turn user" }, h("h2", {}, "You"), h("div", { class: "words" }, text));
    return this.#answer({ question: text, answer: null, asked });
  }

  async #answer(turn) {
    this.#abort = new AbortController();
    this.#send.textContent = "Stop";
    this.#state.textContent = "Answering …";
    await this.#listed; // who types at once is faster than the list of deployments
    const body = this.#request();
    this.#turns.push(turn);
    body.messages.push({ role: "user", content: turn.question });
    const answer = new Answer();
    const article = h("article", { class: "turn assistant" }, h("h2", {}, body.model), answer.element);
    const follow = this.#following();
    this.#talk.append(turn.asked, article);
    follow();
    const again = () => {
      if (this.#abort) return;
      article.remove();
      this.#turns.splice(this.#turns.indexOf(turn), 1); // it is asked last now, where others were asked since
      this.#answer(turn);
      this.#composer.focus();
    };
    const outcome = await answer.run(this.#session, body, this.#abort.signal, follow, again);
    this.#abort = null;
    this.#send.textContent = "Send";
    if (outcome !== "failed" && answer.text) turn.answer = answer.text; // else neither is sent again
    if (article.isConnected) this.#state.textContent = { done: "Answered.", stopped: "Stopped.", failed: "Not answered." }[outcome];
  }

  /** Keeps the end in sight, until somebody scrolls away from it. */
  #following() {
    const talk = this.#talk;
    let away = false;
    talk.onscroll = () => { away = talk.scrollHeight - talk.scrollTop - talk.clientHeight > 60; };
    return () => { if (!away) talk.scrollTop = talk.scrollHeight; };
  }

  #code() {
    const request = this.#request();
    const draft = this.#composer.value.trim();
    if (draft) request.messages.push({ role: "user", content: draft });
    if (!request.messages.some((message) => message.role === "user")) request.messages.push({ role: "user", content: "Hello" });
    request.base = new URL(".", document.baseURI).href.replace(/\/$/, "");
    const code = h("code");
    const choose = (write) => { code.textContent = write(request); };
    const choices = SNIPPETS.map(([id, label, write], at) => h("label", {},
      h("input", { type: "radio", name: "sdk", value: id, checked: at === 0, onchange: () => choose(write) }), h("span", {}, label)));
    choose(SNIPPETS[0][2]);
    dialog("This request as code", (close) => [
      h("fieldset", { class: "tabs" }, h("legend", { class: "unseen" }, "SDK"), choices),
      h("pre", { tabindex: "0", class: "code" }, code),
      h("p", { class: "hint" }, "Put your key where it says ", h("code", {}, PLACEHOLDER), ", better from your environment. The texts are those of this conversation."),
      h("div", { class: "row" }, copyButton(() => code.textContent), h("button", { type: "button", onclick: close }, "Close")),
    ]).classList.add("wide");
  }
}
