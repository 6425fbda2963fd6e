// The frame: signing in and out, and which page is shown. Pages live as long as their session, in memory alone.

import { Deployments } from "./deployments.js";
import { h, field, problem } from "./dom.js";
import { Keys } from "./keys.js";
import { Playground } from "./playground.js";
import { Session } from "./session.js";
import { Usage } from "./usage.js";

const PAGES = [Playground, Deployments, Keys, Usage];
const IDLE_MS = 15 * 60 * 1000; // a ward's computer has many users
const TOUCHES = ["pointerdown", "keydown", "wheel"];

function signIn(reason = "") {
  const key = h("input", {
    type: "password", required: true, autocomplete: "off", spellcheck: "false", autocapitalize: "off", maxlength: "8192",
  });
  const button = h("button", { class: "primary" }, "Sign in");
  const said = h("div", { "aria-live": "polite" }, reason && h("p", { class: "notice" }, reason));
  const form = h("form", { class: "sign-in", autocomplete: "off", novalidate: true },
    h("div", { class: "mark" }), h("h1", {}, "clinserve console"),
    field("API key", key, "Kept in this page's memory alone. Reload or close the page and it is gone."),
    button, said);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const text = key.value.trim();
    if (!/^[\x21-\x7e]+$/.test(text)) {
      said.replaceChildren(problem(new Error(text ? "A key has no spaces and plain letters only." : "Type a key.")));
      return key.focus();
    }
    button.disabled = true;
    try {
      const session = await new Session(text, signIn).start();
      key.value = "";
      enter(session);
    } catch (failure) {
      said.replaceChildren(problem(failure));
      button.disabled = false;
      key.select();
    }
  });
  document.title = "Sign in · clinserve console";
  for (const box of document.querySelectorAll("dialog[open]")) box.close();
  document.body.replaceChildren(h("main", { class: "alone" }, form));
  key.focus();
}

function enter(session) {
  const pages = PAGES.filter((page) => page.isFor(session));
  const opened = new Map();
  const main = h("main", { id: "main", tabindex: "-1" });
  const links = pages.map((page) => h("a", { href: `#${page.id}` }, page.title));
  let current = null;

  const show = () => {
    const wanted = pages.find((page) => page.id === location.hash.slice(1)) ?? pages[0];
    current?.hide();
    if (!opened.has(wanted)) opened.set(wanted, new wanted(session, go));
    current = opened.get(wanted);
    links.forEach((link, at) => {
      if (pages[at] === wanted) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    });
    document.title = `${wanted.title} · clinserve console`;
    main.replaceChildren(current.element);
    current.show();
    main.focus();
  };
  const go = (id, ...facts) => {
    location.hash = id;
    show();
    current.receive?.(...facts);
  };

  session.onEnd = (reason) => {
    idle.end();
    removeEventListener("hashchange", show);
    current.hide();
    for (const page of opened.values()) page.close?.();
    signIn(reason);
  };
  const { me } = session;
  document.body.replaceChildren(
    h("a", { class: "skip", href: "#main", onclick: (event) => { event.preventDefault(); main.focus(); } }, "Skip to the page"),
    h("header", { class: "frame" },
      h("div", { class: "brand" }, h("div", { class: "mark" }), h("span", {}, "clinserve")),
      h("nav", { "aria-label": "Pages" }, links),
      h("div", { class: "who" },
        h("span", { class: "name" }, me.key_name), h("span", { class: "facts" }, h("span", {}, me.tenant), h("span", {}, me.roles.join(", "))),
        h("button", { type: "button", class: "quiet", onclick: () => session.end() }, "Sign out"))),
    main);
  addEventListener("hashchange", show);
  const idle = new Idle(() => session.end(`Signed out after ${IDLE_MS / 60000} minutes without a touch.`));
  show();
  main.querySelector("[data-first]")?.focus();
}

/** Acts once nobody has touched the page for a while. */
class Idle {
  #act;
  #timer = null;
  #touched = () => {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(this.#act, IDLE_MS);
  };

  constructor(act) {
    this.#act = act;
    for (const kind of TOUCHES) addEventListener(kind, this.#touched, { passive: true });
    this.#touched();
  }

  end() {
    clearTimeout(this.#timer);
    for (const kind of TOUCHES) removeEventListener(kind, this.#touched);
  }
}

// A page that comes back out of the browser's own memory would come back with its key.
addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
signIn();
