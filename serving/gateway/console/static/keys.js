// Keys of a tenant: create, rotate, revoke. What an administrator may do is the API's to say; this page only asks.

import { copyButton, dialog, field, h, options, problem, time } from "./dom.js";

const DAY = 86400;
const LIFETIMES = [["", "never"], [1, "in 1 day"], [7, "in 7 days"], [30, "in 30 days"], [90, "in 90 days"], [180, "in 180 days"], [365, "in a year"]];
const GRACES = [[0, "not at all"], [3600, "1 hour"], [DAY, "1 day"], [7 * DAY, "7 days"]];
const ROLES = { inference: "call deployments", key_admin: "manage keys", auditor: "read usage and audit log", operator: "tenants and limits" };

export class Keys {
  static id = "keys";
  static title = "Keys";
  static isFor = (session) => session.has("key_admin");

  #session;
  #keys = [];
  #list = h("div");
  #ended = h("input", { type: "checkbox", onchange: () => this.#draw() });

  constructor(session) {
    this.#session = session;
    this.element = h("section", { class: "page", "aria-label": "Keys" },
      h("div", { class: "title" }, h("h1", {}, "Keys"),
        h("label", { class: "check" }, this.#ended, "Show ended keys"),
        h("button", { type: "button", class: "primary", onclick: () => this.#create() }, "New key")),
      h("p", { class: "hint" }, session.isSystem ? "Of all tenants." : `Of the tenant ${session.me.tenant}.`,
        " A name has at most two live keys, so that one can replace the other without a gap."),
      this.#list);
  }

  async show() {
    try {
      this.#keys = await this.#session.all("admin/v1/keys");
      this.#draw();
    } catch (failure) {
      this.#list.replaceChildren(problem(failure));
    }
  }

  hide() {}

  #draw() {
    const shown = this.#keys.filter((key) => this.#ended.checked || key.status === "active");
    const columns = [...(this.#session.isSystem ? ["Tenant"] : []), "Name", "Begins with", "May", "Created", "Expires", "State"];
    this.#list.replaceChildren(shown.length === 0 ? h("p", { class: "empty" }, "No keys.") : h("table", { class: "cards" },
      h("thead", {}, h("tr", {}, columns.map((name) => h("th", { scope: "col" }, name)), h("td"))),
      h("tbody", {}, shown.map((key) => this.#row(key)))));
  }

  #row(key) {
    const own = key.id === this.#session.me.key_id;
    const active = key.status === "active";
    return h("tr", { class: active ? "" : "over" },
      this.#session.isSystem && h("td", { "data-label": "Tenant" }, key.tenant),
      h("th", { scope: "row" }, key.name, own && h("small", {}, "signed in with this one")),
      h("td", { "data-label": "Begins with" }, h("code", {}, key.prefix)),
      h("td", { "data-label": "May" }, may(key)),
      h("td", { "data-label": "Created" }, time(key.created_at)),
      h("td", { "data-label": "Expires" }, time(key.expires_at)),
      h("td", { "data-label": "State" }, h("span", { class: `pill ${active ? "good" : "off"}` }, key.status)),
      h("td", { class: "actions" }, active && [
        h("button", { type: "button", class: "quiet", "aria-label": `Rotate ${key.name} ${key.prefix}`, onclick: () => this.#rotate(key) }, "Rotate"),
        h("button", { type: "button", class: "quiet danger", "aria-label": `Revoke ${key.name} ${key.prefix}`, onclick: () => this.#revoke(key, own) }, "Revoke")]));
  }

  async #create() {
    const { me, isSystem } = this.#session;
    const name = h("input", { required: true, maxlength: "64", autocomplete: "off", autofocus: true });
    const tenants = isSystem ? await this.#session.all("admin/v1/tenants").catch(() => [{ id: me.tenant }]) : [];
    const tenant = h("select", {}, options(tenants.map(({ id }) => [id, id]), me.tenant));
    const lifetime = h("select", {}, options(LIFETIMES, 90));
    const deployments = h("input", { autocomplete: "off", spellcheck: "false", placeholder: "all" });
    const networks = h("input", { autocomplete: "off", spellcheck: "false", placeholder: "anywhere" });
    const roles = Object.entries(ROLES).filter(([role]) => role !== "operator" || isSystem).map(([role, words]) =>
      h("label", { class: "check" }, h("input", { type: "checkbox", name: "role", value: role, checked: role === "inference" }), `${words} `, h("code", {}, role)));
    this.#form("New key", "Create", (form) => this.#session.post("admin/v1/keys", {
      tenant: isSystem ? tenant.value : me.tenant,
      name: name.value.trim(),
      roles: [...form.querySelectorAll("[name=role]:checked")].map((box) => box.value),
      deployments: listed(deployments.value), networks: listed(networks.value),
      expires_at: lifetime.value && new Date(Date.now() + lifetime.value * DAY * 1000).toISOString(),
    }), [
      isSystem && field("Tenant", tenant),
      field("Name", name, "The application or person that will use it."),
      h("fieldset", {}, h("legend", {}, "May"), roles),
      field("Expires", lifetime),
      field("Only these deployments", deployments, "Names with commas."),
      field("Only from these networks", networks, "Such as 10.20.0.0/16, with commas."),
    ]);
  }

  #rotate(key) {
    const grace = h("select", { autofocus: true }, options(GRACES, DAY));
    this.#form("Rotate key", "Rotate", () => this.#session.post(`admin/v1/keys/${encodeURIComponent(key.id)}/rotate`, { grace_seconds: Number(grace.value) }), [
      h("p", {}, "A new key with the rights and the lifetime of ", h("strong", {}, key.name), " ", h("code", {}, key.prefix), "."),
      field("The old key goes on for", grace),
    ]);
  }

  #revoke(key, own) {
    this.#form("Revoke key", "Revoke", () => this.#session.post(`admin/v1/keys/${encodeURIComponent(key.id)}/revoke`), [
      h("p", {}, h("strong", {}, key.name), " ", h("code", {}, key.prefix), " will be refused within seconds, for good."),
      own && h("p", { class: "notice" }, "You are signed in with this key."),
    ]);
  }

  /** A dialog that asks, then acts; a key in the answer is shown this once. */
  #form(title, verb, act, content) {
    const said = h("div");
    const button = h("button", { class: "primary" }, verb);
    dialog(title, (close) => {
      const form = h("form", { autocomplete: "off" }, content, said,
        h("div", { class: "row" }, h("button", { type: "button", onclick: close }, "Cancel"), button));
      form.addEventListener("submit", async (event) => {
        event.preventDefault();
        button.disabled = true;
        try {
          const answer = await act(form);
          close();
          if (answer.key) showOnce(answer);
          await this.show();
        } catch (failure) {
          said.replaceChildren(problem(failure));
          button.disabled = false;
        }
      });
      return form;
    });
  }
}

function showOnce({ key, name }) {
  const secret = h("code", { class: "secret", tabindex: "0", translate: "no", autofocus: true }, key);
  dialog("Your new key", (close) => [
    h("p", {}, "The key ", h("strong", {}, name), ". It is shown this once: we keep no copy. Put it where the application reads it from."),
    secret,
    h("div", { class: "row" }, copyButton(() => key), h("button", { type: "button", class: "primary", onclick: close }, "I have put it away")),
  ]);
}

function may(key) {
  const parts = [key.roles.join(", ")];
  if (key.deployments) parts.push(`on ${key.deployments.join(", ")}`);
  if (key.networks) parts.push(`from ${key.networks.join(", ")}`);
  return parts.join("; ");
}

function listed(text) {
  const parts = text.split(",").map((part) => part.trim()).filter(Boolean);
  return parts.length ? parts : null;
}
