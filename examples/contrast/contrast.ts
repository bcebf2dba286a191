/**
 * Stretches the contrast of a grey-scale image. The processes share the image; each works on its own rows, in memory
 * holes, so that a row is published once and not pixel by pixel.
 *
 *   dsm run -n 4 -- examples/contrast/contrast.ts photo.pgm better.pgm
 */
import { parseArgs } from "node:util";
import { DsmError, join, type Session } from "dsm";
import { encodePgm, type Header, type Image, PgmError, readHeader, readPixels } from "./pgm.ts";
import { applyTable, countValues, rowsOf, stretchTable } from "./stretch.ts";

const usage = `usage: dsm run -n N -- contrast.ts [--cut PERCENT] IN.pgm OUT.pgm
       contrast.ts --sequential [--cut PERCENT] IN.pgm OUT.pgm

Stretches the contrast of a grey-scale PGM image (P5 or P2, white at most 255): the darkest and the brightest PERCENT of
the pixels (0 to 49, default 1) become black and white, and the values between are spread evenly. Every process reads
the header of IN.pgm; rank 0 reads the pixels and writes OUT.pgm. --sequential does it alone, without a session.`;

function badArguments(problem: string): never {
  console.error(`contrast: ${problem}\n${usage}`);
  process.exit(2);
}

function readArguments() {
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: {
        cut: { type: "string", default: "1" },
        help: { type: "boolean", short: "h" },
        sequential: { type: "boolean", default: false },
      },
    });
    if (values.help) {
      console.log(usage);
      process.exit(0);
    }
    const [input, output] = positionals;
    if (input === undefined || output === undefined || positionals.length > 2) {
      return badArguments(`two file names are needed, and ${positionals.length} were given`);
    }
    const cut = /^\d{1,2}$/.test(values.cut) ? Number(values.cut) : 100;
    if (cut > 49) return badArguments(`--cut must be a number from 0 to 49, and "${values.cut}" was given`);
    return { input, output, cut, sequential: values.sequential };
  } catch (error) {
    return badArguments((error as Error).message);
  }
}

const { input, output, cut, sequential } = readArguments();

/** One line for each step done. */
const say = (step: string) => console.log(`contrast: ${step}`);

async function writeImage(image: Image): Promise<void> {
  await Bun.write(output, encodePgm(image), { createPath: false });
}

async function alone(file: Uint8Array, header: Header): Promise<void> {
  const pixels = readPixels(file, header);
  applyTable(pixels, stretchTable(countValues(pixels), header.white, cut));
  await writeImage({ ...header, pixels });
  say(`wrote ${output} (${header.width} x ${header.height}, one process)`);
}

/** The image, and after it one table of counts for each process. */
const countsAt = (header: Header) => Math.ceil((header.width * header.height) / 8) * 8;

async function together(session: Session, file: Uint8Array, header: Header): Promise<void> {
  const { rank, processes } = session;
  const { width, height, white } = header;
  const image = session.view(Uint8Array, 0, width * height);
  const countsOf = (process: number) => session.view(Uint32Array, countsAt(header) + process * 1024, 256);

  if (rank === 0) {
    // In a hole the pixels go out as one change when it is filled; outside, every store would be a change.
    const hole = session.hole(image);
    image.set(readPixels(file, header));
    await hole.fill();
    say(`the image is in the shared memory (${width} x ${height})`);
  }
  await session.barrier();

  const [first, last] = rowsOf(rank, processes, height);
  const rows = image.subarray(first * width, last * width);
  const counts = countsOf(rank);
  const countsHole = session.hole(counts);
  counts.set(countValues(rows));
  await countsHole.fill();
  await session.barrier();

  const all = new Uint32Array(256);
  for (let process = 0; process < processes; process++) {
    for (const [value, count] of countsOf(process).entries()) all[value]! += count;
  }
  if (rank === 0) say(`the values are counted (${processes} processes)`);
  if (rows.length > 0) {
    const rowsHole = session.hole(rows);
    applyTable(rows, stretchTable(all, white, cut));
    await rowsHole.fill();
  }
  await session.barrier();

  if (rank === 0) {
    say("the contrast is stretched");
    await writeImage({ width, height, white, pixels: image });
    say(`wrote ${output}`);
  }
}

try {
  const file = await Bun.file(input).bytes();
  const header = readHeader(file);
  if (sequential) {
    await alone(file, header);
  } else {
    // How many processes there will be is known only after joining, so there is room for as many as there can be.
    const session = await join({ size: countsAt(header) + 1024 * 1024 });
    await together(session, file, header);
    await session.leave();
  }
} catch (error) {
  const { code, message } = error as NodeJS.ErrnoException;
  if (error instanceof PgmError) console.error(`contrast: ${input} cannot be read: ${message}`);
  else if (error instanceof DsmError || code !== undefined) console.error(`contrast: ${message}`);
  else throw error;
  process.exitCode = 1;
}
