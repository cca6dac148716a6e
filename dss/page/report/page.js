"use strict";
const page = JSON.parse(document.getElementById("page-data").textContent);
const still = { mode: "immediate", frame: { duration: 0, redraw: true }, transition: { duration: 0 } };
const options = { responsive: true, displaylogo: false, displayModeBar: false, scrollZoom: false };

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const make = (tag, properties, parent) => parent.appendChild(Object.assign(document.createElement(tag), properties));

function button(parent, text, label, act) {
  const made = make("button", { type: "button", textContent: text, title: label, onclick: act }, parent);
  made.setAttribute("aria-label", label);
  return made;
}

// Entries of a layout changed, however deep.
function merge(target, changes) {
  for (const [key, value] of Object.entries(changes)) {
    const deep = value !== null && typeof value === "object" && !Array.isArray(value) && typeof target[key] === "object" && target[key] !== null;
    if (deep) merge(target[key], value); else target[key] = value;
  }
}

// Plotly's script lies in the page compressed, and runs once it is unpacked.
async function unpackPlotly() {
  if (typeof DecompressionStream === "undefined") throw new Error("this browser is too old to unpack the page's figures; any of 2023 or later does");
  const packed = document.getElementById("plotly");
  const bytes = Uint8Array.from(atob(packed.textContent), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(stream).text();
  document.head.append(script);
  packed.remove();
}

function save(name, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

class Figure {
  constructor(entry) {
    this.entry = entry;
    this.plot = document.getElementById("plot-" + entry.id);
    this.tools = document.getElementById("tools-" + entry.id);
    this.variant = 0;
    this.scale = 0;
    this.ready = this.draw().then(() => { this.addControls(); this.addLinks(); });
  }

  addLinks() {
    // A cell may stand for a page: the address is the cell's own data, relative and of this kind alone.
    this.plot.on("plotly_click", ({ points }) => {
      const address = points[0].customdata;
      if (typeof address === "string" && /^[^:?#]+\/report\.html$/.test(address)) window.location.href = encodeURI(address);
    });
  }

  get shown() { return this.entry.variants[this.variant]; }

  // Ways to look at what is shown, which the figure brings along: they change its layout, never its data.
  get scales() { return this.shown.figure.layout.meta?.scales ?? []; }

  layout() {
    const layout = structuredClone(this.shown.figure.layout);
    if (this.scales.length) merge(layout, structuredClone(this.scales[this.scale].layout));
    // The reader's zoom and camera outlive a redraw of the same figure.
    layout.uirevision = this.shown.name + this.scale;
    layout.font = { ...layout.font, color: css("--ink") };
    const narrow = this.plot.clientWidth < 600;
    if (narrow) layout.legend = { ...layout.legend, entrywidth: 0.5, entrywidthmode: "fraction", font: { size: 11 } };
    if (layout.scene && narrow) {
      const eye = layout.scene.camera.eye;
      for (const side of Object.keys(eye)) eye[side] *= 1.45;
    }
    for (const name of ["xaxis", "yaxis", "zaxis"]) if (layout.scene) layout.scene[name].gridcolor = css("--rule");
    return layout;
  }

  draw() {
    for (const trace of this.shown.figure.data) if (trace.name === "shadow") trace.line.color = css("--shadow");
    return Plotly.react(this.plot, this.shown.figure.data, this.layout(), options);
  }

  addControls() {
    if (this.entry.variants.length > 1) this.addVariants();
    if (this.entry.variants.some((variant) => (variant.figure.layout.meta?.scales ?? []).length > 1)) this.addScales();
    if (this.entry.frames) this.addHistory();
    this.addDownloads();
  }

  addVariants() {
    const choice = make("select", { onchange: () => { this.variant = Number(choice.value); this.scale = 0; this.update(); } }, this.tools);
    choice.setAttribute("aria-label", "what is shown");
    this.entry.variants.forEach((variant, value) => make("option", { value, textContent: variant.name }, choice));
  }

  addScales() {
    this.scaleChoice = make("select", { onchange: () => { this.scale = Number(this.scaleChoice.value); this.draw(); } }, this.tools);
    this.scaleChoice.setAttribute("aria-label", "scale");
    this.listScales();
  }

  listScales() {
    this.scaleChoice.replaceChildren();
    this.scales.forEach((scale, value) => make("option", { value, textContent: scale.name }, this.scaleChoice));
    this.scaleChoice.disabled = this.scales.length < 2;
  }

  update() {
    if (this.scaleChoice) this.listScales();
    return this.draw();
  }

  addHistory() {
    const last = this.entry.frames.length - 1;
    this.playButton = button(this.tools, "▶ play", "play the growth of the string", () => this.timer ? this.stop() : this.play());
    this.slider = make("input", { type: "range", min: 0, max: last, value: last, step: 1 }, this.tools);
    this.slider.setAttribute("aria-label", "moment of the search");
    this.slider.addEventListener("input", () => { this.stop(); this.show(); });
    this.moment = make("output", { className: "moment" }, this.tools);
    this.describe();
  }

  describe() {
    const frame = this.entry.frames[Number(this.slider.value)];
    this.moment.textContent = frame.name + " · " + frame.note;
    this.slider.setAttribute("aria-valuetext", this.moment.textContent);
  }

  show() {
    this.describe();
    const data = this.entry.frames[Number(this.slider.value)].data;
    this.shown.figure.data = data;
    return this.draw();
  }

  play() {
    if (this.slider.value === this.slider.max) this.slider.value = 0;
    this.playButton.textContent = "⏸ pause";
    this.show();
    this.timer = setInterval(() => {
      if (this.slider.value === this.slider.max) return this.stop();
      this.slider.stepUp();
      this.show();
    }, Math.max(150, Math.min(700, 9000 / this.entry.frames.length)));
  }

  stop() {
    clearInterval(this.timer);
    this.timer = undefined;
    this.playButton.textContent = "▶ play";
  }

  addDownloads() {
    const filename = page.name + "-" + this.entry.id;
    const image = (format) => () => Plotly.downloadImage(this.plot, { format, filename, width: 1000, height: 640, scale: format === "png" ? 2 : 1 });
    button(this.tools, "PNG", "download this figure as PNG", image("png")).className = "push";
    button(this.tools, "SVG", "download this figure as SVG", image("svg"));
    if (this.entry.csv) button(this.tools, "CSV", "download the data of this figure as CSV", () => save(filename + ".csv", this.entry.csv));
  }
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  document.getElementById("theme").textContent = theme === "dark" ? "☀ light" : "☾ dark";
}

const prefersDark = window.matchMedia("(prefers-color-scheme: dark)");
setTheme(prefersDark.matches ? "dark" : "light");
let figures = [];
const retheme = (theme) => { setTheme(theme); figures.forEach((figure) => figure.draw()); };
document.getElementById("theme").onclick = () => retheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
prefersDark.addEventListener("change", (event) => retheme(event.matches ? "dark" : "light"));
window.pageReady = unpackPlotly()
  .then(() => { figures = page.figures.map((entry) => new Figure(entry)); return Promise.all(figures.map((figure) => figure.ready)); })
  .then(() => { document.body.dataset.ready = "true"; })
  .catch((error) => {
    const note = make("p", { className: "missing", textContent: "The figures cannot be drawn: " + error.message + "." }, document.querySelector("main"));
    document.querySelector("main").insertBefore(note, document.querySelector("figure"));
    throw error;
  });
