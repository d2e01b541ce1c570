// Draws the charts in the colours of the reader's theme, and again when it changes or is printed.
"use strict";
(() => {
  const json = (id) => document.getElementById(id).textContent;
  const light = json("figures");
  const pairs = Object.entries(JSON.parse(json("dark")));
  const bright = pairs.reduce((text, [from, to]) => text.replaceAll(from, to), light);
  const darkness = matchMedia("(prefers-color-scheme: dark)");
  const paper = matchMedia("print");
  const PRINTED = 660; // px, that fit on a page
  const NARROW = 560; // px of a chart in which a legend has a row for each name
  const ROW = 21; // px of a row of the legend
  const LETTER = 7; // px of a letter, roughly

  const config = {
    displaylogo: false,
    responsive: true,
    modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
  };

  // Breaks a text into lines of so many pixels.
  const wrapped = (text, width) => {
    const most = Math.max(12, Math.floor(width / LETTER));
    const lines = [""];
    for (const word of text.split(" ")) {
      const last = lines.at(-1);
      if (last && last.length + word.length >= most) lines.push(word);
      else lines[lines.length - 1] = last ? `${last} ${word}` : word;
    }
    return lines.join("<br>");
  };

  // Legends grow downwards, so that a narrow chart is as high as a wide one without its legend.
  const heightOf = (figure, width) => {
    const names = figure.data.filter((trace) => trace.showlegend !== false && trace.name);
    const longest = Math.max(...names.map((trace) => trace.name.length), 1);
    const across = width < NARROW ? 1 : Math.max(1, Math.floor(width / (60 + LETTER * longest)));
    const lines = names.map((trace) => trace.name.split("<br>").length);
    const rows = across > 1 ? Math.ceil(names.length / across) : lines.reduce((a, b) => a + b, 0);
    return figure.layout.height - 60 + ROW * rows;
  };

  const draw = (printed = paper.matches) => {
    const dark = darkness.matches && !printed;
    document.documentElement.dataset.drawn = dark ? "dark" : "light";
    const figures = JSON.parse(dark ? bright : light);
    for (const place of document.querySelectorAll("[data-chart]")) {
      const figure = figures[place.dataset.chart];
      const width = printed ? PRINTED : place.clientWidth;
      // What the reader switched off stays off.
      for (const [number, trace] of (place.data ?? []).entries()) {
        if (trace.visible !== undefined) figure.data[number].visible = trace.visible;
      }
      for (const trace of figure.data) {
        if (trace.name) trace.name = wrapped(trace.name, width - 60);
      }
      for (const axis of [figure.layout.xaxis, figure.layout.yaxis]) {
        axis.title.text = wrapped(axis.title.text, width - 90);
      }
      const layout = { ...figure.layout, height: heightOf(figure, width) };
      const raised = getComputedStyle(document.documentElement).getPropertyValue("--raised");
      const ink = figure.layout.font.color;
      layout.hoverlabel = { ...layout.hoverlabel, bgcolor: raised, font: { color: ink } };
      layout.modebar = { color: "#8a9199", activecolor: ink, bgcolor: "rgba(0,0,0,0)" };
      if (printed) layout.width = PRINTED;
      const bar = width < NARROW || printed ? false : "hover";
      Plotly.react(place, figure.data, layout, { ...config, displayModeBar: bar });
    }
  };

  draw();
  darkness.addEventListener("change", () => draw());
  paper.addEventListener("change", () => draw());
  addEventListener("beforeprint", () => draw(true));
  addEventListener("afterprint", () => draw(false));
  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth !== width) draw();
    width = innerWidth;
  });
})();
