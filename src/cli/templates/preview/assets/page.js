"use strict";

// What is shown comes as JSON; texts of templates go into the page as text alone, their HTML into frames in which no script runs.

const byId = (id) => document.getElementById(id);
const edited = new Map(); // template → JSON text that was typed for it
let current = chosen();
let latest = 0; // answers may overtake each other: only the last question's counts
let shown = null;
let version = null;
let watched = true;

function chosen() {
  const [, folder, name] = location.pathname.split("/");
  return folder === "templates" && name ? decodeURIComponent(name) : null;
}

function element(name, text, attributes = {}) {
  const made = document.createElement(name);
  made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

const size = (bytes) => (bytes < 1000 ? `${bytes} bytes` : `${(bytes / 1000).toFixed(1)} kB`);

async function ask(path, wish) {
  const options = wish && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(wish) };
  const answer = await fetch(path, options);
  return { good: answer.ok, value: await answer.json() };
}

function showList(value) {
  watched = value.dir !== null;
  byId("dir").textContent = value.dir ?? "built in";
  const names = value.templates.map((template) => template.name);
  if (!names.includes(current) && !(current && shown)) current = names[0] ?? null;
  const origins = { "built-in": "built in", overridden: "changed", folder: "" };
  byId("list").replaceChildren(
    ...value.templates.map((template) => {
      const path = `/templates/${encodeURIComponent(template.name)}`;
      const link = element("a", "", { href: path });
      const result = template.result ?? "ok";
      const told = { ok: "nothing to say", note: "notes", warn: "warnings", fail: "broken" }[result];
      link.append(element("i", "", { "data-result": result, title: told }), element("span", template.name, { title: template.name }));
      link.append(element("small", origins[template.from]));
      if (template.name === current) link.setAttribute("aria-current", "page");
      link.addEventListener("click", (event) => {
        if (event.ctrlKey || event.metaKey || event.shiftKey) return;
        event.preventDefault();
        history.pushState(null, "", path);
        choose(template.name);
      });
      return link;
    }),
  );
  version = value.version;
}

async function load() {
  const turn = ++latest;
  try {
    const list = await ask("/api/templates");
    if (turn !== latest) return;
    if (!list.good) throw new Error(list.value.error);
    showList(list.value);
    const general = list.value.findings;
    reached(true);
    if (current === null) return void findings(general);
    const { good, value } = await ask("/api/render", { template: current, data: edited.get(current) ?? null });
    if (turn !== latest) return;
    byId("wrong").textContent = "";
    if (good) {
      show(value, general);
    } else if (edited.has(current) && value.line) {
      byId("wrong").textContent = value.error;
    } else {
      findings([{ result: "fail", path: current, detail: value.error }, ...general]);
    }
  } catch (error) {
    // the stream of events says when the program is back
    console.error(error);
    if (turn === latest) reached(false);
  }
}

function show(value, general) {
  shown = value;
  document.title = `${value.template} – Templates`;
  const subject = byId("subject");
  const lacks = value.parts.includes("subject") ? "The subject cannot be rendered" : "The subject comes with the event";
  subject.textContent = value.subject ?? lacks;
  subject.className = value.subject === null ? "absent" : "";
  byId("people").textContent = `${value.sender} to ${value.recipient}`;
  const facts = [value.html !== null && `HTML ${size(value.html)}`, value.mail !== null && `mail ${size(value.mail)}`];
  byId("facts").textContent = facts.filter(Boolean).join(" · ");
  findings([...value.findings, ...general]);
  const eml = byId("eml");
  if (value.mail === null) eml.removeAttribute("href");
  else eml.href = `/rendered/${value.id}/mail.eml`;
  byId("panes").dataset.only = value.parts.includes("html") ? "" : "text";
  frame("wide");
  frame("narrow");
  missing(byId("wide").parentElement, "html", value.html === null);
  missing(byId("narrow").parentElement, "html", value.html === null);
  missing(byId("text").parentElement, "text", value.text === null);
  byId("text").textContent = value.text ?? "";
  const json = byId("json");
  if (!edited.has(current) && json.value !== (value.sample ?? "")) json.value = value.sample ?? "{}\n";
  ofTheData();
}

// Says where the data comes from, and offers the way back.
function ofTheData() {
  const own = edited.has(current);
  byId("origin").textContent = own ? "Changed here" : shown?.sample == null ? "No sample.json" : "As in sample.json";
  byId("reset").disabled = !own;
}

