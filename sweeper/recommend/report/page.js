"use strict";
// Draws the charts one after the other, so that the page can be read at once; sorts, filters and copies.
(() => {
  const root = document.documentElement;
  const told = JSON.parse(document.getElementById("material").textContent);
  const text = { labelColor: "var(--ink2)", titleColor: "var(--ink)", labelFontSize: 11, titleFontSize: 12, titleFontWeight: 500 };
  const config = {
    background: null,
    font: getComputedStyle(document.body).fontFamily, // Vega measures with it
    aria: false, // the figure has a sentence of its own, and the table has the data
    view: { stroke: null },
    axis: { ...text, gridColor: "var(--line)", gridOpacity: 0.7, domainColor: "var(--ink2)", tickColor: "var(--ink2)", labelSeparation: 6 },
    legend: { ...text, orient: "top", columnPadding: 14, symbolOpacity: 1, labelLimit: 160, titleLimit: 300 },
    text: { color: "var(--ink)" },
  };

  function rows(columns) {
    const names = Object.keys(columns);
    if (!names.length) return [];
    return columns[names[0]].map((_, i) => Object.fromEntries(names.map((name) => [name, columns[name][i]])));
  }

  function named(tree, found = new Set()) {
    if (tree && typeof tree === "object") {
      if (tree.data && tree.data.name) found.add(tree.data.name);
      Object.values(tree).forEach((one) => named(one, found));
    }
    return found;
  }

  async function draw(place) {
    const chart = told.charts[Number(place.dataset.chart)];
    const all = { ...told.data, ...chart.data };
    const datasets = Object.fromEntries([...named(chart.spec)].map((name) => [name, rows(all[name] || {})]));
    const spec = { ...chart.spec, datasets, autosize: { type: "fit-x", contains: "padding" } };
    await vegaEmbed(place, spec, { renderer: "svg", actions: false, config, defaultStyle: false, tooltip: { disableDefaultStyle: true } });
    place.dataset.drawn = "yes";
  }

  async function drawAll() {
    const began = performance.now();
    for (const place of document.querySelectorAll("[data-chart]")) {
      try {
        await draw(place);
      } catch (error) {
        place.textContent = "This chart could not be drawn.";
        console.error(error);
      }
    }
    root.dataset.drawnAfterMs = String(Math.round(performance.now() - began));
    root.dataset.drawn = "all";
  }

  function say(words) {
    const place = document.getElementById("said");
    place.textContent = words;
    setTimeout(() => { place.textContent = ""; }, 2000);
  }

  async function copy(words) {
    try {
      await navigator.clipboard.writeText(words);
    } catch {
      // A page that was opened from a file may have no clipboard of its own.
      const area = document.createElement("textarea");
      area.value = words;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    say("Copied");
  }

  function key(row, column) {
    const cell = row.cells[column];
    if (cell.dataset.value !== undefined) return Number(cell.dataset.value);
    return cell.textContent === "" ? null : cell.textContent;
  }

  function compare(a, b) {
    if (a === null || b === null) return (a === null) - (b === null); // what is missing stands last
    if (typeof a === "number" && typeof b === "number") return a - b;
    return String(a).localeCompare(String(b));
  }

  function sortable(table) {
    const titles = [...table.tHead.rows[0].cells];
    titles.forEach((title, column) => {
      const button = title.querySelector("button");
      if (!button) return;
      button.addEventListener("click", () => {
        const falls = title.getAttribute("aria-sort") === "ascending";
        titles.forEach((one) => one.hasAttribute("aria-sort") && one.setAttribute("aria-sort", "none"));
        title.setAttribute("aria-sort", falls ? "descending" : "ascending");
        const body = table.tBodies[0];
        const order = [...body.rows].map((row) => [key(row, column), row]);
        order.sort(([a], [b]) => (a === null || b === null ? compare(a, b) : (falls ? -1 : 1) * compare(a, b)));
        body.append(...order.map(([, row]) => row));
      });
    });
  }

  function filterable(table, input, output) {
    input.addEventListener("input", () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      const every = [...table.tBodies[0].rows];
      for (const row of every) {
        const content = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => content.includes(word));
      }
      output.textContent = `${every.filter((row) => !row.hidden).length} of ${every.length}`;
    });
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-copy]");
    if (button) copy(button.dataset.copy);
  });
  const table = document.getElementById("trials");
  if (table) {
    sortable(table);
    filterable(table, document.getElementById("filter"), document.getElementById("shown"));
  }
  drawAll();
})();
