// The list of what to look for: words, clips and pictures, weighted, or to remove.

const CLIP = `<svg viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="2.4"
 stroke-linecap="round"><path d="M4 10v4M9 6v12M14 9v6M19 4v16"/></svg>`;

export class Items {
  constructor(list, template, changed) {
    this.list = list;
    this.template = template;
    this.changed = changed;
    this.rows = [];
  }

  addText(text) {
    this.add({ modality: "text", text }, text, (thumb) => { thumb.textContent = "Aa"; });
  }

  addFile(file) {
    if (file.type.startsWith("image/")) {
      const url = URL.createObjectURL(file);
      this.add({ modality: "image", file, url }, file.name, (thumb) => {
        const image = new Image();
        image.src = url;
        image.alt = "";
        thumb.append(image);
      });
    } else {
      this.add({ modality: "audio", file }, file.name, (thumb) => { thumb.innerHTML = CLIP; });
    }
  }

  add(item, name, draw) {
    const row = { ...item, weight: 1, remove: false };
    const node = this.template.content.cloneNode(true).firstElementChild;
    node.querySelector(".what").textContent = name;
    draw(node.querySelector(".thumb"));
    const slider = node.querySelector("input[type=range]");
    slider.setAttribute("aria-label", `weight of ${name}`);
    slider.addEventListener("input", () => {
      row.weight = Number(slider.value);
      node.querySelector("output").textContent = row.weight.toFixed(1);
    });
    const box = node.querySelector("input[type=checkbox]");
    box.setAttribute("aria-label", `remove ${name} instead`);
    box.addEventListener("change", () => {
      row.remove = box.checked;
      node.classList.toggle("removed", box.checked);
    });
    const leave = node.querySelector(".leave");
    leave.setAttribute("aria-label", `take ${name} out`);
    leave.addEventListener("click", () => {
      this.rows = this.rows.filter((other) => other !== row);
      if (row.url) URL.revokeObjectURL(row.url);
      node.remove();
      this.changed();
    });
    this.rows.push(row);
    this.list.append(node);
    this.changed();
  }

  get size() {
    return this.rows.reduce((sum, row) => sum + (row.file ? row.file.size : 0), 0);
  }

  // Puts the list into a form: JSON, and the files that it names.
  fill(form, settings) {
    const items = this.rows.map((row, index) => {
      const { modality, weight, remove } = row;
      if (modality === "text") return { modality, text: row.text, weight, remove };
      const file = `item${index}`;
      form.append(file, row.file, row.file.name);
      return { modality, file, weight, remove };
    });
    form.append("query", JSON.stringify({ items, ...settings }));
  }
}