function missing(section, part, empty) {
  section.classList.toggle("empty", empty);
  const none = section.querySelector(".none");
  const name = part === "html" ? "HTML" : "text";
  none.textContent = shown.parts.includes(part) ? `The ${name} part cannot be rendered.` : `This template has no ${name} part.`;
}

// Loads the frame anew and leaves the reader where he was.
function frame(id) {
  const old = byId(id);
  const top = old.contentWindow?.scrollY ?? 0;
  if (shown.html === null) return;
  old.onload = () => {
    old.contentWindow.scrollTo(0, top);
    // a link without a target would replace the mail
    for (const link of old.contentDocument.querySelectorAll("a[href]:not([target])")) link.target = "_blank";
    old.dataset.shows = shown.id;
  };
  const address = `/rendered/${shown.id}/mail.html${byId("images").checked ? "?images" : ""}`;
  // replaced, so that going back leaves the page and not the frame
  old.contentWindow.location.replace(address);
}

function findings(found) {
  byId("findings").replaceChildren(
    ...[...found].sort((a, b) => rank(b) - rank(a)).map((one) => {
      const item = element("li", "", { "data-result": one.result });
      const place = one.line ? `${one.path}:${one.line}` : one.path;
      const text = document.createElement("div");
      text.append(element("code", place), " ", element("span", one.detail));
      if (one.advice) text.append(element("small", one.advice));
      item.append(element("b", { fail: "Error", warn: "Warn", note: "Note" }[one.result]), text);
      return item;
    }),
  );
}

const rank = (finding) => ["note", "warn", "fail"].indexOf(finding.result);

function choose(name) {
  if (name === current) return;
  current = name;
  byId("json").value = edited.get(name) ?? "";
  for (const id of ["wide", "narrow"]) byId(id).contentWindow?.scrollTo(0, 0);
  load();
}

function reached(reached) {
  const here = watched ? "Shows every change at once" : "Built-in templates alone";
  byId("state").textContent = reached ? here : "The preview has ended, or cannot be reached";
  byId("state").classList.toggle("away", !reached);
}

// Choices that outlive the page, where the browser lets them.
function remembered(key, fallback) {
  try {
    return localStorage.getItem(key) ?? fallback;
  } catch {
    return fallback;
  }
}

function group(id, key, fallback) {
  const buttons = byId(id).querySelectorAll("button");
  const set = (value) => {
    const target = key === "view" ? byId("panes") : document.documentElement;
    target.dataset[key] = value;
    for (const button of buttons) button.setAttribute("aria-pressed", button.dataset[key] === value);
    try {
      localStorage.setItem(key, value);
    } catch {
      // then it is forgotten
    }
  };
  for (const button of buttons) button.addEventListener("click", () => set(button.dataset[key]));
  const known = [...buttons].some((button) => button.dataset[key] === remembered(key));
  set(known ? remembered(key) : fallback);
  return set;
}

const roomy = matchMedia("(min-width: 1181px)");
const view = group("views", "view", roomy.matches ? "both" : "wide");
const tight = () => !roomy.matches && byId("panes").dataset.view === "both" && view("wide");
roomy.addEventListener("change", tight);
tight();
group("schemes", "scheme", matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");

byId("images").addEventListener("change", () => shown && ["wide", "narrow"].forEach(frame));
byId("edit").addEventListener("click", () => {
  const form = byId("data");
  form.hidden = !form.hidden;
  byId("edit").setAttribute("aria-expanded", String(!form.hidden));
  if (!form.hidden) byId("json").focus();
});
byId("data").addEventListener("submit", (event) => event.preventDefault());
let typing;
byId("json").addEventListener("input", () => {
  edited.set(current, byId("json").value);
  ofTheData();
  clearTimeout(typing);
  typing = setTimeout(load, 250);
});
byId("reset").addEventListener("click", () => {
  edited.delete(current);
  byId("wrong").textContent = "";
  byId("json").value = "";
  load();
});
addEventListener("popstate", () => choose(chosen() ?? current));

// One stream for a page that is looked at: browsers allow six connections to a server, and pages may be many.
let stream;
function listen() {
  stream?.close();
  stream = undefined;
  if (document.hidden) return;
  stream = new EventSource("/events");
  stream.onmessage = (event) => {
    if (event.data !== version) load();
    else reached(true);
  };
  stream.onerror = () => reached(false);
}
document.addEventListener("visibilitychange", listen);
load().then(listen);
