const SPAN = 5; // milliseconds to measure for: browsers' clocks are coarse
const TURNS = 3; // the fastest counts: other programs disturb
const WARM_UP = 80; // milliseconds after which the browser has compiled the runtime's hot loops in full

const bytesOf = (base64) => Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));

/** Undo base64 and gzip. */
async function unpacked(text) {
  const stream = new Blob([bytesOf(text)]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function loadRuntime() {
  const [module, binary] = await Promise.all(Object.values(RUNTIME).map(unpacked));
  const ort = await import(URL.createObjectURL(new Blob([module], { type: "text/javascript" })));
  ort.env.wasm.wasmBinary = binary;
  ort.env.wasm.numThreads = 1; // more need headers that a plain server does not send
  return ort;
}

/** A network: its name, and a function from an input tensor to its probabilities. */
async function openNetwork(ort, name, packed) {
  const session = await ort.InferenceSession.create(await unpacked(packed), { executionProviders: ["wasm"] });
  const input = session.inputNames[0];
  const inside = input === "pixels"; // normalization and softmax are in the graph
  return {
    name,
    toTensor: (pixels) => (inside ? plainTensor(ort, pixels) : normalizedTensor(ort, pixels)),
    async run(tensor) {
      const { data } = (await session.run({ [input]: tensor }))[session.outputNames[0]];
      return inside ? Array.from(data) : softmax(data);
    },
  };
}

async function openNetworks() {
  const ort = await loadRuntime();
  const networks = [];
  for (const [name, packed] of Object.entries(NETWORKS)) networks.push(await openNetwork(ort, name, packed));
  const nothing = new Uint8Array(about.size ** 2 * about.channels);
  for (const network of networks) await meanTime(() => network.run(network.toTensor(nothing)), WARM_UP);
  return networks;
}

function plainTensor(ort, pixels) {
  return new ort.Tensor("uint8", pixels, [1, about.size, about.size, about.channels]);
}

function normalizedTensor(ort, pixels) {
  const { size, channels, factor, offset } = about;
  const area = size * size;
  const images = new Float32Array(channels * area); // (S, S, C) -> (C, S, S)
  for (let channel = 0; channel < channels; channel++) {
    for (let at = 0; at < area; at++) {
      images[channel * area + at] = pixels[at * channels + channel] * factor[channel] + offset[channel];
    }
  }
  return new ort.Tensor("float32", images, [1, channels, size, size]);
}

function softmax(logits) {
  const largest = logits.reduce((a, b) => Math.max(a, b));
  const powers = Array.from(logits, (logit) => Math.exp(logit - largest));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map((power) => power / sum);
}

/** The mean milliseconds of `run`, repeated for a span of time. */
async function meanTime(run, span) {
  const start = performance.now();
  let [runs, spent] = [0, 0];
  while (spent < span) {
    await run();
    runs += 1;
    spent = performance.now() - start;
  }
  return spent / runs;
}

/** Each network's probabilities, its likeliest class and the milliseconds that it takes; they are timed by turns. */
async function predict(networks, pixels) {
  const tensors = networks.map((network) => network.toTensor(pixels));
  const answers = [];
  for (const [index, network] of networks.entries()) {
    const probabilities = await network.run(tensors[index]);
    answers.push({ probabilities, best: probabilities.indexOf(Math.max(...probabilities)), time: Infinity });
  }
  for (let turn = 0; turn < TURNS; turn++) {
    for (const [index, network] of networks.entries()) {
      const time = await meanTime(() => network.run(tensors[index]), SPAN);
      answers[index].time = Math.min(answers[index].time, time);
    }
  }
  return answers;
}
