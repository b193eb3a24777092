"use strict";
// Draws the charts when they come into view, follows the colour scheme, and shows a candidate when its id is in the
// address. Texts of candidates are set as text; the only HTML that is set is that of our own, escaping templates.
(() => {
  const byId = (id) => document.getElementById(id);
  const read = (id) => JSON.parse(byId(id).textContent);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const index = read("index"); // id -> [chunk, first parent, depth, row, words]
  const hues = read("hues");
  const inTheDark = new Map(Object.entries(read("dark")));
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const narrow = matchMedia("(max-width: 1000px)");
  const touch = matchMedia("(pointer: coarse)");
  const known = (id) => Object.hasOwn(index, id);
  let printing = false;
  document.documentElement.classList.add("scripted");

  // --- charts ------------------------------------------------------------------------------------------------------

  const drawn = new Map(); // element -> figure
  const WORDS = new Set(["text", "hovertext", "customdata", "name", "x", "y", "z"]); // hold no colours

  const recoloured = (value, key) => {
    if (WORDS.has(key)) return value;
    if (typeof value === "string") return inTheDark.get(value) ?? value;
    if (Array.isArray(value)) return value.map((item) => recoloured(item, ""));
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, recoloured(item, name)]));
  };

  const themed = (figure) => {
    const night = dark.matches && !printing;
    const data = night ? recoloured(figure.data, "") : structuredClone(figure.data);
    const layout = night ? recoloured(figure.layout, "") : structuredClone(figure.layout);
    layout.uirevision = "kept"; // what a person zoomed to
    if (printing) Object.assign(layout, { autosize: false, width: 680 });
    return { data, layout };
  };

  const draw = (element) => {
    if (!drawn.has(element)) drawn.set(element, read(`figure-${element.dataset.figure}`));
    const figure = drawn.get(element);
    const tree = element.id === "plot-lineage";
    const { data, layout } = themed(figure);
    if (touch.matches && !tree) { // a finger scrolls the page, not the chart
      for (const axis of ["xaxis", "yaxis"]) layout[axis] = { ...layout[axis], fixedrange: true };
      layout.dragmode = false;
    }
    if (tree) ring(data);
    const first = !element.classList.contains("js-plotly-plot");
    Plotly.react(element, data, layout, { displayModeBar: false, scrollZoom: tree, doubleClick: "reset", responsive: false });
    if (!first) return;
    element.on("plotly_click", (event) => {
      const id = event.points[0]?.customdata;
      if (typeof id === "string" && known(id)) location.hash = id;
    });
    element.on("plotly_hover", (event) => element.classList.toggle("pointing", known(String(event.points[0]?.customdata))));
    element.on("plotly_unhover", () => element.classList.remove("pointing"));
    if (tree) element.addEventListener("wheel", (event) => { if (!event.ctrlKey && !event.metaKey) event.stopPropagation(); }, { capture: true });
    new ResizeObserver(() => { if (!printing && element.offsetParent) Plotly.Plots.resize(element); }).observe(element);
  };

  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) { seen.unobserve(entry.target); draw(entry.target); }
  }, { rootMargin: "300px" });
  const plots = all(".plot");
  plots.forEach((element) => seen.observe(element));
  dark.addEventListener("change", () => [...drawn.keys()].forEach(draw));

  let opened = [];
  addEventListener("beforeprint", () => {
    printing = true;
    opened = all("details:not([open])", byId("page"));
    opened.forEach((element) => { element.open = true; });
    plots.forEach(draw);
  });
  addEventListener("afterprint", () => {
    printing = false;
    opened.forEach((element) => { element.open = false; });
    plots.forEach((element) => { draw(element); Plotly.Plots.resize(element); });
  });

  // --- the tree ----------------------------------------------------------------------------------------------------

  const tree = byId("tree");
  const treePlot = byId("plot-lineage");
  let cursor = Object.keys(index)[0];
  const walking = { on: false };

  const ring = (data) => { // around the node that the keys are at, or that is shown
    const at = walking.on && known(cursor) ? index[cursor] : null;
    const last = data[data.length - 1];
    last.x = at ? [at[2]] : [];
    last.y = at ? [at[3]] : [];
  };

  const moveTo = (id) => {
    cursor = id;
    walking.on = true;
    byId("cursor").textContent = `${id}: ${index[id][4]}`;
    if (!treePlot || !drawn.has(treePlot)) return;
    const [, , x, y] = index[id];
    Plotly.restyle(treePlot, { x: [[x]], y: [[y]] }, [treePlot.data.length - 1]);
    const { xaxis, yaxis } = treePlot.layout;
    const shift = (range, at) => {
      const [low, high] = [Math.min(...range), Math.max(...range)];
      const margin = (high - low) * 0.06;
      const move = at < low + margin ? at - low - margin : at > high - margin ? at - high + margin : 0;
      return range.map((end) => end + move);
    };
    Plotly.relayout(treePlot, { "xaxis.range": shift(xaxis.range, x), "yaxis.range": shift(yaxis.range, y) });
  };

  const neighbour = (key) => {
    const [, parent, depth, row] = index[cursor];
    if (key === "ArrowLeft") return parent;
    const entries = Object.entries(index);
    const nearest = (found) => found.sort((a, b) => Math.abs(a[1][3] - row) - Math.abs(b[1][3] - row))[0]?.[0];
    if (key === "ArrowRight") return nearest(entries.filter(([, at]) => at[1] === cursor));
    const sign = key === "ArrowUp" ? -1 : 1;
    const sameDepth = entries.filter(([, at]) => at[2] === depth && (at[3] - row) * sign > 0);
    return nearest(sameDepth);
  };

  tree.addEventListener("keydown", (event) => {
    if (event.target !== tree || event.ctrlKey || event.metaKey || event.altKey || !known(cursor)) return;
    if (event.key === "Enter") { location.hash = cursor; event.preventDefault(); }
    if (!event.key.startsWith("Arrow")) return;
    event.preventDefault();
    moveTo(walking.on ? neighbour(event.key) ?? cursor : cursor);
  });
  tree.addEventListener("focus", () => { if (known(cursor) && tree.matches(":focus-visible")) moveTo(cursor); });

  const zoom = (range, factor) => {
    const middle = (range[0] + range[1]) / 2;
    return range.map((end) => middle + (end - middle) * factor);
  };
  const wayToBest = () => {
    const way = [];
    for (let id = tree.dataset.best; id && known(id); id = index[id][1]) way.push(index[id]);
    return way;
  };
  all("[data-view]").forEach((button) => button.addEventListener("click", () => {
    if (!treePlot || !drawn.has(treePlot)) return;
    const { xaxis, yaxis } = treePlot.layout;
    const whole = drawn.get(treePlot).layout;
    let [x, y] = [whole.xaxis.range, whole.yaxis.range];
    if (button.dataset.view === "in" || button.dataset.view === "out") {
      const factor = button.dataset.view === "in" ? 0.6 : 1 / 0.6;
      [x, y] = [zoom(xaxis.range, factor), zoom(yaxis.range, factor)];
    } else if (button.dataset.view === "best") {
      const way = wayToBest();
      const [depths, rows] = [way.map((at) => at[2]), way.map((at) => at[3])];
      x = [Math.min(...depths) - 0.5, Math.max(...depths) + 0.6];
      y = [Math.max(...rows) + 2.5, Math.min(...rows) - 2.5];
    }
    Plotly.relayout(treePlot, { "xaxis.range": [...x], "yaxis.range": [...y] });
  }));

  // --- one candidate -----------------------------------------------------------------------------------------------

  const unpacked = new Map(); // chunk -> promise of what is in it
  const unpack = (number) => {
    if (!unpacked.has(number)) unpacked.set(number, (async () => {
      const bytes = Uint8Array.from(atob(byId(`chunk-${number}`).textContent), (character) => character.charCodeAt(0));
      const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
      return JSON.parse(await new Response(stream).text());
    })());
    return unpacked.get(number);
  };

  const span = (name, text) => {
    const element = document.createElement("span");
    element.className = name;
    element.textContent = text;
    return element;
  };

  const showSource = (place, source, runs) => {
    const flagged = new Set(place.dataset.flagged.split(" ").filter(Boolean).map(Number));
    const points = [...source]; // the lengths are in code points, as Python counts
    const rows = span("lines", "");
    let row = span("row", "");
    let number = 1;
    const end = () => { if (flagged.has(number)) row.classList.add("flagged"); row.append("\n"); rows.append(row); row = span("row", ""); number += 1; };
    for (let i = 0, at = 0; i < runs.length; at += runs[i + 1], i += 2) {
      points.slice(at, at + runs[i + 1]).join("").split("\n").forEach((text, line) => {
        if (line) end();
        if (text) row.append(runs[i] ? span(`h-${hues[runs[i]]}`, text) : text);
      });
    }
    if (row.childNodes.length) end();
    place.replaceChildren(rows);
  };

  const showDiff = (place, text) => {
    const names = { "+": "row add", "-": "row del", "@": "row hunk" };
    const lines = span("lines", "");
    lines.append(...(text ? text.split("\n") : ["no line differs"]).map((line) => span(names[line[0]] ?? "row", `${line}\n`)));
    place.replaceChildren(lines);
  };

  const panel = byId("panel");
  let returnTo = null;
  let asked = null;

  const show = async (id) => {
    asked = id;
    const chunk = await unpack(index[id][0]);
    if (asked !== id) return; // another one was asked for meanwhile
    const body = byId("panel-body");
    byId("panel-title").textContent = id;
    body.innerHTML = chunk.panels[id];
    showSource(body.querySelector("[data-source]"), chunk.sources[id], chunk.hues[id]);
    all("[data-diff]", body).forEach((place) => showDiff(place, chunk.diffs[id][Number(place.dataset.diff)]));
    const copy = body.querySelector("[data-copy]");
    copy.addEventListener("click", async () => {
      await navigator.clipboard.writeText(chunk.sources[id]);
      copy.textContent = "Copied";
    });
    if (panel.hidden) returnTo = document.activeElement === document.body ? null : document.activeElement;
    panel.hidden = false;
    panel.scrollTop = 0;
    document.body.classList.add("reading");
    byId("page").inert = narrow.matches;
    byId("panel-title").focus({ preventScroll: true });
    all("tr.current").forEach((row) => row.classList.remove("current"));
    document.querySelector(`#list a[href="#${id}"]`)?.closest("tr").classList.add("current");
    moveTo(id);
  };

  const close = () => {
    asked = null;
    panel.hidden = true;
    document.body.classList.remove("reading");
    byId("page").inert = false;
    try { history.replaceState(null, "", "#"); } catch { /* an address that may not change */ }
    (returnTo?.isConnected ? returnTo : byId("tree")).focus({ preventScroll: true });
  };

  const follow = () => {
    const id = decodeURIComponent(location.hash.slice(1));
    if (known(id)) show(id);
  };
  byId("close").addEventListener("click", close);
  addEventListener("keydown", (event) => { if (event.key === "Escape" && !panel.hidden) close(); });
  addEventListener("hashchange", follow);
  narrow.addEventListener("change", () => { byId("page").inert = narrow.matches && !panel.hidden; });
  document.addEventListener("click", (event) => { // the candidate that is in the address already, and was closed
    const link = event.target.closest?.("a[href^='#c-']");
    if (link && link.hash === location.hash) follow();
  });

  // --- the list ----------------------------------------------------------------------------------------------------

  const list = byId("list").tBodies[0];
  const rows = [...list.rows].filter((row) => row.dataset.outcome);
  const valueOf = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.value === undefined ? cell.textContent : cell.dataset.value === "" ? null : Number(cell.dataset.value);
  };
  all("[data-sort]").forEach((button) => button.addEventListener("click", () => {
    const heading = button.closest("th");
    const order = heading.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
    all("#list th[aria-sort]").forEach((other) => other.removeAttribute("aria-sort"));
    heading.setAttribute("aria-sort", order);
    const column = Number(button.dataset.sort);
    const keyed = rows.map((row) => [valueOf(row, column), row]);
    keyed.sort(([a], [b]) => { // what is missing comes last, whichever the order
      if (a === null || b === null) return (a === null) - (b === null);
      const sign = typeof a === "number" ? a - b : String(a).localeCompare(String(b));
      return order === "ascending" ? sign : -sign;
    });
    list.append(...keyed.map(([, row]) => row));
  }));
  const filter = () => {
    const [outcome, wanted] = [byId("outcome").value, byId("find").value.trim().toLowerCase()];
    let shown = 0;
    for (const row of rows) {
      row.hidden = (outcome && row.dataset.outcome !== outcome) || (wanted && !row.textContent.toLowerCase().includes(wanted));
      shown += !row.hidden;
    }
    byId("shown").textContent = shown === rows.length ? "" : `${shown} of ${rows.length} candidates`;
  };
  byId("outcome").addEventListener("change", filter);
  byId("find").addEventListener("input", filter);

  follow();
})();
