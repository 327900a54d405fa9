// The picture that is searched for: dropped, pasted or chosen, and the box that is drawn on it.

import { byId } from "./dom.js";

const FIELDS = ["left", "top", "width", "height"];

export class Picture {
  constructor(changed) {
    this.file = null;
    this.box = null; // in pixels of the picture
    this.changed = changed;
    this.image = byId("picture");
    this.frame = byId("frame");
    const drop = byId("drop");
    byId("file").addEventListener("change", (event) => this.take(event.target.files[0]));
    for (const name of ["dragenter", "dragover"]) {
      drop.addEventListener(name, (event) => { event.preventDefault(); drop.classList.add("over"); });
    }
    drop.addEventListener("dragleave", () => drop.classList.remove("over"));
    document.addEventListener("dragover", (event) => event.preventDefault());
    document.addEventListener("drop", (event) => {
      event.preventDefault();
      drop.classList.remove("over");
      this.take(event.dataTransfer.files[0]);
    });
    document.addEventListener("paste", (event) => {
      const file = [...event.clipboardData.files][0];
      if (file) this.take(file);
    });
    this.frame.addEventListener("pointerdown", (event) => this.#begin(event));
    for (const name of FIELDS) byId(`box-${name}`).addEventListener("change", () => this.#fromFields());
    byId("box-clear").addEventListener("click", () => this.setBox(null));
    addEventListener("resize", () => this.#draw());
    this.image.addEventListener("load", () => this.#draw());
  }

  take(file) {
    if (!file) return;
    this.file = file;
    this.setBox(null);
    URL.revokeObjectURL(this.image.src);
    this.image.src = URL.createObjectURL(file);
    this.frame.hidden = false;
    byId("drop-hint").hidden = false;
    this.changed();
  }

  forget() {
    this.file = null;
    this.setBox(null);
    this.frame.hidden = true;
    byId("drop-hint").hidden = true;
    byId("file").value = "";
  }

  setBox(box) {
    this.box = box;
    FIELDS.forEach((name, at) => { byId(`box-${name}`).value = box ? box[at] : ""; });
    this.#draw();
  }

  #begin(event) {
    event.preventDefault();
    this.frame.setPointerCapture(event.pointerId);
    const start = this.#place(event);
    const move = (moved) => {
      const end = this.#place(moved);
      const [left, top] = [Math.min(start.x, end.x), Math.min(start.y, end.y)];
      const [width, height] = [Math.abs(start.x - end.x), Math.abs(start.y - end.y)];
      this.setBox(width < 4 || height < 4 ? null : [left, top, width, height]);
    };
    const stop = () => {
      this.frame.removeEventListener("pointermove", move);
      this.frame.removeEventListener("pointerup", stop);
      this.frame.removeEventListener("pointercancel", stop);
    };
    this.frame.addEventListener("pointermove", move);
    this.frame.addEventListener("pointerup", stop);
    this.frame.addEventListener("pointercancel", stop);
  }

  #place(event) {
    const seen = this.image.getBoundingClientRect();
    const within = (value, most) => Math.round(Math.min(Math.max(value, 0), 1) * most);
    return {
      x: within((event.clientX - seen.left) / seen.width, this.image.naturalWidth),
      y: within((event.clientY - seen.top) / seen.height, this.image.naturalHeight),
    };
  }

  #fromFields() {
    const numbers = FIELDS.map((name) => byId(`box-${name}`).valueAsNumber);
    if (numbers.every(Number.isFinite)) this.setBox(numbers.map(Math.round));
  }

  #draw() {
    const shown = byId("box");
    shown.hidden = !this.box;
    if (!this.box || !this.image.naturalWidth) return;
    const scale = this.image.clientWidth / this.image.naturalWidth;
    ["left", "top", "width", "height"].forEach((name, at) => { shown.style[name] = `${this.box[at] * scale}px`; });
  }
}
