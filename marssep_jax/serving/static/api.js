// What the page asks of its server; see app.py.

async function failure(response) {
  let line = `the server answered ${response.status}`;
  try {
    line = (await response.json()).error || line;
  } catch { /* no JSON: the status says it */ }
  return new Error(line);
}

export async function about() {
  const response = await fetch("api/about");
  if (!response.ok) throw await failure(response);
  return response.json();
}

// Sends a form, hears of waiting and progress, and returns the result.
export async function separate(form, hear, signal) {
  const response = await fetch("api/separate", { method: "POST", body: form, signal });
  if (!response.ok) throw await failure(response);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new Error("the server went away before it was done");
    const lines = (text + value).split("\n");
    text = lines.pop();
    for (const event of lines.map((line) => JSON.parse(line))) {
      if (event.error) throw new Error(event.error);
      if (event.result) return event.result;
      hear(event);
    }
  }
}

// Takes a result's files and lets the server delete them.
export async function take(result, signal) {
  const place = `results/${result.token}`;
  try {
    const files = {};
    await Promise.all(result.files.map(async (name) => {
      const response = await fetch(`${place}/${name}`, { signal });
      if (!response.ok) throw await failure(response);
      files[name] = await response.blob();
    }));
    return files;
  } finally {
    fetch(place, { method: "DELETE", keepalive: true }).catch(() => {});
  }
}
