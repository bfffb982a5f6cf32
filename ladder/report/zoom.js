"use strict";
// Charts to zoom into. Plotly is unpacked when the first one is asked for, so that pages open as fast as without it.
(() => {
  const dialog = document.getElementById("zoomed"), chart = document.getElementById("zoomed-chart");
  const buttons = document.querySelectorAll("button.zoom");
  if (!dialog || !buttons.length || !("DecompressionStream" in window)) return;

  const CONFIG = { displaylogo: false, responsive: true, showSendToCloud: false, plotlyServerURL: "", modeBarButtonsToRemove: ["select2d", "lasso2d"] };
  let library = null;
  const plotly = () => (library ??= unpacked("plotly-script").then((found) => found.text()).then((text) => {
    const script = document.createElement("script");
    script.textContent = text;
    document.head.append(script);
    return window.Plotly;
  }));

  // "--new" becomes what that variable is on this page, in light or dark.
  const style = getComputedStyle(document.documentElement);
  function coloured(value) {
    if (typeof value === "string") return value.startsWith("--") ? style.getPropertyValue(value).trim() || value : value;
    if (Array.isArray(value)) return value.map(coloured);
    if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, key === "meta" ? one : coloured(one)]));
    return value;
  }

  function layoutOf(figure) {
    const layout = coloured({
      paper_bgcolor: "--card", plot_bgcolor: "--card", font: { color: "--ink", family: style.getPropertyValue("--sans").trim(), size: 13 },
      margin: { l: 70, r: 60, t: 20, b: 60 }, showlegend: false, autosize: true, hoverlabel: { align: "left" }, ...figure.layout,
    });
    const quiet = coloured({ gridcolor: "--line", linecolor: "--line", zerolinecolor: "--line", automargin: true });
    const named = new Set(["xaxis", "yaxis", ...Object.keys(layout).filter((key) => /^[xy]axis/.test(key))]);
    for (const name of named) layout[name] = { ...quiet, ...layout[name] };
    return layout;
  }

  // Parallel coordinates: a click on a value keeps the lines that have it, a second one takes that back.
  function filterByValue(Plotly, figure) {
    const wanted = new Map();
    const values = figure.layout.meta; // of the annotations, in their order
    chart.on("plotly_clickannotation", ({ index }) => {
      const [knob, label] = values[index];
      if (wanted.get(knob) === label) wanted.delete(knob);
      else wanted.set(knob, label);
      const keeps = (line) => [...wanted].every(([name, value]) => line.meta[name] === value);
      Plotly.restyle(chart, { opacity: figure.data.map((line) => (keeps(line) ? (wanted.size ? 1 : line.opacity) : 0.04)) });
      const borders = values.map(([name, value]) => coloured(wanted.get(name) === value ? "--final" : "--line"));
      Plotly.relayout(chart, Object.fromEntries(borders.map((colour, i) => [`annotations[${i}].bordercolor`, colour])));
    });
  }

  async function open(button) {
    document.getElementById("zoomed-title").textContent = button.dataset.title;
    document.getElementById("zoomed-hint").textContent = button.dataset.hint;
    delete chart.dataset.drawn;
    window.Plotly?.purge(chart);
    chart.textContent = "…";
    dialog.showModal();
    const Plotly = await plotly();
    const figure = JSON.parse(button.nextElementSibling.textContent);
    chart.textContent = "";
    chart.style.minWidth = figure.min_width ? `${figure.min_width}px` : "";
    await Plotly.newPlot(chart, coloured(figure.data), layoutOf(figure), CONFIG);
    if (figure.layout.annotations) filterByValue(Plotly, figure);
    chart.dataset.drawn = button.dataset.title;
  }

  for (const button of buttons) {
    button.classList.add("ready");
    button.addEventListener("click", () => open(button).catch((error) => {
      chart.textContent = `The chart cannot be drawn in this browser (${error.message}); the page behind has it as a picture.`;
    }));
  }
})();
