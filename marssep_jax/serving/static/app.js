// The page: collects a mixture and a query, has them separated, shows what came out.

import { about, separate, take } from "./api.js";
import { Items } from "./items.js";
import { canRecord, startRecording } from "./recorder.js";
import { Results, clock } from "./results.js";

const get = (id) => document.getElementById(id);
const results = new Results(get("cards"), get("card-template"));
const items = new Items(get("items"), get("item-template"), ready);
let limits = { upload_bytes: Infinity, length_s: Infinity, items: Infinity, letters: 500 };
let mixture = null;
let mixtureUrl = "";
let running = null;
let stopRecording = null;

function ready() {
  get("add-words").disabled = items.rows.length >= limits.items;
}

function complain(line) {
  get("error").hidden = !line;
  get("error").textContent = line || "";
}

function choose(file) {
  if (!file) return;
  complain("");
  mixture = file;
  URL.revokeObjectURL(mixtureUrl);
  mixtureUrl = URL.createObjectURL(file);
  get("mixture-name").textContent = file.name;
  get("mixture-audio").src = mixtureUrl;
  get("mixture-chosen").hidden = false;
}

function addFiles(files) {
  complain("");
  for (const file of files) {
    if (items.rows.length >= limits.items) {
      complain(`a query has at most ${limits.items} parts`);
      return;
    }
    items.addFile(file);
  }
}

function addWords() {
  const field = get("words");
  const text = field.value.trim();
  if (!text) return field.focus();
  if (items.rows.length >= limits.items) {
    return complain(`a query has at most ${limits.items} parts`);
  }
  complain("");
  items.addText(text);
  field.value = "";
}

function acceptDrops(panel, handle) {
  panel.addEventListener("dragover", (event) => {
    event.preventDefault();
    panel.classList.add("over");
  });
  panel.addEventListener("dragleave", () => panel.classList.remove("over"));
  panel.addEventListener("drop", (event) => {
    event.preventDefault();
    panel.classList.remove("over");
    handle([...event.dataTransfer.files]);
  });
}

async function record() {
  const button = get("record");
  if (stopRecording) {
    const stop = stopRecording;
    stopRecording = null;
    button.classList.remove("recording");
    get("record-label").textContent = "Record";
    choose(await stop());
    return;
  }
  complain("");
  try {
    button.disabled = true;
    stopRecording = await startRecording(limits.length_s, (seconds) => {
      if (!stopRecording) return;
      get("record-label").textContent = `Stop ${clock(seconds)}`;
      if (seconds >= limits.length_s) record();
    });
    button.classList.add("recording");
    get("record-label").textContent = "Stop 0:00";
  } catch (error) {
    complain(`the microphone cannot be used (${error.message || error.name})`);
  } finally {
    button.disabled = false;
  }
}

function work(on) {
  get("working").hidden = !on;
  get("go").classList.toggle("cancel", on);
  get("go").textContent = on ? "Cancel" : "Separate";
}

function hear(event) {
  if (event.waiting > 0) {
    const others = event.waiting === 1 ? "one other is" : `${event.waiting} others are`;
    get("status").textContent = `Waiting: ${others} before this one`;
  } else if (event.waiting === 0) {
    get("status").textContent = "Listening to what to look for";
  } else {
    get("progress").value = event.progress;
    get("status").textContent = `Separating: ${Math.round(100 * event.progress)} %`;
  }
}

// Returns what is missing, or nothing.
function missing() {
  if (!mixture) return "a mixture is missing: choose a file, or record one";
  if (!items.rows.length) return "add words, a clip or a picture of what to look for";
  const megabytes = (mixture.size + items.size) / 1e6;
  const most = limits.upload_bytes / 1e6;
  return megabytes > most && `files have ${megabytes.toFixed(1)} MB, at most ${most} MB can be sent`;
}

async function submit(event) {
  event.preventDefault();
  if (running) return running.abort();
  if (get("words").value.trim()) addWords();
  complain(missing());
  if (!get("error").hidden) return;
  const form = new FormData();
  form.append("mixture", mixture, mixture.name);
  const mask = new FormData(get("form")).get("mask");
  const seed = Math.floor(Math.random() * 2 ** 31);
  items.fill(form, { mask, seed });
  running = new AbortController();
  get("progress").removeAttribute("value");
  get("status").textContent = "Sending";
  work(true);
  try {
    const asked = mixture;
    const result = await separate(form, hear, running.signal);
    get("status").textContent = "Fetching";
    const files = await take(result, running.signal);
    results.show(result, files, asked);
    summarise(result);
    get("empty").hidden = true;
    get("results").hidden = false;
    if (matchMedia("(max-width: 899px)").matches) get("results").scrollIntoView();
  } catch (error) {
    if (error.name !== "AbortError") complain(error.message);
  } finally {
    running = null;
    work(false);
  }
}

function summarise(result) {
  const { scores } = result;
  const facts = [
    ["Mixture", `${clock(result.seconds)}, ${result.sample_rate_hz / 1000} kHz`],
    ["Likeness to the query", scores.similarity.toFixed(2),
      `the mixture's: ${scores.mixture_similarity.toFixed(2)}`],
    ["Energy in the estimate", `${Math.round(100 * scores.energy_share)} %`],
  ];
  if (result.silent) facts.push(["The mixture is silent"]);
  if (result.clipped_samples) facts.push(["Clipped", `${result.clipped_samples} samples`]);
  get("summary").replaceChildren(...facts.map(([label, value = "", more = ""]) => {
    const node = document.createElement("span");
    const strong = document.createElement("b");
    strong.textContent = value;
    node.append(`${label} `, strong, more && ` (${more})`);
    return node;
  }));
}

async function start() {
  try {
    const facts = await about();
    limits = facts.limits;
    get("mixture-limits").textContent = `wav, flac, ogg or mp3, up to ${
      Math.round(limits.length_s / 6) / 10}\u00a0minutes and ${limits.upload_bytes / 1e6}\u00a0MB`;
    get("model").textContent = `marssep ${facts.version}, a model of ${
      facts.sample_rate_hz / 1000} kHz${facts.licence && `, licence ${facts.licence}`}`;
    get("words").maxLength = limits.letters;
    for (const name of facts.class_names) {
      const option = document.createElement("option");
      option.value = name;
      get("known").append(option);
    }
  } catch (error) {
    complain(error.message);
  }
}

acceptDrops(get("mixture"), (files) => choose(files[0]));
acceptDrops(get("query"), addFiles);
// A file that misses both panels must not replace the page.
for (const kind of ["dragover", "drop"]) {
  window.addEventListener(kind, (event) => event.preventDefault());
}
get("mixture-file").addEventListener("change", (event) => {
  choose(event.target.files[0]);
  event.target.value = "";
});
get("item-file").addEventListener("change", (event) => {
  addFiles([...event.target.files]);
  event.target.value = "";
});
get("add-words").addEventListener("click", addWords);
get("words").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && get("words").value.trim()) {
    event.preventDefault();
    addWords();
  }
});
get("record").addEventListener("click", record);
if (!canRecord()) {
  get("record").disabled = true;
  get("record").title = "browsers allow it on this machine's own address or over https only";
}
get("form").addEventListener("submit", submit);
start();
