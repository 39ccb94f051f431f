// Records the microphone as a wav file, which every server can read.

export function canRecord() {
  return Boolean(navigator.mediaDevices && window.AudioWorkletNode);
}

export async function startRecording(maxSeconds, onTime) {
  const stream = await navigator.mediaDevices.getUserMedia({
    audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false },
  });
  const context = new AudioContext();
  const blocks = [];
  let size = 0;
  try {
    await context.audioWorklet.addModule("static/recorder-worklet.js");
  } catch (error) {
    stream.getTracks().forEach((track) => track.stop());
    context.close();
    throw error;
  }
  const source = context.createMediaStreamSource(stream);
  const tap = new AudioWorkletNode(context, "tap", { numberOfOutputs: 0 });
  tap.port.onmessage = ({ data }) => {
    if (size / context.sampleRate >= maxSeconds) return;
    blocks.push(data);
    size += data.length;
    onTime(size / context.sampleRate);
  };
  source.connect(tap);
  return async function stop() {
    source.disconnect();
    stream.getTracks().forEach((track) => track.stop());
    const rate = context.sampleRate;
    await context.close();
    return new File([wav(blocks, size, rate)], "recording.wav", { type: "audio/wav" });
  };
}

function wav(blocks, size, rate) {
  const view = new DataView(new ArrayBuffer(44 + 2 * size));
  const text = (at, letters) => [...letters].forEach(
    (letter, index) => view.setUint8(at + index, letter.charCodeAt(0)));
  text(0, "RIFF");
  view.setUint32(4, 36 + 2 * size, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true); // integers
  view.setUint16(22, 1, true); // one channel
  view.setUint32(24, rate, true);
  view.setUint32(28, 2 * rate, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  text(36, "data");
  view.setUint32(40, 2 * size, true);
  let at = 44;
  for (const block of blocks) {
    for (const sample of block) {
      view.setInt16(at, Math.max(-32768, Math.min(32767, Math.round(sample * 32768))), true);
      at += 2;
    }
  }
  return view.buffer;
}
