// The map: nodes and edges as SVG, and a dot for each message on its way. Names are text, never markup.

const SVG = "http://www.w3.org/2000/svg";
const BUSY = 50; // messages a second on an edge above which it is a width and a number
const HOP = 420; // milliseconds that a dot takes along one edge
const DOTS = 400; // at once
const still = matchMedia("(prefers-reduced-motion: reduce)");

export function make(name, attributes = {}, text) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

const cut = (text, length) => (text.length > length ? `${text.slice(0, length - 1)}…` : text);

export class Map_ {
  constructor(svg) {
    this.svg = svg;
    this.edges = new Map();
    this.nodes = new Map();
    this.rates = {};
    this.dots = new Set();
    this.paused = false;
    requestAnimationFrame((now) => this.move(now));
  }

  draw(data) {
    this.svg.replaceChildren();
    this.edges.clear();
    this.nodes.clear();
    this.svg.setAttribute("viewBox", `0 0 ${data.width} ${data.height}`);
    this.svg.setAttribute("width", data.width);
    this.svg.setAttribute("height", data.height);
    const places = new Map(data.nodes.map((node) => [node.id, node]));
    for (const column of data.columns) {
      if (data.nodes.some((node) => node.kind === column.kind)) {
        this.svg.append(make("text", { class: "title", x: column.x, y: 26 }, column.title));
      }
    }
    const labels = [];
    for (const edge of data.edges) {
      const from = places.get(edge.from), to = places.get(edge.to);
      if (!from || !to) continue;
      const path = make("path", { class: `edge ${edge.kind}`, d: curve(from, to) });
      path.append(make("title", {}, `${from.name} → ${to.name}${edge.label ? `  ${edge.label}` : ""}`));
      this.svg.append(path);
      const kept = { path, edge, rate: null };
      this.edges.set(edge.id, kept);
      if (edge.label && edge.kind === "binding") labels.push([path, edge.label]);
      this.mark(kept, edge);
    }
    for (const [path, label] of labels) {
      const at = path.getPointAtLength(path.getTotalLength() * 0.72);
      this.svg.append(make("text", { class: "label", x: at.x - 6, y: at.y - 5, "text-anchor": "end" }, cut(label, 16)));
    }
    for (const node of data.nodes) this.svg.append(this.node(node));
  }

  node(node) {
    const group = make("g", { class: `node ${node.kind} ${node.state}`, transform: `translate(${node.x} ${node.y})` });
    const said = node.state === "absent" ? " · not on the broker" : node.state === "undeclared" ? " · not declared" : "";
    group.append(make("title", {}, `${node.kind} ${node.name}${node.about ? ` (${node.about})` : ""}${said}`));
    group.append(make("rect", { width: node.w, height: node.h }));
    group.append(make("text", { x: 14, y: node.about || said ? 19 : 27 }, cut(node.name, node.ready ? 16 : 20)));
    if (node.about || said) group.append(make("text", { class: "about", x: 14, y: 34 }, node.about + said));
    const count = make("text", { class: "count", x: node.w - 12, y: 19 }, node.ready ? String(node.ready) : "");
    group.append(count);
    this.nodes.set(node.id, { group, count });
    return group;
  }

  mark(kept, numbers) {
    kept.path.classList.toggle("used", numbers.count > 0);
    const busy = numbers.rate > BUSY;
    kept.path.style.strokeWidth = busy ? String(Math.min(12, 2 + Math.log2(numbers.rate / 10))) : "";
    if (busy && !kept.rate) {
      const at = kept.path.getPointAtLength(kept.path.getTotalLength() / 2);
      kept.rate = make("text", { class: "rate", x: at.x, y: at.y - 6 });
      this.svg.append(kept.rate);
    }
    if (kept.rate) kept.rate.textContent = busy ? `${numbers.rate}/s` : "";
  }

  count(numbers) {
    for (const [id, kept] of this.edges) if (numbers.edges[id]) this.mark(kept, numbers.edges[id]);
    for (const [id, kept] of this.nodes) {
      const ready = numbers.nodes[id]?.ready;
      if (ready !== undefined) kept.count.textContent = ready ? String(ready) : "";
    }
    this.rates = numbers.edges;
  }

  // A message goes along the edges that are new since it was last told of.
  flow(message, seen) {
    if (this.paused || still.matches || document.hidden) return;
    for (const path of message.edges) {
      const fresh = path.filter((id) => !seen.has(id));
      if (!fresh.length || this.dots.size >= DOTS || fresh.some((id) => (this.rates[id]?.rate ?? 0) > BUSY)) continue;
      const wrong = message.state === "unroutable" || message.state === "mismatch";
      const dot = make("circle", { class: wrong ? "dot wrong" : "dot", r: 5 });
      this.dots.add({ dot, path: fresh, start: null, wrong });
      this.svg.append(dot);
    }
  }

  move(now) {
    for (const one of this.dots) {
      one.start ??= now;
      const gone = (now - one.start) / HOP, place = Math.floor(gone);
      const kept = this.edges.get(one.path[place]);
      if (!kept) {
        if (one.wrong) this.hurt(one.path);
        one.dot.remove();
        this.dots.delete(one);
        continue;
      }
      const at = kept.path.getPointAtLength(kept.path.getTotalLength() * ease(gone - place));
      one.dot.setAttribute("cx", at.x);
      one.dot.setAttribute("cy", at.y);
    }
    requestAnimationFrame((next) => this.move(next));
  }

  hurt(path) {
    const end = this.edges.get(path[path.length - 1])?.edge.to;
    const group = this.nodes.get(end)?.group;
    group?.classList.add("wrong");
    setTimeout(() => group?.classList.remove("wrong"), 1200);
  }

  light(paths) {
    const lit = new Set((paths ?? []).flat());
    this.svg.classList.toggle("tried", lit.size > 0);
    for (const [id, kept] of this.edges) kept.path.classList.toggle("lit", lit.has(id));
  }
}

const ease = (x) => (x < 0.5 ? 2 * x * x : 1 - (2 - 2 * x) ** 2 / 2);

function curve(from, to) {
  const x1 = from.x + from.w, y1 = from.y + from.h / 2, x2 = to.x, y2 = to.y + to.h / 2;
  if (x2 > x1) {
    const reach = (x2 - x1) / 2;
    return `M${x1} ${y1} C${x1 + reach} ${y1} ${x2 - reach} ${y2} ${x2} ${y2}`;
  }
  if (from.x === to.x) { // within a column, beside it
    const side = from.x - 18;
    return `M${from.x} ${y1} C${side - 18} ${y1} ${side - 18} ${y2} ${to.x} ${y2}`;
  }
  const low = Math.max(from.y + from.h, to.y + to.h) + 16; // back: below both
  return `M${from.x} ${y1} C${from.x - 50} ${low} ${to.x + to.w + 50} ${low} ${to.x + to.w} ${y2}`;
}
