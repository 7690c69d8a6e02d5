const ROWS = 256; // read at a time, so that a large photo needs no canvas of its size

/** Decode as training does: turned by EXIF's orientation (Chromium leaves WebP as it is), colours not adapted to a profile. */
function decode(file) {
  const options = { imageOrientation: "from-image", colorSpaceConversion: "none", premultiplyAlpha: "none" };
  return createImageBitmap(file, options);
}

/** Whether a file is a PNG of 16 bits a value, which a browser scales by another range than the network's. */
async function isWide(file) {
  const header = new DataView(await file.slice(0, 25).arrayBuffer());
  return header.byteLength === 25 && header.getUint32(0) === 0x89504e47 && header.getUint8(24) === 16;
}

/** Pillow's antialiased bilinear filter: for each of `size` outputs its first input and the inputs' weights. */
function triangles(length, size) {
  const scale = length / size;
  const reach = Math.max(scale, 1);
  return Array.from({ length: size }, (_, index) => {
    const center = (index + 0.5) * scale;
    const first = Math.max(Math.trunc(center - reach + 0.5), 0);
    const end = Math.min(Math.trunc(center + reach + 0.5), length);
    const weights = Array.from({ length: end - first }, (_, k) => Math.max(1 - Math.abs(first + k - center + 0.5) / reach, 0));
    const sum = weights.reduce((a, b) => a + b);
    return { first, weights: weights.map((weight) => weight / sum) };
  });
}

/** The EXIF orientation of a JPEG, 1 to 8; 0 where the file is not a JPEG. */
async function orientation(file) {
  const view = new DataView(await file.slice(0, 2 ** 17).arrayBuffer());
  if (view.byteLength < 4 || view.getUint16(0) !== 0xffd8) return 0;
  try {
    for (let at = 2; view.getUint16(at) !== 0xffda; at += 2 + view.getUint16(at + 2)) {
      if (view.getUint16(at) === 0xffe1 && view.getUint32(at + 4) === 0x45786966) return orientationTag(view, at + 10);
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error; // a damaged block has no orientation
  }
  return 1;
}

function orientationTag(view, start) {
  const little = view.getUint16(start) === 0x4949;
  const directory = start + view.getUint32(start + 4, little);
  for (let entry = 0; entry < view.getUint16(directory, little); entry++) {
    const at = directory + 2 + 12 * entry;
    if (view.getUint16(at, little) === 0x0112) return view.getUint16(at + 8, little);
  }
  return 1;
}

/**
 * How `read_image` has a large JPEG decoded: averaged in blocks, of which those at the file's right and lower edge are
 * filled up. Where EXIF turns it, they come to lie on the left or on top.
 */
function blocksOf(turn, width, height, size) {
  const possible = turn ? Math.min(width, height) / (2 * size) : 1;
  const block = [8, 4, 2].find((times) => times <= possible) ?? 1;
  return { block, left: [2, 3, 6, 7].includes(turn), top: [3, 4, 7, 8].includes(turn) };
}

/** The same as `triangles`, for inputs that are first averaged in blocks. */
function trianglesOfBlocks(length, size, block, filledFirst) {
  const missing = filledFirst ? Math.ceil(length / block) * block - length : 0;
  const inside = (at) => Math.min(Math.max(at - missing, 0), length - 1);
  return triangles(Math.ceil(length / block), size).map(({ first, weights }) => {
    const start = inside(first * block);
    const spread = new Array(inside((first + weights.length) * block - 1) - start + 1).fill(0);
    for (let k = 0; k < weights.length * block; k++) spread[inside(first * block + k) - start] += weights[Math.floor(k / block)] / block;
    return { first: start, weights: spread };
  });
}

/** Replace red by Pillow's grey, in place. */
function turnGrey(rgba) {
  for (let at = 0; at < rgba.length; at += 4) {
    rgba[at] = (19595 * rgba[at] + 38470 * rgba[at + 1] + 7471 * rgba[at + 2] + 32768) >> 16;
  }
}

/** Resize the rows of RGBA pixels and write them to `rows` (row, size, channels), from row `top` on. */
function narrow(rgba, width, across, channels, rows, top) {
  const count = rgba.length / 4 / width;
  let target = top * across.length * channels;
  for (let row = 0; row < count; row++) {
    for (const { first, weights } of across) {
      for (let channel = 0; channel < channels; channel++) {
        let sum = 0.5;
        let source = 4 * (row * width + first) + channel;
        for (let k = 0; k < weights.length; k++, source += 4) sum += weights[k] * rgba[source];
        rows[target++] = sum;
      }
    }
  }
}

/** Resize the columns of `rows`, in which a row has `stride` values. */
function shorten(rows, stride, down) {
  const pixels = new Uint8Array(down.length * stride);
  down.forEach(({ first, weights }, row) => {
    for (let at = 0; at < stride; at++) {
      let sum = 0.5;
      for (let k = 0; k < weights.length; k++) sum += weights[k] * rows[(first + k) * stride + at];
      pixels[row * stride + at] = sum;
    }
  });
  return pixels;
}

/** The pixels (size, size, channels) that the network sees of a bitmap: over white, resized as `read_image` does. */
function toPixels(bitmap, turn, size, channels) {
  const { width, height } = bitmap;
  const { block, left, top: above } = blocksOf(turn, width, height, size);
  const across = trianglesOfBlocks(width, size, block, left);
  const rows = new Uint8Array(height * size * channels);
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width, Math.min(height, ROWS)];
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  for (let top = 0; top < height; top += ROWS) {
    context.fillRect(0, 0, width, ROWS);
    context.drawImage(bitmap, 0, -top);
    const rgba = context.getImageData(0, 0, width, Math.min(ROWS, height - top)).data;
    if (channels === 1) turnGrey(rgba);
    narrow(rgba, width, across, channels, rows, top);
  }
  return shorten(rows, size * channels, trianglesOfBlocks(height, size, block, above));
}
