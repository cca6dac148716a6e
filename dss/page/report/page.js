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
    this.log = entry.log;
    this.variant = 0;
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

  layout() {
    const layout = structuredClone(this.shown.figure.layout);
    // The reader's zoom and camera outlive a redraw of the same figure.
    layout.uirevision = this.shown.name + this.log;
    layout.font = { ...layout.font, color: css("--ink") };
    if (this.log && this.shown.log) Object.assign(layout.yaxis, { type: "log" }, layout.meta);
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
    if (this.entry.variants.some((variant) => variant.log !== null)) this.addLog();
    if (this.entry.frames) this.addHistory();
    this.addDownloads();
  }

  addVariants() {
    const choice = make("select", { onchange: () => { this.variant = Number(choice.value); this.update(); } }, this.tools);
    choice.setAttribute("aria-label", "what is shown");
    this.entry.variants.forEach((variant, value) => make("option", { value, textContent: variant.name }, choice));
  }

  addLog() {
    this.logButton = button(this.tools, "log scale", "logarithmic scale of the loss", () => { this.log = !this.log; this.update(); });
    this.update();
  }

  update() {
    if (this.logButton) {
      this.logButton.disabled = !this.shown.log;
      this.logButton.title = this.shown.log ? "logarithmic scale of the loss" : "not every value is positive";
      this.logButton.setAttribute("aria-pressed", String(this.log && this.shown.log));
    }
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
const figures = page.figures.map((entry) => new Figure(entry));
const retheme = (theme) => { setTheme(theme); figures.forEach((figure) => figure.draw()); };
document.getElementById("theme").onclick = () => retheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
prefersDark.addEventListener("change", (event) => retheme(event.matches ? "dark" : "light"));
window.pageReady = Promise.all(figures.map((figure) => figure.ready)).then(() => { document.body.dataset.ready = "true"; });
