// What may be called, and whether it would answer.

import { h, problem, time } from "./dom.js";

const EVERY_MS = 5000;
const OPERATIONS = { chat: "chat", completions: "text", embeddings: "embeddings" };

export class Deployments {
  static id = "deployments";
  static title = "Deployments";
  static isFor = () => true;

  #session;
  #go;
  #timer = null;
  #facts = h("p", { class: "facts" });
  #list = h("div", { "aria-live": "off" });

  constructor(session, go) {
    this.#session = session;
    this.#go = go;
    this.element = h("section", { class: "page", "aria-label": "Deployments" },
      h("div", { class: "title" }, h("h1", {}, "Deployments"), this.#facts), this.#list);
  }

  show() {
    this.#timer = setInterval(() => { if (!document.hidden) this.#refresh(); }, EVERY_MS);
    this.#refresh();
  }

  hide() {
    clearInterval(this.#timer);
  }

  async #refresh() {
    try {
      const { version, started_at: since, deployments } = await this.#session.get("admin/v1/status");
      this.#facts.replaceChildren(h("span", {}, `version ${version}`), h("span", {}, "gateway up since ", time(since)));
      const focused = this.element.contains(document.activeElement) ? document.activeElement.dataset.name : null;
      this.#list.replaceChildren(deployments.length ? this.#table(deployments) : h("p", { class: "empty" }, "This key may call no deployment."));
      if (focused) this.#list.querySelector(`[data-name="${CSS.escape(focused)}"]`)?.focus();
    } catch (failure) {
      this.#list.replaceChildren(problem(failure));
    }
  }

  #table(deployments) {
    const mayAsk = this.#session.has("inference");
    const columns = ["State", "Deployment", "Does", "Replicas", "Weights"];
    return h("table", { class: "cards" },
      h("thead", {}, h("tr", {}, columns.map((name) => h("th", { scope: "col" }, name)), mayAsk && h("td"))),
      h("tbody", {}, deployments.map((one) => h("tr", {},
        h("td", { "data-label": "State" }, h("span", { class: `pill ${one.ready ? "good" : "bad"}` }, one.ready ? "Ready" : "Away")),
        h("th", { scope: "row" }, one.name, one.notice && h("small", { class: "warn" }, one.notice)),
        h("td", { "data-label": "Does" }, one.operations.map((name) => OPERATIONS[name] ?? name).join(", ")),
        h("td", { "data-label": "Replicas" }, replicas(one.replicas)),
        h("td", { "data-label": "Weights" }, one.revision ? h("code", { title: one.revision }, short(one.revision)) : "–"),
        mayAsk && h("td", { class: "actions" }, one.operations.includes("chat") &&
          h("button", { type: "button", class: "quiet", "data-name": one.name, "aria-label": `Try ${one.name}`, onclick: () => this.#go("playground", one.name) }, "Try"))))));
  }
}

function replicas(counts) {
  if (!counts) return h("span", { class: "dim", title: "Its engine is not run by this server." }, "–");
  const more = [counts.starting && `${counts.starting} starting`, counts.stopping && `${counts.stopping} stopping`].filter(Boolean);
  return `${counts.running} running${more.length ? `, ${more.join(", ")}` : ""}`;
}

/** A digest or commit as one calls it; names stay whole. */
function short(revision) {
  const hex = revision.replace("sha256:", "");
  return /^[0-9a-f]{16,}$/.test(hex) ? hex.slice(0, 12) : revision;
}
