const ROWS = 256; // read at a time, so that a large photo needs no canvas of its size

/** Decode an image as training does: turned as its EXIF says, its colours not adapted to a profile. */
function decode(file) {
  const options = { imageOrientation: "from-image", colorSpaceConversion: "none", premultiplyAlpha: "none" };
  return createImageBitmap(file, options);
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
function toPixels(bitmap, size, channels) {
  const { width, height } = bitmap;
  const across = triangles(width, size);
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
  return shorten(rows, size * channels, triangles(height, size));
}
