// What came out: pictures with a playing place, players, downloads.

const CARDS = [
  ["mixture", "Mixture"],
  ["mask", "Mask"],
  ["estimate", "Estimate"],
  ["residual", "Residual"],
];

export function clock(seconds) {
  const whole = Math.floor(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

export class Results {
  constructor(root, template) {
    this.root = root;
    this.template = template;
    this.urls = [];
  }

  clear() {
    this.urls.forEach((url) => URL.revokeObjectURL(url));
    this.urls = [];
    this.root.replaceChildren();
  }

  url(blob) {
    const url = URL.createObjectURL(blob);
    this.urls.push(url);
    return url;
  }

  show(result, files, mixture) {
    this.clear();
    this.seconds = result.seconds;
    this.heads = [];
    this.players = new Map();
    const stem = mixture.name.replace(/\.[^.]*$/, "") || "mixture";
    for (const [name, title] of CARDS) {
      const sound = name === "mixture" ? mixture : files[`${name}.wav`];
      this.root.append(this.card(name, title, files[`${name}.png`], sound, stem, result));
    }
  }

  card(name, title, picture, sound, stem, result) {
    const node = this.template.content.cloneNode(true).firstElementChild;
    node.dataset.name = name;
    node.querySelector("h3").textContent = title;
    const image = node.querySelector("img");
    image.src = this.url(picture);
    image.alt = name === "mask" ? "The mask over time and frequency"
      : `Spectrogram of the ${name}`;
    const axis = node.querySelector(".axis");
    for (const [height, label] of spread(result.ticks)) {
      const tick = document.createElement("span");
      tick.textContent = label;
      tick.style.bottom = `${100 * height}%`;
      axis.append(tick);
    }
    node.querySelector(".times span:last-child").textContent = clock(result.seconds);
    this.heads.push(node.querySelector(".head"));
    node.querySelector(".picture").addEventListener("click", (event) => {
      const box = event.currentTarget.getBoundingClientRect();
      this.seek((event.clientX - box.left) / box.width, name);
    });
    const audio = node.querySelector("audio");
    const save = node.querySelector(".save");
    if (!sound) {
      audio.remove();
      save.remove();
      return node;
    }
    node.querySelector(".legend").remove();
    audio.src = this.url(sound);
    audio.setAttribute("aria-label", title);
    this.follow(name, audio);
    if (name === "mixture") {
      save.remove();
    } else {
      save.href = audio.src;
      save.download = `${stem}_${name}.wav`;
    }
    return node;
  }

  // One sound plays at a time; the next one goes on where the last one was.
  follow(name, audio) {
    this.players.set(name, audio);
    const move = () => this.mark(audio.currentTime);
    audio.addEventListener("play", () => {
      for (const other of this.players.values()) {
        if (other !== audio && !other.paused) {
          other.pause();
          audio.currentTime = other.currentTime;
        }
      }
      const step = () => {
        move();
        if (!audio.paused) requestAnimationFrame(step);
      };
      step();
    });
    audio.addEventListener("seeked", move);
  }

  seek(share, name) {
    const playing = [...this.players.values()].find((audio) => !audio.paused);
    const audio = playing || this.players.get(name) || this.players.get("estimate");
    audio.currentTime = share * this.seconds;
  }

  mark(seconds) {
    const share = Math.min(seconds / this.seconds, 1);
    for (const head of this.heads) head.style.left = `${100 * share}%`;
  }
}

// Leaves out labels that would touch the one below.
function spread(ticks) {
  const kept = [];
  for (const tick of ticks) {
    if (!kept.length || tick[0] - kept[kept.length - 1][0] > 0.085) kept.push(tick);
  }
  return kept;
}
