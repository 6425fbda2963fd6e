// What may be used, what is left of it, and what was used.

import { bars, legend } from "./chart.js";
import { field, h, number, options, problem } from "./dom.js";

const DAY_MS = 86400 * 1000;
const SHOWN = 6; // series with a colour of their own; the rest is "other"
const LIMITS = {
  requests_per_minute: "Requests a minute", tokens_per_minute: "Tokens a minute", tokens_per_day: "Tokens a day",
  tokens_per_month: "Tokens a month", concurrent_requests: "Requests at a time",
};
const MEASURES = {
  total_tokens: ["tokens", (row) => row.total_tokens],
  requests: ["requests", (row) => row.requests],
  cost: ["cost", (row) => (row.cost_micros ?? 0) / 1e6],
};

export class Usage {
  static id = "usage";
  static title = "Usage";
  static isFor = () => true;

  #session;
  #limits = h("div");
  #chart = h("div");
  #days = h("select", {}, options([[7, "7 days"], [30, "30 days"], [90, "90 days"]], 30));
  #by = h("select");
  #measure = h("select", {}, options(Object.entries(MEASURES).map(([id, [label]]) => [id, label]), "total_tokens"));

  constructor(session) {
    this.#session = session;
    const mayRead = session.has("auditor", "operator");
    this.#by.append(...options([["deployment", "deployment"], ["key", "key"], ...(session.isSystem ? [["tenant", "tenant"]] : [])], "deployment"));
    for (const control of [this.#days, this.#by, this.#measure]) control.addEventListener("change", () => this.#draw());
    this.element = h("section", { class: "page", "aria-label": "Usage" },
      h("div", { class: "title" }, h("h1", {}, "Usage")),
      h("h2", {}, "Limits"), this.#limits,
      h("h2", {}, "What was used"),
      mayRead
        ? [h("div", { class: "filters" }, field("Last", this.#days), field("By", this.#by), field("Measure", this.#measure)), this.#chart]
        : h("p", { class: "empty" }, "What was used is for keys with the role ", h("code", {}, "auditor"), "."));
    this.mayRead = mayRead;
  }

  async show() {
    try {
      this.#session.me = await this.#session.get("admin/v1/me");
      this.#limits.replaceChildren(limits(this.#session.me.limits), left(this.#session.rates));
      if (this.mayRead) await this.#draw();
    } catch (failure) {
      this.#limits.replaceChildren(problem(failure));
    }
  }

  hide() {}

  async #draw() {
    const [unit, value] = MEASURES[this.#measure.value];
    const by = this.#by.value;
    const today = Math.floor(Date.now() / DAY_MS);
    const days = Array.from({ length: Number(this.#days.value) }, (_, at, all = Number(this.#days.value)) =>
      new Date((today - all + 1 + at) * DAY_MS).toISOString().slice(0, 10));
    try {
      const rows = await this.#session.all("admin/v1/usage", { group_by: `day,${by}`, from: days[0] });
      const names = by === "key" ? await this.#names() : new Map();
      const shown = unit === "cost" ? (sum) => sum.toFixed(2) : number;
      const series = summed(rows, by, days, value, names);
      this.#chart.replaceChildren(...(rows.length === 0
        ? [h("p", { class: "empty" }, "Nothing was used in these days.")]
        : [h("figure", {}, bars(days, series, unit, shown), legend(series)), table(rows, by, names)]));
    } catch (failure) {
      this.#chart.replaceChildren(problem(failure));
    }
  }

  /** Names of keys by id, for whom keys are shown to. */
  async #names() {
    if (!this.#session.has("key_admin")) return new Map();
    const keys = await this.#session.all("admin/v1/keys");
    return new Map(keys.map((key) => [key.id, `${key.name} (${key.prefix})`]));
  }
}

function summed(rows, by, days, value, names) {
  const found = new Map();
  for (const row of rows) {
    if (!found.has(row[by])) found.set(row[by], { name: names.get(row[by]) ?? row[by], sum: 0, values: days.map(() => 0) });
    const one = found.get(row[by]);
    one.values[days.indexOf(row.day)] += value(row);
    one.sum += value(row);
  }
  const largest = [...found.values()].sort((a, b) => b.sum - a.sum);
  const rest = largest.splice(SHOWN);
  if (rest.length > 0) largest.push({ name: `${rest.length} others`, values: days.map((_, at) => rest.reduce((sum, one) => sum + one.values[at], 0)) });
  return largest;
}

function table(rows, by, names) {
  const sums = new Map();
  for (const row of rows) {
    const sum = sums.get(row[by]) ?? { requests: 0, prompt_tokens: 0, cached_tokens: 0, completion_tokens: 0, cost: null };
    for (const name of ["requests", "prompt_tokens", "cached_tokens", "completion_tokens"]) sum[name] += row[name];
    if (row.cost_micros !== null) sum.cost = (sum.cost ?? 0) + row.cost_micros / 1e6;
    sums.set(row[by], sum);
  }
  const columns = ["Requests", "Prompt", "of it cached", "Answer", "Cost"];
  return h("table", { class: "numbers cards" },
    h("caption", { class: "unseen" }, `Usage by ${by}`),
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, by[0].toUpperCase() + by.slice(1)), columns.map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, [...sums].sort(([, a], [, b]) => b.requests - a.requests).map(([id, sum]) => h("tr", {},
      h("th", { scope: "row" }, names.get(id) ?? id),
      [number(sum.requests), number(sum.prompt_tokens), number(sum.cached_tokens), number(sum.completion_tokens),
        sum.cost === null ? "–" : sum.cost.toFixed(2)].map((text, at) => h("td", { "data-label": columns[at] }, text))))));
}

function limits({ key, tenant }) {
  const cell = (owner, value) => h("td", { "data-label": owner }, value === null ? h("span", { class: "dim" }, "unlimited") : number(value));
  return h("table", { class: "numbers cards" },
    h("caption", { class: "unseen" }, "Limits in force"),
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Limit"), h("th", { scope: "col" }, "This key"), h("th", { scope: "col" }, "Its tenant"))),
    h("tbody", {}, Object.entries(LIMITS).map(([name, label]) => h("tr", {},
      h("th", { scope: "row" }, label), cell("This key", key[name]), cell("Its tenant", tenant[name])))));
}

/** What the last answer of this session said is left in its minute: of the tightest limit, a deployment's too. */
function left(rates) {
  if (!rates) return h("p", { class: "hint" }, "What is left of a limit a minute comes with each answer: ask something first. Without such a limit there is nothing to show.");
  return h("div", { class: "left" }, ["requests", "tokens"].filter((kind) => rates[kind]).map((kind) => {
    const { limit, left: rest, reset } = rates[kind];
    return h("div", {}, h("span", {}, `${number(rest)} of ${number(limit)} ${kind} left`),
      h("meter", { min: "0", max: String(limit), value: String(rest), "aria-label": `${kind} left this minute` }),
      h("small", {}, `all back in ${reset}; as of ${rates.at.toLocaleTimeString()}`));
  }));
}
