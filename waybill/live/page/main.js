// The page: what the server tells, drawn; the list, what nobody took, one message, and what is tried.

import { wanted } from "./filter.js";
import { Map_ } from "./map.js";

const SHOWN = 200, KEPT = 2000;
const $ = (id) => document.getElementById(id);
const map = new Map_($("map"));
const messages = new Map(); // number -> message, as it was told last
let drawn = false, paused = false, waiting = false;

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

async function get(path) {
  const answer = await fetch(path);
  const value = await answer.json();
  if (!answer.ok) throw new Error(value.error);
  return value;
}

function show(data) {
  map.draw(data);
  drawn = true;
  $("about").textContent = `${data.vhost === "/" ? "vhost /" : data.vhost} · RabbitMQ ${data.version} · ${data.said}`;
  $("about").title = $("about").textContent;
  $("nothing").hidden = data.nodes.length > 0;
  const names = data.nodes.filter((node) => node.kind === "exchange" && node.state !== "absent").map((node) => node.name);
  $("exchanges").replaceChildren(...names.filter((name) => name !== "(default)").map((name) => {
    const option = element("option");
    option.value = name;
    return option;
  }));
}

function take(message, moves) {
  const before = messages.get(message.number);
  messages.set(message.number, message);
  if (messages.size > KEPT) messages.delete(messages.keys().next().value);
  if (moves && drawn) map.flow(message, new Set((before?.edges ?? []).flat()));
  if (!waiting) {
    waiting = true;
    requestAnimationFrame(() => { waiting = false; if (!paused) list(); });
  }
}

const WORDS = { routed: "waits", delivered: "delivered", unroutable: "✗ nobody", mismatch: "✗ not as predicted", dead_lettered: "† dead letter" };

function row(message) {
  const item = element("li", message.state), button = element("button");
  button.type = "button";
  const what = element("div", "what");
  const at = element("time", "", new Date(message.time * 1000).toLocaleTimeString([], { hour12: false }));
  what.append(at, element("b", "", message.task || message.id || "message"), element("span", "state", WORDS[message.state] ?? message.state));
  const to = message.workers?.length ? ` → ${message.workers.join(", ")}` : "";
  const way = `${message.exchange || "(default)"}  ${message.key} → ${message.queues.join(", ") || "no queue"}${to}`;
  button.append(what, element("div", "way", way));
  button.title = way;
  button.addEventListener("click", () => open(message.number));
  item.append(button);
  return item;
}

function list() {
  const is_wanted = wanted($("filter").value);
  const newest = [...messages.values()].sort((a, b) => b.number - a.number);
  const found = newest.filter(is_wanted);
  $("list").replaceChildren(...found.slice(0, SHOWN).map(row));
  $("quiet").hidden = found.length > 0;
  $("quiet").textContent = messages.size ? "No message fits the filter." : "Nothing has been published yet. Publish a task, or try a message above.";
  const lost = newest.filter((one) => one.state === "unroutable" || one.state === "mismatch");
  $("lost").hidden = lost.length === 0;
  $("lost-count").textContent = lost.length ? `(${lost.length})` : "";
  $("lost-list").replaceChildren(...lost.slice(0, 50).map(row));
}

// one message

function section(title, ...content) {
  return [element("h3", "", title), ...content];
}

async function open(number) {
  let one;
  try { one = await get(`/api/messages/${number}`); } catch (error) { return; }
  location.hash = new URLSearchParams({ filter: $("filter").value, message: number }).toString();
  const parts = [element("h2", "", one.task || one.id || "Message")];
  const facts = element("dl");
  for (const [name, value] of [["id", one.id], ["sent by", one.sender], ["exchange", one.exchange || "(default)"], ["routing key", one.key],
    ["queues", one.queues.join(", ") || "none"], ["predicted", one.predicted ? one.predicted.join(", ") || "none" : "only the broker knows"],
    ["state", WORDS[one.state] ?? one.state], ["retries", String(one.retries)]]) {
    if (value) facts.append(element("dt", "", name), element("dd", "", value));
  }
  parts.push(facts);
  if (one.fix) parts.push(...section("What to do", element("div", "", one.fix)));
  for (const visit of one.trace) {
    const rows = visit.bindings.map((binding) => {
      const line = element("div", "row");
      line.append(element("span", binding.is_match ? "yes" : "no", binding.is_match ? "✓" : "✗"), element("span", "", binding.to.split(":").slice(1).join(":")),
        element("code", "", binding.key), element("span", "", binding.reason));
      return line;
    });
    parts.push(...section(`At exchange ${visit.exchange || "(default)"}${visit.note ? `: ${visit.note}` : ""}`, ...rows));
  }
  const start = one.hops[0]?.time ?? one.time;
  const hops = one.hops.map((hop) => {
    const line = element("div", "row");
    line.append(element("span", "yes", "→"), element("span", "", hop.to.split(":").slice(1).join(":") || "(default)"), element("span", "", hop.kind),
      element("time", "", `+${((hop.time - start) * 1000).toFixed(1)} ms`));
    return line;
  });
  parts.push(...section("Hops", ...hops));
  if (one.id) {
    const tree = await get(`/api/tasks/${encodeURIComponent(one.id)}`).catch(() => ({ tasks: [] }));
    if (tree.tasks.length > 1) {
      parts.push(...section("Tasks of the same root", ...tree.tasks.map((task) => {
        const line = element("div", "row");
        line.append(element("span", "", task.id === one.id ? "●" : "○"), element("span", "", task.task ?? ""), element("span", "", task.queue ?? "no queue"), element("span", "", WORDS[task.state] ?? task.state));
        return line;
      })));
    }
  }
  parts.push(...section("Headers", element("pre", "", JSON.stringify(one.headers, null, 2))), ...section("Properties", element("pre", "", JSON.stringify(one.properties, null, 2))));
  if (one.deaths.length) parts.push(...section("Deaths", element("pre", "", JSON.stringify(one.deaths, null, 2))));
  if (one.body !== null) parts.push(...section("Body", element("pre", "", one.body)));
  const form = element("form"), close = element("button", "", "Close");
  form.method = "dialog";
  form.append(close);
  $("details").replaceChildren(...parts, form);
  $("details").showModal();
  $("details").scrollTop = 0;
  parts[0].tabIndex = -1;
  parts[0].focus();
  map.light(one.edges);
}
$("details").addEventListener("close", () => { map.light([]); remember(); });

