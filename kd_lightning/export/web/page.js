const SHOWN = 5; // classes of each image
const PREVIEW = 480; // pixels; a preview has no more
const ENOUGH = 20; // images for a speed
const about = JSON.parse(document.getElementById("about").textContent);
const [input, state, clear, speeds, results] = ["files", "status", "clear", "speeds", "results"].map((id) => document.getElementById(id));
let networks = [];
let tally = []; // of each image: an answer by each network
let queue = Promise.resolve();
let waiting = 0;

const percent = (probability) => (100 * probability).toFixed(1);
const megabytes = (bytes) => `${(bytes / 1e6).toFixed(bytes < 1e7 ? 2 : 1)} MB`;
const milliseconds = (time) => `${time.toFixed(time < 10 ? 2 : 1)} ms`;
const plural = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;

function make(tag, className, ...children) {
  const node = document.createElement(tag);
  node.className = className;
  node.append(...children);
  return node;
}

/** Make an element in the colour of a network. */
function coloured(index, ...rest) {
  const node = make(...rest);
  node.style.setProperty("--c", `var(--s${index % 8})`);
  return node;
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** Draw pixels (size, size, channels). */
function drawSeen(pixels) {
  const canvas = make("canvas", "seen");
  canvas.width = canvas.height = about.size;
  const image = new ImageData(about.size, about.size);
  for (let at = 0; at < image.data.length; at++) {
    const [pixel, channel] = [at >> 2, at & 3];
    image.data[at] = channel === 3 ? 255 : pixels[about.channels * pixel + (about.channels === 1 ? 0 : channel)];
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

function drawPreview(bitmap) {
  const shrink = Math.min(1, PREVIEW / Math.max(bitmap.width, bitmap.height));
  const canvas = make("canvas", "preview");
  [canvas.width, canvas.height] = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(side * shrink)));
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return canvas;
}

/** Draw the image and what the network sees of it: one picture where they are the same. */
function drawPicture(bitmap, pixels) {
  if (bitmap.width === about.size && bitmap.height === about.size) return make("figure", "", drawSeen(pixels));
  return make("figure", "", drawPreview(bitmap), make("figcaption", "", drawSeen(pixels), "what it sees"));
}

/** A class with a bar and a percentage for each network. */
function bar(index, answers) {
  const tracks = answers.map(({ probabilities }, number) => {
    const track = coloured(number, "i", "");
    track.style.setProperty("--p", probabilities[index]);
    return track;
  });
  const values = answers.map(({ probabilities }, number) => coloured(number, "span", "", percent(probabilities[index])));
  return make("li", "", make("span", "class", about.classes[index]), make("span", "tracks", ...tracks), make("span", "values", ...values));
}

function verdicts(answers, truth) {
  const [first, ...others] = answers.map(({ best }) => about.classes[best]);
  const differ = others.flatMap((name, index) => (name === first ? [] : [make("span", "pill unsure", `${networks[index + 1].name}: ${name}`)]));
  if (truth === undefined) return differ;
  return [first === truth ? make("span", "pill good", "✓ right") : make("span", "pill bad", `✗ is ${truth}`), ...differ];
}

function resultCard({ name, truth }, picture, answers) {
  const [{ probabilities, best }] = answers;
  const order = probabilities.map((_, index) => index).sort((a, b) => probabilities[b] - probabilities[a]);
  return make(
    "article", "card result",
    picture,
    make("div", "answer",
      make("p", "file", name),
      make("h2", "", about.classes[best], make("small", "", ` ${percent(probabilities[best])} %`), ...verdicts(answers, truth)),
      make("ul", "bars", ...order.slice(0, SHOWN).map((index) => bar(index, answers)))),
  );
}

function brokenCard({ name }) {
  const reason = `Not an image of 8 bits a value that this browser can read, or more than ${about.maxPixels / 1e6} million pixels.`;
  return make("article", "card result broken", make("div", "answer", make("p", "file", name), make("p", "", reason)));
}

/** Read a file: what the network sees of it, and a picture of both to show. */
async function read(file) {
  if (await isWide(file)) throw new Error("16 bits");
  const bitmap = await decode(file);
  if (bitmap.width * bitmap.height > about.maxPixels) throw new Error("too large");
  const pixels = toPixels(bitmap, await orientation(file), about.size, about.channels);
  const picture = drawPicture(bitmap, pixels);
  bitmap.close();
  return { pixels, picture };
}

async function classify(item) {
  let image;
  try {
    image = await read(item.file);
  } catch {
    return brokenCard(item);
  }
  const answers = await predict(networks, image.pixels);
  tally.push(answers);
  return resultCard(item, image.picture, answers);
}

const timeOf = (index) => median(tally.map((answers) => answers[index].time));

function speedCard(network, index) {
  const size = megabytes(about.bytes[network.name]);
  const speed = tally.length < ENOUGH
    ? make("p", "note", `Speed after ${ENOUGH} images, ${ENOUGH - tally.length} to go`)
    : make("p", "big", milliseconds(timeOf(index)), make("small", "", " an image"));
  return coloured(index, "article", "card speed",
    make("h2", "key", network.name),
    speed,
    make("p", "note", index === 0 ? size : `${size}, ${comparison(network, index)}`));
}

/** Compare a network with the first: size, speed on the same images, labels. */
function comparison(network, index) {
  const first = networks[0].name;
  const found = [`${(about.bytes[first] / about.bytes[network.name]).toFixed(1)} times smaller`];
  if (tally.length >= ENOUGH) found.push(`${(timeOf(0) / timeOf(index)).toFixed(1)} times ${first}’s speed`);
  const same = tally.filter((answers) => answers[0].best === answers[index].best).length;
  if (tally.length) found.push(`same label on ${same} of ${plural(tally.length, "image")}`);
  return found.join(", ");
}

function showState(text, name) {
  state.textContent = text;
  document.body.dataset.state = name;
}

function showTally() {
  speeds.replaceChildren(...networks.map(speedCard));
  clear.hidden = results.children.length === 0;
  if (waiting) showState(`${plural(waiting, "image")} to go …`, "busy");
  else showState(tally.length ? `${plural(tally.length, "image")} classified.` : "Ready.", "ready");
}

/** Classify images one after the other; a later call waits for those before it and comes above them. */
function enqueue(items) {
  waiting += items.length;
  if (networks.length) showTally();
  queue = queue.then(async () => {
    const before = results.firstChild;
    for (const item of items) {
      results.insertBefore(await classify(item), before?.parentNode ? before : null);
      waiting -= 1;
      showTally();
      await new Promise((done) => setTimeout(done)); // let the browser paint
    }
  }).catch(fail);
}

function fail(error) {
  showState(`This browser cannot run the network: ${error.message}`, "failed");
  throw error;
}

function enqueueFiles(files) {
  enqueue([...files].map((file) => ({ name: file.name, file })));
}

function enqueueExamples(examples) {
  enqueue(examples.map(({ truth, png }) => ({ name: "example", file: new Blob([bytesOf(png)]), truth })));
}

function exampleButton(example) {
  const button = make("button", "", Object.assign(new Image(), { src: `data:image/png;base64,${example.png}`, alt: example.truth }));
  button.type = "button";
  button.addEventListener("click", () => enqueueExamples([example]));
  return button;
}

function showExamples() {
  const box = document.getElementById("examples");
  box.append(...about.examples.map(exampleButton));
  box.hidden = about.examples.length === 0;
}

async function start() {
  if (!globalThis.RUNTIME || !globalThis.NETWORKS) throw new Error("runtime.js or networks.js is missing beside this page.");
  networks = await openNetworks();
  showTally();
}

function listen() {
  input.addEventListener("change", () => { enqueueFiles(input.files); input.value = ""; });
  clear.addEventListener("click", () => { tally = []; results.replaceChildren(); showTally(); });
  addEventListener("paste", (event) => enqueueFiles(event.clipboardData.files));
  addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("over"); });
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) document.body.classList.remove("over"); });
  addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("over");
    enqueueFiles(event.dataTransfer.files);
  });
}

listen();
queue = start().catch(fail);
showExamples();
