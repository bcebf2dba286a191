/** Grey-scale images in PGM files: P5 (binary) and P2 (text) are read, P5 is written. One byte a pixel. */

export interface Image {
  width: number;
  height: number;
  /** The value of white, 1 to 255. */
  white: number;
  /** Row by row from the top, width * height values from 0 (black) to `white`. */
  pixels: Uint8Array;
}

/** What a file says about its image, and where the pixels start. */
export interface Header extends Omit<Image, "pixels"> {
  format: "P2" | "P5";
  pixelsAt: number;
}

/** The file is not a PGM image this program can read; the message says why. */
export class PgmError extends Error {
  override name = "PgmError";
}

const PIXELS_MAX = 1 << 28;

const isSpace = (byte: number | undefined): boolean => byte === 0x20 || (byte !== undefined && byte >= 9 && byte <= 13);

/** The next number after white space and comments, and where it ends. */
function numberAt(file: Uint8Array, from: number, what: string): [value: number, end: number] {
  let at = from;
  while (isSpace(file[at]) || file[at] === 0x23) {
    if (file[at] === 0x23) while (at < file.length && file[at] !== 0x0a) at++; // "# comment"
    at++;
  }
  let value = 0;
  const start = at;
  for (let byte = file[at]; byte !== undefined && byte >= 0x30 && byte <= 0x39; byte = file[++at]) {
    value = value * 10 + byte - 0x30;
    if (value > PIXELS_MAX) throw new PgmError(`${what} is too large`);
  }
  if (at === start) throw new PgmError(`${what} is missing`);
  return [value, at];
}

export function readHeader(file: Uint8Array): Header {
  const format = String.fromCharCode(...file.subarray(0, 2));
  if (format !== "P2" && format !== "P5") throw new PgmError("it does not start with P5 or P2");
  if (!isSpace(file[2]) && file[2] !== 0x23) throw new PgmError(`there is no white space after ${format}`);
  const [width, widthEnd] = numberAt(file, 2, "the width");
  const [height, heightEnd] = numberAt(file, widthEnd, "the height");
  const [white, whiteEnd] = numberAt(file, heightEnd, "the white value");
  if (width < 1 || height < 1) throw new PgmError(`the image is ${width} x ${height} pixels, which is none`);
  if (width * height > PIXELS_MAX) throw new PgmError(`${width} x ${height} pixels are more than ${PIXELS_MAX}`);
  if (white < 1 || white > 255) throw new PgmError(`the white value is ${white}, and only 1 to 255 can be read`);
  if (!isSpace(file[whiteEnd])) throw new PgmError("there is no white space after the white value");
  return { format, width, height, white, pixelsAt: whiteEnd + 1 };
}

export function readPixels(file: Uint8Array, header: Header): Uint8Array {
  const { width, height, white, pixelsAt, format } = header;
  const pixels = new Uint8Array(width * height);
  if (format === "P5") {
    if (file.length - pixelsAt < pixels.length) {
      throw new PgmError(`it ends after ${file.length - pixelsAt} of ${pixels.length} pixels`);
    }
    pixels.set(file.subarray(pixelsAt, pixelsAt + pixels.length));
  } else {
    let at = pixelsAt;
    for (let i = 0; i < pixels.length; i++) {
      const [value, end] = numberAt(file, at, `pixel ${i} of ${pixels.length}`);
      pixels[i] = Math.min(value, 255);
      if (value > white) throw new PgmError(`pixel ${i} is ${value}, more than white, ${white}`);
      at = end;
    }
  }
  const bad = pixels.findIndex((value) => value > white);
  if (bad >= 0) throw new PgmError(`pixel ${bad} is ${pixels[bad]}, more than white, ${white}`);
  return pixels;
}

export function encodePgm({ width, height, white, pixels }: Image): Uint8Array {
  const header = new TextEncoder().encode(`P5\n${width} ${height}\n${white}\n`);
  const file = new Uint8Array(header.length + pixels.length);
  file.set(header);
  file.set(pixels, header.length);
  return file;
}