function remember() {
  const text = $("filter").value;
  history.replaceState(null, "", text ? `#${new URLSearchParams({ filter: text })}` : location.pathname);
}

// try

async function attempt() {
  const form = new FormData($("try")), asked = new URLSearchParams([...form].filter(([, value]) => value));
  try {
    const found = await get(`/api/try?${asked}`);
    map.light(found.edges);
    $("tried").textContent = found.error ?? (found.queues.length ? `reaches ${found.queues.join(", ")}` : "reaches no queue");
    $("tried").className = found.queues.length ? "yes" : "state";
  } catch (error) { $("tried").textContent = error.message; }
}
$("try").addEventListener("submit", (event) => { event.preventDefault(); attempt(); });
$("try").addEventListener("input", () => { $("tried").textContent = ""; map.light([]); });
$("send").addEventListener("click", async () => {
  await attempt();
  const form = new FormData($("try"));
  let headers;
  try { headers = JSON.parse(form.get("headers") || "{}"); } catch { $("tried").textContent = "headers: expected JSON"; return; }
  if (!confirm(`Publish a message to ${form.get("exchange") || "the default exchange"}? It ${$("tried").textContent}.`)) return;
  const body = JSON.stringify({ exchange: form.get("exchange"), key: form.get("key"), headers, payload: "" });
  const answer = await fetch("/api/send", { method: "POST", body });
  const found = await answer.json();
  $("tried").textContent = found.error ?? `published: ${found.text}`;
  map.light([]);
});

// keys and buttons

function pause() {
  paused = map.paused = !paused;
  $("pause").setAttribute("aria-pressed", paused);
  $("pause").textContent = paused ? "Go on" : "Pause";
  if (!paused) list();
}
$("pause").addEventListener("click", pause);
$("filter").addEventListener("input", () => { list(); remember(); });
let nextLost = 0;
addEventListener("keydown", (event) => {
  if (event.key === "Escape" && document.activeElement === $("filter")) $("filter").blur();
  if (event.target.closest("input, dialog") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "/") { event.preventDefault(); $("filter").focus(); }
  if (event.key === "p") pause();
  if (event.key === "?") $("help").showModal();
  if (event.key === "n") {
    const lost = [...$("lost-list").querySelectorAll("button")];
    if (lost.length) lost[nextLost++ % lost.length].click();
  }
});

// the server

function listen() {
  const events = new EventSource("/events");
  events.addEventListener("map", (event) => { show(JSON.parse(event.data)); again(); });
  events.addEventListener("message", (event) => take(JSON.parse(event.data), true));
  events.addEventListener("counts", (event) => { if (drawn && !paused) map.count(JSON.parse(event.data)); });
  events.addEventListener("gone", (event) => { $("about").textContent = JSON.parse(event.data).error; events.close(); });
  events.addEventListener("open", reload);
  events.addEventListener("error", () => { $("about").textContent = "The connection to waybill is lost; trying again…"; });
}

// A worker's name is known a little later than what it was given: what is shown is asked for once more.
async function again() {
  const last = messages.size ? Math.max(...messages.keys()) : 0;
  for (const message of (await get(`/api/messages?after=${Math.max(0, last - SHOWN)}&limit=${SHOWN}`)).messages) take(message, false);
}

async function reload() {
  show(await get("/api/map"));
  const last = messages.size ? Math.max(...messages.keys()) : 0;
  for (const message of (await get(`/api/messages?after=${last}&limit=1000`)).messages) take(message, false);
}

const kept = new URLSearchParams(location.hash.slice(1));
$("filter").value = kept.get("filter") ?? "";
listen();
list();
if (kept.get("message")) open(kept.get("message"));
